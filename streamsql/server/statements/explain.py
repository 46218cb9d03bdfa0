"""EXPLAIN query: the stages of a continuous query and how each is kept; for an ad-hoc one, DuckDB's plan."""

from __future__ import annotations

from streamsql.engine.recovery import SYSTEM_RELATIONS
from streamsql.engine.store import translated
from streamsql.plan.adhoc import adhoc_sql
from streamsql.plan.bind import bind
from streamsql.plan.explain import explain
from streamsql.server.context import Context, Values
from streamsql.server.reads import describe_on
from streamsql.server.results import ResultColumn, Rows, static_columns, static_rows
from streamsql.sql.statements import Explain


async def columns(context: Context, statement: Explain, values: Values) -> list[ResultColumn]:
    return static_columns(("QUERY PLAN", str))


async def execute(context: Context, statement: Explain, values: Values) -> Rows:
    query = statement.query
    if query.emit is not None:
        plan = await context.reads.run(
            lambda cursor: bind(query, context.catalog, describe_on(cursor), context.limits)
        )
        lines = explain(plan)
    else:
        def duckdb_plan(cursor: object) -> list[str]:
            sql = adhoc_sql(
                query.tree, query, context.catalog, describe_on(cursor), context.limits, context.user, SYSTEM_RELATIONS  # type: ignore[arg-type]
            )
            with translated():
                text = cursor.execute(f"EXPLAIN {sql}").fetchall()[0][1]  # type: ignore[attr-defined]
            return ["ad hoc: answered once by DuckDB from the current epoch", *str(text).splitlines()]

        lines = await context.reads.run(duckdb_plan)
    return static_rows(static_columns(("QUERY PLAN", str)), [(line,) for line in lines], "EXPLAIN")
