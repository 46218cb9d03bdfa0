"""text, varchar, bpchar and everything else that is a string to the client: UTF-8, the same as text and as binary."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import CharacterNotInRepertoire
from streamsql.pgwire.values.column import BadValue, BinaryValues, Codec, Piece, octets_of


def to_text(column: pa.Array) -> Piece:
    """Give the strings; a column in another string form (large, view, dictionary) is brought into the usual one."""
    return column if column.type == pa.string() else pc.cast(column, pa.string())


def from_text(strings: pa.Array, _: int) -> pa.Array:
    """Give the strings as they are."""
    return strings


def decode(value: bytes) -> str:
    """Read UTF-8 without zero bytes, or raise CharacterNotInRepertoire."""
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        wrong = " ".join(f"0x{byte:02x}" for byte in value[error.start : max(error.end, error.start + 1)])
        raise CharacterNotInRepertoire(f'invalid byte sequence for encoding "UTF8": {wrong}') from None
    if "\0" in text:
        raise CharacterNotInRepertoire('invalid byte sequence for encoding "UTF8": 0x00')
    return text


def from_bytes(values: BinaryValues) -> pa.Array:
    """Read values that are UTF-8; raises BadValue."""
    if isinstance(values, pa.Array):
        octets = octets_of(values)
        if not len(octets) or octets.min() > 0:
            try:
                return pc.cast(values, pa.string())
            except pa.ArrowInvalid:
                pass
        values = values.to_pylist()
    if not any(value is not None and b"\0" in value for value in values):
        column = pa.array(values, pa.binary())
        try:
            return pc.cast(column, pa.string())
        except pa.ArrowInvalid:
            pass
    for row, value in enumerate(values):
        try:
            decode(value or b"")
        except CharacterNotInRepertoire as error:
            raise BadValue(row, error) from None
    raise AssertionError("Arrow refused strings that Python reads")


TEXT = Codec(to_text, to_text, from_text, from_bytes, decode)
