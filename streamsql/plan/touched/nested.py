"""A query over one subquery that has a key, where the whole has none: the subquery is kept in a table of its own, by its key.

::

    SELECT category, avg(final) FROM (SELECT a.id, a.category, max(b.price) AS final
                                      FROM auction AS a JOIN bid AS b ON a.id = b.auction GROUP BY a.id, a.category) AS q
    GROUP BY category

An epoch runs the subquery again for the auctions that it touches, and the outer query over the table, which joins nothing.
Where the outer query may depend on the order of rows (`array_agg(x)`, ties of a window), they are sorted first: the table's own
order is that of changes.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlglot
from sqlglot import exp

from streamsql.plan.aggregate_calls import duckdb_name
from streamsql.plan.aggregates import is_aggregate
from streamsql.plan.touched.top import INNER, Top
from streamsql.sql.render_trees import duckdb_sql

# aggregates that give the same in any order of the rows
_IN_ANY_ORDER = frozenset({
    "avg", "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or", "count", "count_if", "count_star", "max", "median", "min",
    "quantile_cont", "quantile_disc", "stddev", "stddev_pop", "stddev_samp", "sum", "var_pop", "var_samp", "variance",
})  # fmt: skip
# clauses that a cut leaves alone; any other makes it impossible
_CLAUSES = frozenset({"distinct", "expressions", "from_", "group", "having", "kind", "qualify", "where", "windows"})


def nested_of(sql: str, shown: str, outputs: int) -> Top | None:
    """Cut a query in two, if it reads one subquery and nothing else; `shown` is its select list over ``o0``.. ."""
    tree = sqlglot.parse_one(sql, read="duckdb")
    if not isinstance(tree, exp.Select) or duckdb_sql(tree) != sql:
        return None
    if any(value for clause, value in tree.args.items() if clause not in _CLAUSES):
        return None
    item = tree.args["from_"].this if tree.args.get("from_") is not None else None
    if not isinstance(item, exp.Subquery) or not isinstance(item.this, exp.Select):
        return None
    if any(value for part, value in item.args.items() if part not in {"this", "alias"}) or not item.alias:
        return None
    names = [e.alias_or_name for e in item.this.selects]
    unclear = any(e.is_star for e in item.this.selects) or "" in names or len({n.lower() for n in names}) < len(names)
    if unclear or item.args["alias"].args.get("columns") or _reads_else(tree, item):
        return None
    given: list[exp.Expr] = [
        exp.alias_(exp.column(exp.to_identifier(n, quoted=True), item.alias), n, quoted=True) for n in names
    ]
    inner = item.this.copy()
    if tree.args.get("where") is not None:  # what it leaves out is not kept
        inner = exp.Select(expressions=given, from_=exp.From(this=item.copy()), where=tree.args["where"].copy())
    outer = tree.copy()
    outer.set("where", None)
    kept = ", ".join(f'o{i} AS "{name}"' for i, name in enumerate(names) if '"' not in name)
    if kept.count(" AS ") < len(names):
        return None
    order = "" if _in_any_order(tree, item) else f" ORDER BY {', '.join(f'o{i}' for i in range(len(names)))}"
    outer.args["from_"].this.set("this", sqlglot.parse_one(f"SELECT {kept} FROM {INNER}{order}", read="duckdb"))
    columns = ", ".join(f"o{i}" for i in range(outputs))
    return Top(duckdb_sql(inner), len(names), f"SELECT {shown} FROM ({duckdb_sql(outer)}) AS q({columns})", True)


def _outside(tree: exp.Select, item: exp.Subquery) -> Iterator[exp.Expr]:
    inside = {id(node) for node in item.walk()}
    return (n for n in tree.walk() if n is not tree and id(n) not in inside)


def _reads_else(tree: exp.Select, item: exp.Subquery) -> bool:
    """Tell whether anything but the subquery reads a relation, or is one."""
    return any(isinstance(n, (exp.Query, exp.Table)) for n in _outside(tree, item))


def _in_any_order(tree: exp.Select, item: exp.Subquery) -> bool:
    """Tell whether the outer query gives the same in whatever order it reads the rows."""
    return not any(
        isinstance(n, exp.Window) or (is_aggregate(n) and duckdb_name(n) not in _IN_ANY_ORDER)
        for n in _outside(tree, item)
    )
