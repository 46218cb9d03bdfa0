"""COMMENT ON."""

from __future__ import annotations

from streamsql.base.errors import InsufficientPrivilege, InvalidSchemaName
from streamsql.catalog.objects import comment_key
from streamsql.catalog.rights import require_owner, require_schema_owner
from streamsql.engine import comments
from streamsql.server.context import Context, Values
from streamsql.server.numbering import found
from streamsql.server.results import Done
from streamsql.server.statements.create import block_notices
from streamsql.server.statements.user_type import owned_type
from streamsql.sql.comments import CommentOn
from streamsql.sql.statements import Comment


async def execute(context: Context, statement: Comment, values: Values) -> Done:
    engine, role = context.engine, context.asker.role

    def comment() -> None:
        made = engine.catalog.get(statement.name)
        if made is not None:
            require_owner(engine.catalog, role, made)
        comments.set_comment(engine, statement)

    await context.on_engine(comment)
    return Done("COMMENT", block_notices(context, "COMMENT"))


async def on_other(context: Context, statement: CommentOn, values: Values) -> Done:
    """COMMENT ON SCHEMA, SEQUENCE or TYPE."""
    number = _owned_id(context, statement)
    await context.on_engine(lambda: comments.keep(context.engine, comment_key(number), "", statement.comment))
    return Done("COMMENT", block_notices(context, "COMMENT"))


def _owned_id(context: Context, statement: CommentOn) -> int:
    catalog, role = context.catalog, context.asker.role
    if statement.kind == "type":
        return owned_type(context, statement.name).id
    if statement.kind == "schema":
        schema = catalog.schemas.get(statement.name)
        if schema is None:
            raise InvalidSchemaName(f'schema "{statement.name}" does not exist')
        require_schema_owner(catalog, role, schema)
        return schema.id
    sequence = found(context, statement.name, None)
    if not catalog.access.owns(role, sequence.id):
        raise InsufficientPrivilege(f"must be owner of sequence {sequence.bare}")
    return sequence.id
