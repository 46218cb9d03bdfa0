"""EXPLAIN query: the stages of a continuous query and how each is kept; for an ad-hoc one, DuckDB's plan."""

from __future__ import annotations

import duckdb

from streamsql.base.errors import FeatureNotSupported, StreamSQLError
from streamsql.engine.store import translated
from streamsql.plan.adhoc import adhoc_sql
from streamsql.plan.continuous import plan_query
from streamsql.plan.explain import explain
from streamsql.plan.places import located
from streamsql.server.context import Context, Values
from streamsql.server.reads import describe_on
from streamsql.server.results import ResultColumn, Rows, static_columns, static_rows
from streamsql.sql.statements import Explain, Query


async def columns(context: Context, statement: Explain, values: Values) -> list[ResultColumn]:
    return static_columns(("QUERY PLAN", str))


async def execute(context: Context, statement: Explain, values: Values) -> Rows:
    query = statement.query
    if query.parameter_count:
        raise FeatureNotSupported("EXPLAIN of a query with parameters is not supported", hint="write the values out")
    if query.emit is not None:
        plan = await context.reads.run(
            lambda cursor: plan_query(query, context.catalog, describe_on(cursor), context.limits)
        )
        lines = explain(plan)
    else:
        lines = await context.reads.run(lambda cursor: _duckdb_plan(context, query, cursor))
    return static_rows(static_columns(("QUERY PLAN", str)), [(line,) for line in lines], "EXPLAIN")


def _duckdb_plan(context: Context, query: Query, cursor: duckdb.DuckDBPyConnection) -> list[str]:
    try:
        sql = adhoc_sql(query.tree, query, context.scope(cursor))
        with translated():
            text = str(cursor.execute(f"EXPLAIN {sql}").fetchall()[0][1])
    except StreamSQLError as error:
        raise located(error, query.tree, query) from error
    shown = text.replace("_rows.", "").replace(" state.", " ")
    return ["ad hoc: answered once by DuckDB from the current epoch", *shown.splitlines()]
