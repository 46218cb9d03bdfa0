"""Rows as messages of Protocol Buffers, column by column, and the .proto text that says what they are.

Every column is an optional field, so that NULL is told from a default; fields are numbered in the order of the columns. Types
that Protocol Buffers have no word for are text, as they are written; so are lists, since a repeated field holds no NULL.

    BOOLEAN, INTEGER, BIGINT; UINTEGER, UBIGINT; REAL, DOUBLE    bool, int32, int64; uint32, uint64; float, double
    TEXT, BYTEA                                                  string, bytes
    TIMESTAMP, TIMESTAMPTZ                                       google.protobuf.Timestamp
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.base.errors import InvalidParameterValue
from streamsql.formats.binary import SchemaText
from streamsql.formats.format import Field
from streamsql.formats.protobuf.schema import message_of
from streamsql.formats.varints import (
    Integers,
    Pieces,
    Words,
    as_array,
    binary_pieces,
    joined_pieces,
    varint_pieces,
)
from streamsql.formats.written import with_texts

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_KINDS = {
    "BOOLEAN": "bool", "TINYINT": "int32", "SMALLINT": "int32", "INTEGER": "int32", "BIGINT": "int64",
    "UTINYINT": "uint32", "USMALLINT": "uint32", "UINTEGER": "uint32", "UBIGINT": "uint64", "FLOAT": "float",
    "DOUBLE": "double", "VARCHAR": "string", "BLOB": "bytes", "TIMESTAMP": "google.protobuf.Timestamp",
    "TIMESTAMP WITH TIME ZONE": "google.protobuf.Timestamp",
}  # fmt: skip
_MILLION = 1_000_000


def check_fields(fields: Sequence[Field]) -> None:
    """Raise where columns cannot be the fields of a message, or the packages for it are missing."""
    for field in fields:
        if not _NAME.fullmatch(field.name):
            raise InvalidParameterValue(
                f'"{field.name}" cannot be the name of a field in Protocol Buffers',
                hint="give the view's column another name: AS name",
            )
    message_of(SchemaText(schema_of(fields, "Row"), "PROTOBUF"), (0,))


def schema_of(fields: Sequence[Field], name: str) -> str:
    """Write the schema of rows with these columns, as a message of this name."""
    lines = ['syntax = "proto3";', "package streamsql;"]
    if any(_kind(field).startswith("google.") for field in fields):
        lines.append('import "google/protobuf/timestamp.proto";')
    members = [f"  optional {_kind(field)} {field.name} = {number};" for number, field in enumerate(fields, 1)]
    return "\n".join([*lines, f"message {name} {{", *members, "}", ""])


def _kind(field: Field) -> str:
    return _KINDS.get(field.type, "string")


class ProtobufWriter:
    """Writes rows with these columns by the schema that `schema_of` gives."""

    def __init__(self, fields: Sequence[Field], name: str) -> None:
        self._fields = tuple(fields)
        self.schema = schema_of(fields, name)

    def write(self, rows: pa.Table) -> pa.Array:
        """Give the message of each row; `rows` has a column a field, by position."""
        count = rows.num_rows
        if not count:
            return pa.array([], pa.large_binary())
        arrays = with_texts(rows, self._fields, [f.type not in _KINDS for f in self._fields])
        parts = [
            _optional(number, _kind(field), array)
            for number, (field, array) in enumerate(zip(self._fields, arrays, strict=True), 1)
        ]
        return as_array(joined_pieces(parts, count))


def _optional(number: int, kind: str, values: pa.Array) -> Pieces:
    """Write a field where it has a value, and nothing where it is NULL."""
    present = np.asarray(values.is_valid())
    wire, inner = _value(kind, values.drop_null() if values.null_count else values)
    made = joined_pieces([_tag(number, wire, len(inner.lengths)), inner], len(inner.lengths))
    lengths = np.zeros(len(values), np.int64)
    lengths[present] = made.lengths
    return Pieces(made.octets, lengths)


def _tag(number: int, wire: int, count: int) -> Pieces:
    one = varint_pieces(np.array([number << 3 | wire], np.uint64))
    return Pieces.constant(one.octets.tobytes(), count)


def _value(kind: str, values: pa.Array) -> tuple[int, Pieces]:
    """Write values, none of which is NULL; give the wire type as well."""
    count = len(values)
    match kind:
        case "float":
            return _FIXED32, Pieces(_raw(values.cast(pa.float32())), np.full(count, 4))
        case "double":
            return _FIXED64, Pieces(_raw(values.cast(pa.float64())), np.full(count, 8))
        case "string" | "bytes":
            return _BYTES, _delimited(binary_pieces(values))
        case "google.protobuf.Timestamp":
            return _BYTES, _delimited(_timestamps(np.asarray(values.cast(pa.int64()))))
        case "uint64":
            return _VARINT, varint_pieces(np.asarray(values.cast(pa.uint64())))
        case "bool":
            return _VARINT, varint_pieces(np.asarray(values.cast(pa.uint8())).astype(np.uint64))
    return _VARINT, varint_pieces(_words(np.asarray(values.cast(pa.int64()))))


def _raw(values: pa.Array) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(values.to_numpy(zero_copy_only=False)).view(np.uint8)


def _words(values: Integers) -> Words:
    """Give whole numbers as they stand in a message: negative ones take ten bytes."""
    found: Words = np.ascontiguousarray(values).view(np.uint64)
    return found


def _delimited(inner: Pieces) -> Pieces:
    return joined_pieces([varint_pieces(inner.lengths.astype(np.uint64)), inner], len(inner.lengths))


def _timestamps(microseconds: Integers) -> Pieces:
    """Write seconds, and the nanoseconds that are ahead of them."""
    seconds, rest = np.divmod(microseconds, _MILLION)
    return joined_pieces([_unless_zero(1, seconds), _unless_zero(2, rest * 1000)], len(microseconds))


def _unless_zero(number: int, values: Integers) -> Pieces:
    """Write a field without presence: it is not there where it has its default."""
    there = values != 0
    count = int(there.sum())
    made = joined_pieces([_tag(number, _VARINT, count), varint_pieces(_words(values[there]))], count)
    lengths = np.zeros(len(values), np.int64)
    lengths[there] = made.lengths
    return Pieces(made.octets, lengths)
