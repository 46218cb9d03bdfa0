"""Aggregates that DuckDB has no combining state for: kept as lists, and computed from them when they are shown.

    mode, histogram, entropy, product, ..    the values in the order of arrival
    agg(DISTINCT x)                          the distinct values
    max(x, n), arg_max(x, y, n), ..          the n rows that come first
    bitstring_agg(x, min, max)               the distinct values, of which there are at most max - min + 1

What is shown does not depend on how rows came together: values are listed by arrival, distinct ones sorted, and among equals
of the n largest the first to arrive count.
"""

from __future__ import annotations

from sqlglot import exp

from streamsql.base.errors import InvalidColumnReference, InvalidParameterValue, SQLSyntaxError, UndefinedFunction
from streamsql.plan.aggregate_calls import (
    DISTINCT_VALUES,
    QUANTILES,
    ROWS,
    SEQUENCE_COLUMN,
    Aggregate,
    Call,
    FirstOf,
    TypeOf,
    arrival,
    canonical,
    escaped,
    filtered,
    order_by,
    refusal,
    sort_key,
    without_negative_zero,
)
from streamsql.plan.parts import Counted, Part

# Kept as the list of the values, for `list_aggregate` to go over in the order of arrival.
LISTED = frozenset({
    "approx_top_k", "entropy", "histogram", "histogram_exact", "mode", "product", "reservoir_quantile",
})  # fmt: skip
# what an empty group shows, where it is not NULL
_OF_NOTHING = {"entropy": "0.0::DOUBLE"}

# name -> whether the n largest (and not the smallest), whether rows count in which the compared value is NULL
_EXTREMES = {
    "max": (True, False), "min": (False, False),
    "arg_max": (True, False), "argmax": (True, False), "max_by": (True, False),
    "arg_min": (False, False), "argmin": (False, False), "min_by": (False, False),
    "arg_max_nulls_last": (True, True), "arg_min_nulls_last": (False, True),
}  # fmt: skip
EXTREMES_MAX = 999_999
BITS_MAX = 1_000_000_000

_LISTS = frozenset({"array_agg", "list"})
# of two columns, or of a list that has to be in order: DISTINCT would need the pairs
_NOT_OF_DISTINCT = ("corr", "covar_", "lttb", "regr_")

_ELEMENT = "__e"


def listed(call: Call, type_of: TypeOf) -> Aggregate:
    """Plan an aggregate that is kept as the list of its values."""
    if call.arguments:
        argument, *options = call.arguments
    else:  # mode() WITHIN GROUP (ORDER BY x)
        argument, options = call.order[0].this, []
    value = argument.sql("duckdb")
    shown = without_negative_zero(value, type_of(argument))
    if call.name == "approx_top_k" and options:
        _count(call, options[0])
    part = Part(filtered(call, f"list({shown} ORDER BY {order_by(call)})", f"{value} IS NOT NULL"))
    final = _list_aggregate(call, "{0}", call.name, options)
    if call.name in _OF_NOTHING:
        final = f"coalesce({final}, {_OF_NOTHING[call.name]})"
    return Aggregate((part,), final, ROWS)


def distinct(call: Call, type_of: TypeOf, first_of: FirstOf | None = None) -> Aggregate:
    """Plan ``agg(DISTINCT x)``: the distinct values are kept, and the aggregate goes over them in their order.

    Without ORDER BY that is the order of the values, as in Postgres. To count them is to count rows that bring a new one, where
    `first_of` finds these: then a group with many values costs no more than one with few.
    """
    if call.name.startswith(_NOT_OF_DISTINCT):
        raise refusal(call, f"{call.shown}(DISTINCT ...)", "leave DISTINCT out")
    if call.name in QUANTILES and call.order:
        raise refusal(
            call, f"{call.shown}(DISTINCT ... ORDER BY ...)", "leave ORDER BY out, and count from the other end"
        )
    if not call.arguments:
        raise SQLSyntaxError(f"{call.shown}(DISTINCT) needs an argument", hint="name what is to be told apart")
    argument, *options = call.arguments
    if call.name == "count" and options:  # as DuckDB is given it ad hoc
        tests = " OR ".join(f"{a.sql('duckdb')} IS NULL" for a in call.arguments)
        value = f"CASE WHEN {tests} THEN NULL ELSE ({', '.join(a.sql('duckdb') for a in call.arguments)}) END"
    else:
        value = canonical(argument.sql("duckdb"), type_of(argument))
    if call.name in _LISTS:  # in which a NULL is a value, too
        part = Part(filtered(call, f"list(DISTINCT struct_pack(v := {value}))"), "list_distinct({0})")
        values = f"list_transform({{0}}, lambda {_ELEMENT}: {_ELEMENT}.v)"
        return Aggregate((part,), _sorted(call, argument, values), DISTINCT_VALUES)
    if call.name == "count" and first_of is not None:
        first = f"count(*) FILTER (WHERE {first_of(value, call.condition)})"
        return Aggregate((Counted(first, at_once=filtered(call, f"count(DISTINCT {value})")),), "{0}", DISTINCT_VALUES)
    part = Part(filtered(call, f"list(DISTINCT {value})", f"{value} IS NOT NULL"), "list_distinct({0})")
    if call.name == "count":
        return Aggregate((part,), "coalesce(len({0}), 0)", DISTINCT_VALUES)
    name = "string_agg" if call.name in {"group_concat", "listagg"} else call.name
    final = _list_aggregate(call, _sorted(call, argument, "{0}"), name, options)
    if call.name in _OF_NOTHING:
        final = f"coalesce({final}, {_OF_NOTHING[call.name]})"
    elif call.name in {"count_if", "countif"}:
        final = f"coalesce({final}, 0)"
    return Aggregate((part,), final, DISTINCT_VALUES)


def extremes(call: Call, type_of: TypeOf) -> Aggregate:
    """Plan ``max(x, n)`` and ``arg_max(x, y, n)``: the n first rows by a sort key are kept, ties by arrival."""
    *values, count = call.arguments
    if len(call.arguments) != (2 if call.name in {"max", "min"} else 3) or call.name not in _EXTREMES:
        raise UndefinedFunction(f"{call.name} does not take {len(call.arguments)} arguments")
    largest, with_nulls = _EXTREMES[call.name]
    value, by = values[0], values[-1]
    number = _count(call, count)
    key = sort_key([(by.sql("duckdb"), largest, False), *arrival(call)[:-1]])
    shown = without_negative_zero(value.sql("duckdb"), type_of(value)) if len(values) == 1 else value.sql("duckdb")
    row = f"struct_pack(k := {key}, s := {SEQUENCE_COLUMN}, v := {shown})"
    present = [] if with_nulls else [f"{v.sql('duckdb')} IS NOT NULL" for v in values]
    part = Part(filtered(call, f"min({row}, {number})", *present), f"list_slice(list_sort({{0}}), 1, {number})")
    return Aggregate((part,), f"list_transform({{0}}, lambda {_ELEMENT}: {_ELEMENT}.v)")


def bitstring(call: Call) -> Aggregate:
    """Plan ``bitstring_agg(x, min, max)``. A value out of the range fails its row, as it fails DuckDB's query."""
    if len(call.arguments) != 3:
        raise refusal(
            call,
            f"{call.name} of one argument",
            f"say the range of the values, as in {call.name}(x, 0, 1000): DuckDB takes it from the table's statistics",
        )
    value, (low, high) = call.arguments[0].sql("duckdb"), map(_number, call.arguments[1:])
    if low is None or high is None:
        raise refusal(call, f"{call.name} of a range that is not two numbers", "write the numbers")
    if not 0 <= high - low < BITS_MAX:
        raise InvalidParameterValue(
            f"the range of {call.name} must be the smaller number first, and at most {BITS_MAX} long"
        )
    problem = f"'Value ' || {value} || ' is outside of provided min and max range ({low} <-> {high})'"
    # the arguments of rows that FILTER keeps out are computed, too
    outside = f"({call.condition or 'true'}) AND ({value} < {low} OR {value} > {high})"
    checked = f"CASE WHEN {outside} THEN error({problem}) ELSE {value} END"
    part = Part(filtered(call, f"list(DISTINCT {checked})", f"{value} IS NOT NULL"), "list_distinct({0})")
    return Aggregate((part,), _list_aggregate(call, "{0}", call.name, call.arguments[1:]), DISTINCT_VALUES)


def _number(node: exp.Expr) -> int | None:
    """Read a whole number as it stands in the text."""
    sign, node = (-1, node.this) if isinstance(node, exp.Neg) else (1, node)
    return sign * int(node.this) if isinstance(node, exp.Literal) and not node.is_string and node.is_int else None


def _count(call: Call, node: exp.Expr) -> int:
    """Read how many values are asked for; DuckDB would look at it when the first row comes."""
    number = _number(node)
    if number is None:
        raise refusal(call, f"{call.name} of a number of values that the query does not say", "write the number")
    if not 1 <= number <= EXTREMES_MAX:
        raise InvalidParameterValue(f"the number of values of {call.name} must be from 1 to {EXTREMES_MAX}")
    return number


def _list_aggregate(call: Call, values: str, name: str, options: tuple[exp.Expr, ...] | list[exp.Expr]) -> str:
    """SQL of an aggregate over a list; its other arguments must be the same for all rows."""
    for option in options:
        if option.find(exp.Column) is not None:
            raise refusal(call, f"{call.shown} of other arguments than constants", "write constants")
    said = "".join(", " + escaped(option.sql("duckdb")) for option in options)
    return f"list_aggregate({values}, '{name}'{said})"


def _sorted(call: Call, argument: exp.Expr, values: str) -> str:
    """SQL of the list `values` in the order of the call, in which `argument` stands for a value."""
    if not call.order:
        return f"list_sort({values})"
    keys = []
    for ordered in call.order:
        by = _over_element(ordered.this, argument)
        if any(column.name != _ELEMENT for column in by.find_all(exp.Column)):
            raise InvalidColumnReference(
                "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list",
                detail=f"the call is {call.text}",
            )
        keys.append((by.sql("duckdb"), bool(ordered.args.get("desc")), bool(ordered.args.get("nulls_first"))))
    pairs = f"list_transform({values}, lambda {_ELEMENT}: struct_pack(k := {escaped(sort_key(keys))}, v := {_ELEMENT}))"
    return f"list_transform(list_sort({pairs}), lambda {_ELEMENT}: {_ELEMENT}.v)"


def _over_element(by: exp.Expr, argument: exp.Expr) -> exp.Expr:
    element = exp.column(_ELEMENT)
    return by.transform(lambda node: element.copy() if node == argument else node)
