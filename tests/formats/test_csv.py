"""CSV records."""

from __future__ import annotations

import datetime as dt
from typing import Any

from streamsql.formats.csv import CsvFormat
from streamsql.formats.format import Decoded, Field


def read(data: bytes, *columns: str, **options: Any) -> Decoded:
    fields = tuple(Field(name, kind) for name, kind in (column.split(" ", 1) for column in columns))
    return CsvFormat(fields, **options).decode(data)


def test_columns_are_found_by_the_header():
    found = read(b"b,a,more\nx,1,\ny,2,z\n", "a BIGINT", "b VARCHAR", "c DOUBLE")
    assert found.rows.to_pylist() == [{"a": 1, "b": "x", "c": None}, {"a": 2, "b": "y", "c": None}]


def test_without_a_header_columns_come_in_their_order():
    assert read(b"1;x\n2;y", "a BIGINT", "b VARCHAR", header=False, delimiter=";").rows.column("b").to_pylist() == [
        "x",
        "y",
    ]


def test_an_empty_field_is_null_and_a_quoted_one_is_empty():
    assert read(b'a,b\n,\n"",x\n', "a VARCHAR").rows.column("a").to_pylist() == [None, ""]


def test_quotes_hold_delimiters_line_ends_and_quotes():
    assert read(b'a,b\r\n"x,\r\n""y""",1\r\n', "a VARCHAR", "b BIGINT").rows.to_pylist() == [{"a": 'x,\r\n"y"', "b": 1}]


def test_bad_records_are_set_aside_with_their_places():
    found = read(b'a,b\n1,2\n1\n1,2,3\nx,1\n3,\xff\n4,2026-01-01\n"5', "a BIGINT", "b VARCHAR")
    assert found.rows.column("a").to_pylist() == [1, 4]
    assert [(r["position"], r["reason"], r["bytes"]) for r in found.rejected.to_pylist()] == [
        (8, "expected 2 fields, found 1", b"1"),
        (10, "expected 2 fields, found 3", b"1,2,3"),
        (16, 'column "a": invalid input for type int8: "x"', b"x,1"),
        (20, "invalid UTF-8", b"3,\xff"),
        (37, "expected 2 fields, found 1", b'"5'),
    ]


def test_quotes_in_the_middle_of_a_field_are_read_as_copy_reads_them():
    found = read(b'a,b\nx"y"z,1\n"q"w,2\na\rb,3\n', "a VARCHAR", "b BIGINT")
    assert found.rows.column("a").to_pylist() == ["xyz", "qw"]
    assert found.rejected.column("reason").to_pylist() == ["unquoted carriage return found in data"]


def test_a_header_that_names_no_column_rejects_all():
    found = read(b"x,y\n1,2\n", "a BIGINT")
    assert found.rejected.column("reason").to_pylist() == ["the header names none of the columns"]
    assert found.rows.column("a").to_pylist() == [None]


def test_what_is_written_has_quotes_only_where_they_are_needed():
    fields = (Field("a", "VARCHAR"), Field("at", "TIMESTAMP"), Field("j", "JSON"))
    rows = read(
        b'a,at,j\n"x,y",2026-01-01T00:00:00Z,"{""k"":1}"\n,,\n"",,\n', "a VARCHAR", "at TIMESTAMP", "j JSON"
    ).rows
    assert rows.column("at").to_pylist()[0] == dt.datetime(2026, 1, 1)
    assert CsvFormat(fields).encode(rows) == b'a,at,j\n"x,y",2026-01-01T00:00:00,"{""k"":1}"\n,,\n"",,\n'
