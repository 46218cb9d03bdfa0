"""CREATE INDEX, DROP INDEX and ALTER INDEX ... RENAME TO."""

from __future__ import annotations

from streamsql.base.errors import (
    FeatureNotSupported,
    InsufficientPrivilege,
    ObjectInUse,
    UndefinedColumn,
    UndefinedObject,
    UndefinedTable,
    WrongObjectType,
)
from streamsql.catalog.objects import CatalogObject, Index, PlainView, Table, View, nearest
from streamsql.catalog.rights import require_owner
from streamsql.engine import indexes
from streamsql.engine.sinks import key_of
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.server.statements.create import block_notices, exists_notice
from streamsql.sql.indexes import CreateIndex, DropIndex, RenameIndex
from streamsql.sql.names import parted

_NOT_NEEDED = "an index is kept as a name only: lookups do not need it"


async def create(context: Context, statement: CreateIndex, values: Values) -> Done:
    what, engine, role, position = "CREATE INDEX", context.engine, context.asker.role, statement.relation_position + 1
    key = context.lookup.key(*parted(statement.relation))
    if key is None:
        bare = parted(statement.relation)[1]
        hint = nearest(bare, [made.bare for made in context.catalog])
        raise UndefinedTable(f'relation "{bare}" does not exist', hint=hint, position=position)
    _check(context, statement, context.catalog.objects[key])

    def make() -> Index | None:
        made = engine.catalog.find(key)
        require_owner(engine.catalog, role, made)
        if isinstance(made, PlainView):
            raise WrongObjectType(
                f'cannot create index on relation "{made.bare}"',
                detail="This operation is not supported for views.",
                position=position,
            )
        return indexes.create(engine, statement, made)

    made = await context.on_engine(make)
    if made is None:
        assert statement.index is not None
        return Done(what, [exists_notice(statement.index)])
    notices = [] if made.unique else [notice(_NOT_NEEDED)]
    return Done(what, notices)


def _check(context: Context, statement: CreateIndex, made: CatalogObject) -> None:
    position = statement.relation_position + 1
    for name in statement.columns:
        if name is not None and name not in [c.name for c in made.columns]:
            raise UndefinedColumn(f'column "{name}" does not exist', hint=nearest(name, [c.name for c in made.columns]))
    if isinstance(made, Table) and made.temporary:
        raise FeatureNotSupported(
            "an index on a temporary table is not supported", hint="leave it away: none is needed", position=position
        )
    if not statement.unique:
        return
    if isinstance(made, View) and _is_unique(context, made, statement.columns):
        return
    if not isinstance(made, Table) or made.connector:
        raise WrongObjectType(
            f'cannot create unique index on "{made.bare}"', position=position,
            hint="rows of a table can be kept unique, and those of a view are by all that it groups by and shows",
        )  # fmt: skip
    if statement.partial or None in statement.columns:
        raise FeatureNotSupported(
            "a unique index of expressions, or of a part of the rows, is not supported",
            hint="name columns, without WHERE", position=position,
        )  # fmt: skip
    if made.name in context.transaction.written:
        raise ObjectInUse(
            f'cannot CREATE INDEX "{made.bare}" because this transaction has written to it', hint="COMMIT first",
            position=position,
        )  # fmt: skip


def _is_unique(context: Context, made: View, columns: tuple[str | None, ...]) -> bool:
    """Tell whether a view has no two rows with the same values of these columns: it groups by some of them, and shows those."""
    key = key_of(context.engine, made)
    return bool(key) and set(key) <= set(columns)


def _found(context: Context, name: str) -> Index:
    """Give the index of this name, which whoever asks owns. Raises StreamSQLError."""
    schema, bare = parted(name)
    catalog = context.engine.catalog
    for each in context.asker.path if schema is None else (schema,):
        index = catalog.index_called(each, bare)
        if index is not None:
            if not catalog.access.owns(context.asker.role, index.relation):
                raise InsufficientPrivilege(f"must be owner of index {index.name}")
            return index
        for table in catalog:
            if isinstance(table, Table) and table.schema == each and bare in [key.name for key in table.keys]:
                raise FeatureNotSupported(
                    f"cannot change index {bare} because constraint {bare} on table {table.bare} requires it",
                    hint=f"use ALTER TABLE {table.shown} ... CONSTRAINT {bare} instead",
                )
    raise UndefinedObject(f'index "{bare}" does not exist')


async def drop(context: Context, statement: DropIndex, values: Values) -> Done:
    what, engine = "DROP INDEX", context.engine
    gone: list[Index] = []
    notices: list[dict[str, str]] = []
    for name in statement.names:
        try:
            gone.append(_found(context, name))
        except UndefinedObject:
            if not statement.if_exists:
                raise
            notices.append(notice(f'index "{parted(name)[1]}" does not exist, skipping'))
    await context.on_engine(lambda: indexes.drop(engine, gone, cascade=statement.cascade))
    return Done(what, notices + block_notices(context, what))


async def rename(context: Context, statement: RenameIndex, values: Values) -> Done:
    what, engine = "ALTER INDEX", context.engine
    try:
        index = _found(context, statement.index)
    except UndefinedObject:
        if not statement.if_exists:
            raise
        return Done(what, [notice(f'relation "{parted(statement.index)[1]}" does not exist, skipping')])
    await context.on_engine(lambda: indexes.rename(engine, index, statement.new_name))
    return Done(what, block_notices(context, what))
