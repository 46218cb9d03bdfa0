"""SELECT: ad hoc from the current epoch, or continuous with EMIT or WITH WATERMARK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from streamsql.base.errors import StreamSQLError
from streamsql.catalog.objects import OutputColumn, quoted
from streamsql.engine import definitions
from streamsql.engine.changes import Change
from streamsql.engine.definitions import LiveQuery
from streamsql.engine.recovery import SYSTEM_RELATIONS
from streamsql.plan.adhoc import adhoc_sql
from streamsql.plan.bind import bind, located
from streamsql.plan.parameters import substituted
from streamsql.server.cancellation import Cancellation
from streamsql.server.context import Context, Values
from streamsql.server.reads import describe_on
from streamsql.server.results import ResultColumn, Rows
from streamsql.server.streaming import canonical, every
from streamsql.sql.statements import EmitMode, Query


async def columns(context: Context, statement: Query, values: Values) -> list[ResultColumn]:
    """Tell the result's columns; parameters without values are typed NULLs."""
    query = _with_values(statement, values)
    if query.emit is not None:
        plan = await context.reads.run(lambda cursor: bind(query, context.catalog, describe_on(cursor), context.limits))
        return [ResultColumn.of(o.name, o.type) for o in plan.outputs]
    return (await context.reads.run(lambda cursor: _bound(context, query, cursor)))[1]


async def execute(context: Context, statement: Query, values: Values) -> Rows:
    query = _with_values(statement, values)
    if query.emit is not None:
        return await _live(context, query)
    sql, found = await context.reads.run(lambda cursor: _bound(context, query, cursor), context.cancel)
    pending = context.transaction.pending()
    if pending:
        return Rows(found, _with_pending(context, sql, found, pending))
    return Rows(found, context.reads.stream(sql, found, context.cancel))


def _with_values(statement: Query, values: Values) -> Query:
    import dataclasses

    if not statement.parameter_count:
        return statement
    tree = substituted(statement.tree, list(values.types), values.texts or None)
    return dataclasses.replace(statement, tree=tree, parameter_count=0)


def _bound(context: Context, query: Query, cursor: duckdb.DuckDBPyConnection) -> tuple[str, list[ResultColumn]]:
    """Give the DuckDB SQL of an ad-hoc query, and its columns."""
    describe = describe_on(cursor)
    try:
        sql = adhoc_sql(
            query.tree, query, context.catalog, describe, context.limits, context.user, SYSTEM_RELATIONS
        )
        found = describe(sql)
    except StreamSQLError as error:
        raise located(error, query) from error
    return sql, [ResultColumn.of(name, c.type) for name, c in zip(_names(query, found), found, strict=True)]


def _names(query: Query, found: list[OutputColumn]) -> list[str]:
    """Name the columns as Postgres would: DuckDB names an expression after its text."""
    from streamsql.plan.bind import output_name

    tree = query.tree
    select = tree if isinstance(tree, exp.Select) else None
    if select is None or len(select.expressions) != len(found) or any(e.find(exp.Star) and not isinstance(e, exp.Func) and not isinstance(e, exp.Alias) and isinstance(e.unalias(), (exp.Star, exp.Column)) for e in select.expressions):
        return [c.name for c in found]
    return [output_name(e) for e in select.expressions]


async def _with_pending(
    context: Context, sql: str, found: list[ResultColumn], pending: dict[str, pa.Table]
) -> AsyncIterator[pa.RecordBatch | None]:
    """Read what is committed and, of the session's own transaction, what is not yet."""
    cursor = context.engine.store.cursor()
    try:
        parts = []
        for index, (name, rows) in enumerate(pending.items()):
            cursor.register(f"__pending_{index}", rows)
            relation = context.catalog.relation(name)
            parts.append(
                f"{quoted(name)} AS (SELECT * FROM {relation.public_name} UNION ALL SELECT * FROM __pending_{index})"
            )
        wrapped = f"WITH {', '.join(parts)} SELECT * FROM ({sql})"
        async for batch in context.reads.stream_from(cursor, wrapped, found, context.cancel):
            yield batch
    finally:
        cursor.close()


async def _live(context: Context, query: Query) -> Rows:
    wake = asyncio.Event()
    loop = asyncio.get_running_loop()
    live = await context.on_engine(
        lambda: definitions.start_live_query(
            context.engine, query, lambda: loop.call_soon_threadsafe(wake.set)
        )
    )
    found = [ResultColumn.of(o.name, o.type) for o in live.plan.outputs]
    return Rows(found, _batches(context, live, wake, found, context.cancel), live=True, limit=live.plan.limit)


async def _batches(
    context: Context, live: LiveQuery, wake: asyncio.Event, found: list[ResultColumn], cancel: Cancellation
) -> AsyncIterator[pa.RecordBatch | None]:
    """Give a live query's rows as its epochs commit, until the client has enough or cancels."""
    try:
        async for changes, _ in every(live.subscription, wake, live.plan.every_us, cancel):
            shown = _shown(live, changes)
            if shown is not None and shown.num_rows:
                for batch in await canonical(context.reads, shown, found):
                    yield batch
            yield None
    finally:
        await asyncio.shield(context.on_engine(lambda: definitions.stop_live_query(context.engine, live)))


def _shown(live: LiveQuery, changes: list[Change]) -> pa.Table | None:
    """Tell what of the changes the client sees: in update mode new values, in complete mode the last whole result."""
    if not changes:
        return None
    if live.plan.mode is EmitMode.COMPLETE:
        whole = [c for c in changes if c.whole]
        return whole[-1].rows if whole else None
    parts = []
    for change in changes:
        if change.whole:
            continue
        rows = change.rows
        if change.weights is not None:
            rows = rows.filter(pc.greater(change.weights, 0))
        parts.append(rows)
    return pa.concat_tables(parts) if parts else None
