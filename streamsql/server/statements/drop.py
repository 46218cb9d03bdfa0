"""DROP STREAM, DROP TABLE, DROP MATERIALIZED VIEW."""

from __future__ import annotations

from streamsql.catalog.rights import require_owner
from streamsql.engine import definitions
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.server.statements.create import block_notices
from streamsql.sql.statements import Drop


async def execute(context: Context, statement: Drop, values: Values) -> Done:
    what = f"DROP {statement.kind.value}"
    engine, role = context.engine, context.asker.role

    def drop() -> list[str]:
        for made in map(engine.catalog.get, statement.names):
            if made is not None:
                require_owner(engine.catalog, role, made)
        return definitions.drop(engine, statement)

    missing = await context.on_engine(drop)
    notices = [notice(f'{statement.kind.value.lower()} "{n}" does not exist, skipping') for n in missing]
    return Done(what, notices + block_notices(context, what))
