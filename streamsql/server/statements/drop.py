"""DROP STREAM, DROP TABLE, DROP MATERIALIZED VIEW."""

from __future__ import annotations

import dataclasses

from streamsql.catalog.rights import require_owner
from streamsql.engine import definitions
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.server.statements.create import block_notices
from streamsql.sql.statements import Drop, ObjectKind


async def execute(context: Context, statement: Drop, values: Values) -> Done:
    what = f"DROP {statement.kind.value}"
    temporary = context.transaction.temporary
    own = [n for n in statement.names if n in temporary] if statement.kind is ObjectKind.TABLE else []
    others = tuple(n for n in statement.names if n not in own)
    missing = []
    if others:
        left = dataclasses.replace(statement, names=others)
        engine, role = context.engine, context.asker.role

        def drop() -> list[str]:
            for made in map(engine.catalog.get, others):
                if made is not None:
                    require_owner(engine.catalog, role, made)
            return definitions.drop(engine, left)

        missing = await context.on_engine(drop)
    if own:
        context.transaction.set_temporary({name: made for name, made in temporary.items() if name not in own})
    notices = [notice(f'{statement.kind.value.lower()} "{n}" does not exist, skipping') for n in missing]
    return Done(what, notices + (block_notices(context, what) if others else []))
