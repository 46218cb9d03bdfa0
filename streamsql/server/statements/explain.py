"""EXPLAIN query: the stages of a continuous query and how each is kept; for an ad-hoc one, DuckDB's plan."""

from __future__ import annotations

import json
import re
from typing import Any

import duckdb

from streamsql.base.errors import FeatureNotSupported, StreamSQLError
from streamsql.base.types import JSON, TEXT
from streamsql.catalog.objects import Catalog
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
from streamsql.sql.statements import Explain


async def columns(context: Context, statement: Explain, values: Values) -> list[ResultColumn]:
    return [ResultColumn("QUERY PLAN", JSON if statement.as_json else TEXT)]


async def execute(context: Context, statement: Explain, values: Values) -> Rows:
    query, found = statement.query, await columns(context, statement, values)
    if query.parameter_count:
        raise FeatureNotSupported("EXPLAIN of a query with parameters is not supported", hint="write the values out")
    if query.emit is not None and statement.analyze:
        raise FeatureNotSupported(
            "EXPLAIN ANALYZE of a continuous query is not supported",
            hint="it has no end: EXPLAIN shows its stages, streamsql.views what it has done",
        )
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
        text = await context.run_own(lambda cursor: _duckdb_plan(context, statement, cursor))
        lines = [_as_json(text)] if statement.as_json else [_AD_HOC, *text.splitlines()]
    return static_rows(found, [(line,) for line in lines], "EXPLAIN")


_AD_HOC = "ad hoc: answered once by DuckDB from the current epoch"


def _duckdb_plan(context: Context, statement: Explain, cursor: duckdb.DuckDBPyConnection) -> str:
    query = statement.query
    try:
        with translated():
            sql = adhoc_sql(query.tree, query, context.own_scope(cursor))
            text = _told(cursor, sql, analyze=statement.analyze, as_json=statement.as_json)
            if statement.analyze and "operator" not in text and text.count("╭") < 2:
                # it was answered without being run, by what is known of the table
                text = _told(cursor, sql, analyze=False, as_json=statement.as_json)
    except StreamSQLError as error:
        raise located(error, query.tree, query) from error
    if statement.as_json:
        return json.dumps(_named(json.loads(text), context.catalog))
    return with_own_names(text, context.catalog)


# as DuckDB names a table of the engine's, whose name is the key of what it is kept for
_KEPT = re.compile(r'(?:state\.)?_(?:rows|results)\.("(?:[^"]|"")*"|\w+)')


def with_own_names(plan: str, catalog: Catalog) -> str:
    """Call the relations in DuckDB's plan by the names that people know. Its boxes stay straight: as wide as names need."""
    lines = plan.splitlines()
    for number in range(len(lines)):
        while (found := _KEPT.search(lines[number])) is not None:
            name, edge = _own_name(found, catalog), lines[number].find("│", found.end())
            if edge < 0:  # no box
                lines[number] = lines[number][: found.start()] + name + lines[number][found.end() :]
                continue
            free = edge - len(lines[number][:edge].rstrip()) - 1
            wider = max(0, len(name) - len(found[0]) - free)
            lines = [_widened(line, edge - 1, wider) for line in lines]
            line, edge = lines[number], edge + wider
            cell = name + line[found.end() : edge].rstrip()
            lines[number] = line[: found.start()] + cell.ljust(edge - found.start()) + line[edge:]
    return "\n".join(lines)


def _own_name(found: re.Match[str], catalog: Catalog) -> str:
    """Give the name that people know of what DuckDB names so."""
    name = found[1]
    made = catalog.get(name[1:-1].replace('""', '"') if name.startswith('"') else name)
    return name if made is None else made.shown


def _named(value: Any, catalog: Catalog) -> Any:
    """Do it in all texts of a plan in JSON."""
    if isinstance(value, str):
        return _KEPT.sub(lambda found: _own_name(found, catalog), value)
    if isinstance(value, list):
        return [_named(v, catalog) for v in value]
    return {k: _named(v, catalog) for k, v in value.items()} if isinstance(value, dict) else value


def _widened(line: str, column: int, by: int) -> str:
    """Make a line of boxes wider, before a column: a horizontal line goes on."""
    filling = "─" if line[column - 1 : column] in tuple("─├╭╰┬┴") else " "
    return line[:column] + filling * by + line[column:] if len(line) > column else line


def _told(cursor: duckdb.DuckDBPyConnection, sql: str, *, analyze: bool, as_json: bool) -> str:
    words = [*(["ANALYZE"] if analyze else []), *(["FORMAT json"] if as_json else [])]
    options = f"({', '.join(words)}) " if words else ""
    return str(cursor.execute(f"EXPLAIN {options}{sql}").fetchall()[0][1])


def _as_json(text: str) -> str:
    """Write DuckDB's plan with the keys that readers of PostgreSQL's plans know."""
    read = json.loads(text)
    if isinstance(read, list):
        return json.dumps([{"Plan": _node(read[0])}], indent=2)
    top = read["operator"][0]
    while top["type"] in ("RESULT_COLLECTOR", "EXPLAIN_ANALYZE"):
        top = top["children"][0]
    return json.dumps([{"Plan": _node(top), "Execution Time": round(_seconds(top) * 1000, 3)}], indent=2)


def _seconds(node: dict[str, Any]) -> float:
    return float(node["timing"]) + sum(map(_seconds, node.get("children", ())))


def _node(node: dict[str, Any]) -> dict[str, Any]:
    details = dict(node.get("extra_info") or {})
    name = node["name"] if "name" in node else node["type"]
    made: dict[str, Any] = {"Node Type": str(name).strip().replace("_", " ").title()}
    rows = str(details.pop("Estimated Cardinality", ""))
    if rows.isdecimal():
        made["Plan Rows"] = int(rows)
    if "timing" in node:
        made |= {"Actual Rows": node["intermediate_rows"], "Actual Total Time": round(_seconds(node) * 1000, 3)}
    plans = [_node(child) for child in node.get("children") or []]
    return {**made, **details, **({"Plans": plans} if plans else {})}
