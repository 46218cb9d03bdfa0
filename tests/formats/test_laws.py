"""Properties of all formats: what is written is read back, garbage is set aside, cutting changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamsql.formats import casts
from streamsql.formats.arrow_ipc import ArrowIpcFormat
from streamsql.formats.csv import CsvFormat
from streamsql.formats.debezium import DebeziumFormat
from streamsql.formats.format import Decoded, Decoder, Field, joined
from streamsql.formats.json import JsonFormat
from streamsql.formats.parquet import ParquetFormat
from streamsql.formats.raw import RawFormat

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "BOOLEAN": st.booleans(),
    "SMALLINT": st.integers(-(2**15), 2**15 - 1),
    "INTEGER": st.integers(-(2**31), 2**31 - 1),
    "BIGINT": st.integers(-(2**63), 2**63 - 1),
    "FLOAT": st.floats(width=32, allow_nan=False),
    "DOUBLE": st.floats(allow_nan=False),
    "DECIMAL(38,10)": st.decimals(-(10**27), 10**27, places=10),
    "DECIMAL(9,2)": st.decimals(-(10**6), 10**6, places=2),
    "VARCHAR": TEXT,
    "BLOB": st.binary(max_size=12),
    "DATE": st.dates(),
    "TIME": st.times(),
    "TIMESTAMP": st.datetimes(),
    "TIMESTAMP WITH TIME ZONE": st.datetimes(timezones=st.timezones()),
    "INTEGER[]": st.lists(st.integers(-(2**31), 2**31 - 1) | st.none(), max_size=3),
    "VARCHAR[]": st.lists(TEXT, max_size=3),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[tuple[Field, ...], pa.Table]:
    """Draw fields, and rows in the Arrow types that decoded rows have."""
    types = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=5))
    fields = tuple(Field(f"c{i}", t) for i, t in enumerate(types))
    count = draw(st.integers(0, 5))
    schema = casts.empty_rows(fields).schema
    columns = [draw(st.lists(VALUES[f.type] | st.none(), min_size=count, max_size=count)) for f in fields]
    return fields, pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def formats(fields: tuple[Field, ...]) -> list[Any]:
    return [
        JsonFormat(fields), JsonFormat(fields, layout="values"), CsvFormat(fields), CsvFormat(fields, delimiter=";"),
        ArrowIpcFormat(fields), ParquetFormat(fields), DebeziumFormat(fields), DebeziumFormat(fields, payload=True),
        DebeziumFormat(fields, flat=True),
    ]  # fmt: skip


@given(tables())
@settings(max_examples=20, deadline=None)
def test_what_is_written_is_read_back(drawn):
    fields, table = drawn
    for kind in formats(fields):
        found = kind.decode(kind.encode(table))
        assert found.rejected.to_pylist() == [], kind
        expected = table
        if isinstance(kind, CsvFormat) and len(fields) == 1:  # a line of nothing is no record
            expected = table.filter(table.column(0).is_valid())
        assert found.rows.to_pylist() == expected.to_pylist(), kind


FIELDS = tuple(
    Field(*f) for f in [("a", "BIGINT"), ("b", "VARCHAR"), ("c", "TIMESTAMP"), ("d", "JSON"), ("e", "DECIMAL(38,9)")]
)
# pieces of which something that is nearly right is made
PIECES = [
    b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"\n", b"\r\n", b" ", b'"a"', b'"b"', b'"c"', b'"d"', b'"e"', b"null",
    b"true", b"1", b"12345678901234567890.5", b"1e999", b"\xff", b"\xc3", b"\xc3\xa4", b"\0", b"\\u0000", b"\\ud800",
    b"a,b,c,d,e\n", b'{"a":1}', b'{"a":"x"}', b'{"op":"c","after":{"a":1}}', b"2026-01-01", b"\xef\xbb\xbf", b"NaN",
    b"PAR1", b"ARROW1", b"\xff\xff\xff\xff",
]  # fmt: skip
GARBAGE = st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=20).map(b"".join)


def decoders() -> list[tuple[Decoder, pa.Table]]:
    """Make a decoder of each kind, and the empty rows that it gives."""
    raw = (Field("a", "VARCHAR"),)
    kinds = [*formats(FIELDS), RawFormat(raw), RawFormat((Field("a", "BLOB"),), framing="whole")]
    return [(kind.decoder(), casts.empty_rows(kind.fields)) for kind in kinds]


def decoded(decoder: Decoder, empty: pa.Table, pieces: Sequence[bytes]) -> Decoded:
    parts: list[Decoded] = []
    for piece in pieces:
        parts += decoder.feed(piece)
    return joined(parts + decoder.finish(), empty)


@given(GARBAGE)
@example(b"null\n")
@example(b'{"a":1}{"a":2}\n')
@example(b'\xef\xbb\xbf\n"')
@settings(max_examples=30, deadline=None)
def test_garbage_is_set_aside_and_never_raises(data):
    for decoder, empty in decoders():
        found = decoded(decoder, empty, [data])
        assert found.rows.column_names == empty.column_names
        assert found.rejected.column("reason").null_count == 0
        assert all(0 <= p <= len(data) for p in found.rejected.column("position").to_pylist()), decoder


GOOD = st.sampled_from(
    [b'{"a":1,"b":"x"}\n', b'{"a":"x"}\r\n', b'{"b":"\xc3\xa4,\\"","c":1767268800}\n', b"\n", b"junk\n",
     b'{"e":12345678901234567890.123}\n', b"1,x,,,\n", b'2,"a\nb",,,\n', b"3\n", b'"',
     b'{"op":"c","after":{"a":1}}\n', b'{"b":"\xff"}\n']
)  # fmt: skip


@given(st.lists(GOOD, max_size=8).map(b"".join), st.lists(st.integers(0, 200), max_size=6), st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_where_bytes_are_cut_changes_nothing(data, cuts, block):
    places = sorted({0, *(c for c in cuts if c < len(data)), len(data)})
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    for (whole, empty), (cut, _) in zip(decoders(), decoders(), strict=True):
        expected = decoded(whole, empty, [data])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("streamsql.formats.format.BLOCK_BYTES", block)
            if hasattr(cut, "_wanted"):
                cut._wanted = block
            found = decoded(cut, empty, pieces)
        assert found.rows.to_pylist() == expected.rows.to_pylist(), cut
        assert found.rejected.to_pylist() == expected.rejected.to_pylist(), cut
        nothing = pa.array([], pa.int8())
        assert (found.weights or nothing).to_pylist() == (expected.weights or nothing).to_pylist()
