"""Enums: the label as text, in both formats. What is read must be one of the labels.

See https://www.postgresql.org/docs/15/datatype-enum.html.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import InvalidTextRepresentation
from streamsql.base.types import WireType
from streamsql.pgwire.values import text
from streamsql.pgwire.values.column import BadValue, BinaryValues, Codec


def unknown_label(wire_type: WireType, value: str) -> InvalidTextRepresentation:
    """Make the error for a text that is no label."""
    return InvalidTextRepresentation(f'invalid input value for enum {wire_type.name}: "{value}"')


def check_labels(values: pa.Array, wire_type: WireType) -> pa.Array:
    """Give texts that are all labels of an enum, or nulls. Raises BadValue."""
    assert wire_type.labels is not None
    wrong = pc.and_(pc.invert(pc.is_in(values, pa.array(wire_type.labels.ranks, pa.string()))), values.is_valid())
    row = pc.index(wrong, True).as_py()
    if row >= 0:
        raise BadValue(row, unknown_label(wire_type, values[row].as_py()))
    return values


def codec(wire_type: WireType) -> Codec:
    """Make the codec of an enum."""

    def from_text(strings: pa.Array, _: int) -> pa.Array:
        return check_labels(strings, wire_type)

    def from_binary(values: BinaryValues) -> pa.Array:
        return check_labels(text.from_bytes(values), wire_type)

    def value_to_text(value: bytes) -> str:
        found = text.decode(value)
        assert wire_type.labels is not None
        if found not in wire_type.labels.ranks:
            raise unknown_label(wire_type, found)
        return found

    return Codec(text.to_text, text.to_text, from_text, from_binary, value_to_text)
