"""COMMENT ON."""

from __future__ import annotations

from streamsql.catalog.rights import require_owner
from streamsql.engine.comments import set_comment
from streamsql.server.context import Context, Values
from streamsql.server.results import Done
from streamsql.server.statements.create import block_notices
from streamsql.sql.statements import Comment


async def execute(context: Context, statement: Comment, values: Values) -> Done:
    engine, role = context.engine, context.asker.role

    def comment() -> None:
        found = engine.catalog.get(statement.name)
        if found is not None:
            require_owner(engine.catalog, role, found)
        set_comment(engine, statement)

    await context.on_engine(comment)
    return Done("COMMENT", block_notices(context, "COMMENT"))
