"""COPY FROM STDIN: what comes out does not depend on how the bytes were cut, and errors name their place.

Where a message or its place is asserted, PostgreSQL 15 says the same to the same bytes (except where a comment says not).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsql.base import types as t
from streamsql.base.errors import ProgramLimitExceeded, StreamSQLError
from streamsql.base.limits import Limits
from streamsql.base.types import canonical_arrow
from streamsql.pgwire.copy import CopyColumn, CopyDecoder, CopyOptions, copy_options

TRADES = [CopyColumn("ts", t.TIMESTAMP), CopyColumn("symbol", t.TEXT), CopyColumn("price", t.FLOAT8)]
PAIRS = [CopyColumn("a", t.INT4), CopyColumn("b", t.TEXT)]
NOTES = [CopyColumn("b", t.TEXT)]
CSV = copy_options({"format": "csv"})
TEXT = copy_options({})
TINY = Limits(copy_batch_bytes_max=1)  # each complete record is a batch
SMALL = Limits(copy_batch_bytes_max=20)


def _decoded(columns: list[CopyColumn], options: CopyOptions, pieces: Iterable[bytes], limits: Limits) -> list[Any]:
    decoder = CopyDecoder(columns, options, limits, "trades")
    batches: list[pa.RecordBatch] = []
    for piece in pieces:
        batches += decoder.feed(piece)
    batches += decoder.finish()
    rows: list[Any] = []
    for batch in batches:
        assert batch.schema.names == [column.name for column in columns]
        assert batch.schema.types == [canonical_arrow(column.type, column.modifier) for column in columns]
        assert batch.num_rows > 0
        rows += [tuple(row.values()) for row in batch.to_pylist()]
    return rows


def _outcome(columns: list[CopyColumn], options: CopyOptions, pieces: Iterable[bytes], limits: Limits) -> object:
    try:
        return _decoded(columns, options, pieces, limits)
    except StreamSQLError as error:
        return (error.sqlstate, error.message, error.context)


def _bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def _every_way(columns: list[CopyColumn], options: CopyOptions, data: bytes) -> object:
    """Decode whole, byte by byte, and in batches of one record; all must agree."""
    whole = _outcome(columns, options, [data], Limits())
    assert _outcome(columns, options, _bytes(data), TINY) == whole
    assert _outcome(columns, options, _bytes(data), SMALL) == whole
    assert _outcome(columns, options, [data], TINY) == whole
    return whole


@pytest.mark.parametrize(
    ("columns", "options", "data", "rows"),
    [
        (PAIRS, CSV, b'1,x\n2,\n,""\n', [(1, "x"), (2, None), (None, "")]),
        (PAIRS, CSV, b"1,x", [(1, "x")]),
        (PAIRS, CSV, b"", []),
        (PAIRS, CSV, b"1,x\r\n 2 , y \r\n", [(1, "x"), (2, " y ")]),
        (PAIRS, CSV, b'1,"a\nb"\n2,"c,d"\n3,"e""f"\n', [(1, "a\nb"), (2, "c,d"), (3, 'e"f')]),
        (PAIRS, CSV, b'1,"a\r\nb\n\nc"\r\n2,z\r\n', [(1, "a\r\nb\n\nc"), (2, "z")]),
        (PAIRS, CSV, b'1,a"b,c"d\n2,""x""\n', [(1, "ab,cd"), (2, "x")]),
        (PAIRS, CSV, b'"1","\\N"\n', [(1, "\\N")]),
        (PAIRS, CSV, "1,né\n".encode(), [(1, "né")]),
        (NOTES, CSV, b"a\n\nb\n", [("a",), (None,), ("b",)]),
        (NOTES, CSV, b"a\n\\.\nb\n", [("a",)]),
        (NOTES, CSV, b"\\.\r\nb\n", []),
        (NOTES, CSV, b"a\n\\.b\n", [("a",), ("\\.b",)]),
        (NOTES, CSV, b'"a\n\\.\nb"\n', [("a\n\\.\nb",)]),  # PostgreSQL ends even here
        (NOTES, CSV, b'""\n', [("",)]),
        (PAIRS, replace(CSV, header="skip"), b"a,b\n1,x\n", [(1, "x")]),
        (PAIRS, replace(CSV, header="match"), b'"a",b\r\n1,x\r\n', [(1, "x")]),
        (PAIRS, replace(CSV, header="skip"), b"a,b", []),
        (PAIRS, replace(CSV, header="skip"), b'"a\nb",c\n1,x\n', [(1, "x")]),
        (PAIRS, replace(CSV, null="NULL"), b'1,NULL\nNULL,\n2,"NULL"\n', [(1, None), (None, ""), (2, "NULL")]),
        (PAIRS, replace(CSV, delimiter=";", quote="'", escape="'"), b"1;'a;''b'\n", [(1, "a;'b")]),
        (PAIRS, replace(CSV, escape="\\"), b'1,"a\\"b\\\\\\n"\n2,\\x\n', [(1, 'a"b\\\\n'), (2, "\\x")]),
        (PAIRS, TEXT, b"1\tx\n2\t\\N\n\\N\t\n", [(1, "x"), (2, None), (None, "")]),
        (PAIRS, TEXT, b"1\ta\\tb\\\\c\\nd\\x41\\101\\q\n", [(1, "a\tb\\c\ndAAq")]),
        (PAIRS, TEXT, b"1\ta\\\tb\n2\tc\\\nd\n", [(1, "a\tb"), (2, "c\nd")]),
        (PAIRS, TEXT, b"1\ta\\N\n2\t\\\\N\n", [(1, "aN"), (2, "\\N")]),
        (PAIRS, TEXT, b"1\tx\r\n2\ty\r\n", [(1, "x"), (2, "y")]),
        (PAIRS, TEXT, b'1\t"x"\n', [(1, '"x"')]),
        (PAIRS, TEXT, b"1\tx\n\\.\n2\ty\nnonsense", [(1, "x")]),
        (PAIRS, TEXT, b"1\tx\n\\.", [(1, "x")]),
        (PAIRS, TEXT, b"1\t\\xc3\\xa9\n", [(1, "é")]),
        (PAIRS, replace(TEXT, header="skip"), b"a\tb\n1\tx\n", [(1, "x")]),
        (PAIRS, replace(TEXT, delimiter="|", null=""), b"1|x\n|\n", [(1, "x"), (None, None)]),
        (NOTES, TEXT, b"\n\\N\nx\n", [("",), (None,), ("x",)]),
    ],
)
def test_data_is_read_as_postgres_reads_it(
    columns: list[CopyColumn], options: CopyOptions, data: bytes, rows: list[Any]
) -> None:
    assert _every_way(columns, options, data) == rows


@pytest.mark.parametrize(
    ("columns", "options", "data", "error"),
    [
        (
            TRADES,
            CSV,
            b"2026-01-01,A,1\n2026-01-01,B,2\n2026-01-01,C,abc\n",
            (
                "22P02",
                'invalid input syntax for type double precision: "abc"',
                'COPY trades, line 3, column price: "abc"',
            ),
        ),
        (
            TRADES,
            replace(CSV, header="skip"),
            b"ts,symbol,price\n2026-13-01,A,1\n",
            (
                "22008",
                'date/time field value out of range: "2026-13-01"',
                'COPY trades, line 2, column ts: "2026-13-01"',
            ),
        ),
        # the first bad row counts, whatever its column, and before a row whose fields are missing
        (
            PAIRS,
            CSV,
            b'1,"a\nb"\nx,y\n2\n',
            ("22P02", 'invalid input syntax for type integer: "x"', 'COPY trades, line 3, column a: "x"'),
        ),
        (
            TRADES,
            CSV,
            b"2026-01-01,A,1\n2026-01-01,B,abc\nnever,C,1\n",
            (
                "22P02",
                'invalid input syntax for type double precision: "abc"',
                'COPY trades, line 2, column price: "abc"',
            ),
        ),
        (PAIRS, CSV, b"1,x\n2\n", ("22P04", 'missing data for column "b"', 'COPY trades, line 2: "2"')),
        (PAIRS, CSV, b"1,x\n\n2,y\n", ("22P04", 'missing data for column "b"', 'COPY trades, line 2: ""')),
        (PAIRS, CSV, b"1,x,y\n", ("22P04", "extra data after last expected column", 'COPY trades, line 1: "1,x,y"')),
        (
            PAIRS,
            TEXT,
            b"1\tx\ty\n",
            ("22P04", "extra data after last expected column", 'COPY trades, line 1: "1\tx\ty"'),
        ),
        (PAIRS, CSV, b'1,"x\n', ("22P04", "unterminated CSV quoted field", 'COPY trades, line 2: "1,"x\n"')),
        (
            PAIRS,
            CSV,
            b'"",x\n',
            ("22P02", 'invalid input syntax for type integer: ""', 'COPY trades, line 1, column a: ""'),
        ),
        (
            PAIRS,
            CSV,
            b"0xffffffff,x\n",
            (
                "22P02",
                'invalid input syntax for type integer: "0xffffffff"',
                'COPY trades, line 1, column a: "0xffffffff"',
            ),
        ),
        (
            [CopyColumn("x", t.FLOAT8)],
            CSV,
            b"1\n1e400\n",
            ("22003", '"1e400" is out of range for type double precision', 'COPY trades, line 2, column x: "1e400"'),
        ),
        (
            PAIRS,
            TEXT,
            b"1\tx\n\\x41\ty\n",
            ("22P02", 'invalid input syntax for type integer: "A"', 'COPY trades, line 2, column a: "A"'),
        ),
        (
            PAIRS,
            TEXT,
            b"A\tx\n1\t\\xff\n",
            ("22P02", 'invalid input syntax for type integer: "A"', 'COPY trades, line 1, column a: "A"'),
        ),
        (
            PAIRS,
            CSV,
            b"1,a\rb\n",
            ("22P04", "unquoted carriage return found in data", 'COPY trades, line 1: "1,a\rb"'),
        ),
        (
            PAIRS,
            TEXT,
            b"1\ta\rb\n",
            ("22P04", "literal carriage return found in data", 'COPY trades, line 1: "1\ta\rb"'),
        ),
        (
            PAIRS,
            CSV,
            b"1,x\n2,\xff\n",
            ("22021", 'invalid byte sequence for encoding "UTF8": 0xff', 'COPY trades, line 2: "2,\ufffd"'),
        ),
        (
            PAIRS,
            CSV,
            b"1,a\0b\n",
            ("22021", 'invalid byte sequence for encoding "UTF8": 0x00', 'COPY trades, line 1: "1,a\0b"'),
        ),
        (
            PAIRS,
            replace(CSV, header="match"),
            b"a,c\n1,x\n",
            (
                "22P04",
                'column name mismatch in header line field 2: got "c", expected "b"',
                'COPY trades, line 1: "a,c"',
            ),
        ),
        (
            PAIRS,
            replace(CSV, header="match"),
            b"a\n1,x\n",
            ("22P04", "wrong number of fields in header line: got 1, expected 2", 'COPY trades, line 1: "a"'),
        ),
        (
            PAIRS,
            CSV,
            b"y" * 200 + b",x\n",
            (
                "22P02",
                f'invalid input syntax for type integer: "{"y" * 200}"',
                f'COPY trades, line 1, column a: "{"y" * 100}..."',
            ),
        ),
    ],
)
def test_an_error_names_its_place(columns: list[CopyColumn], options: CopyOptions, data: bytes, error: object) -> None:
    assert _every_way(columns, options, data) == error


def test_lines_are_counted_over_the_whole_copy() -> None:
    data = b"a,b\n" + b'1,"x\ny"\n' * 500 + b"oops,x\n"
    error = ("22P02", 'invalid input syntax for type integer: "oops"', 'COPY trades, line 1002, column a: "oops"')
    for limits in (Limits(), SMALL, Limits(copy_batch_bytes_max=1000)):
        assert _outcome(PAIRS, replace(CSV, header="skip"), _bytes(data), limits) == error


def test_every_type_is_read_into_its_arrow_form() -> None:
    texts = {
        "bool": "yes", "bytea": "\\x00ff", "int8": "1", "int2": "2", "int4": "3", "text": "x", "json": "[1]", "float4": "0.5",
        "float8": "1.5", "unknown": "u", "bpchar": "c", "varchar": "v", "date": "2026-01-02", "time": "03:04",
        "timestamp": "2026-01-02 03:04", "timestamptz": "2026-01-02 03:04+01", "interval": "1 day", "numeric": "1.25",
        "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "jsonb": "{}", "oid": "25",
        "timetz": "03:04+05:30",
    }  # fmt: skip
    assert set(texts) == {scalar.name for scalar in t.USER_SCALARS}
    columns = [CopyColumn(name, t.BY_NAME[name]) for name in texts]
    columns.append(CopyColumn("list", t.INT4.array))
    line = ",".join([*texts.values(), '"{1,NULL}"']).encode()
    (first, second) = _decoded(columns, CSV, [line + b"\n" + b"," * (len(columns) - 1)], Limits())
    row = dict(zip([column.name for column in columns], first, strict=True))
    assert (row["bool"], row["bytea"], row["int2"], row["float4"]) == (True, b"\0\xff", 2, 0.5)
    assert row["timestamptz"] == datetime(2026, 1, 2, 2, 4, tzinfo=UTC)
    assert (row["interval"], row["list"]) == (pa.MonthDayNano([0, 1, 0]), [1, None])
    assert second == (None,) * len(columns)


def test_two_columns_may_have_one_name_in_different_case_or_odd_ones() -> None:
    columns = [CopyColumn("a", t.INT4), CopyColumn("A", t.INT4), CopyColumn("", t.TEXT)]
    assert _decoded(columns, CSV, [b"1,2,x\n"], Limits()) == [(1, 2, "x")]


def test_usual_data_never_takes_the_slow_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("read in Python")

    monkeypatch.setattr(CopyDecoder, "_read_in_python", refuse)
    monkeypatch.setattr(CopyDecoder, "_read_strings", refuse)
    csv = b'2026-01-02 03:04:05.5,"a ""b"", c",1.25\n2026-01-02,,-3\n2026-01-02T03:04:05,x,NaN\n'
    assert len(_decoded(TRADES, CSV, [csv], Limits())) == 3
    assert len(_decoded(TRADES, TEXT, [b"2026-01-02 03:04:05.5\tab\t1.25\n2026-01-02\t\\N\t\\N\n"], Limits())) == 2


def test_batches_stay_near_their_bound() -> None:
    decoder = CopyDecoder(NOTES, CSV, Limits(copy_batch_bytes_max=1000), "trades")
    sizes = [batch.num_rows for _ in range(100) for batch in decoder.feed(b"x" * 99 + b"\n")]
    assert sizes == [10] * 10
    assert decoder.finish() == []


def test_a_record_longer_than_a_batch_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[int] = []
    decoder = CopyDecoder(NOTES, CSV, Limits(copy_batch_bytes_max=10), "trades")
    search = decoder._records.last_end

    def counted(data: bytes) -> int:
        searches.append(len(data))
        return search(data)

    monkeypatch.setattr(decoder._records, "last_end", counted)
    batches = [batch for _ in range(10_000) for batch in decoder.feed(b"x")]
    assert batches == []
    assert sum(searches) < 40_000, "each search looks at what has doubled since the last"
    assert decoder.feed(b"\n") + decoder.finish() != []


def test_a_record_longer_than_a_message_is_refused() -> None:
    decoder = CopyDecoder(NOTES, CSV, Limits(copy_batch_bytes_max=10, message_bytes_max=50), "trades")
    assert decoder.feed(b"x" * 50) == []
    with pytest.raises(ProgramLimitExceeded, match="message_bytes_max = 50"):
        decoder.feed(b"x" * 200)


# options


@pytest.mark.parametrize(
    ("given_options", "expected"),
    [
        ({}, CopyOptions("text", "\t", "\\N", "none", '"', '"')),
        ({"format": "CSV"}, CopyOptions("csv", ",", "", "none", '"', '"')),
        ({"format": "csv", "header": "", "quote": "'"}, CopyOptions("csv", ",", "", "skip", "'", "'")),
        ({"header": "match", "encoding": "UTF-8"}, CopyOptions("text", "\t", "\\N", "match", '"', '"')),
        ({"format": "csv", "header": "off", "escape": "\\"}, CopyOptions("csv", ",", "", "none", '"', "\\")),
    ],
)
def test_options_have_postgres_defaults(given_options: dict[str, str], expected: CopyOptions) -> None:
    assert copy_options(given_options) == expected


@pytest.mark.parametrize(
    ("given_options", "sqlstate", "message"),
    [
        ({"nonsense": "1"}, "42601", 'option "nonsense" not recognized'),
        ({"format": "binary", "delimiter": ","}, "42601", "cannot specify DELIMITER in BINARY mode"),
        ({"format": "binary", "header": ""}, "0A000", "cannot specify HEADER in BINARY mode"),
        ({"format": "binary", "quote": "'"}, "0A000", "COPY quote available only in CSV mode"),
        ({"format": "xml"}, "22023", 'COPY format "xml" not recognized'),
        ({"header": "perhaps"}, "42601", 'header requires a Boolean value or "match"'),
        ({"delimiter": "ab"}, "0A000", "COPY delimiter must be a single one-byte character"),
        ({"delimiter": "é"}, "0A000", "COPY delimiter must be a single one-byte character"),
        ({"delimiter": "\n"}, "22023", "COPY delimiter cannot be newline or carriage return"),
        ({"delimiter": "a"}, "22023", 'COPY delimiter cannot be "a"'),
        ({"null": "a\nb"}, "22023", "COPY null representation cannot use newline or carriage return"),
        ({"delimiter": "|", "null": "a|b"}, "22023", "COPY delimiter must not appear in the NULL specification"),
        ({"quote": "'"}, "0A000", "COPY quote available only in CSV mode"),
        ({"escape": "'"}, "0A000", "COPY escape available only in CSV mode"),
        ({"format": "csv", "quote": ","}, "22023", "COPY delimiter and quote must be different"),
        ({"format": "csv", "null": '"'}, "22023", "CSV quote character must not appear in the NULL specification"),
        ({"force_null": ("a",)}, "0A000", "COPY force null available only in CSV mode"),
        ({"format": "csv", "force_quote": "*"}, "0A000", "COPY force quote only available using COPY TO"),
        ({"on_error": "ignore"}, "0A000", "COPY option ON_ERROR is not supported"),
        ({"encoding": "latin1"}, "0A000", "COPY reads and writes UTF-8 only"),
    ],
)
def test_a_wrong_option_is_refused(given_options: dict[str, str], sqlstate: str, message: str) -> None:
    with pytest.raises(StreamSQLError) as caught:
        copy_options(given_options)
    assert (caught.value.sqlstate, caught.value.message) == (sqlstate, message)


# any data, cut anywhere

_CELLS = [
    "1",
    "-5",
    "x",
    "",
    "2.5",
    "NaN",
    "1e400",
    " 7 ",
    "é",
    "\\N",
    "\\t",
    "\\\\",
    "\\",
    '"',
    '""',
    '"a,b"',
    '"l\nm"',
    'x"y"z',
]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(_CELLS), min_size=1, max_size=3), max_size=6),
    st.sampled_from([CSV, TEXT, replace(CSV, header="skip"), replace(CSV, escape="\\"), replace(TEXT, null="")]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([PAIRS, NOTES]),
    st.integers(1, 30),
)
def test_however_data_is_cut_rows_or_error_are_the_same(
    lines: list[list[str]], options: CopyOptions, end: str, columns: list[CopyColumn], batch_bytes: int
) -> None:
    data = end.join(options.delimiter.join(line) for line in lines).encode()
    whole = _outcome(columns, options, [data], Limits())
    assert repr(_outcome(columns, options, _bytes(data), Limits(copy_batch_bytes_max=batch_bytes))) == repr(whole)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100), st.sampled_from([CSV, TEXT]), st.integers(1, 30))
def test_any_bytes_are_rows_or_an_error_however_they_are_cut(
    data: bytes, options: CopyOptions, batch_bytes: int
) -> None:
    whole = _outcome(PAIRS, options, [data], Limits())
    assert _outcome(PAIRS, options, _bytes(data), Limits(copy_batch_bytes_max=batch_bytes)) == whole
