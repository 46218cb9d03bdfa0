"""float4, float8: the shortest digits that read back the same as text, IEEE 754 with the high byte first as binary.

PostgreSQL writes an exponent when it is below -4 or not below 15 (float8) or 6 (float4), with at least two digits. Arrow
finds the same shortest digits but lays them out in another way; where the two differ the point is moved.
See https://www.postgresql.org/docs/current/datatype-numeric.html#DATATYPE-FLOAT.
"""

from __future__ import annotations

import re
import struct
from decimal import Decimal
from math import isinf
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import InvalidTextRepresentation, NumericOutOfRange
from streamsql.pgwire.values.column import (
    WHITE_SPACE,
    BinaryValues,
    Codec,
    Fixed,
    Numbers,
    Piece,
    check_width,
    from_numbers,
    join_fixed,
    raw,
    read_in_two_speeds,
    strings_of,
    valid,
)

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
_WORDS = {"nan": float("nan"), "inf": float("inf"), "infinity": float("inf")}

Rewrites = tuple[tuple[str, str], ...]

# Each rewrite is a regular expression and what takes its place; they are tried on numbers that lie outside [1e-4, 1e10)
# (float4: outside [1e-4, 1e6)), where Arrow writes an exponent below 1e-6 and from 1e10 on.
_SMALL: Rewrites = (
    (r"^-?nan$", "NaN"),
    (r"inf$", "Infinity"),
    (r"e([+-])(\d)$", r"e\10\2"),
    (r"^(-?)0\.0000([1-9])(\d*)$", r"\1\2.\3e-05"),
    (r"^(-?)0\.00000([1-9])(\d*)$", r"\1\2.\3e-06"),
    (r"\.e", "e"),
)


def _to_decimal(exponent: int) -> Rewrites:
    """Write out a number that Arrow gives with this exponent: add zeros and a mark, set the point, drop the zeros."""
    return (
        (rf"^(-?\d)\.?(\d*)e\+{exponent}$", r"\1\2" + "0" * exponent + "|"),
        (rf"^(-?\d{{{exponent + 1}}})0*\|$", r"\1"),
        (rf"^(-?\d{{{exponent + 1}}})(\d*?)0*\|$", r"\1.\2"),
    )


def _to_scientific(exponent: int) -> Rewrites:
    """Give an exponent to a number that Arrow writes out."""
    return (
        (rf"^(-?\d)(\d{{{exponent}}})(?:\.(\d+))?$", rf"\1.\2\3e+{exponent:02}"),
        (r"(\.\d*?)0*e", r"\1e"),
        (r"\.e", "e"),
    )


_FLOAT8_REWRITES = _SMALL + sum((_to_decimal(exponent) for exponent in range(10, 15)), ())
_FLOAT4_REWRITES = _SMALL + sum((_to_scientific(exponent) for exponent in range(6, 10)), ())


# float size in bytes -> where the neighbours of a number are whole numbers apart by more than one, and beyond what the
# middle between two of them has more digits than either
_HALFWAY = {4: (2.0**24, 1e20), 8: (2.0**53, 1e41)}


def _codec(sql_name: str, arrow_type: pa.DataType, size: int, rewrites: Rewrites, usual_below: float) -> Codec:
    native, wire = f"f{size}", f">f{size}"
    packed = struct.Struct({4: ">f", 8: ">d"}[size])

    def to_text(column: pa.Array) -> Piece:
        strings = pc.cast(column, pa.string())
        magnitudes = np.abs(raw(column, native))
        odd = ~(((magnitudes >= 1e-4) & (magnitudes < usual_below)) | (magnitudes == 0))
        if column.null_count:
            odd &= valid(column)
        if not odd.any():
            return strings
        mask = pa.array(odd)
        selected = strings.filter(mask)
        selected = _off_the_bounds(selected, raw(column, native)[odd], size)
        for pattern, replacement in rewrites:
            selected = pc.replace_substring_regex(selected, pattern=pattern, replacement=replacement)
        return pc.replace_with_mask(strings, mask, selected)

    def to_binary(column: pa.Array) -> Piece:
        return raw(column, native).astype(wire)

    def fast(strings: pa.Array) -> pa.Array:
        column = pc.cast(strings, arrow_type)
        if not_read_exactly(strings, column):
            raise pa.ArrowInvalid("out of range")
        return column

    def careful(text: str) -> float:
        word = text.strip(WHITE_SPACE)
        if _NUMBER.match(word):
            with np.errstate(over="ignore", under="ignore"):
                value = float(np.dtype(native).type(word))
            if isinf(value) or (value == 0 and re.search("[1-9]", re.split("[eE]", word)[0])):
                raise NumericOutOfRange(f'"{text}" is out of range for type {sql_name}')
            return value
        sign = -1.0 if word.startswith("-") else 1.0
        found = _WORDS.get(word.lstrip("+-").lower()) if not word.startswith(("+-", "-+", "--", "++")) else None
        if found is None:
            raise InvalidTextRepresentation(f'invalid input syntax for type {sql_name}: "{text}"')
        return sign * found

    def from_text(strings: pa.Array, _: int) -> pa.Array:
        return read_in_two_speeds(strings, fast, careful, arrow_type)

    def from_binary(values: BinaryValues | Fixed) -> pa.Array:
        numbers, null = join_fixed(values, wire, sql_name)
        return from_numbers(numbers.astype(native), arrow_type, null)

    def value_to_text(value: bytes) -> str:
        check_width(value, size, sql_name)
        return str(strings_of(to_text(pa.array(packed.unpack(value), arrow_type)), pa.nulls(1))[0])

    return Codec(to_text, to_binary, from_text, from_binary, value_to_text, from_binary)


def _off_the_bounds(strings: pa.Array, numbers: Numbers, size: int) -> pa.Array:
    """Give more digits to a number whose shortest ones lie exactly halfway to its neighbour.

    Reading such digits back relies on ties going to the even number. Arrow does rely on it, PostgreSQL does not
    (`STRICTLY_SHORTEST` is off in its Ryu). It takes a large integer, and then happens to one in a few hundred.
    """
    integers_from, halfway_below = _HALFWAY[size]
    magnitudes = np.abs(numbers)
    large = np.flatnonzero((magnitudes >= integers_from) & (magnitudes < halfway_below))
    if not len(large):
        return strings
    small = large[magnitudes[large] < 2.0**62]
    shown = np.asarray(pc.cast(pc.cast(strings.take(pa.array(small)), pa.decimal128(38, 0)), pa.int64()))
    distances = np.abs(shown - numbers[small].astype(np.int64))
    gaps = np.spacing(magnitudes[small]).astype(np.int64)
    below_is_nearer = np.frexp(magnitudes[small])[0] == 0.5  # a power of two
    halfway = (distances > 0) & ((distances * 2 == gaps) | (below_is_nearer & (distances * 4 == gaps)))
    suspects = [*small[halfway], *large[magnitudes[large] >= 2.0**62]]
    if not suspects:
        return strings
    texts = [_strictly_shortest(numbers[row]) for row in sorted(suspects)]
    mask = np.zeros(len(numbers), bool)
    mask[suspects] = True
    return pc.replace_with_mask(strings, pa.array(mask), pa.array(texts))


def _strictly_shortest(number: np.floating[Any]) -> str:
    """Write a large integer with the fewest digits that lie strictly nearer to it than to its neighbours."""
    exact = int(number)
    one = type(number)(np.inf)
    below, above = int(np.nextafter(number, -one)), int(np.nextafter(number, one))
    for digits in range(17):
        text = f"{Decimal(exact):.{digits}e}"
        shown = int(Decimal(text))
        if exact + below < 2 * shown < exact + above:
            break
    mantissa, exponent = text.split("e+")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e+{exponent}"


def not_read_exactly(strings: pa.Array, column: pa.Array) -> bool:
    """Say whether Arrow made an infinity or a zero out of digits that are too large or too small."""
    numbers = raw(column, f"f{column.type.bit_width // 8}")
    suspect = np.isinf(numbers) | (numbers == 0)
    if not suspect.any():
        return False
    texts = strings.filter(pa.array(suspect))
    return bool(pc.any(pc.match_substring_regex(texts, r"^[+-]?[0-9.]*[1-9]|[eE]")).as_py())


REAL = _codec("real", pa.float32(), 4, _FLOAT4_REWRITES, 1e6)
DOUBLE_PRECISION = _codec("double precision", pa.float64(), 8, _FLOAT8_REWRITES, 1e10)
