"""COPY in the binary format: what is written is read back, however the bytes are cut and whatever the values look like."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsql.base import types as t
from streamsql.base.errors import StreamSQLError
from streamsql.base.limits import Limits
from streamsql.base.types import canonical_arrow
from streamsql.engine.joined import Joined
from streamsql.engine.store import ROW_GROUP_ROWS
from streamsql.pgwire import copy_frames
from streamsql.pgwire.copy import CopyColumn
from streamsql.pgwire.copy_binary import BinaryCopyDecoder
from streamsql.pgwire.copy_options import copy_options
from streamsql.pgwire.copy_out import CopiedColumn, CopyEncoder
from streamsql.pgwire.values import parse_text

WIDE = [
    *(t.BOOL, t.INT2, t.INT4, t.INT8, t.FLOAT4, t.FLOAT8, t.DATE, t.TIME, t.TIMETZ),
    *(t.TIMESTAMP, t.TIMESTAMPTZ, t.INTERVAL, t.UUID, t.TEXT, t.NUMERIC),
]
COLUMNS = [CopyColumn("i", t.INT4), CopyColumn("b", t.BYTEA), CopyColumn("s", t.INT2), CopyColumn("n", t.TEXT.array)]
BINARY = copy_options({"format": "binary"}, to_client=True)
HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)

# values that look like the beginning of a row of four columns
TRAP = struct.pack(">hihi", 4, 4, 1, -1)
ROW = st.tuples(
    st.none() | st.sampled_from([0, 4, 4 << 16, 4 << 16 | 4, -1]) | st.integers(-(2**31), 2**31 - 1),
    st.none()
    | st.lists(st.sampled_from([b"\0\4", b"\0\0", b"\xff\xff\xff\xff", TRAP, b"x"]), max_size=5).map(b"".join),
    st.none() | st.sampled_from([4, 0, -1]),
    st.none() | st.lists(st.none() | st.sampled_from(["", "\4", "a"]), max_size=3),
)


def _written(rows: list[tuple[Any, ...]], batch_rows: int = 100) -> bytes:
    schema = pa.schema([(c.name, canonical_arrow(c.type)) for c in COLUMNS])
    arrays = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(schema)]
    encoder = CopyEncoder([CopiedColumn(c.name, c.type) for c in COLUMNS], BINARY)
    messages = encoder.head()
    for batch in pa.table(arrays, schema=schema).to_batches(max_chunksize=batch_rows):
        messages += bytes(encoder.rows(batch))
    return _payload(messages + encoder.tail())


def _payload(messages: bytes) -> bytes:
    data, position = b"", 0
    while position < len(messages):
        kind, length = struct.unpack_from(">BI", messages, position)
        assert kind == ord("d")
        data += messages[position + 5 : position + 1 + length]
        position += 1 + length
    return data


def _read(pieces: list[bytes], batch_bytes: int) -> object:
    decoder = BinaryCopyDecoder(COLUMNS, Limits(copy_batch_bytes_max=batch_bytes), "s")
    try:
        batches = [batch for piece in pieces for batch in decoder.feed(piece)] + decoder.finish()
    except StreamSQLError as error:
        return (error.sqlstate, error.message, error.context)
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


def _every_way(data: bytes, cut: int) -> object:
    whole = _read([data], 1 << 20)
    assert _read([data[:cut], data[cut:]], 1) == whole
    assert _read([data[i : i + 1] for i in range(len(data))], 1) == whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copy_frames, "_BREAKS_MAX", 0)
        assert _read([data], 1 << 20) == whole
    return whole


@settings(deadline=None)
@given(st.lists(ROW, max_size=12), st.integers(1, 300), st.integers(1, 5))
def test_what_is_written_is_read_back_the_same(rows: list[tuple[Any, ...]], cut: int, batch_rows: int) -> None:
    assert _every_way(_written(rows, batch_rows), cut) == rows


@settings(deadline=None)
@given(st.lists(ROW, min_size=1, max_size=4), st.integers(0, 200), st.binary(max_size=6), st.integers(1, 100))
def test_broken_data_fails_the_same_way_however_it_is_cut(
    rows: list[tuple[Any, ...]], place: int, junk: bytes, cut: int
) -> None:
    data = _written(rows)
    place = min(place, len(data))
    _every_way(data[:place] + junk + data[place + len(junk) :], cut)


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        (
            b"\0\4" + b"\0\0\0\4\0\0\0\7" + b"\xff" * 12 + b"\0\3",
            ("22P04", "row field count is 3, expected 4", "COPY s, line 2"),
        ),
        (b"\0\4" + b"\xff" * 4 + b"\xff\xff\xff\xfe", ("22P04", "invalid field size", "COPY s, line 1, column b")),
        (
            b"\0\4" + b"\xff" * 16 + b"\0\4" + b"\xff" * 8 + b"\0\0\0\3abc" + b"\xff" * 4 + b"\xff\xff",
            ("22P03", "incorrect binary data format", "COPY s, line 2, column s"),
        ),
    ],
)
def test_an_error_names_its_row_and_column(rows: bytes, error: tuple[str, str, str]) -> None:
    assert _every_way(HEAD + rows, 30) == error


def test_columns_in_which_nulls_begin_at_different_rows_are_read_as_they_were() -> None:
    rows = 3_000
    columns = []
    for place, wire_type in enumerate(WIDE):
        texts = _texts(wire_type, rows)
        # none at first; in some columns none at all
        missing = [place % 4 != 3 and row > 150 * place and row % 7 == place % 7 for row in range(rows)]
        columns.append(parse_text(pa.array(texts, mask=np.array(missing)), wire_type))
    named = [CopiedColumn(f"c{place}", wire_type) for place, wire_type in enumerate(WIDE)]
    batch = pa.record_batch(columns, names=[c.name for c in named])
    encoder = CopyEncoder(named, BINARY)
    data = _payload(encoder.head() + bytes(encoder.rows(batch)) + encoder.tail())
    for batch_bytes in (1 << 22, 10_000):
        decoder = BinaryCopyDecoder(
            [CopyColumn(c.name, c.type) for c in named], Limits(copy_batch_bytes_max=batch_bytes), "s"
        )
        batches = [b for i in range(0, len(data), 9_999) for b in decoder.feed(data[i : i + 9_999])] + decoder.finish()
        assert pa.Table.from_batches(batches).to_pylist() == batch.to_pylist()


def _texts(wire_type: t.WireType, rows: int) -> list[str]:
    """Write values of a type."""
    made = {
        "bool": lambda i: "ft"[i % 2],
        "date": lambda i: f"20{i % 100:02}-02-03",
        "time": lambda i: f"10:00:{i % 60:02}",
        "timetz": lambda i: f"10:00:{i % 60:02}+02",
        "timestamp": lambda i: f"19{i % 100:02}-02-03 04:05:06.7",
        "timestamptz": lambda i: f"19{i % 100:02}-02-03 04:05:06.7+00",
        "interval": lambda i: f"{i} days 0{i % 10}:00:00",
        "uuid": lambda i: f"0d5a0f2e-8f6b-4c5e-9d5c-{i:012}",
        "text": lambda i: "x" * (i % 30),
    }
    return [made.get(wire_type.name, str)(i) for i in range(rows)]


def test_batches_are_joined_to_row_groups() -> None:
    joined, sizes = Joined(), [100_000, 1, 200_000, 0, 5]
    whole = pa.record_batch([pa.array(range(sum(sizes)))], names=["n"])
    found: list[pa.RecordBatch] = []
    for size in sizes:
        found += joined.add([whole.slice(sum(b.num_rows for b in found) + joined.row_count, size)])
    found += joined.rest()
    assert [b.num_rows for b in found] == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, sum(sizes) - 2 * ROW_GROUP_ROWS]
    assert pa.Table.from_batches(found).column(0).to_pylist() == whole.column(0).to_pylist()
    assert joined.rest() == []
