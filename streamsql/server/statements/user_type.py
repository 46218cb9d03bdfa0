"""CREATE TYPE, ALTER TYPE and DROP TYPE."""

from __future__ import annotations

from dataclasses import replace

from streamsql.base.errors import InsufficientPrivilege, InvalidSchemaName, UndefinedObject, WrongObjectType
from streamsql.catalog.objects import PUBLIC_SCHEMA
from streamsql.catalog.rights import require_create
from streamsql.catalog.user_types import UserType
from streamsql.engine import user_types
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.server.statements.create import block_notices
from streamsql.sql.names import parted
from streamsql.sql.types import AddLabel, CreateType, DropType, MoveType


async def create(context: Context, statement: CreateType, values: Values) -> Done:
    what, engine, role = "CREATE TYPE", context.engine, context.asker.role
    name = context.lookup.new(*parted(statement.name))
    named = replace(statement, name=name)

    def make() -> None:
        require_create(engine.catalog, role, parted(name)[0] or PUBLIC_SCHEMA)
        user_types.create(engine, named, role)

    await context.on_engine(make)
    return Done(what)


def owned_type(context: Context, name: str) -> UserType:
    """Give the type of this name, which whoever asks owns. Raises UndefinedObject, InsufficientPrivilege."""
    schema, bare = parted(name)
    made = context.lookup.type(schema, bare)
    if made is None:
        raise UndefinedObject(f'type "{name}" does not exist')
    if not context.catalog.access.owns(context.asker.role, made.id):
        raise InsufficientPrivilege(f"must be owner of type {made.bare}")
    return made


async def add_label(context: Context, statement: AddLabel, values: Values) -> Done:
    what, engine = "ALTER TYPE", context.engine
    made = owned_type(context, statement.name)
    if made.labels is None:
        raise WrongObjectType(f"{made.bare} is not an enum")
    added = await context.on_engine(lambda: user_types.add_label(engine, made, statement))
    notices = [] if added else [notice(f'enum label "{statement.label}" already exists, skipping', sqlstate="42710")]
    return Done(what, notices + block_notices(context, what))


async def move(context: Context, statement: MoveType, values: Values) -> Done:
    what, engine, role = "ALTER TYPE", context.engine, context.asker.role
    made = owned_type(context, statement.name)
    if statement.schema is not None and statement.schema not in context.catalog.schemas:
        raise InvalidSchemaName(f'schema "{statement.schema}" does not exist')

    def change() -> None:
        require_create(engine.catalog, role, statement.schema or made.schema)
        user_types.move(engine, made, statement)

    await context.on_engine(change)
    return Done(what, block_notices(context, what))


async def drop(context: Context, statement: DropType, values: Values) -> Done:
    what, engine = "DROP TYPE", context.engine
    gone: list[UserType] = []
    notices: list[dict[str, str]] = []
    for name in statement.names:
        try:
            gone.append(owned_type(context, name))
        except UndefinedObject:
            if not statement.if_exists:
                raise
            notices.append(notice(f'type "{name}" does not exist, skipping'))
    more = await context.on_engine(lambda: user_types.drop(engine, gone, cascade=statement.cascade))
    if len(more) == 1:
        notices.append(notice(f"drop cascades to {more[0]}"))
    elif more:
        detail = "\n".join(f"drop cascades to {shown}" for shown in more)
        notices.append(notice(f"drop cascades to {len(more)} other objects", detail=detail))
    return Done(what, notices + block_notices(context, what))
