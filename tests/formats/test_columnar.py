"""Arrow IPC and Parquet, raw records, and change envelopes."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest

from streamsql.formats.arrow_ipc import ArrowIpcFormat
from streamsql.formats.debezium import DebeziumFormat
from streamsql.formats.format import Field
from streamsql.formats.parquet import ParquetFormat
from streamsql.formats.raw import RawFormat

WHOLE = [ArrowIpcFormat, ParquetFormat]


@pytest.mark.parametrize("kind", WHOLE)
def test_columns_are_found_by_name_and_cast(kind):
    given = pa.table(
        {"b": ["1", "2"], "a": pa.array([1, 2], pa.int64()), "more": [True, False], "at": [dt.date(2026, 1, 1)] * 2}
    )
    fields = (Field("a", "SMALLINT"), Field("b", "DECIMAL(10,2)"), Field("c", "VARCHAR"), Field("at", "TIMESTAMP"))
    found = kind(fields).decode(kind(()).encode(given))
    assert found.rejected.num_rows == 0
    at = dt.datetime(2026, 1, 1)
    assert found.rows.to_pylist() == [
        {"a": 1, "b": Decimal("1.00"), "c": None, "at": at}, {"a": 2, "b": Decimal("2.00"), "c": None, "at": at},
    ]  # fmt: skip


@pytest.mark.parametrize("kind", WHOLE)
def test_rows_that_do_not_fit_are_set_aside_by_number(kind):
    given = pa.table({"a": pa.array([1, 70_000, None], pa.int64()), "x": [1.0, 2.5, 1.5]})
    found = kind((Field("a", "SMALLINT", not_null=True), Field("x", "DOUBLE"))).decode(kind(()).encode(given))
    assert found.rows.to_pylist() == [{"a": 1, "x": 1.0}]
    assert [(r["position"], r["reason"], r["bytes"]) for r in found.rejected.to_pylist()] == [
        (1, 'column "a": invalid input for type int2: "70000"', b'{"a":70000,"x":2.5}'),
        (2, 'null value in column "a" violates not-null constraint', b'{"a":null,"x":1.5}'),
    ]


@pytest.mark.parametrize("kind", WHOLE)
def test_half_a_number_is_not_rounded_to_a_whole_one(kind):
    found = kind((Field("a", "BIGINT"),)).decode(kind(()).encode(pa.table({"a": [1.0, 2.5]})))
    assert found.rows.to_pylist() == [{"a": 1}]
    assert found.rejected.num_rows == 1


@pytest.mark.parametrize("kind", WHOLE)
def test_bytes_of_anything_else_are_one_rejected_record(kind):
    good = kind(()).encode(pa.table({"a": list(range(100))}))
    for data in (b"garbage", good[: len(good) // 2], good[len(good) // 2 :], bytes(len(good))):
        found = kind((Field("a", "BIGINT"),)).decode(data)
        assert (found.rows.num_rows, found.rejected.num_rows) == (0, 1), found


@pytest.mark.parametrize("kind", WHOLE)
def test_more_than_fits_in_memory_is_refused(kind):
    data = kind(()).encode(pa.table({"a": pa.array(range(10_000), pa.int64())}))
    found = kind((Field("a", "BIGINT"),), table_bytes_max=10_000).decode(data)
    assert found.rows.num_rows == 0
    assert "more than 10000" in found.rejected.column("reason")[0].as_py()


def test_the_file_format_of_arrow_is_read_as_well():
    sink = pa.BufferOutputStream()
    table = pa.table({"a": [1, 2]})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    assert ArrowIpcFormat((Field("a", "BIGINT"),)).decode(bytes(sink.getvalue())).rows.equals(table)


def test_raw_lines_and_raw_bytes():
    text = RawFormat((Field("t", "VARCHAR"),)).decode(b"a\r\nb\n\n\xff\nc\0\nd")
    assert text.rows.column("t").to_pylist() == ["a", "b", "d"]
    assert text.rejected.column("position").to_pylist() == [6, 8]
    whole = RawFormat((Field("t", "BLOB"),), framing="whole").decode(b"a\n\0\xff")
    assert whole.rows.column("t").to_pylist() == [b"a\n\0\xff"]


FIELDS = (Field("id", "BIGINT", not_null=True), Field("n", "DECIMAL(10,2)"))


@pytest.mark.parametrize("wrapped", [False, True])
def test_change_envelopes_give_rows_with_weights(wrapped):
    lines = [
        b'{"op":"r","before":null,"after":{"id":1,"n":1}}',
        b'{"op":"u","before":{"id":1,"n":1},"after":{"id":1,"n":2}}',
        b'{"op":"d","before":{"id":1,"n":2},"after":null}',
    ]
    if wrapped:
        lines = [b'{"schema":{},"payload":' + line + b"}" for line in lines]
    found = DebeziumFormat(FIELDS, payload=wrapped).decode(b"\n".join([*lines, b"null"]))
    assert found.rejected.num_rows == 0
    assert found.weights is not None
    rows = [(r["id"], int(r["n"]), w) for r, w in zip(found.rows.to_pylist(), found.weights.to_pylist(), strict=True)]
    assert rows == [(1, 1, 1), (1, 1, -1), (1, 2, 1), (1, 2, -1)]


def test_change_envelopes_that_do_not_tell_enough_are_set_aside():
    found = DebeziumFormat(FIELDS).decode(
        b'{"op":"c","after":{"id":1}}\n{"op":"u","before":null,"after":{"id":1}}\n{"op":"t"}\n{"op":"c","after":{"n":1}}\n{"x":1}\n'
    )
    assert found.rows.num_rows == 1
    assert [(r["position"], r["reason"]) for r in found.rejected.to_pylist()] == [
        (28, "the row before is missing: set REPLICA IDENTITY FULL"),
        (70, "not an operation on a row"),
        (81, 'null value in column "id" of after'),
        (108, "not an operation on a row"),
    ]


def test_flat_envelopes_say_what_is_deleted():
    found = DebeziumFormat(FIELDS, flat=True).decode(b'{"id":1,"n":1}\n{"id":1,"n":1,"__deleted":"true"}\n')
    assert found.weights is not None
    assert found.weights.to_pylist() == [1, -1]
