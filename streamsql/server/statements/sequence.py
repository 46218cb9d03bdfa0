"""CREATE SEQUENCE, ALTER SEQUENCE and DROP SEQUENCE."""

from __future__ import annotations

from streamsql.base.errors import (
    DependentObjectsExist,
    InsufficientPrivilege,
    NotInPrerequisiteState,
    UndefinedColumn,
    UndefinedTable,
    WrongObjectType,
)
from streamsql.catalog.objects import PUBLIC_SCHEMA, Sequence, Stream, Table
from streamsql.catalog.rights import require_create, require_owner
from streamsql.engine import sequences
from streamsql.server.context import Context, Values
from streamsql.server.numbering import found
from streamsql.server.results import Done, notice
from streamsql.server.statements.create import block_notices, exists_notice
from streamsql.sql.names import parted
from streamsql.sql.sequence_names import sequence_of_default
from streamsql.sql.sequences import AlterSequence, CreateSequence, DropSequence


def _owner(context: Context, owned_by: tuple[str, str] | None) -> tuple[int, str] | None:
    if owned_by is None:
        return None
    key = context.lookup.key(*parted(owned_by[0]))
    made = None if key is None else context.engine.catalog.get(key)
    if made is None:
        raise UndefinedTable(f'relation "{owned_by[0]}" does not exist')
    if not isinstance(made, (Stream, Table)):
        raise WrongObjectType(f'sequence cannot be owned by relation "{made.bare}"')
    if made.column(owned_by[1]) is None:
        raise UndefinedColumn(f'column "{owned_by[1]}" of relation "{made.bare}" does not exist')
    require_owner(context.engine.catalog, context.asker.role, made)
    return made.id, owned_by[1]


async def create(context: Context, statement: CreateSequence, values: Values) -> Done:
    what, engine, role = "CREATE SEQUENCE", context.engine, context.asker.role
    name = context.lookup.new(*parted(statement.sequence))
    schema = parted(name)[0] or PUBLIC_SCHEMA
    if statement.if_not_exists and engine.catalog.is_taken(schema, parted(name)[1]):
        return Done(what, [exists_notice(name)])
    owner = _owner(context, statement.owned_by)

    def make() -> None:
        require_create(engine.catalog, role, schema)
        sequences.create(engine, name, statement.options, role, owner)

    await context.on_engine(make)
    return Done(what)


def _owned(context: Context, name: str) -> Sequence:
    sequence = found(context, name, None)
    if not context.catalog.access.owns(context.asker.role, sequence.id):
        raise InsufficientPrivilege(f"must be owner of sequence {sequence.bare}")
    return sequence


async def alter(context: Context, statement: AlterSequence, values: Values) -> Done:
    what, engine = "ALTER SEQUENCE", context.engine
    try:
        sequence = _owned(context, statement.sequence)
    except UndefinedTable:
        if not statement.if_exists:
            raise
        return Done(what, [notice(f'relation "{statement.sequence}" does not exist, skipping')])
    if statement.restarts:
        value = sequence.options.first if statement.restart is None else statement.restart
        await context.on_engine(lambda: engine.sequences.set(sequence, value, called=False))
    else:
        if sequence.owned_by is not None and statement.disowned is False and _is_identity(context, sequence):
            raise NotInPrerequisiteState("cannot change ownership of identity sequence")
        owner = _owner(context, statement.owned_by)
        await context.on_engine(lambda: sequences.own(engine, sequence, owner))
    return Done(what, block_notices(context, what))


def _is_identity(context: Context, sequence: Sequence) -> bool:
    return any(
        made.id == sequence.owned_by[0] and column.name == sequence.owned_by[1] and column.numbered is not None
        for made in context.catalog if isinstance(made, (Stream, Table)) and sequence.owned_by is not None
        for column in made.columns
    )  # fmt: skip


async def drop(context: Context, statement: DropSequence, values: Values) -> Done:
    what, engine = "DROP SEQUENCE", context.engine
    gone, notices = [], []
    for name in statement.sequences:
        try:
            gone.append(_owned(context, name))
        except UndefinedTable:
            if not statement.if_exists:
                raise UndefinedTable(f'sequence "{name}" does not exist') from None
            notices.append(notice(f'sequence "{name}" does not exist, skipping'))
    for sequence in gone:
        users = [
            f"default value for column {column.name} of table {made.shown}"
            for made in engine.catalog if isinstance(made, (Stream, Table))
            for column in made.columns
            if (column.numbered is not None and sequence.owned_by == (made.id, column.name))
            or sequence_of_default(column) in (sequence.bare, f"{sequence.schema}.{sequence.bare}")
        ]  # fmt: skip
        if users:
            raise DependentObjectsExist(
                f"cannot drop sequence {sequence.bare} because other objects depend on it",
                detail="\n".join(f"{user} depends on sequence {sequence.bare}" for user in users),
                hint="drop the defaults first: ALTER TABLE ... ALTER COLUMN ... DROP DEFAULT",
            )
    await context.on_engine(lambda: sequences.drop(engine, gone))
    return Done(what, notices + block_notices(context, what))
