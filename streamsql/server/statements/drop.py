"""DROP STREAM, DROP TABLE, DROP MATERIALIZED VIEW."""

from __future__ import annotations

from streamsql.engine import definitions
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.server.statements.create import block_notices
from streamsql.sql.statements import Drop


async def execute(context: Context, statement: Drop, values: Values) -> Done:
    what = f"DROP {statement.kind.value}"
    missing = await context.on_engine(lambda: definitions.drop(context.engine, statement))
    notices = [notice(f'{statement.kind.value.lower()} "{n}" does not exist, skipping') for n in missing]
    return Done(what, notices + block_notices(context, what))
