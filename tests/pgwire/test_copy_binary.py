"""COPY in the binary format: what is written is read back, however the bytes are cut and whatever the values look like."""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsql.base import types as t
from streamsql.base.errors import StreamSQLError
from streamsql.base.limits import Limits
from streamsql.base.types import canonical_arrow
from streamsql.pgwire import copy_binary
from streamsql.pgwire.copy import CopyColumn
from streamsql.pgwire.copy_binary import BinaryCopyDecoder
from streamsql.pgwire.copy_options import copy_options
from streamsql.pgwire.copy_out import CopiedColumn, CopyEncoder

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
        patch.setattr(copy_binary, "_BREAKS_MAX", 0)
        assert _read([data], 1 << 20) == whole
    return whole


@given(st.lists(ROW, max_size=12), st.integers(1, 300), st.integers(1, 5))
def test_what_is_written_is_read_back_the_same(rows: list[tuple[Any, ...]], cut: int, batch_rows: int) -> None:
    assert _every_way(_written(rows, batch_rows), cut) == rows


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
