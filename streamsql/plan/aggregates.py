"""Which aggregates can be kept incrementally, and as which parts.

An aggregate call of a query becomes *parts* (`plan.parts`), which combine, and a *final* expression over the parts' values.
Batching must be invisible, so a part may not depend on how rows were grouped into epochs:

- ``sum`` and ``avg`` of floating-point numbers are split into three sums (`split_columns`), whose total is the correctly
  rounded one in all but the rarest cases; a plain double sum changes in its last digits with each grouping.
- Variances of integers and numerics come from sums of integers (`plan.exact_statistics`).
- What depends on the order of rows (``first``, ``list``, ties of ``arg_max``) is ordered by the arrival number.
- What has no combining state is kept as a list (`plan.listed_aggregates`), or is an expression over others
  (`plan.macros`).

To add an aggregate: one line in `COMBINING`, or in `LISTED`, or a rewrite here where it needs another form.
"""

from __future__ import annotations

from sqlglot import exp

from streamsql.base.errors import UndefinedFunction
from streamsql.plan.aggregate_calls import (
    ROWS,
    SEQUENCE_COLUMN,
    Aggregate,
    Call,
    FirstOf,
    TypeOf,
    arrival,
    duckdb_name,
    escaped,
    filtered,
    order_by,
    plain_sql,
    refusal,
    sort_key,
    take_apart,
    without_negative_zero,
)
from streamsql.plan.exact_statistics import exact_statistic
from streamsql.plan.listed_aggregates import LISTED, bitstring, distinct, extremes, listed
from streamsql.plan.macros import MACROS
from streamsql.plan.parts import Part

# Aggregates whose exported state combines as it is (DuckDB 2.0; each is held against DuckDB by the tests).
COMBINING = frozenset({
    "approx_count_distinct", "approx_quantile", "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or",
    "corr", "count", "count_if", "countif", "count_star", "covar_pop", "covar_samp", "decimal_average", "kurtosis",
    "kurtosis_pop", "mad", "max", "median", "min", "percentile_cont", "percentile_disc", "quantile", "quantile_cont",
    "quantile_disc", "regr_avgx", "regr_avgy", "regr_count", "regr_intercept", "regr_r2", "regr_slope", "regr_sxx",
    "regr_sxy", "regr_syy", "sem", "skewness", "stddev", "stddev_pop", "stddev_samp", "sum_no_overflow", "var_pop",
    "var_samp", "variance",
})  # fmt: skip
# those of them whose state holds every value
_HOLDING_ALL = frozenset({
    "mad", "median", "percentile_cont", "percentile_disc", "quantile", "quantile_cont", "quantile_disc",
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
    "arg_max_nulls_last": "arg_max_nulls_last", "arg_min_nulls_last": "arg_min_nulls_last",
}  # fmt: skip
_OTHERS = frozenset({"bitstring_agg", "lttb"})

# how many arguments there must be at least, where it is not one
_TAKES = {"count": 0, "count_star": 0, **dict.fromkeys(_ARG, 2)}

# name -> why it cannot be kept
REFUSED = {
    "variant_group_object": "a key that comes twice fails it, and rows cannot be set aside for what other rows hold; "
    "use json_group_object",
}

KEPT = COMBINING | LISTED | _SUMS | _AVERAGES | _LISTS | frozenset(_FIRST) | frozenset(_ARG) | _OTHERS
AGGREGATES = KEPT | frozenset(MACROS) | frozenset(REFUSED)

# DISTINCT changes nothing
_DISTINCT_IS_NOTHING = frozenset(_FIRST) | frozenset(_ARG) | {
    "approx_count_distinct", "bit_and", "bit_or", "bitstring_agg", "bool_and", "bool_or",
}  # fmt: skip


def is_aggregate(node: exp.Expr) -> bool:
    """Tell whether this node itself is a call of an aggregate."""
    return duckdb_name(node) in AGGREGATES or isinstance(node, exp.AggFunc)


def plan_aggregate(node: exp.Expr, type_of: TypeOf, first_of: FirstOf | None = None) -> Aggregate:
    """Plan an aggregate call that is no macro: `node` is the call with its FILTER and WITHIN GROUP around it.

    `type_of` gives the DuckDB type of an argument; `first_of` is there where distinct values can be
    kept apart from the state. Raises FeatureNotSupported for what cannot be kept, UndefinedFunction.
    """
    call = take_apart(node)
    if call.name not in AGGREGATES:  # other dialects' aggregates
        raise UndefinedFunction(f"function {call.shown} does not exist")
    if call.name in REFUSED:
        raise refusal(call, call.shown, REFUSED[call.name])
    count = len(call.arguments)
    if count < _TAKES.get(call.name, 1) and not call.order:
        raise UndefinedFunction(f"{call.shown} does not take {count} argument{'s' if count != 1 else ''}")
    extreme = call.name in {"min", "max"}
    if call.distinct and not (extreme and count == 1) and call.name not in _DISTINCT_IS_NOTHING:
        return distinct(call, type_of, first_of)
    if call.name in LISTED:
        return listed(call, type_of)
    if call.name in _SUMS | _AVERAGES:
        return _sum_or_average(call, type_of)
    if call.name in _FIRST:
        return _first(call)
    if call.name in _ARG:
        return _arg(call) if count == 2 else extremes(call, type_of)
    if call.name in _LISTS:
        return _list(call)
    if call.name == "bitstring_agg":
        return bitstring(call)
    if call.name == "lttb":
        arguments = ", ".join(map(_sql, call.arguments))
        return Aggregate((_filtered(call, f"lttb({arguments} ORDER BY {order_by(call)})"),), "{0}", ROWS)
    if extreme and count > 1:
        return extremes(call, type_of)
    exact = exact_statistic(call, type_of)
    if exact is not None:
        return exact
    final = "{0}"
    if extreme:
        final = without_negative_zero(final, type_of(call.arguments[0]))
    return Aggregate((_filtered(call, plain_sql(call)),), final, ROWS if call.name in _HOLDING_ALL else None)


def _sql(node: exp.Expr) -> str:
    return node.sql("duckdb")


def _filtered(call: Call, sql: str, *others: str) -> Part:
    return Part(filtered(call, sql, *others))


# Adding and subtracting 1.5 * 2^40 rounds a double to a multiple of 2^-12, 1.5 * 2^6 to one of 2^-46.
_GRID = "1649267441664.0::DOUBLE"
_FINE_GRID = "96.0::DOUBLE"


def _sum_or_average(call: Call, type_of: TypeOf) -> Aggregate:
    argument = call.arguments[0]
    floating = type_of(argument) in {"DOUBLE", "FLOAT"} or call.name not in {"sum", "avg", "mean"}
    average = call.name in _AVERAGES
    if not floating:
        return Aggregate((_filtered(call, f"{'avg' if average else 'sum'}({_sql(argument)})"),), "{0}")
    # split_columns makes these; braces in a FILTER are not ours
    condition = "" if call.condition is None else f" FILTER (WHERE {escaped(call.condition)})"
    parts = tuple(Part(f"sum({p}){condition}") for p in ("__h{x}", "__m{x}", "__x{x} - __h{x} - __m{x}"))
    split = f"CAST({_sql(argument)} AS DOUBLE)"
    total = "CASE WHEN isfinite({0}) THEN {0} + ({1} + {2}) ELSE {0} END"
    if not average:
        return Aggregate(parts, total, split=split)
    return Aggregate((*parts, Part(f"count(__x{{x}}){condition}")), f"({total}) / {{3}}", split=split)


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


def _first(call: Call) -> Aggregate:
    key = sort_key(arrival(call)) if call.order else SEQUENCE_COLUMN
    return Aggregate((_filtered(call, f"{_FIRST[call.name]}({_sql(call.arguments[0])}, {key})"),), "{0}")


def _arg(call: Call) -> Aggregate:
    """Plan ``arg_max(x, y)``: among equals the first row to arrive counts, as in one pass over all rows."""
    value, by = _sql(call.arguments[0]), _sql(call.arguments[1])
    name = _ARG[call.name]
    largest = "max" in name
    if call.order or name.endswith("_nulls_last"):
        first = f"arg_min_null({value}, {sort_key([(by, largest, False), *arrival(call)])})"
    else:
        first = f"{name}({value}, struct_pack(b := {by}, s := {'-' if largest else ''}{SEQUENCE_COLUMN}))"
    present = [] if name.endswith("_nulls_last") else [f"{by} IS NOT NULL"]
    if name in {"arg_max", "arg_min"}:
        present.append(f"{value} IS NOT NULL")
    return Aggregate((_filtered(call, first, *present),), "{0}")


def _list(call: Call) -> Aggregate:
    arguments = ", ".join(_sql(a) for a in call.arguments)
    name = "list" if call.name in {"list", "array_agg"} else "string_agg"
    return Aggregate((_filtered(call, f"{name}({arguments} ORDER BY {order_by(call)})"),), "{0}", ROWS)
