"""EXPLAIN query: the stages of a continuous query and how each is kept; for an ad-hoc one, DuckDB's plan."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from streamsql.base.errors import FeatureNotSupported, StreamSQLError
from streamsql.base.types import JSON, TEXT
from streamsql.catalog.rights import may_read
from streamsql.engine.sharing import alike
from streamsql.engine.store import translated
from streamsql.plan.adhoc import adhoc_sql
from streamsql.plan.continuous import plan_query, require_sources
from streamsql.plan.explain import explain
from streamsql.plan.places import located
from streamsql.server.context import Context, Values
from streamsql.server.reads import describe_on
from streamsql.server.results import ResultColumn, Rows, static_rows
from streamsql.server.statements.query import check_continuous
from streamsql.sql.statements import Explain, Query


async def columns(context: Context, statement: Explain, values: Values) -> list[ResultColumn]:
    return [ResultColumn("QUERY PLAN", JSON if statement.as_json else TEXT)]


async def execute(context: Context, statement: Explain, values: Values) -> Rows:
    query, found = statement.query, await columns(context, statement, values)
    if query.parameter_count:
        raise FeatureNotSupported("EXPLAIN of a query with parameters is not supported", hint="write the values out")
    if query.emit is not None:
        check_continuous(context, query)
        require_sources(context.catalog, context.asker.role, query)
        plan = await context.reads.run(
            lambda cursor: plan_query(query, context.catalog, describe_on(cursor), context.limits)
        )
        known = await context.on_engine(lambda: alike(context.engine.queries.values(), plan))
        catalog, role = context.catalog, context.asker.role
        names = [n for n in known if (made := catalog.get(n)) is not None and may_read(catalog, role, made)]
        lines = explain(plan, [*names, *(["others"] if len(names) < len(known) else [])])
        if statement.as_json:
            lines = [json.dumps([{"Plan": {"Node Type": "Continuous Query", "Stages": lines}}], indent=2)]
    else:
        options = "(FORMAT json) " if statement.as_json else ""
        text = await context.reads.compute(lambda: _duckdb_plan(context, query, options))
        lines = [_as_json(text)] if statement.as_json else [_AD_HOC, *text.splitlines()]
    return static_rows(found, [(line,) for line in lines], "EXPLAIN")


_AD_HOC = "ad hoc: answered once by DuckDB from the current epoch"


def _duckdb_plan(context: Context, query: Query, options: str) -> str:
    try:
        with contextlib.closing(context.own_cursor()) as cursor, translated():
            sql = adhoc_sql(query.tree, query, context.own_scope(cursor))
            text = str(cursor.execute(f"EXPLAIN {options}{sql}").fetchall()[0][1])
    except StreamSQLError as error:
        raise located(error, query.tree, query) from error
    return text.replace("_rows.", "").replace(" state.", " ")


def _as_json(text: str) -> str:
    """Write DuckDB's plan with the keys that readers of PostgreSQL's plans know."""
    return json.dumps([{"Plan": _node(json.loads(text)[0])}], indent=2)


def _node(node: dict[str, Any]) -> dict[str, Any]:
    details = dict(node.get("extra_info") or {})
    made: dict[str, Any] = {"Node Type": str(node["name"]).strip().replace("_", " ").title()}
    rows = str(details.pop("Estimated Cardinality", ""))
    if rows.isdecimal():
        made["Plan Rows"] = int(rows)
    plans = [_node(child) for child in node.get("children") or []]
    return {**made, **details, **({"Plans": plans} if plans else {})}
