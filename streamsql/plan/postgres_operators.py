"""Operators and functions that DuckDB has under the same name and computes otherwise: as PostgreSQL computes them.

    7 / 2                   3: integers are divided as integers        x / 0       error 22012, also of floating-point numbers
    round(2.5::float8)      2: to the nearest even                     'a_c' LIKE 'a\\_c'     a backslash escapes
    id = ANY ('{1,2}')      the array is read by the type of id

What an operation is depends on the types of its operands. These are found before the tree changes (`note`) and kept in the
nodes' `meta`; `apply` then writes the operations.
"""

from __future__ import annotations

import sqlglot
from sqlglot import exp

from streamsql.base import types as t
from streamsql.base.errors import FeatureNotSupported
from streamsql.base.limits import Limits
from streamsql.plan import postgres_functions
from streamsql.plan.result_types import INTEGERS, QUOTIENT_DIGITS, ResultTypes
from streamsql.sql.statements import Statement
from streamsql.sql.trees import position_of

_DIVISION, _HALF_EVEN, _ELEMENT, _INTERVAL = "division", "half_even", "element", "interval"
_EXACT, _PLACES = "exact", "places"
_FLOATS = (t.FLOAT4, t.FLOAT8)
_DIVIDERS = (exp.Div, exp.Mod)


def note(tree: exp.Expr, statement: Statement, types: ResultTypes, limits: Limits) -> None:
    """Write down in the nodes what their operands' types make of them."""
    postgres_functions.note(tree, statement, types, limits)
    for node in tree.walk():
        if isinstance(node, _DIVIDERS):
            operands = (types.type_of(node.this), types.type_of(node.expression))
            node.meta[_DIVISION] = "integers" if all(o in INTEGERS for o in operands) else "numbers"
        elif isinstance(node, exp.Round) and node.args.get("decimals") is None:
            node.meta[_HALF_EVEN] = types.type_of(node.this) in _FLOATS
        elif isinstance(node, (exp.Avg, exp.Sum)):
            node.meta[_INTERVAL] = types.type_of(node.this) is t.INTERVAL
            node.meta[_EXACT] = isinstance(node, exp.Avg) and types.is_quotient(node)
        elif isinstance(node, exp.Mul):
            node.meta[_PLACES] = _places(node, types)
        elif isinstance(node, (exp.Any, exp.Anonymous)) and isinstance(node.parent, exp.Binary):
            compared = types.type_of(node.parent.this)
            node.meta[_ELEMENT] = compared.name if compared in INTEGERS or compared in (t.FLOAT8, t.NUMERIC) else None


def apply(tree: exp.Expr, statement: Statement) -> None:
    """Write the operations as DuckDB computes them; the tree is changed."""
    for node in reversed(list(tree.walk())):
        if postgres_functions.apply(node):
            continue
        if node.meta.get(_DIVISION):
            _divide(node)
        elif node.meta.get(_INTERVAL):
            name = "avg_interval" if isinstance(node, exp.Avg) else "sum_interval"
            node.replace(exp.Anonymous(this=name, expressions=[node.this]))
        elif node.meta.get(_EXACT):
            node.replace(exp.Anonymous(this="avg_exact", expressions=[node.this]))
        elif node.meta.get(_PLACES):
            _multiply(node)
        elif isinstance(node, (exp.ArrayAgg, exp.GroupConcat)) and isinstance(node.this, exp.Distinct):
            _sort_distinct(node)
        elif node.meta.get(_HALF_EVEN):
            node.replace(exp.Anonymous(this="round_even", expressions=[node.this, exp.Literal.number(0)]))
        elif isinstance(node, (exp.Like, exp.ILike)) and not isinstance(node.parent, exp.Escape):
            _escape(node)
        elif isinstance(node, exp.SimilarTo):
            _match(node, statement)
        elif isinstance(node, (exp.JSONBExtract, exp.JSONBExtractScalar)):
            _walk_json(node)
        elif node.meta.get(_ELEMENT):
            array = node.find(exp.Array)
            if array is not None and all(isinstance(i, exp.Literal) and i.is_string for i in array.expressions):
                array.replace(exp.cast(array.copy(), f"{node.meta[_ELEMENT]}[]", dialect="postgres"))


def _divide(node: exp.Expr) -> None:
    divisor = node.expression
    bare = divisor.unnest()
    if not (isinstance(bare, exp.Literal) and bare.name.strip("0.")):  # what is plainly not zero needs no question
        asked = "CASE WHEN x = 0 THEN error('division by zero') ELSE x END"
        node.set("expression", exp.paren(_with(asked, x=divisor)))
    if isinstance(node, exp.Div) and node.meta[_DIVISION] == "integers":
        node.replace(exp.IntDiv(this=_grouped(node.this), expression=_grouped(node.expression)))


def _places(node: exp.Mul, types: ResultTypes) -> str | None:
    """Say how numbers of 16 places are multiplied, so that the product has room before its point."""
    operands = (node.this, node.expression)
    if not any(types.is_quotient(o) for o in operands) or any(
        types.type_of(o) in (*INTEGERS, *_FLOATS) for o in operands
    ):
        return None
    return "cut" if any(isinstance(o.unnest(), exp.Literal) for o in operands) else "double"


def _multiply(node: exp.Expr) -> None:
    if node.meta[_PLACES] == "cut":
        product = node.copy()
        product.meta.clear()
        node.replace(exp.cast(product, f"DECIMAL{QUOTIENT_DIGITS}"))
        return
    for key in ("this", "expression"):
        node.set(key, exp.cast(node.args[key].copy(), "DOUBLE"))


def _sort_distinct(node: exp.Expr) -> None:
    """Let DISTINCT values come in their order, as PostgreSQL, which sorts them, gives them."""
    values = node.this.expressions
    if len(values) == 1:
        node.set("this", exp.Order(this=node.this.copy(), expressions=[exp.Ordered(this=values[0].copy())]))


def _grouped(node: exp.Expr) -> exp.Expr:
    return node.copy() if isinstance(node, (exp.Column, exp.Literal, exp.Paren)) else exp.paren(node)


def _with(sql: str, **parts: exp.Expr) -> exp.Expr:
    made = sqlglot.parse_one(sql, read="duckdb")
    for column in list(made.find_all(exp.Column)):
        if column.name in parts and not column.table:
            column.replace(_grouped(parts[column.name]))
    return made


def _escape(node: exp.Like | exp.ILike) -> None:
    pattern = node.expression.unnest()
    if isinstance(pattern, (exp.Any, exp.All)) or (isinstance(pattern, exp.Literal) and "\\" not in pattern.name):
        return
    node.replace(exp.Escape(this=node.copy(), expression=exp.Literal.string("\\")))


def _match(node: exp.SimilarTo, statement: Statement) -> None:
    """Write SIMILAR TO as a match of the whole text with a regular expression."""
    pattern = node.expression.unnest()
    if not isinstance(pattern, exp.Literal):
        raise FeatureNotSupported(
            "SIMILAR TO takes a pattern that is written out",
            hint="use LIKE, or ~",
            position=position_of(node, statement),
        )
    expression = "".join(_SIMILAR.get(c, c) for c in pattern.name)
    match = exp.Anonymous(
        this="regexp_full_match", expressions=[node.this.copy(), exp.Literal.string(f"(?s){expression}")]
    )
    node.replace(match)


def _walk_json(node: exp.Expr) -> None:
    """Write ``x #>> '{a,0}'`` with a path as DuckDB writes one."""
    path = node.expression.unnest()
    if isinstance(path, exp.Literal) and path.is_string:
        steps = [step.strip(' "') for step in path.name.strip("{} ").split(",")]
        text = "$" + "".join(f"[{s}]" if s.isdecimal() else f'."{s}"' for s in steps if s)
        name = "json_extract_string" if isinstance(node, exp.JSONBExtractScalar) else "json_extract"
        node.replace(exp.Anonymous(this=name, expressions=[node.this.copy(), exp.Literal.string(text)]))


_SIMILAR = {"%": ".*", "_": ".", ".": r"\.", "^": r"\^", "$": r"\$"}
