r"""bytea: ``\x`` and hexadecimal digits as text, the bytes themselves as binary.

Input takes the older escape format too (``\\``, ``\ooo``). See
https://www.postgresql.org/docs/current/datatype-binary.html.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import InvalidParameterValue, InvalidTextRepresentation
from streamsql.pgwire.values.column import BinaryValues, Codec, Numbers, Piece, binary_of_offsets, read_in_two_speeds

_DIGITS = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), ">u2")
_NOT_A_DIGIT = 255
_NIBBLES = np.full(256, _NOT_A_DIGIT, np.uint8)
_NIBBLES[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
_NIBBLES[np.frombuffer(b"ABCDEF", np.uint8)] = np.arange(10, 16)
_ESCAPE = re.compile(rb"\\(\\|[0-3][0-7]{2})?")


def _flat(column: pa.Array) -> tuple[Numbers, Numbers]:
    """Give a binary or string array's offsets, from 0, and its bytes, without those of nulls."""
    if column.null_count:
        column = pc.fill_null(column, b"" if pa.types.is_binary(column.type) else "")
    _, offset_buffer, data_buffer = column.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32, len(column) + 1, column.offset * 4)
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer is not None else np.zeros(0, np.uint8)
    return offsets - offsets[0], data[offsets[0] : offsets[-1]]


def _to_text(column: pa.Array) -> Piece:
    column = pc.cast(column, pa.binary())
    if not len(column):
        return pa.array([], pa.string())
    offsets, data = _flat(column)
    digits = binary_of_offsets(offsets * 2, _DIGITS[data], len(column))
    texts = pc.cast(pc.binary_join_element_wise(pa.scalar(b"\\x"), digits, b""), pa.string())
    return pc.if_else(column.is_valid(), texts, None) if column.null_count else texts


def _to_binary(column: pa.Array) -> Piece:
    return column


def _fast(strings: pa.Array) -> pa.Array:
    """Read ``\\x`` and digits, in one pass over the digits of all the values."""
    if not len(strings):
        return pa.array([], pa.binary())
    if pc.all(pc.starts_with(strings, "\\x")).as_py() is False:
        raise pa.ArrowInvalid("the escape format")
    offsets, digits = _flat(pc.binary_slice(pc.cast(strings, pa.binary()), 2))
    nibbles = _NIBBLES[digits]
    if (offsets & 1).any() or (nibbles == _NOT_A_DIGIT).any():
        raise pa.ArrowInvalid("not pairs of digits")
    found = binary_of_offsets(offsets // 2, nibbles[0::2] << 4 | nibbles[1::2], len(strings))
    return pc.if_else(strings.is_valid(), found, None) if strings.null_count else found


def _careful(text: str) -> bytes:
    if text.startswith("\\x"):
        digits = re.sub(r"[ \t\n\r]", "", text[2:])
        wrong = re.search(r"[^0-9a-fA-F]", digits)
        if wrong:
            raise InvalidParameterValue(f'invalid hexadecimal digit: "{wrong.group()}"')
        if len(digits) % 2:
            raise InvalidParameterValue("invalid hexadecimal data: odd number of digits")
        return bytes.fromhex(digits)
    return _ESCAPE.sub(_unescape, text.encode())


def _unescape(match: re.Match[bytes]) -> bytes:
    escaped: bytes | None = match.group(1)
    if escaped is None:
        raise InvalidTextRepresentation("invalid input syntax for type bytea")
    return b"\\" if escaped == b"\\" else bytes([int(escaped, 8)])


def _from_text(strings: pa.Array, _: int) -> pa.Array:
    return read_in_two_speeds(strings, _fast, _careful, pa.binary())


def _from_binary(values: BinaryValues) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, pa.binary())


def _value_to_text(value: bytes) -> str:
    return "\\x" + value.hex()


BYTEA = Codec(_to_text, _to_binary, _from_text, _from_binary, _value_to_text)
