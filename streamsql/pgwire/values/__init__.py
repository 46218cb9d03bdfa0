"""Values on the wire: Arrow columns to the bytes of DataRow messages, and bytes and text to Arrow columns.

One file a type family; `CODECS` lists them. The forms that go in and out are the canonical Arrow forms of
`base.types`; the text and binary formats are PostgreSQL's own, to the byte.

Encoding goes by column, never by row. Each column becomes a piece (see `column`). Neighbouring fixed pieces, the lengths
before values and the header of the message are laid side by side in one numpy record a row, and one Arrow kernel then joins the
records and the variable pieces of each row. Cost: about 20 ns for each variable column and 3 ns for each fixed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base import types
from streamsql.base.errors import ProgramLimitExceeded
from streamsql.base.types import WireType
from streamsql.pgwire.values import (
    array,
    boolean,
    bytea,
    datetime,
    enum,
    few,
    floats,
    integers,
    interval,
    json,
    numeric,
    record,
    text,
    timetz,
    uuid,
    vector,
    zoned,
)
from streamsql.pgwire.values.column import BadValue, Codec, Fixed, Numbers, Piece, binary_of_fixed

__all__ = ["CODECS", "UTC", "BadValue", "codec_of", "decode_column", "decode_value", "encode_rows", "parse_text"]

SCALAR_CODECS: dict[str, Codec] = {
    "bool": boolean.BOOLEAN,
    "bpchar": text.TEXT,
    "bytea": bytea.BYTEA,
    "date": datetime.DATE,
    "float4": floats.REAL,
    "float8": floats.DOUBLE_PRECISION,
    "int2": integers.SMALLINT,
    "int4": integers.INTEGER,
    "int8": integers.BIGINT,
    "interval": interval.INTERVAL,
    "json": json.JSON,
    "jsonb": json.JSONB,
    "numeric": numeric.NUMERIC,
    "oid": integers.INTEGER,  # all that we have are far below 2**31
    "text": text.TEXT,
    "time": datetime.TIME,
    "timestamp": datetime.TIMESTAMP,
    "timestamptz": datetime.TIMESTAMPTZ,
    "timetz": timetz.TIMETZ,
    "unknown": text.TEXT,
    "uuid": uuid.UUID,
    "varchar": text.TEXT,
    "xid": integers.INTEGER,
    **{t.name: text.TEXT for t in types.CATALOG_SCALARS if t not in (types.XID, types.INT2VECTOR, types.OIDVECTOR)},
    "int2vector": vector.INT2VECTOR,
    "oidvector": vector.OIDVECTOR,
}
CODECS: dict[str, Codec] = {
    **SCALAR_CODECS,
    **{t.name: array.codec(t, SCALAR_CODECS[name]) for name, t in types.ARRAYS.items()},
}

_BUFFER_BYTES_MAX = 2**31 - 1  # Arrow's binary arrays count in 32 bits
_EMPTY = memoryview(b"")

Field = tuple[Any, Any]  # numpy dtype, values


UTC = "UTC"


@lru_cache(maxsize=2 * zoned.ZONES_MAX)
def codec_of(wire_type: WireType, zone: str = UTC) -> Codec:
    """Give the codec of a type in a session whose time zone is `zone`."""
    if wire_type.labels is not None:
        return enum.codec(wire_type)
    if wire_type.fields:
        return record.codec(wire_type, lambda of: codec_of(of, zone))
    if wire_type.element is not None and wire_type.element.is_made:
        return array.codec(wire_type, codec_of(wire_type.element, zone))
    if zone == UTC or types.TIMESTAMPTZ not in (wire_type, wire_type.element):
        return CODECS[wire_type.name]
    scalar = zoned.codec(zone)
    return scalar if wire_type.element is None else array.codec(wire_type, scalar)


def encode_rows(
    batch: pa.RecordBatch,
    wire_types: Sequence[WireType],
    formats: Sequence[int],
    kind: int = ord("D"),
    zone: str = UTC,
) -> memoryview:
    """Give the DataRow messages (or, by their `kind`, others of the same form) of all rows of a batch, in one buffer.

    Times with a zone are shown in `zone`.

    `wire_types` and `formats` (0 text, 1 binary) have an element a column; the columns are canonical Arrow. Raises
    FeatureNotSupported for a value that the format cannot show (a ragged array in binary).
    """
    count = batch.num_rows
    if not count:
        return _EMPTY
    codecs = [codec_of(wire_type, zone) for wire_type in wire_types]
    if count <= few.ROWS_MAX and batch.nbytes <= min(few.BYTES_MAX, _BUFFER_BYTES_MAX):
        return few.encode_few(batch, wire_types, formats, codecs, kind)
    pieces: list[Piece] = []
    for column, codec, format_code in zip(batch.columns, codecs, formats, strict=True):
        pieces.append(codec.to_binary(column) if format_code else codec.to_text(column))
    records: list[Field] = []  # the fixed part of the rows since the last variable piece
    parts: list[list[Field] | pa.Array] = [records]
    row_bytes = np.full(count, 6 + 4 * len(pieces), np.int64)
    for column, piece in zip(batch.columns, pieces, strict=True):
        if isinstance(piece, np.ndarray) and not column.null_count:
            width = piece.dtype.itemsize
            row_bytes += width
            records += [(">i4", width), (piece.dtype, piece)]
            continue
        lengths, values = _variable(piece, column)
        row_bytes += np.maximum(lengths, 0)
        records.append((">i4", lengths))
        records = []
        parts += [values, records]
    total = int(row_bytes.sum()) + count
    if total > _BUFFER_BYTES_MAX:
        return _in_halves(batch, wire_types, formats, total, kind, zone)
    first = parts[0]
    assert isinstance(first, list)
    parts[0] = [("u1", kind), (">i4", row_bytes), (">i2", len(pieces)), *first]
    arrays = [_record_array(part, count) if isinstance(part, list) else part for part in parts if len(part)]
    return _joined(arrays)


def _in_halves(
    batch: pa.RecordBatch, wire_types: Sequence[WireType], formats: Sequence[int], total: int, kind: int, zone: str
) -> memoryview:
    if batch.num_rows == 1:
        raise ProgramLimitExceeded(f"a row of {total} bytes cannot be sent", hint="select less of it")
    half = batch.num_rows // 2
    halves = (batch.slice(0, half), batch.slice(half))
    return memoryview(b"".join(encode_rows(part, wire_types, formats, kind, zone) for part in halves))


def _variable(piece: Piece, column: pa.Array) -> tuple[Numbers, pa.Array]:
    """Give the lengths that go on the wire, -1 for NULL, and the values as a binary array without nulls."""
    if isinstance(piece, np.ndarray):
        piece = binary_of_fixed(piece)
    elif piece.type != pa.binary():
        piece = piece.view(pa.binary())
    if not column.null_count:
        return np.asarray(pc.binary_length(piece)), piece
    missing = column.is_null()
    lengths = pc.if_else(missing, pa.scalar(-1, pa.int32()), pc.binary_length(piece))
    return np.asarray(lengths), pc.if_else(missing, pa.scalar(b"", pa.binary()), piece)


def _record_array(fields: list[Field], count: int) -> pa.Array:
    dtype = np.dtype([(f"f{index}", dtype) for index, (dtype, _) in enumerate(fields)])
    records = np.empty(count, dtype)
    for index, (_, values) in enumerate(fields):
        records[f"f{index}"] = values
    return binary_of_fixed(records)


def _joined(arrays: list[pa.Array]) -> memoryview:
    found = arrays[0] if len(arrays) == 1 else pc.binary_join_element_wise(*arrays, b"")
    _, _, data = found.buffers()
    return memoryview(data)


def decode_column(values: Sequence[bytes | None], wire_type: WireType, format_code: int, zone: str = UTC) -> pa.Array:
    """Read the values that many Binds gave for one parameter, as canonical Arrow.

    Raises BadValue. A numeric gets the scale of `canonical_arrow`'s default: it is rounded to 10 places.
    """
    if format_code:
        return codec_of(wire_type).from_binary(values)
    return parse_text(text.from_bytes(values), wire_type, zone=zone)


def decode_binary(values: Fixed | pa.Array, wire_type: WireType, modifier: int) -> pa.Array:
    """Read values in PostgreSQL's binary format as canonical Arrow; nulls stay null. Raises BadValue.

    They are a binary array, or `Fixed` where the type's codec has a `from_fixed`.
    """
    if isinstance(values, Fixed):
        read = codec_of(wire_type).from_fixed
        assert read is not None
        return read(values)
    if wire_type is types.NUMERIC:
        return numeric.from_binary(values, modifier)
    return codec_of(wire_type).from_binary(values)


def decode_value(value: bytes | None, wire_type: WireType, format_code: int) -> str | None:
    """Give one parameter's value as text in PostgreSQL's form, fit for a typed literal.

    Text is checked for its encoding only: reading it is left to whoever takes the literal. Raises StreamSQLError.
    """
    if value is None:
        return None
    if not format_code:
        return text.decode(value)
    return codec_of(wire_type).value_to_text(value)


def parse_text(strings: pa.Array, wire_type: WireType, modifier: int = -1, zone: str = UTC) -> pa.Array:
    """Read a string array in PostgreSQL's text format as canonical Arrow; nulls stay null. Raises BadValue.

    A timestamptz that names no zone is read in `zone`.
    """
    return codec_of(wire_type, zone).from_text(strings, modifier)
