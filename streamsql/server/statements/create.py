"""CREATE STREAM, CREATE TABLE, CREATE [MATERIALIZED] VIEW."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import duckdb

from streamsql.base.errors import FeatureNotSupported, StreamSQLError, UndefinedParameter
from streamsql.catalog.objects import PUBLIC_SCHEMA, Catalog, OutputColumn, PlainView, Stream, Table, View
from streamsql.catalog.rights import require, require_connector, require_create, require_owner
from streamsql.connectors import resolved
from streamsql.connectors.inferring import inferred
from streamsql.connectors.source import Surroundings
from streamsql.engine import definitions, view_definitions
from streamsql.engine.building import Building
from streamsql.plan.adhoc import adhoc_query
from streamsql.plan.continuous import require_sources
from streamsql.plan.expressions import check_default
from streamsql.plan.places import located
from streamsql.plan.plain_views import opened_in
from streamsql.plan.result_types import is_named
from streamsql.plan.ttl import bound_missing, kept_for_ever
from streamsql.plan.unbounded import missing_bound
from streamsql.server.context import Context, Values
from streamsql.server.numbering import found
from streamsql.server.results import Done, notice
from streamsql.server.statements.query import check_continuous
from streamsql.sql.names import parted
from streamsql.sql.sequence_names import sequence_of_default
from streamsql.sql.statements import CreateMaterializedView, CreateStream, CreateTable, CreateView, Query


def exists_notice(name: str) -> dict[str, str]:
    return notice(f'relation "{parted(name)[1]}" already exists, skipping', sqlstate="42P07")


def block_notices(context: Context, what: str, *ids: int) -> list[dict[str, str]]:
    """Warn that a definition inside BEGIN ... COMMIT is not undone by ROLLBACK.

    It is where it changes what has these IDs and was made in the same transaction.
    """
    if not context.transaction.explicit or (ids and context.transaction.made.issuperset(ids)):
        return []
    return [notice(f"{what} takes effect at once: ROLLBACK does not undo it", severity="WARNING", sqlstate="25000")]


def storage_notices(names: Iterable[str]) -> list[dict[str, str]]:
    """Say of options by which PostgreSQL stores a table that they do nothing here."""
    return [notice(f'storage parameter "{name}" has no effect', hint="DuckDB stores the rows") for name in names]


async def relation(context: Context, statement: CreateStream | CreateTable, values: Values) -> Done:
    what = "CREATE STREAM" if isinstance(statement, CreateStream) else "CREATE TABLE"
    require_connector(context.catalog, context.asker.role, statement.options.get("connector"))
    told = []
    if isinstance(statement, CreateStream) and statement.inferred:
        if statement.name in context.engine.catalog.objects and statement.if_not_exists:
            return Done(what, [exists_notice(statement.name)])
        statement = await _inferred(context, statement)
        told = [notice(f"the columns are as in: {resolved(statement).text}")]
    statement = resolved(statement)
    await check_defaults(context, statement)
    made = await create_relation(context, statement)
    if isinstance(statement, CreateTable):
        told += storage_notices(statement.storage)
    return Done(what, told if made else [exists_notice(statement.name)])


async def _inferred(context: Context, statement: CreateStream) -> CreateStream:
    """Let the connector look at a sample, while others are served."""
    engine = context.engine
    surroundings = Surroundings(
        engine.allowed_paths, name=statement.name, record_bytes_max=engine.limits.record_bytes_max,
        allowed_urls=engine.allowed_urls,
    )  # fmt: skip
    return await asyncio.to_thread(inferred, statement, surroundings)


async def check_defaults(context: Context, statement: CreateStream | CreateTable) -> None:
    """Raise StreamSQLError where a DEFAULT cannot be one."""
    for column in statement.columns:
        name = sequence_of_default(column)
        if name is not None:
            found(context, name, None)
    if any(c.default is not None for c in statement.columns):
        await context.reads.run(lambda cursor: _check_defaults(context, statement, cursor))


def _check_defaults(context: Context, statement: CreateStream | CreateTable, cursor: duckdb.DuckDBPyConnection) -> None:
    for column in statement.columns:
        if column.default is not None and sequence_of_default(column) is None:
            try:
                check_default(column, statement, context.scope(cursor))
            except StreamSQLError as error:
                raise located(error, column.default, statement) from error


async def create_relation(context: Context, statement: CreateStream | CreateTable) -> Stream | Table | None:
    """Make a stream or table that belongs to whoever asks; None where it exists already and that may be."""
    engine, role = context.engine, context.asker.role

    def create() -> Stream | Table | None:
        require_create(engine.catalog, role, parted(statement.name)[0] or PUBLIC_SCHEMA)
        into = engine.catalog.called(statement.options.get("rejected_into", ""))
        if into is not None:
            require(engine.catalog, role, into, "INSERT")
        return definitions.create_relation(engine, statement, role)

    return await context.on_engine(create)


async def _built(context: Context, building: Building) -> View:
    """Have a view built piece by piece, while epochs go on between them; drop it where that ends otherwise."""
    try:
        while not await context.on_engine(building.step):
            pass
    except BaseException:
        with contextlib.suppress(StreamSQLError):
            await asyncio.shield(context.on_engine(building.abandon))
        raise
    return building.view


async def plain_view(context: Context, statement: CreateView, values: Values) -> Done:
    what, query = "CREATE VIEW", statement.query
    engine, role = context.engine, context.asker.role
    if query.parameter_count:
        raise UndefinedParameter("a view has no parameters", hint="write the values into its query")
    own = next((n for n in statement.names.values() if n in context.transaction.temporary), None)
    if own is not None:
        raise FeatureNotSupported(f'a view cannot read the temporary table "{parted(own)[1]}"', hint="use CREATE TABLE")

    def create(columns: list[OutputColumn], catalog: Catalog) -> PlainView | bool:
        if engine.catalog is not catalog:
            return False  # what was found out may not hold any more
        require_create(catalog, role, parted(statement.name)[0] or PUBLIC_SCHEMA)
        replaced = catalog.called(statement.name) if statement.or_replace else None
        if replaced is not None:
            require_owner(catalog, role, replaced)
        return view_definitions.create_plain_view(engine, statement, columns, role) or True

    replaces = statement.or_replace and engine.catalog.called(statement.name) is not None
    made: PlainView | bool = False
    while made is False:
        catalog = engine.catalog
        columns = await context.reads.run(partial(_columns_of, context, query, catalog))
        made = await context.on_engine(partial(create, columns, catalog))
    if made is True:
        return Done(what, [exists_notice(statement.name)])
    return Done(what, block_notices(context, what) if replaces else [])


def _columns_of(
    context: Context, query: Query, catalog: Catalog, cursor: duckdb.DuckDBPyConnection
) -> list[OutputColumn]:
    """Find out what a query gives. For a reader's thread."""
    scope = replace(context.scope(cursor), catalog=catalog)
    try:
        made = adhoc_query(opened_in(query.tree, catalog, context.asker.role), query, scope)
        found = list(scope.describe(made.sql))
    except StreamSQLError as error:
        raise located(error, query.tree, query) from error
    types = made.types if made.types is not None and len(made.types) == len(found) else [None] * len(found)
    return [replace(c, made=w if w is not None and is_named(w) else None) for c, w in zip(found, types, strict=True)]


async def view(context: Context, statement: CreateMaterializedView, values: Values) -> Done:
    what = "CREATE MATERIALIZED VIEW"
    check_continuous(context, statement.query)
    engine, role = context.engine, context.asker.role

    def create() -> View | Building | None:
        require_create(engine.catalog, role, parted(statement.name)[0] or PUBLIC_SCHEMA)
        require_sources(engine.catalog, role, statement.query)
        replaced = engine.catalog.called(statement.name) if statement.or_replace else None
        if replaced is not None:
            require_owner(engine.catalog, role, replaced)
            require_sources(engine.catalog, engine.catalog.access.owner_of(replaced.id), statement.query)
        return view_definitions.create_view(engine, statement, role)

    replaces = statement.or_replace and engine.catalog.called(statement.name) is not None
    made = await context.on_engine(create)
    if isinstance(made, Building):
        made = await _built(context, made)
    if made is None:
        return Done(what, [exists_notice(statement.name)])
    notices = block_notices(context, what) if replaces else []
    if not statement.with_data:
        notices.append(notice(f'"{made.bare}" is kept up to date from now on: WITH NO DATA has no effect'))
    plan = context.engine.queries[made.name].plan
    if plan.window is not None and not plan.state_bounded:
        notices.append(
            notice(
                f'state of "{made.bare}" is never dropped: there is no watermark',
                hint="add WITH WATERMARK '10 minutes', or declare WATERMARK FOR the column in CREATE STREAM",
            )
        )
    missing = missing_bound(statement.query, plan, context.catalog)
    if missing is not None:
        notices.append(notice(f'"{made.bare}" needs all rows of its streams for ever', hint=missing))
    kept = kept_for_ever(plan)
    if kept:
        notices.append(
            notice(
                f'state of "{made.bare}" is never dropped: it keeps {" and ".join(kept)}',
                hint=bound_missing(plan),
            )
        )
    trimmed = [s for s in plan.sources if isinstance(o := context.catalog.get(s), Stream) and o.retention_us]
    if plan.recomputed is not None and trimmed and not plan.recomputed.marks:
        notices.append(
            notice(
                f"rows of {', '.join(trimmed)} are kept beyond their retention: {made.bare} reads them again",
                hint="EXPLAIN the query to see why; GROUP BY over one stream is kept without its rows",
            )
        )
    return Done(what, notices)
