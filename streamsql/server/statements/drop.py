"""DROP STREAM, DROP TABLE, DROP MATERIALIZED VIEW."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from streamsql.base.errors import InvalidSchemaName, UndefinedTable
from streamsql.catalog.objects import SYSTEM_SCHEMAS, TEMPORARY_SCHEMA, CatalogObject, Named, nearest
from streamsql.catalog.rights import kind, require_owner
from streamsql.catalog.user_types import UserType
from streamsql.engine import definitions
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.server.statements.create import block_notices
from streamsql.sql.names import parted
from streamsql.sql.statements import Drop, ObjectKind


async def execute(context: Context, statement: Drop, values: Values) -> Done:
    what = f"DROP {statement.kind.value}"
    found, missing = found_keys(context, statement)
    temporary = context.transaction.temporary
    own = [n for n in found if n in temporary] if statement.kind is ObjectKind.TABLE else []
    others = tuple(n for n in found if n not in own)
    if others:
        left = dataclasses.replace(statement, names=others)
        ids = [context.catalog.objects[name].id for name in others]
        engine, role = context.engine, context.asker.role

        def drop() -> list[CatalogObject]:
            for made in map(engine.catalog.get, others):
                if made is not None:
                    require_owner(engine.catalog, role, made)
            return definitions.drop(engine, left)

        missing += cascade_notices(await context.on_engine(drop)) + block_notices(context, what, *ids)
    if own:
        context.transaction.set_temporary({name: made for name, made in temporary.items() if name not in own})
    return Done(what, missing)


def cascade_notices(gone: Sequence[Named]) -> list[dict[str, str]]:
    """Tell what else was dropped."""
    shown = [f"drop cascades to {_kind(made)} {made.shown}" for made in gone]
    if len(shown) < 2:
        return [notice(text) for text in shown]
    return [notice(f"drop cascades to {len(shown)} other objects", detail="\n".join(shown))]


def _kind(made: Named) -> str:
    if isinstance(made, CatalogObject):
        return kind(made)
    return "type" if isinstance(made, UserType) else "sequence"


def found_keys(context: Context, statement: Drop) -> tuple[list[str], list[dict[str, str]]]:
    """Look the names up; gives the keys, and notices of what is not there. Raises where IF EXISTS was not said."""
    lookup, found, missing = context.lookup, [], []
    for schema, name in map(parted, statement.names):
        key = lookup.key(schema, name)
        known = {*lookup.catalog.schemas, *SYSTEM_SCHEMAS, TEMPORARY_SCHEMA}
        if key is not None:
            found.append(key)
        elif schema is not None and schema not in known:
            if not statement.if_exists:
                raise InvalidSchemaName(f'schema "{schema}" does not exist')
            missing.append(notice(f'schema "{schema}" does not exist, skipping'))
        elif statement.if_exists:
            missing.append(notice(f'{statement.kind.value.lower()} "{name}" does not exist, skipping'))
        else:
            names = [made.bare for made in lookup.catalog]
            raise UndefinedTable(f'{statement.kind.value.lower()} "{name}" does not exist', hint=nearest(name, names))
    return found, missing
