"""numeric: decimal digits with the column's scale as text, base-10000 digits as binary.

A numeric without a scale of its own is shown without the zeros that end its fraction (`is_unconstrained`).

A binary value is four 16-bit numbers (count of digits, weight of the first, sign, scale shown), then the digits. Values
whose unscaled integer fits 64 bits are taken apart by numpy, larger ones by Python's integers.
See `numeric_send` in PostgreSQL and https://www.postgresql.org/docs/current/datatype-numeric.html.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import (
    InvalidBinaryRepresentation,
    InvalidTextRepresentation,
    NumericOutOfRange,
    StreamSQLError,
)
from streamsql.base.types import NUMERIC as NUMERIC_TYPE
from streamsql.base.types import canonical_arrow, is_unconstrained
from streamsql.pgwire.values.column import (
    WHITE_SPACE,
    BadValue,
    BinaryValues,
    Codec,
    Numbers,
    Piece,
    as_values,
    binary_of_offsets,
    raw,
    read_in_two_speeds,
)

_BASE = 10_000
_NEGATIVE, _NAN, _INFINITE, _MINUS_INFINITE = 0x4000, 0xC000, 0xD000, 0xF000
_HEADER = struct.Struct(">HhHH")
_WIDE = np.dtype([("low", "<u8"), ("high", "<i8")])
_INTEGER_GROUPS_INT64, _INTEGER_GROUPS_MAX = 5, 10
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\Z", re.IGNORECASE | re.ASCII)
_CONTEXT = Context(prec=20_000, rounding=ROUND_HALF_UP)
_EXPONENT_MAX = 16_000  # beyond it PostgreSQL's numeric ends too


def _to_text(column: pa.Array) -> Piece:
    if pa.types.is_string(column.type):
        return column
    strings = _all_digits(column)
    if is_unconstrained(column.type):
        return pc.ascii_rtrim(pc.ascii_rtrim(strings, "0"), ".")
    return strings


def _all_digits(column: pa.Array) -> pa.Array:
    scale = column.type.scale
    strings = pc.cast(column, pa.string())
    small = pc.match_substring(strings, "E")
    if not pc.any(small).as_py():
        return strings
    # Arrow gives an exponent to what is below 1e-6; the same bits read with scale 0 are plain digits
    selected = column.filter(small)
    as_integers = pa.Array.from_buffers(pa.decimal128(38, 0), len(selected), selected.buffers(), offset=selected.offset)
    digits = pc.cast(as_integers, pa.string())
    negative = pc.starts_with(digits, "-")
    padded = pc.utf8_lpad(pc.ascii_ltrim(digits, "-"), scale, "0")
    plain = pc.binary_join_element_wise(pc.if_else(negative, "-0.", "0."), padded, "")
    return pc.replace_with_mask(strings, pc.fill_null(small, False), plain)


def _long_to_binary(column: pa.Array) -> pa.Array:
    """Write integers that came as text, one by one: they are longer than any machine's."""
    found: list[bytes | None] = []
    for text in column.to_pylist():
        if text is None:
            found.append(None)
            continue
        magnitude, digits = abs(int(text)), []
        while magnitude:
            magnitude, digit = divmod(magnitude, _BASE)
            digits.append(digit)
        weight = max(len(digits) - 1, 0)
        shown = list(digits)
        while shown and not shown[0]:  # zero groups at the end are not sent
            shown.pop(0)
        sign = _NEGATIVE if text.startswith("-") else 0
        found.append(_HEADER.pack(len(shown), weight, sign, 0) + struct.pack(f">{len(shown)}H", *reversed(shown)))
    return pa.array(found, pa.binary())


def _to_binary(column: pa.Array) -> Piece:
    if pa.types.is_string(column.type):
        return _long_to_binary(column)
    scale = column.type.scale
    wide = raw(column, _WIDE)
    unscaled = wide["low"].astype(np.int64)
    fits = (wide["high"] == (unscaled >> 63)) & (unscaled != np.iinfo(np.int64).min)
    padding = -scale % 4
    if scale + padding > 18:
        fits[:] = False
    fraction_groups = (scale + padding) // 4
    integer_groups = _INTEGER_GROUPS_INT64 if fits.all() else _INTEGER_GROUPS_MAX
    groups = np.zeros((len(wide), integer_groups + fraction_groups), np.int64)
    negative = wide["high"] < 0
    if fits.any():
        magnitudes = np.abs(np.where(fits, unscaled, 0))
        # the integer part from its last group on, then the fraction, made a whole number of groups
        rest = magnitudes // 10**scale if scale <= 18 else np.zeros_like(magnitudes)
        for group in range(integer_groups - 1, integer_groups - _INTEGER_GROUPS_INT64 - 1, -1):
            rest, groups[:, group] = np.divmod(rest, _BASE)
        rest = magnitudes % 10**scale * 10**padding if scale + padding <= 18 else np.zeros_like(magnitudes)
        for group in range(integer_groups + fraction_groups - 1, integer_groups - 1, -1):
            rest, groups[:, group] = np.divmod(rest, _BASE)
    for row in np.flatnonzero(~fits):
        magnitude = abs((int(wide["high"][row]) << 64) | int(wide["low"][row])) * 10**padding
        for group in range(groups.shape[1] - 1, -1, -1):
            magnitude, groups[row, group] = divmod(magnitude, _BASE)
    return _assemble(groups, integer_groups, negative, scale, is_unconstrained(column.type))


def _digits_shown(groups: Numbers, integer_groups: int) -> Numbers:
    """Count the decimal digits behind the point, without the zeros that end them."""
    fraction = groups[:, integer_groups:]
    filled = fraction != 0
    whole = np.where(filled.any(axis=1), fraction.shape[1] - filled[:, ::-1].argmax(axis=1), 0)
    last = fraction[np.arange(len(fraction)), np.maximum(whole - 1, 0)] if fraction.shape[1] else whole
    zeros = sum((last % 10**n == 0).astype(np.int64) for n in (1, 2, 3))
    return np.where(whole > 0, whole * 4 - zeros, 0)


def _assemble(groups: Numbers, integer_groups: int, negative: Numbers, scale: int, trimmed: bool) -> pa.Array:
    """Strip the zero groups on both sides and put the header before the rest, for all rows at once."""
    count, width = groups.shape
    filled = groups != 0
    any_filled = filled.any(axis=1)
    first = np.where(any_filled, filled.argmax(axis=1), 0)
    last = np.where(any_filled, width - filled[:, ::-1].argmax(axis=1), 0)
    words = np.empty((count, 4 + width), ">i2")
    words[:, 0] = last - first
    words[:, 1] = np.where(any_filled, integer_groups - 1 - first, 0)
    words[:, 2] = np.where(negative & any_filled, _NEGATIVE, 0)
    words[:, 3] = _digits_shown(groups, integer_groups) if trimmed else scale
    words[:, 4:] = groups
    columns = np.arange(width)
    kept = np.ones(words.shape, bool)
    kept[:, 4:] = (columns >= first[:, None]) & (columns < last[:, None])
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum((4 + last - first) * 2, out=offsets[1:])
    return binary_of_offsets(offsets, words[kept], count)


def _invalid(text: str) -> InvalidTextRepresentation:
    return InvalidTextRepresentation(f'invalid input syntax for type numeric: "{text}"')


def _careful(arrow_type: pa.DataType) -> Callable[[str], Decimal]:
    quantum = Decimal(1).scaleb(-arrow_type.scale)
    integer_digits = arrow_type.precision - arrow_type.scale

    def read(text: str) -> Decimal:
        word = text.strip(WHITE_SPACE)
        if word.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            raise NumericOutOfRange(
                f'value "{text}" is out of range for type numeric', detail="only numbers are stored"
            )
        if not _NUMBER.match(word):
            raise _invalid(text)
        value = Decimal(word)
        if abs(value.adjusted()) > _EXPONENT_MAX and value:
            raise NumericOutOfRange("value overflows numeric format")
        rounded = value.quantize(quantum, context=_CONTEXT)
        if rounded and rounded.adjusted() >= integer_digits:
            raise NumericOutOfRange(
                "numeric field overflow",
                detail=f"A field with precision {arrow_type.precision}, scale {arrow_type.scale} "
                f"must round to an absolute value less than 10^{integer_digits}.",
            )
        return rounded

    return read


def _from_text(strings: pa.Array, modifier: int) -> pa.Array:
    arrow_type = canonical_arrow(NUMERIC_TYPE, modifier)
    return read_in_two_speeds(strings, lambda s: pc.cast(s, arrow_type), _careful(arrow_type), arrow_type)


def _value_to_text(value: bytes) -> str:
    try:
        count, weight, sign, scale = _HEADER.unpack_from(value)
        digits = struct.unpack_from(f">{count}H", value, 8)
    except struct.error:
        raise InvalidBinaryRepresentation("insufficient data left in message") from None
    special = {_NAN: "NaN", _INFINITE: "Infinity", _MINUS_INFINITE: "-Infinity"}.get(sign)
    if special is not None:
        return special
    if len(value) != 8 + 2 * count or sign not in (0, _NEGATIVE) or any(digit >= _BASE for digit in digits):
        raise InvalidBinaryRepresentation("incorrect binary data format for type numeric")
    integer = "".join(f"{digits[i]:04}" if i < count else "0000" for i in range(weight + 1)).lstrip("0") or "0"
    groups = (scale + 3) // 4
    shown = [digits[i] if 0 <= i < count else 0 for i in range(weight + 1, weight + 1 + groups)]
    fraction = "".join(f"{digit:04}" for digit in shown)[:scale]
    return ("-" if sign else "") + integer + ("." + fraction if scale else "")


def from_binary(values: BinaryValues, modifier: int) -> pa.Array:
    """Read binary values as decimals of the type that the modifier tells; they are rounded to its scale."""
    values = as_values(values)
    texts: list[str | None] = []
    for row, value in enumerate(values):
        try:
            texts.append(None if value is None else _value_to_text(value))
        except StreamSQLError as error:
            raise BadValue(row, error) from None
    return _from_text(pa.array(texts, pa.string()), modifier)


NUMERIC = Codec(_to_text, _to_binary, _from_text, lambda values: from_binary(values, -1), _value_to_text)
