"""ORDER BY with LIMIT over a query that has a key: the query without LIMIT is kept in a table of its own, by its key.

The first rows are then read from that table, which is narrow and needs no grouping or joining. Rows that ORDER BY leaves
equal are taken in the order of all their columns, so that which of them are shown does not depend on chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from streamsql.sql.render_trees import duckdb_sql

# the table of the query without LIMIT, in SQL that reads it
INNER = '"__inner"'


@dataclass(frozen=True, slots=True)
class Top:
    """A query cut in two: `inner` gives the outputs and what it is ordered by, `outer` the first rows of `INNER`.

    `nested`: the inner one is a subquery, and the outer one what reads it (`plan.touched.nested`).
    """

    inner: str
    columns: int
    outer: str
    nested: bool = False

    def whole(self, inner: str) -> str:
        """SQL of the whole query, given SQL of the inner one."""
        return self.outer.replace(INNER, f"({inner})")


def top_of(sql: str, shown: str, outputs: int) -> Top | None:
    """Cut a query in two, if it is one with ORDER BY and LIMIT that can be; `shown` is its select list over ``o0``.. ."""
    tree = sqlglot.parse_one(sql, read="duckdb")
    order, limit, offset = (tree.args.get(c) for c in ("order", "limit", "offset"))
    if order is None or not isinstance(limit, exp.Limit) or not isinstance(tree, exp.Query) or duckdb_sql(tree) != sql:
        return None
    counts = [limit.expression, *([offset.expression] if offset is not None else [])]
    distinct = tree.args.get("distinct")
    if not all(isinstance(c, exp.Literal) and c.is_int for c in counts) or (
        distinct is not None and distinct.args.get("on")
    ):
        return None
    names = [e.alias_or_name.lower() for e in tree.selects]
    if len(names) != outputs or any(e.is_star for e in tree.selects):
        return None
    inner = tree.copy()
    for clause in ("order", "limit", "offset"):
        inner.set(clause, None)
    keys = []
    extra = 0
    for ordered in order.expressions:
        index = _output(ordered.this, names)
        if index is None:
            if not isinstance(inner, exp.Select) or distinct is not None:
                return None
            inner.append("expressions", exp.alias_(ordered.this.copy(), f"__s{extra}", quoted=True))
            index = outputs + extra
            extra += 1
        made = ordered.copy()
        made.set("this", exp.column(f"o{index}"))
        keys.append(duckdb_sql(made))
    keys += [f"o{i}" for i in range(outputs)]
    cut = f"LIMIT {counts[0].this}" + (f" OFFSET {counts[1].this}" if offset is not None else "")
    outer = f"SELECT {shown} FROM {INNER} ORDER BY {', '.join(keys)} {cut}"
    return Top(duckdb_sql(inner), outputs + extra, outer)


def _output(key: exp.Expr, names: list[str]) -> int | None:
    """Find the output that a key of ORDER BY means: by its number, or its name."""
    if isinstance(key, exp.Literal) and key.is_int:
        index = int(key.this) - 1
        return index if 0 <= index < len(names) else None
    if isinstance(key, exp.Column) and not key.table and names.count(key.name.lower()) == 1:
        return names.index(key.name.lower())
    return None
