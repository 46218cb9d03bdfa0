"""Variances and covariances of integers and numerics, from sums that are exact: no order of rows and no batch changes a digit.

DuckDB's own state is a mean and squared distances from it in double precision, which round otherwise with each grouping of the
rows. Here integers are summed, themselves and their squares, and the difference of these large numbers is taken before
anything is rounded::

    stddev(x)    kept sum(x), sum(x * x), count(x)    of 1, 2, 4: 7, 21, 3    M2 = 21 - 49/3 = 4.67    sqrt(M2 / 2) = 1.53

A product of two bigints has up to 126 bits, and its sum may have more than 128: the lowest 32 bits of the products are
summed apart.
"""

from __future__ import annotations

import re

from streamsql.plan.aggregate_calls import Aggregate, Call, TypeOf, filtered
from streamsql.plan.parts import Part

_NARROW = frozenset({"TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT"})
_WIDE = frozenset({"BIGINT", "UINTEGER"})
_NUMERIC = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_DIGITS_MAX = 18  # of a numeric that fits into 64 bits as an integer
_DIGITS_NARROW = 9
_LIMB = 1 << 32

# {d} is the sum of the products of both distances from their means, {n} the count, {u} the unit of that sum
_OF_ONE = {
    "sem": "sqrt({d} / {n} / {u}) / sqrt({n})",
    "stddev": "CASE WHEN {n} > 1 THEN sqrt({d} / ({n} - 1) / {u}) END",
    "stddev_pop": "sqrt({d} / {n} / {u})",
    "stddev_samp": "CASE WHEN {n} > 1 THEN sqrt({d} / ({n} - 1) / {u}) END",
    "var_pop": "{d} / {n} / {u}",
    "var_samp": "CASE WHEN {n} > 1 THEN {d} / ({n} - 1) / {u} END",
    "variance": "CASE WHEN {n} > 1 THEN {d} / ({n} - 1) / {u} END",
}
_OF_TWO = {
    "covar_pop": "{d} / {n} / {u}",
    "covar_samp": "CASE WHEN {n} > 1 THEN {d} / ({n} - 1) / {u} END",
}


def exact_statistic(call: Call, type_of: TypeOf) -> Aggregate | None:
    """Plan a statistic of exact numbers; None for any other call."""
    taken = {1: _OF_ONE, 2: _OF_TWO}.get(len(call.arguments), {})
    if call.name not in taken or call.order:
        return None
    values = [_integer(argument.sql("duckdb"), type_of(argument)) for argument in call.arguments]
    found = [value for value in values if value is not None]
    if len(found) < len(values):
        return None
    (x, x_scale, x_wide), (y, y_scale, y_wide) = found[0], found[-1]
    both = [] if len(found) == 1 else [f"{x} IS NOT NULL", f"{y} IS NOT NULL"]
    wide = x_wide or y_wide
    product = f"CAST({x} AS HUGEINT) * {y}"
    products = [f"({product}) >> 32", f"CAST(({product}) & {_LIMB - 1} AS BIGINT)"] if wide else [f"{x} * {y}"]
    sums = [f"count({x})", f"sum({x})", *([f"sum({y})"] if both else []), *(f"sum({p})" for p in products)]
    parts = tuple(Part(filtered(call, sql, *both)) for sql in sums)
    second = "{2}" if both else "{1}"
    of_products = [f"{{{n}}}" for n in range(len(parts) - len(products), len(parts))]
    distance = (_distance_in_limbs if wide else _distance)("{0}", "{1}", second, *of_products)
    return Aggregate(parts, taken[call.name].format(d=distance, n="{0}", u=f"1e{x_scale + y_scale}"))


def _distance(n: str, x: str, y: str, products: str) -> str:
    """SQL of sum(xy) - sum(x) sum(y) / n, divided so that nothing on the way is larger than sum(xy)."""
    rests = f"(({x} % {n}) * ({y} % {n}))"
    whole = f"{products} - ({x} // {n}) * {y} - ({x} % {n}) * ({y} // {n}) - {rests} // {n}"
    return f"(CAST({whole} AS DOUBLE) - CAST({rests} % {n} AS DOUBLE) / {n})"


def _distance_in_limbs(n: str, x: str, y: str, high: str, low: str) -> str:
    """Give the same where sum(xy) is ``high * 2^32 + low``."""
    rests = f"(({x} % {n}) * ({y} % {n}))"
    above = f"{high} - ({x} // {n} // {_LIMB}) * {y}"
    below = f"({low} - {x} // {n} % {_LIMB} * {y} - ({x} % {n}) * ({y} // {n}) - {rests} // {n})"
    return (
        f"(CAST({above} + {below} // {_LIMB} AS DOUBLE) * {_LIMB} + CAST({below} % {_LIMB} AS DOUBLE) "
        f"- CAST({rests} % {n} AS DOUBLE) / {n})"
    )


def _integer(sql: str, type_name: str) -> tuple[str, int, bool] | None:
    """Give SQL of a number as a bigint, how many places it was moved, and whether its square may need more than 64 bits."""
    if type_name in _NARROW | _WIDE:
        return f"CAST({sql} AS BIGINT)", 0, type_name in _WIDE
    numeric = _NUMERIC.fullmatch(type_name)
    if numeric is None or int(numeric[1]) > _DIGITS_MAX:
        return None
    digits, places = int(numeric[1]), int(numeric[2])
    roomy = f"CAST({sql} AS DECIMAL({digits + places + 1},{places}))"  # a product is no longer than its longest factor
    moved = f"CAST({roomy} * CAST(1{'0' * places} AS DECIMAL({places + 1},0)) AS BIGINT)"
    return moved, places, digits > _DIGITS_NARROW
