"""A few rows, written value by value: what a lookup gives.

The kernels that write a column cost the same for one row as for a thousand, ten to a hundred microseconds each; Python writes
the few values of a short result in a fraction of that. The bytes are the same. A type, or a value, that is not written here
is left to its codec.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np
import pyarrow as pa

from streamsql.base.types import WireType, is_unconstrained
from streamsql.pgwire.values.column import Codec, Piece
from streamsql.pgwire.values.datetime import USUAL_US

# so many rows, of so many bytes, are written value by value at the most
ROWS_MAX = 8
BYTES_MAX = 1 << 20
_EPOCH = dt.datetime(1970, 1, 1)
_EPOCH_US = 946_684_800_000_000  # 2000-01-01
_BASE = 10_000
_NEGATIVE = 0x4000

# the values of a column; None where the codec is to write it
Writer = Callable[[pa.Array], "list[bytes | None] | None"]


def _packed(form: str) -> Writer:
    pack = struct.Struct(form).pack

    def write(column: pa.Array) -> list[bytes | None]:
        return [None if value is None else pack(value) for value in column.to_pylist()]

    return write


def _text(column: pa.Array) -> list[bytes | None] | None:
    if column.type != pa.string():
        return None
    return [None if value is None else value.encode() for value in column.to_pylist()]


def _integer(column: pa.Array) -> list[bytes | None]:
    return [None if value is None else b"%d" % value for value in column.to_pylist()]


def _boolean(column: pa.Array) -> list[bytes | None]:
    return [None if value is None else (b"t" if value else b"f") for value in column.to_pylist()]


def _numeric(column: pa.Array) -> list[bytes | None] | None:
    if not pa.types.is_decimal(column.type):
        return None
    trimmed = is_unconstrained(column.type)
    return [None if value is None else _plain(value, trimmed=trimmed).encode() for value in column.to_pylist()]


def _plain(value: Decimal, *, trimmed: bool) -> str:
    digits = format(value, "f")
    return digits.rstrip("0").rstrip(".") if trimmed and "." in digits else digits


def _binary_numeric(column: pa.Array) -> list[bytes | None] | None:
    if not pa.types.is_decimal(column.type):
        return None
    trimmed = is_unconstrained(column.type)
    return [None if value is None else _groups(value, trimmed=trimmed) for value in column.to_pylist()]


def _groups(value: Decimal, *, trimmed: bool) -> bytes:
    """Write a decimal as digits to the base of 10,000, without the groups of zeros on both sides."""
    integer, _, fraction = _plain(value.copy_abs(), trimmed=trimmed).partition(".")
    padded = integer.zfill(-(-len(integer) // 4) * 4) + fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    groups = [int(padded[at : at + 4]) for at in range(0, len(padded), 4)]
    weight = -(-len(integer) // 4) - 1
    while groups and not groups[0]:
        del groups[0]
        weight -= 1
    while groups and not groups[-1]:
        del groups[-1]
    if not groups:
        return struct.pack(">HhHH", 0, 0, 0, len(fraction))
    sign = _NEGATIVE if value < 0 else 0
    return struct.pack(f">HhHH{len(groups)}H", len(groups), weight, sign, len(fraction), *groups)


def _microseconds(column: pa.Array) -> list[int | None] | None:
    """Give the times as they are stored; None where one of them is infinite or in a year of other than four digits."""
    values: list[int | None] = column.view(pa.int64()).to_pylist()
    return values if all(value is None or USUAL_US[0] <= value < USUAL_US[1] for value in values) else None


def _timestamp(zone: bytes) -> Writer:
    def write(column: pa.Array) -> list[bytes | None] | None:
        values = _microseconds(column)
        if values is None:
            return None
        return [None if value is None else _iso(value) + zone for value in values]

    return write


def _iso(microseconds: int) -> bytes:
    shown = (_EPOCH + dt.timedelta(microseconds=microseconds)).isoformat(" ")
    return (shown.rstrip("0") if "." in shown else shown).encode()


def _binary_timestamp(column: pa.Array) -> list[bytes | None] | None:
    values = _microseconds(column)
    if values is None:
        return None
    return [None if value is None else struct.pack(">q", value - _EPOCH_US) for value in values]


# wire type name and format -> how its values are written. Times with a zone are so in UTC only.
_WRITERS: dict[tuple[str, int], Writer] = {
    ("bool", 0): _boolean,
    ("bool", 1): _packed(">?"),
    ("float4", 1): _packed(">f"),
    ("float8", 1): _packed(">d"),
    ("int2", 0): _integer,
    ("int2", 1): _packed(">h"),
    ("int4", 0): _integer,
    ("int4", 1): _packed(">i"),
    ("int8", 0): _integer,
    ("int8", 1): _packed(">q"),
    ("numeric", 0): _numeric,
    ("numeric", 1): _binary_numeric,
    ("timestamp", 0): _timestamp(b""),
    ("timestamp", 1): _binary_timestamp,
    ("timestamptz", 1): _binary_timestamp,
    **{(name, form): _text for name in ("bpchar", "name", "text", "varchar") for form in (0, 1)},
    ("json", 0): _text,
    ("jsonb", 0): _text,
    ("uuid", 0): _text,
}


def encode_few(
    batch: pa.RecordBatch, wire_types: Sequence[WireType], formats: Sequence[int], codecs: Sequence[Codec], kind: int
) -> memoryview:
    """Give the messages of all rows of a batch, as `values.encode_rows` does."""
    columns = []
    for column, wire_type, form, codec in zip(batch.columns, wire_types, formats, codecs, strict=True):
        write = _text if wire_type.labels is not None else _WRITERS.get((wire_type.name, form))
        values = None if write is None else write(column)
        columns.append(_written(column, codec, form) if values is None else values)
    written = bytearray()
    head = struct.pack(">h", len(columns))
    for row in range(batch.num_rows):
        body = bytearray(head)
        for values in columns:
            value = values[row]
            body += b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value
        written += bytes((kind,)) + (len(body) + 4).to_bytes(4, "big") + body
    return memoryview(written)


def _written(column: pa.Array, codec: Codec, form: int) -> list[bytes | None]:
    """Let a column's codec write its values."""
    piece: Piece = codec.to_binary(column) if form else codec.to_text(column)
    if isinstance(piece, np.ndarray):
        width, data = piece.dtype.itemsize, piece.tobytes()
        items: list[bytes | None] = [data[at : at + width] for at in range(0, len(data), width)]
    else:
        items = (piece if piece.type == pa.binary() else piece.view(pa.binary())).to_pylist()
    valid = column.is_valid().to_pylist() if column.null_count else None
    return items if valid is None else [item if there else None for item, there in zip(items, valid, strict=True)]
