"""Arrow to Avro records: column by column, each row's bytes put together at the end (`formats.varints`).

Every column may be NULL: its type is a union with null, null first and as the default, so that columns may come and go in a
schema that evolves. Types that Avro has no word for are text, as they are written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import InvalidParameterValue
from streamsql.formats.avro.schema import Type, parse
from streamsql.formats.format import Field
from streamsql.formats.varints import (
    Integers,
    Pieces,
    as_array,
    binary_pieces,
    joined_pieces,
    varint_pieces,
    zigzag,
)
from streamsql.formats.written import with_texts

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PLAIN = {
    "BOOLEAN": "boolean", "TINYINT": "int", "SMALLINT": "int", "INTEGER": "int", "UTINYINT": "int", "USMALLINT": "int",
    "BIGINT": "long", "UINTEGER": "long", "FLOAT": "float", "DOUBLE": "double", "VARCHAR": "string", "BLOB": "bytes",
}  # fmt: skip
_LOGICAL = {
    "DATE": ("int", "date"), "TIME": ("long", "time-micros"), "TIMESTAMP": ("long", "local-timestamp-micros"),
    "TIMESTAMP WITH TIME ZONE": ("long", "timestamp-micros"), "TIMESTAMP_NS": ("long", "local-timestamp-nanos"),
    "UUID": ("string", "uuid"),
}  # fmt: skip


def check_names(fields: Sequence[Field]) -> None:
    """Raise where a column's name cannot be one of Avro's."""
    for field in fields:
        if not _NAME.fullmatch(field.name):
            raise InvalidParameterValue(
                f'"{field.name}" cannot be the name of a field in Avro',
                hint="give the view's column another name: AS name",
            )


def schema_of(fields: Sequence[Field], name: str) -> str:
    """Write the schema of rows with these columns, as a record of this name."""
    members = [{"name": f.name, "type": ["null", _avro_type(f.type)], "default": None} for f in fields]
    return json.dumps({"type": "record", "name": name, "namespace": "streamsql", "fields": members})


def _avro_type(duckdb_type: str) -> Any:
    if duckdb_type in _PLAIN:
        return _PLAIN[duckdb_type]
    if duckdb_type in _LOGICAL:
        kind, logical = _LOGICAL[duckdb_type]
        return {"type": kind, "logicalType": logical}
    if found := re.fullmatch(r"DECIMAL\((\d+), ?(\d+)\)", duckdb_type):
        return {
            "type": "bytes", "logicalType": "decimal", "precision": int(found[1]), "scale": int(found[2]),
        }  # fmt: skip
    if duckdb_type.endswith("[]") and duckdb_type[:-2] in _PLAIN:
        return {"type": "array", "items": ["null", _PLAIN[duckdb_type[:-2]]]}
    return "string"


class AvroWriter:
    """Writes rows with these columns by the schema that `schema_of` gives."""

    def __init__(self, fields: Sequence[Field], name: str) -> None:
        self._fields = tuple(fields)
        self.schema = schema_of(fields, name)
        self._record: Type = parse(self.schema)

    def write(self, rows: pa.Table) -> pa.Array:
        """Give the record of each row; `rows` has a column a field, by position."""
        count = rows.num_rows
        if not count:
            return pa.array([], pa.large_binary())
        arrays = self._plain(rows)
        parts = [_pieces(kind, array) for (_, kind), array in zip(self._record.fields, arrays, strict=True)]
        return as_array(joined_pieces(parts, count))

    def _plain(self, rows: pa.Table) -> list[pa.Array]:
        """Give columns in Arrow types that have a way to be written."""
        kinds = [_avro_type(field.type) for field in self._fields]
        return with_texts(rows, self._fields, [isinstance(k, (str, dict)) and _is_text(k) for k in kinds])


def _is_text(kind: Any) -> bool:
    return kind == "string" or (isinstance(kind, dict) and kind["type"] == "string")


def _pieces(kind: Type, values: pa.Array) -> Pieces:
    count = len(values)
    match kind.kind:
        case "union":
            other = kind.optional
            assert other is not None
            return _optional(other, values)
        case "boolean":
            return Pieces(np.asarray(values.cast(pa.uint8())), np.ones(count, np.int64))
        case "float":
            return Pieces(_raw(values.cast(pa.float32())), np.full(count, 4))
        case "double":
            return Pieces(_raw(values.cast(pa.float64())), np.full(count, 8))
        case "array":
            return _list(kind, values)
    if kind.logical == "decimal":
        return _decimals(values, kind)
    if kind.kind in {"string", "bytes"}:
        own = binary_pieces(values)
        return joined_pieces([varint_pieces(zigzag(own.lengths)), own], count)
    return varint_pieces(zigzag(_whole(values)))


def _optional(kind: Type, values: pa.Array) -> Pieces:
    count, present = len(values), np.asarray(values.is_valid())
    branch = Pieces((present.astype(np.uint8) * 2), np.ones(count, np.int64))
    inner = _pieces(kind, values.drop_null() if values.null_count else values)
    lengths = np.zeros(count, np.int64)
    lengths[present] = inner.lengths
    return joined_pieces([branch, Pieces(inner.octets, lengths)], count)


def _raw(values: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.ascontiguousarray(values.to_numpy(zero_copy_only=False)).view(np.uint8)


def _whole(values: pa.Array) -> Integers:
    """Give numbers, or times as they count from the epoch."""
    if pa.types.is_date32(values.type):
        values = values.cast(pa.int32())
    elif pa.types.is_timestamp(values.type) or pa.types.is_time64(values.type):
        values = values.cast(pa.int64())
    return np.asarray(values.cast(pa.int64()))


def _decimals(values: pa.Array, kind: Type) -> Pieces:
    """Write sixteen bytes of two's complement, the highest first."""
    count = len(values)
    wide = pc.cast(values, pa.decimal128(38, kind.scale))
    _, data = wide.buffers()
    own = np.frombuffer(data, np.uint8).reshape(-1, 16)[wide.offset : wide.offset + count, ::-1]
    return joined_pieces([Pieces.constant(b"\x20", count), Pieces(own.reshape(-1), np.full(count, 16))], count)


def _list(kind: Type, values: pa.Array) -> Pieces:
    assert kind.item is not None
    count = len(values)
    sizes = np.asarray(values.value_lengths()).astype(np.int64)
    items = _pieces(kind.item, values.flatten())
    ends = np.concatenate(([0], np.cumsum(items.lengths)))[np.concatenate(([0], np.cumsum(sizes)))]
    head = varint_pieces(zigzag(sizes))
    kept = Pieces(head.octets[np.repeat(sizes > 0, head.lengths)], np.where(sizes > 0, head.lengths, 0))
    return joined_pieces([kept, Pieces(items.octets, np.diff(ends)), Pieces.constant(b"\0", count)], count)
