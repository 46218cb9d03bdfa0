"""Canonical expressions as SQL again."""

from __future__ import annotations

import sqlglot
from sqlglot import exp

from streamsql.plan.touched.blocks import NotKeyed, Scan
from streamsql.sql.render_trees import duckdb_sql


def named(key: exp.Expr, names: dict[str, str]) -> exp.Expr:
    """Write a canonical expression with names in place of tokens. Raises NotKeyed where one has none."""
    root = exp.Paren(this=key.copy())
    for column in root.find_all(exp.Column):
        if not names.get(column.table):
            raise NotKeyed("a key is over something without a name")
        column.set("table", exp.to_identifier(names[column.table], quoted=True))
    made: exp.Expr = root.this
    return made


def at_scan(scan: Scan, key: exp.Expr) -> str:
    return safe(named(key, {scan.token: scan.alias}))


def safe(node: exp.Expr) -> str:
    """Write an expression for rows that the query may not come to evaluate it for: where it fails, it is NULL."""
    if isinstance(node, (exp.EQ, exp.NullSafeEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)):
        sides = [sqlglot.parse_one(safe(side), read="duckdb") for side in (node.this, node.expression)]
        return duckdb_sql(type(node)(this=sides[0], expression=sides[1]))
    plain = isinstance(node, exp.Coalesce) and all(isinstance(e, exp.Column) for e in (node.this, *node.expressions))
    sql = duckdb_sql(node)
    return sql if plain or isinstance(node, (exp.Column, exp.Literal, exp.Boolean, exp.Null)) else f"TRY({sql})"
