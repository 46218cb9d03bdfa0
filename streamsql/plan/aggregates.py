"""Which aggregates can be kept incrementally, and as which partial states.

An aggregate call of a query becomes *parts*, DuckDB aggregates whose exported states combine, and a *final* expression
over the parts' values. Batching must be invisible, so a part may not depend on how rows were grouped into epochs:

- ``sum`` and ``avg`` of floating-point numbers are split into three sums (`split_columns`), whose total is the correctly
  rounded one in all but the rarest cases; a plain double sum changes in its last digits with each grouping.
- What depends on the order of rows (``first``, ``list``, ties of ``arg_max``) is ordered by the arrival number.

To add an aggregate: one line in `COMBINING`, or an entry in `_REWRITES` where it needs another form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported

SEQUENCE_COLUMN = "__seq"

# Aggregates whose exported state combines as it is (DuckDB 2.0; each is held against DuckDB by the tests).
COMBINING = frozenset({
    "approx_count_distinct", "approx_quantile", "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or",
    "corr", "count", "count_if", "countif", "count_star", "covar_pop", "covar_samp", "kurtosis", "kurtosis_pop", "mad",
    "max", "median", "min", "percentile_cont", "percentile_disc", "product", "quantile", "quantile_cont",
    "quantile_disc", "regr_avgx", "regr_avgy", "regr_count", "regr_intercept", "regr_r2", "regr_slope", "regr_sxx",
    "regr_sxy", "regr_syy", "sem", "skewness", "stddev", "stddev_pop", "stddev_samp", "var_pop", "var_samp", "variance",
})  # fmt: skip

# Aggregates that DuckDB has and that have no combining state, or (approx_top_k) one whose value depends on how rows were
# grouped: refused by name.
NOT_COMBINING = frozenset({
    "approx_top_k", "arg_max_nulls_last", "arg_min_nulls_last", "bitstring_agg", "entropy",
    "geometric_mean", "geomean", "histogram",
    "histogram_exact", "json_group_array", "json_group_object", "json_group_structure", "lttb", "mode",
    "reservoir_quantile", "variant_group_object", "weighted_avg", "wavg", "combine_aggr", "decimal_average",
    "sum_no_overflow", "json_agg", "jsonb_agg", "json_object_agg", "jsonb_object_agg", "map_agg", "object_agg",
})  # fmt: skip

_SUMS = frozenset({"sum", "fsum", "kahan_sum", "sumkahan"})
_AVERAGES = frozenset({"avg", "mean", "favg"})
_LISTS = frozenset({"array_agg", "group_concat", "list", "listagg", "string_agg"})
_FIRST = {
    "first": "arg_min_null",
    "last": "arg_max_null",
    "any_value": "arg_min",
    "arbitrary": "arg_min_null",
}
_ARG = {
    "arg_max": "arg_max", "argmax": "arg_max", "max_by": "arg_max",
    "arg_min": "arg_min", "argmin": "arg_min", "min_by": "arg_min",
    "arg_max_null": "arg_max_null", "arg_min_null": "arg_min_null",
}  # fmt: skip

AGGREGATES = COMBINING | NOT_COMBINING | _SUMS | _AVERAGES | _LISTS | frozenset(_FIRST) | frozenset(_ARG)

_UNBOUNDED_HINT = (
    "it will be kept in another way in a later version; use an ad-hoc SELECT over the kept rows until then"
)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate call: its parts as DuckDB SQL, and its value as SQL over ``{0}``, ``{1}``, ... (the parts' values).

    Where `split` is given, the source must show that expression split (`split_columns`), and ``{x}`` in the parts stands
    for the number that this has there.
    """

    parts: tuple[str, ...]
    final: str
    split: str | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """A call taken apart: its lower-case names in DuckDB and in messages, arguments, FILTER condition, text for messages."""

    name: str
    shown: str
    arguments: tuple[exp.Expr, ...]
    order: exp.Order | None
    condition: str | None
    function: exp.Expr
    text: str


def duckdb_name(node: exp.Expr) -> str | None:
    """Give the lower-case name under which DuckDB knows this function call, or None for what is no call."""
    if isinstance(node, exp.WithinGroup):
        return duckdb_name(node.this)
    if not isinstance(node, exp.Func) or isinstance(node, (exp.Cast, exp.Case, exp.And, exp.Or)):
        return None
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower()
    head, parenthesis, _ = node.sql("duckdb").partition("(")
    return head.lower() if parenthesis and head.replace("_", "").isalnum() else None


def is_aggregate(node: exp.Expr) -> bool:
    """Tell whether this node itself is a call of an aggregate."""
    return duckdb_name(node) in AGGREGATES or isinstance(node, exp.AggFunc)


def plan_aggregate(node: exp.Expr, type_of: Callable[[exp.Expr], str]) -> Aggregate:
    """Plan an aggregate call: `node` is the call with its FILTER and WITHIN GROUP around it.

    `type_of` gives the DuckDB type of an argument. Raises FeatureNotSupported for what does not combine.
    """
    call = _take_apart(node)
    if any(isinstance(a, exp.Distinct) for a in call.arguments):
        raise _refusal(call, f"{call.shown}(DISTINCT ...)")
    if call.name in NOT_COMBINING or call.name not in AGGREGATES:
        raise _refusal(call, call.shown)
    if call.name in _SUMS | _AVERAGES:
        return _sum_or_average(call, type_of)
    if call.name in _FIRST:
        return _ordered(call, f"{_FIRST[call.name]}({_sql(call.arguments[0])}, {SEQUENCE_COLUMN})")
    if call.name in _ARG:
        return _arg(call)
    if call.name in _LISTS:
        return _list(call)
    if call.name in {"min", "max"} and len(call.arguments) > 1:
        raise _refusal(call, f"{call.name} of the n largest or smallest")
    final = "{0}"
    if call.name in {"min", "max"}:
        final = without_negative_zero(final, type_of(call.arguments[0]))
    return Aggregate((_filtered(call, call.function.sql("duckdb")),), final)


def without_negative_zero(value: str, type_name: str) -> str:
    """Show -0.0 as 0.0: the two are equal, so which of them a group or an extreme shows would depend on batches."""
    return f"({value} + 0::{type_name})" if type_name in {"DOUBLE", "FLOAT"} else value


def _take_apart(node: exp.Expr) -> _Call:
    condition = None
    function = node
    if isinstance(node, exp.Filter):
        function = node.this
        condition = node.expression.this.sql("duckdb")
    inner = function.this if isinstance(function, exp.WithinGroup) else function
    name = duckdb_name(inner) or type(inner).__name__.lower()
    arguments = [a for a in inner.iter_expressions() if isinstance(a, exp.Expr)]
    order = function.args.get("expression") if isinstance(function, exp.WithinGroup) else None
    for index, argument in enumerate(arguments):
        if isinstance(argument, exp.Order):
            order = argument
            arguments[index] = argument.this
    if order is None:
        order = inner.find(exp.Order)
    shown = inner.sql("postgres").partition("(")[0].lower()
    return _Call(name, shown, tuple(arguments), order, condition, function, node.sql("postgres"))


def _sql(node: exp.Expr) -> str:
    return node.sql("duckdb")


def _filtered(call: _Call, sql: str, extra: str | None = None) -> str:
    conditions = [c for c in (call.condition, extra) if c]
    return f"{sql} FILTER (WHERE {' AND '.join(f'({c})' for c in conditions)})" if conditions else sql


def _refusal(call: _Call, what: str) -> FeatureNotSupported:
    return FeatureNotSupported(
        f"{what} cannot be kept incrementally yet", detail=f"the call is {call.text}", hint=_UNBOUNDED_HINT
    )


# Adding and subtracting 1.5 * 2^40 rounds a double to a multiple of 2^-12, 1.5 * 2^6 to one of 2^-46.
_GRID = "1649267441664.0::DOUBLE"
_FINE_GRID = "96.0::DOUBLE"


def _sum_or_average(call: _Call, type_of: Callable[[exp.Expr], str]) -> Aggregate:
    argument = call.arguments[0]
    floating = type_of(argument) in {"DOUBLE", "FLOAT"} or call.name not in {"sum", "avg", "mean"}
    average = call.name in _AVERAGES
    if not floating:
        return Aggregate((_filtered(call, f"{'avg' if average else 'sum'}({_sql(argument)})"),), "{0}")
    # split_columns makes these; braces in a FILTER are not ours
    condition = "" if call.condition is None else f" FILTER (WHERE {_escaped(call.condition)})"
    parts = tuple(f"sum({p}){condition}" for p in ("__h{x}", "__m{x}", "__x{x} - __h{x} - __m{x}"))
    split = f"CAST({_sql(argument)} AS DOUBLE)"
    total = "CASE WHEN isfinite({0}) THEN {0} + ({1} + {2}) ELSE {0} END"
    if not average:
        return Aggregate(parts, total, split)
    return Aggregate((*parts, f"count(__x{{x}}){condition}"), f"({total}) / {{3}}", split)


def split_columns(source: str, splits: tuple[str, ...]) -> str:
    """Give the SELECT of `source` (a SELECT that holds each expression as ``__x0``..) with its splits ``__h0``.., ``__m0``.. .

    A double is split into its multiple of 2^-12, what is left of it into one of 2^-46, and the rest.

    The splits are exact, and so are the first two sums, whatever the order: the first while it stays below 2^41, the second
    for millions of rows. The third holds numbers below 2^-47, so its rounding lies far under the last digit of the total.
    Without the middle one, numbers below a thousandth would mostly lie in the last sum, and their total would change with
    the batches. (Demmel and Nguyen, "Fast Reproducible Floating-Point Summation", 2013, with two fixed bins.) An infinite
    or NaN value makes the rests NaN: then the first sum alone counts.
    """
    high = "".join(f", (__x{i} + {_GRID}) - {_GRID} AS __h{i}" for i in range(len(splits)))
    middle = "".join(f", ((__x{i} - __h{i}) + {_FINE_GRID}) - {_FINE_GRID} AS __m{i}" for i in range(len(splits)))
    return f"SELECT *{middle} FROM (SELECT *{high} FROM ({source}))"


def _escaped(sql: str) -> str:
    return sql.replace("{", "{{").replace("}", "}}")


def _ordered(call: _Call, sql: str) -> Aggregate:
    if call.order is not None:
        raise _refusal(call, f"{call.name}(... ORDER BY ...)")
    return Aggregate((_filtered(call, sql),), "{0}")


def _arg(call: _Call) -> Aggregate:
    if len(call.arguments) != 2:
        raise _refusal(call, f"{call.name} of the n largest or smallest")
    value, by = _sql(call.arguments[0]), _sql(call.arguments[1])
    name = _ARG[call.name]
    sign = "-" if "max" in name else ""
    # among equals the first row to arrive counts, as in one pass over all rows
    ordered = f"{name}({value}, struct_pack(b := {by}, s := {sign}{SEQUENCE_COLUMN}))"
    present = f"{by} IS NOT NULL" + ("" if name.endswith("_null") else f" AND {value} IS NOT NULL")
    return Aggregate((_filtered(call, ordered, present),), "{0}")


def _list(call: _Call) -> Aggregate:
    arguments = ", ".join(_sql(a) for a in call.arguments)
    name = "list" if call.name in {"list", "array_agg"} else "string_agg"
    order = [_sql(o) for o in call.order.expressions] if call.order is not None else []
    keys = ", ".join([*order, SEQUENCE_COLUMN])
    return Aggregate((_filtered(call, f"{name}({arguments} ORDER BY {keys})"),), "{0}")
