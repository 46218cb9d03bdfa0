"""VACUUM, ANALYZE, CLUSTER, CHECKPOINT and REINDEX.

The engine sees to its database by itself, so that none of them is needed. VACUUM and CHECKPOINT do at once what it would do
later: the write-ahead log goes into the file, and the room of rows that are gone is given back. Statistics and indexes are
kept as rows come, and rows lie in the order in which they came, so the others find nothing left to do.
"""

from __future__ import annotations

from streamsql.base.errors import ActiveTransaction, InsufficientPrivilege, InvalidSchemaName, UndefinedObject
from streamsql.catalog.relation import PG_CATALOG
from streamsql.catalog.rights import require_owner
from streamsql.catalog.standard import STANDARD
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.sql.names import DATABASES, parted
from streamsql.sql.upkeep import Upkeep


async def execute(context: Context, statement: Upkeep, values: Values) -> Done:
    verb, engine = statement.verb, context.engine
    if verb == "VACUUM" and context.transaction.in_block:
        raise ActiveTransaction("VACUUM cannot run inside a transaction block")
    if verb == "CHECKPOINT" and not context.catalog.access.is_superuser(context.asker.role):
        raise InsufficientPrivilege("must be superuser or have privileges of pg_checkpoint to do CHECKPOINT")
    notices = _checked(context, statement)
    if verb in ("VACUUM", "CHECKPOINT"):
        await context.on_engine(engine.store.checkpoint)
    return Done(verb, notices)


def _checked(context: Context, statement: Upkeep) -> list[dict[str, str]]:
    """See that what is named is there. As in PostgreSQL, VACUUM and ANALYZE pass over what belongs to others."""
    catalog, role = context.catalog, context.asker.role
    if statement.of != "table":
        for name, position in zip(statement.names, statement.name_positions, strict=True):
            _check_other(context, statement, name, position + 1)
        return []
    notices = []
    for name, position in zip(statement.names, statement.name_positions, strict=True):
        if (parted(name)[0] or PG_CATALOG, parted(name)[1]) in STANDARD:
            continue
        made = catalog.find(name, position + 1)
        if statement.verb in ("CLUSTER", "REINDEX"):
            require_owner(catalog, role, made)
        elif not catalog.access.owns(role, made.id):
            told = f'permission denied to {statement.verb.lower()} "{made.bare}", skipping it'
            notices.append(notice(told, severity="WARNING", sqlstate="01000"))
    return notices


def _check_other(context: Context, statement: Upkeep, name: str, position: int) -> None:
    catalog = context.catalog
    bare = parted(name)[1]
    if statement.of == "index" and all(index.name != bare for index in catalog.indexes.values()):
        raise UndefinedObject(f'index "{bare}" does not exist', position=position)
    if statement.of == "schema" and name not in catalog.schemas:
        raise InvalidSchemaName(f'schema "{name}" does not exist', position=position)
    if statement.of in ("database", "system") and name not in DATABASES:
        raise UndefinedObject("can only reindex the currently open database", position=position)
