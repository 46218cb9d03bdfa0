"""COMMENT ON."""

from __future__ import annotations

from streamsql.engine.comments import set_comment
from streamsql.server.context import Context, Values
from streamsql.server.results import Done
from streamsql.server.statements.create import block_notices
from streamsql.sql.statements import Comment


async def execute(context: Context, statement: Comment, values: Values) -> Done:
    await context.on_engine(lambda: set_comment(context.engine, statement))
    return Done("COMMENT", block_notices(context, "COMMENT"))
