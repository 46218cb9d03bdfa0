"""Ad-hoc queries: a client's SELECT as the SQL that DuckDB runs over the current epoch.

Three things are done to the tree: names are checked against the catalog (so that the engine's own tables and DuckDB's
table functions cannot be reached), ``window()`` in GROUP BY becomes plain expressions, and questions about the session
(``version()``, ``current_user``) get their answers.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlglot
from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, SQLSyntaxError, UndefinedFunction, UndefinedTable
from streamsql.base.limits import Limits
from streamsql.catalog.objects import Catalog, nearest, quoted
from streamsql.plan import stages
from streamsql.plan.bind import WINDOW_COLUMNS, Describe, is_window
from streamsql.plan.functions import REFUSED_SCALARS, TABLE_FUNCTIONS, function_name, session_value
from streamsql.plan.windows import bind_window, windows_of_time
from streamsql.sql.parse import position_of
from streamsql.sql.render import duckdb_sql
from streamsql.sql.statements import Statement

SYSTEM_SCHEMA = "streamsql"
STANDARD_SCHEMAS = {"information_schema", "pg_catalog"}


def adhoc_sql(
    tree: exp.Expression,
    statement: Statement,
    catalog: Catalog,
    describe: Describe,
    limits: Limits,
    user: str,
    system_relations: Iterable[str],
) -> str:
    """Give the DuckDB SQL of an ad-hoc query; `tree` is left as it is. Raises StreamSQLError with a position."""
    tree = tree.copy()
    _check_names(tree, statement, catalog, set(system_relations))
    for node in list(tree.walk()):
        name = function_name(node)
        if name in REFUSED_SCALARS:
            raise UndefinedFunction(f"function {name} does not exist", position=position_of(node, statement))
        value = session_value(node, user)
        if value is not None:
            made = sqlglot.parse_one(value, read="duckdb")
            if isinstance(node.parent, exp.Select) and node.arg_key == "expressions":
                made = exp.alias_(made, function_name(node) or node.name)
            tree = _replace(tree, node, made)
    for select in list(tree.find_all(exp.Select)):
        _rewrite_window(select, statement, describe, limits)
    stray = next((n for n in tree.walk() if is_window(n)), None)
    if stray is not None:
        raise SQLSyntaxError(
            "window() stands in GROUP BY only",
            hint="select window_start and window_end",
            position=position_of(stray, statement),
        )
    return duckdb_sql(tree)


def _replace(tree: exp.Expression, node: exp.Expression, made: exp.Expression) -> exp.Expression:
    if node is tree:
        return made
    node.replace(made)
    return tree


def _check_names(tree: exp.Expression, statement: Statement, catalog: Catalog, system: set[str]) -> None:
    defined = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            name = function_name(table.this)
            if name not in TABLE_FUNCTIONS:
                raise UndefinedFunction(
                    f"function {name or table.this.sql()} cannot be used in FROM",
                    hint=f"table functions that there are: {', '.join(sorted(TABLE_FUNCTIONS))}",
                    position=position_of(table, statement),
                )
            continue
        schema, name = table.db.lower(), table.name
        if schema in STANDARD_SCHEMAS or (not schema and name in defined):
            continue
        if schema == SYSTEM_SCHEMA and name in system:
            continue
        known: set[str] = system if schema == SYSTEM_SCHEMA else set(catalog.objects)
        if schema == "" and (name in known or name.startswith("pg_")):
            continue
        raise UndefinedTable(
            f'relation "{f"{schema}." if schema else ""}{name}" does not exist',
            hint=nearest(name, known | defined),
            position=position_of(table.this, statement),
        )


def _rewrite_window(select: exp.Select, statement: Statement, describe: Describe, limits: Limits) -> None:
    """Turn ``GROUP BY window(time, size [, slide])`` into expressions, and a hopping one into a lateral join as well."""
    group = select.args.get("group")
    calls = [e for e in group.expressions if is_window(e)] if group is not None else []
    if not calls:
        return
    if len(calls) > 1:
        raise FeatureNotSupported("a query has one window", position=position_of(calls[1], statement))
    call = calls[0]

    def type_of(node: exp.Expression) -> str:
        probe = exp.select(node.copy()).from_(select.args["from_"].this.copy())
        for join in select.args.get("joins") or []:
            probe.append("joins", join.copy())
        return describe(duckdb_sql(probe))[0].type

    window = bind_window(call, type_of, limits, position_of(call, statement))  # type: ignore[arg-type]  # is_window
    first, last = windows_of_time(window, stages.time_us(window))
    start = last
    if not window.tumbling:
        start = f"{quoted('__window')}.w"
        lateral = sqlglot.parse_one(
            f"SELECT 1 FROM x CROSS JOIN LATERAL (SELECT unnest(generate_series({first}, {last}, {window.slide_us})) AS w)"
            f" AS {quoted('__window')}",
            read="duckdb",
        )
        for join in lateral.args["joins"]:
            select.append("joins", join)
    bounds = dict(zip(WINDOW_COLUMNS, stages.window_bounds(window, start), strict=True))
    # the bounds are functions of the start, so that both may stand in the SELECT list
    call.replace(sqlglot.parse_one(start, read="duckdb"))
    for column in list(select.find_all(exp.Column)):
        if column.table or column.name not in bounds or column.find_ancestor(exp.Select) is not select:
            continue
        made = sqlglot.parse_one(bounds[column.name], read="duckdb")
        if column.parent is select and column.arg_key == "expressions":
            made = exp.alias_(made, column.name)
        if column.parent is group:
            column.pop()
        else:
            column.replace(made)
