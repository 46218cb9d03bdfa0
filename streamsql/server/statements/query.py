"""SELECT: ad hoc from the current epoch, or continuous with EMIT or WITH WATERMARK."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import secrets
from collections.abc import Sequence

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from streamsql.base.errors import AdminShutdown, FeatureNotSupported, StreamSQLError
from streamsql.base.types import FLOAT4, FLOAT8, INT2, INT4, INT8, NUMERIC, WireType
from streamsql.catalog.objects import OutputColumn
from streamsql.engine.changes import Change
from streamsql.engine.live import LiveQuery, start_live_query, stop_live_query
from streamsql.plan.adhoc import Scope, adhoc_query, explained, known_types
from streamsql.plan.continuous import named_relations, plan_query, require_sources
from streamsql.plan.functions import asks_settings
from streamsql.plan.nodes import as_quotient
from streamsql.plan.output_names import with_values_names
from streamsql.plan.parameters import infer_types, literal_sql, number_of, substituted
from streamsql.plan.places import located
from streamsql.plan.point_lookup import Constant, point_lookup
from streamsql.plan.result_types import WIRE_TYPE
from streamsql.plan.sequence_calls import may_call
from streamsql.server import row_locks
from streamsql.server.context import Context, Given, Values
from streamsql.server.known import Bound
from streamsql.server.numbering import answered
from streamsql.server.reads import describe_on
from streamsql.server.results import Batches, ResultColumn, Rows, Wake, only
from streamsql.server.statements.advisory_calls import locking, locks
from streamsql.server.statements.cancel_calls import canceller, cancelling, cancels
from streamsql.server.statements.notify_calls import rewritten, telling
from streamsql.server.streaming import canonical, every
from streamsql.server.templates import template_of
from streamsql.sql.statements import EmitMode, Query

# A parameter in the SQL that is kept: what no text of a client's can hold, so that nothing else is taken for one.
_MARK = f"parameter_{secrets.token_hex(12)}_"
_MARKED = re.compile(rf"\${_MARK}(\d+)")


def types_of(
    context: Context, statement: Query, declared: Sequence[WireType | None], cursor: duckdb.DuckDBPyConnection
) -> tuple[WireType, ...]:
    """Give the types of the parameters."""
    scope = context.scope(cursor)
    known = known_types(statement, scope)
    return tuple(infer_types(statement.tree, statement.parameter_count, declared, scope.describe, known=known))


def check_continuous(context: Context, query: Query) -> None:
    """Raise FeatureNotSupported where a continuous query reads a temporary table."""
    name = next((n for n in named_relations(query) if n in context.transaction.temporary), None)
    if name is not None:
        raise FeatureNotSupported(
            "continuous queries and materialized views cannot use temporary tables",
            detail=f'"{name}" is known to this session alone',
            hint="use CREATE TABLE",
        )


async def columns(context: Context, statement: Query, values: Values) -> list[ResultColumn]:
    """Tell the result's columns; parameters without values are typed NULLs."""
    if statement.emit is None:
        if may_call(statement):
            statement = dataclasses.replace(
                statement, tree=await answered(context, statement, statement.tree, describing=True)
            )
        taken = locks(statement)
        if taken is not None:
            return taken.shown((await _bound(context, taken.query, values)).columns)
        cancelled = cancels(statement)
        if cancelled is not None:
            return cancelled.shown((await _bound(context, cancelled.query, values)).columns)
        calls = rewritten(statement)
        if calls is None:
            return list((await _bound(context, statement, values)).columns)
        return calls.shown((await _bound(context, calls.query, values)).columns)
    query = _with_values(statement, values)
    check_continuous(context, query)
    require_sources(context.catalog, context.asker.role, query)
    plan = await context.reads.run(
        lambda cursor: plan_query(query, context.catalog, describe_on(cursor), context.limits)
    )
    return [ResultColumn.of(o.name, o.type, o.made) for o in plan.outputs]


async def execute(context: Context, statement: Query, values: Values) -> Rows:
    if statement.emit is not None:
        return await _live(context, _with_values(statement, values))
    if statement.locks:
        await row_locks.hold(context, statement, values)
    if may_call(statement):
        tree = statement.tree
        if statement.parameter_count and values.texts:
            tree, values = substituted(tree, values.types, values.texts), Values()
        statement = dataclasses.replace(statement, tree=await answered(context, statement, tree), parameter_count=0)
    taken = locks(statement)
    if taken is not None:
        rows = await _adhoc(context, taken.query, values)
        rows.columns = taken.shown(rows.columns)
        rows.batches = locking(context, rows.batches, taken.places)
        return rows
    cancelled = cancels(statement)
    if cancelled is not None:
        rows = await _adhoc(context, cancelled.query, values)
        rows.columns = cancelled.shown(rows.columns)
        rows.batches = cancelling(rows.batches, cancelled.places, canceller(context))
        return rows
    calls = rewritten(statement)
    if calls is None:
        return await _adhoc(context, statement, values)
    rows = await _adhoc(context, calls.query, values)
    if calls.calls:
        rows.columns = calls.shown(rows.columns)
        rows.batches = telling(rows.batches, len(calls.calls), context.asker.process_id, context.transaction.act)
    return rows


# ---- ad hoc ----


async def _adhoc(context: Context, statement: Query, values: Values) -> Rows:
    if context.transaction.private:
        return await _with_written(context, statement, values)
    bound = await _bound(context, statement, values)
    if bound.lookup is not None:
        if not values.types:
            context.known.templates.learn(statement, bound.lookup)
        found = _looked_up(context, bound, [_constant(c, values) for c in bound.lookup.constants])
        if found is not None:
            return found
    rows = context.reads.stream(_filled(bound, values), bound.columns, context.cancel, tables=bound.tables)
    return Rows(list(bound.columns), rows, locate=lambda error: located(error, statement.tree, statement))


def by_template(context: Context, text: str) -> Rows | None:
    """Answer a text that only has other constants than one that was a lookup. None: parse it."""
    if context.transaction.private or context.transaction.failed:
        return None
    template = template_of(text)
    query = None if template is None else context.known.templates.find(template)
    if template is None or query is None:
        return None
    bound = context.known.queries.get(query, context.catalog, ((), context.asker))
    if bound is None or bound.lookup is None:
        return None
    constants = [""] * len(template.constants)
    for place, constant in zip(bound.lookup.in_order, template.constants, strict=True):
        constants[place] = constant
    return _looked_up(context, bound, constants)


def _constant(constant: Constant, values: Values) -> str | None:
    if not constant.number:
        return constant.text
    return None if values.texts is None else values.texts[constant.number - 1]


def _looked_up(context: Context, bound: Bound, constants: Sequence[str | None]) -> Rows | None:
    assert bound.lookup is not None
    row = context.known.lookups.find(context.engine, bound.lookup, constants)
    return None if row is None else Rows(list(bound.columns), only(row))


async def _bound(context: Context, query: Query, values: Values) -> Bound:
    """Give the DuckDB SQL of an ad-hoc query, and its columns, as long as the catalog stays the same without asking again."""
    if context.transaction.temporary:
        return await context.reads.compute(lambda: _bind_own(query, values.types, context))
    catalog, key = context.catalog, (values.types, context.asker)
    found = context.known.queries.get(query, catalog, key)
    if found is None:
        found = await context.reads.run(lambda cursor: _bind(query, values.types, context, cursor), context.cancel)
        if found.lasting:
            context.known.queries.put(query, catalog, found, key)
    return found


def _bind_own(query: Query, types: tuple[WireType, ...], context: Context) -> Bound:
    with contextlib.closing(context.own_cursor()) as cursor:
        return _bind(query, types, context, cursor, own=True)


def _bind(
    query: Query, types: tuple[WireType, ...], context: Context, cursor: duckdb.DuckDBPyConnection, *, own: bool = False
) -> Bound:
    given = Given()
    return bind(query, types, context.own_scope(cursor, given) if own else context.scope(cursor, given), given)


def bind(query: Query, types: tuple[WireType, ...], scope: Scope, given: Given) -> Bound:
    """Give the DuckDB SQL of an ad-hoc query, and its columns; `given` notes what it reads of the system's relations."""
    tree, describe = query.tree, scope.describe
    if types:
        tree = _marked(tree, types)
        unknown = Values(types, None)
        scope = dataclasses.replace(scope, describe=lambda sql: describe(_fill(sql, unknown)))
    try:
        made = adhoc_query(tree, query, scope)
        found = with_values_names(tree, scope.describe(made.sql))
    except StreamSQLError as error:
        raise explained(error, query.tree, query, scope) from error
    # a value may have a narrower type than a typed NULL, so the columns are cast to what the client was told
    told = made.types if made.types is not None and len(made.types) == len(found) else [None] * len(found)
    sizes = made.modifiers if made.modifiers is not None and len(made.modifiers) == len(found) else [-1] * len(found)
    columns = tuple(
        _column(c, wire_type, size, exact=bool(types)) for c, wire_type, size in zip(found, told, sizes, strict=True)
    )
    if any(c.shown and c.type is not NUMERIC for c in columns):
        scope.provide(None)
    lasting = given.lasting and not asks_settings(query.tree, query)
    raw = all(not c.shown and (c.cast is None or c.exact) for c in columns)
    lookup = (
        point_lookup(query.tree, scope.catalog, types) if raw and not scope.stand_ins and not given.tables else None
    )
    return Bound(made.sql, columns, given.tables, lasting, lookup)


def _column(described: OutputColumn, told: WireType | None, modifier: int, *, exact: bool) -> ResultColumn:
    """Make a column as DuckDB describes it, or else as PostgreSQL would."""
    column = ResultColumn.of(described.name, described.type, exact=exact)
    if told is NUMERIC and column.type in (INT2, INT4, INT8):
        return ResultColumn(described.name, NUMERIC, cast="DECIMAL(38,0)")  # extract(year FROM x) has no fraction
    if told is NUMERIC and column.type in (FLOAT4, FLOAT8):
        return ResultColumn(described.name, NUMERIC, shown=as_quotient("{}"))
    if told is not None and told is not column.type:
        return ResultColumn.told(described.name, told, modifier)
    return column if modifier < 0 else dataclasses.replace(column, modifier=modifier)


def _marked(tree: exp.Expr, types: tuple[WireType, ...]) -> exp.Expr:
    """Put marks in for the parameters, which know their types."""
    made = tree.copy()
    for parameter in list(made.find_all(exp.Parameter)):
        mark = exp.Placeholder(this=f"{_MARK}{number_of(parameter)}")
        mark.meta[WIRE_TYPE] = types[number_of(parameter) - 1]
        parameter.replace(mark)
    return made


def _filled(bound: Bound, values: Values) -> str:
    return _fill(bound.sql, values) if values.types else bound.sql


def _fill(sql: str, values: Values) -> str:
    """Put the values, as literals, in for the marks."""
    texts = values.texts if values.texts is not None else (None,) * len(values.types)
    literals = [literal_sql(t, text) for t, text in zip(values.types, texts, strict=True)]
    return _MARKED.sub(lambda mark: literals[int(mark[1]) - 1], sql)


async def _with_written(context: Context, query: Query, values: Values) -> Rows:
    """Read what is committed and, of the session's own transaction, what is not yet."""
    cursor = await context.reads.compute(context.own_cursor)

    async def release() -> None:
        cursor.close()

    try:
        bound = await context.reads.compute(lambda: _bind(query, values.types, context, cursor, own=True))
    except BaseException:
        cursor.close()
        raise
    rows = context.reads.stream(_filled(bound, values), bound.columns, context.cancel, cursor)
    found = list(bound.columns)
    return Rows(found, rows, release=release, locate=lambda error: located(error, query.tree, query))


# ---- continuous ----


def _with_values(statement: Query, values: Values) -> Query:
    if not statement.parameter_count:
        return statement
    return dataclasses.replace(
        statement, tree=substituted(statement.tree, values.types, values.texts), parameter_count=0
    )


async def _live(context: Context, query: Query) -> Rows:
    check_continuous(context, query)
    wake = Wake()
    waken = context.known.bell.for_event(wake)
    engine, role = context.engine, context.asker.role

    def start() -> LiveQuery:
        require_sources(engine.catalog, role, query)
        made = start_live_query(engine, query, waken)
        made.subscription.role = role
        return made

    live = await context.on_engine(start)

    async def release() -> None:
        try:
            await context.on_engine(lambda: stop_live_query(context.engine, live))
        except AdminShutdown:
            live.subscription.close()  # the engine has stopped, and its temporary tables are gone with it

    found = [ResultColumn.of(o.name, o.type, o.made) for o in live.plan.outputs]
    batches = _batches(context, live, wake, found)
    return Rows(found, batches, live=True, wake=wake, limit=live.plan.limit, release=release)


async def _batches(context: Context, live: LiveQuery, wake: Wake, found: list[ResultColumn]) -> Batches:
    """Give a live query's rows as its epochs commit, until the client has enough or cancels."""
    async for changes, _ in every(context.reads, live.subscription, wake, live.plan.every_us, context.cancel):
        shown = _shown(live, changes)
        if shown is not None and shown.num_rows:
            for batch in await canonical(context.reads, shown, found):
                yield batch
        yield None


def _shown(live: LiveQuery, changes: list[Change]) -> pa.Table | None:
    """Tell what of the changes the client sees: in update mode new values, in complete mode the last whole result."""
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
