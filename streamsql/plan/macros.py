"""Aggregates that are expressions over other aggregates: DuckDB's own macros, and Postgres' names that it does not have.

A macro takes no FILTER, DISTINCT or ORDER BY in DuckDB. Written out, it does: they go to the aggregates inside of it. So an
ad-hoc query says what a continuous one does.
"""

from __future__ import annotations

import sqlglot
from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, UndefinedFunction
from streamsql.plan.aggregate_calls import Call, duckdb_name, take_apart

_MEAN = "exp(avg(ln(__0)))"
_WEIGHTED = "sum(__0 * __1) / sum(CASE WHEN __0 IS NOT NULL THEN __1 ELSE 0 END)"
_ARRAY = "to_json(list(__0))"
_OBJECT = (
    "CAST('{' || string_agg(CASE WHEN __0 IS NULL AND __counts THEN error('json_group_object key cannot be NULL') "
    "ELSE to_json(CAST(__0 AS VARCHAR)) END || ':' || CASE WHEN __1 IS NULL THEN 'null' ELSE to_json(__1) END, ',') "
    "|| '}' AS JSON)"
)

# The average of integers or numerics, to 16 places and rounded once: a double has not as many. The sum's whole part and its
# fraction (in units of the sixteenth place) are divided apart, since together they may be too long for 128 bits.
_COUNT, _WHOLE = "nullif(count(__0), 0)", "CAST(sum(__0) AS HUGEINT)"
_FRACTION = f"CAST(CAST(sum(__0) - {_WHOLE} AS DECIMAL(38,16)) * CAST(10000000000000000 AS DECIMAL(17,0)) AS HUGEINT)"
_REST = f"({_WHOLE} % {_COUNT} * 10000000000000000 + {_FRACTION})"
_AVERAGE = (
    f"CAST({_WHOLE} // {_COUNT} * 10000000000000000 + ({_REST} + sign({_REST}) * ({_COUNT} // 2)) // {_COUNT} "
    "AS DECIMAL(38,0)) * CAST(0.0000000000000001 AS DECIMAL(17,16))"
)

# name -> the expression, in which __0 and __1 stand for the arguments, and __counts for the condition of FILTER: DuckDB
# computes an aggregate's arguments for the rows, too, that its FILTER keeps out
MACROS = {
    "avg_exact": _AVERAGE,
    "avg_interval": "to_microseconds(CAST(round(sum(CAST(epoch_us(__0) AS HUGEINT)) / count(__0)) AS BIGINT))",
    "every": "bool_and(__0)",
    "geomean": _MEAN,
    "geometric_mean": _MEAN,
    "json_agg": _ARRAY,
    "json_arrayagg": _ARRAY,
    "json_group_array": _ARRAY,
    "json_group_object": _OBJECT,
    "json_group_structure": f"json_structure({_ARRAY}) -> '$[0]'",
    "json_object_agg": _OBJECT,
    "jsonb_agg": _ARRAY,
    "jsonb_object_agg": _OBJECT,
    "sum_interval": "to_microseconds(CAST(sum(CAST(epoch_us(__0) AS HUGEINT)) AS BIGINT))",
    "wavg": _WEIGHTED,
    "weighted_avg": _WEIGHTED,
}  # fmt: skip


def expanded(node: exp.Expr) -> exp.Expr | None:
    """Write a call of a macro, with its FILTER around it, as the expression that it stands for; None for any other node.

    Raises UndefinedFunction for a wrong number of arguments, FeatureNotSupported for DISTINCT of two.
    """
    function = node.this if isinstance(node, exp.Filter) else node
    if isinstance(function, exp.WithinGroup) or duckdb_name(function) not in MACROS:
        return None
    call = take_apart(node)
    template = MACROS[call.name]
    takes = 2 if "__1" in template else 1
    if len(call.arguments) != takes:
        raise UndefinedFunction(f"{call.shown} takes {takes} argument{'s' if takes > 1 else ''}")
    if call.distinct and takes > 1:
        raise FeatureNotSupported(f"DISTINCT cannot be used in {call.shown}, which takes two arguments")
    tree = sqlglot.parse_one(template, read="duckdb")
    for made in tree.walk():  # places in the template are none in the client's text
        made.meta.clear()
    for aggregate in list(tree.find_all(exp.AggFunc)):
        _qualify(aggregate, call, node)
    counts = node.expression.this if isinstance(node, exp.Filter) else exp.true()
    arguments = {"__counts": counts, **{f"__{i}": argument for i, argument in enumerate(call.arguments)}}
    for column in list(tree.find_all(exp.Column)):
        if column.name in arguments:
            column.replace(exp.paren(arguments[column.name].copy()))
    return exp.paren(tree, copy=False)


def _qualify(aggregate: exp.Expr, call: Call, node: exp.Expr) -> None:
    """Give the call's DISTINCT, ORDER BY and FILTER to an aggregate of the expression."""
    in_list = aggregate.expressions
    argument = in_list[0] if in_list else aggregate.this
    made = argument
    if call.distinct:
        made = exp.Distinct(expressions=[made.copy()])
    if call.order:
        made = exp.Order(this=made.copy(), expressions=[o.copy() for o in call.order])
    if made is not argument:
        argument.replace(made)
    if isinstance(node, exp.Filter):
        filtered = node.copy()
        aggregate.replace(filtered)
        filtered.set("this", aggregate)


def write_out(tree: exp.Expr) -> exp.Expr:
    """Write all macros of a tree out, which is changed; not those with OVER. Raises as `expanded` does.

    And ``agg(DISTINCT x, 0.5)`` as it was written: sqlglot takes the arguments for one, a row.
    """
    for distinct in list(tree.find_all(exp.Distinct)):
        call, arguments = distinct.parent, distinct.expressions
        if len(arguments) > 1 and isinstance(call, exp.Func) and not isinstance(call, exp.Count):
            first = exp.Distinct(expressions=arguments[:1])
            call.replace(exp.Anonymous(this=duckdb_name(call), expressions=[first, *arguments[1:]]))
    for node in list(tree.walk()):
        inside = node.arg_key == "this" and isinstance(node.parent, (exp.Filter, exp.Window))
        made = None if inside else expanded(node)
        if made is not None and node is tree:
            return made
        if made is not None:
            node.replace(made)
    return tree
