"""int2, int4, int8: decimal digits as text, two's complement with the high byte first as binary."""

from __future__ import annotations

import re
import struct

import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import InvalidTextRepresentation, NumericOutOfRange
from streamsql.pgwire.values.column import (
    WHITE_SPACE,
    BinaryValues,
    Codec,
    Fixed,
    Piece,
    check_width,
    from_numbers,
    join_fixed,
    raw,
    read_in_two_speeds,
)

_DIGITS = re.compile(r"[+-]?[0-9]+\Z")
_DIGITS_BYTES_MAX = 4_000  # Python refuses to read longer integers; none of them is in range


def _codec(sql_name: str, arrow_type: pa.DataType, size: int) -> Codec:
    limit = 1 << (8 * size - 1)
    native, wire = f"i{size}", f">i{size}"
    packed = struct.Struct({2: ">h", 4: ">i", 8: ">q"}[size])

    def to_text(column: pa.Array) -> Piece:
        return pc.cast(column, pa.string())

    def to_binary(column: pa.Array) -> Piece:
        return raw(column, native).astype(wire)

    def fast(strings: pa.Array) -> pa.Array:
        if pc.any(pc.or_(pc.match_substring(strings, "x"), pc.match_substring(strings, "X"))).as_py():
            raise pa.ArrowInvalid("hexadecimal")  # Arrow reads 0xffffffff as -1
        return pc.cast(strings, arrow_type)

    def careful(text: str) -> int:
        digits = text.strip(WHITE_SPACE)
        if not _DIGITS.match(digits):
            raise InvalidTextRepresentation(f'invalid input syntax for type {sql_name}: "{text}"')
        value = int(digits) if len(digits) < _DIGITS_BYTES_MAX else limit
        if not -limit <= value < limit:
            raise NumericOutOfRange(f'value "{text}" is out of range for type {sql_name}')
        return value

    def from_text(strings: pa.Array, _: int) -> pa.Array:
        return read_in_two_speeds(strings, fast, careful, arrow_type)

    def from_binary(values: BinaryValues | Fixed) -> pa.Array:
        numbers, null = join_fixed(values, wire, sql_name)
        return from_numbers(numbers.astype(native), arrow_type, null)

    def value_to_text(value: bytes) -> str:
        check_width(value, size, sql_name)
        return str(packed.unpack(value)[0])

    return Codec(to_text, to_binary, from_text, from_binary, value_to_text, from_binary)


SMALLINT = _codec("smallint", pa.int16(), 2)
INTEGER = _codec("integer", pa.int32(), 4)
BIGINT = _codec("bigint", pa.int64(), 8)
