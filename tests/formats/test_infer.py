"""What a sample says about its columns."""

from __future__ import annotations

import pyarrow as pa
import pytest

from streamsql.base.errors import InvalidParameterValue
from streamsql.formats.arrow_ipc import ArrowIpcFormat
from streamsql.formats.infer import infer_csv, infer_json, infer_table
from streamsql.formats.parquet import ParquetFormat


def test_json_gives_the_narrowest_types_that_hold_all_values():
    sample = (
        b'{"n":1,"at":"2026-01-01T00:00:00Z","obj":{"x":1},"x":1,"ok":true,"none":null,"day":"2026-01-01","big":12345678901234567890}\n'
        b'{"n":2,"at":"2026-01-01T01:00:00+02:00","x":1.5,"late":"c3fd45dd-4d6a-4b3a-8d3e-5b2d8f3f9f00","N":1}\nnonsense\n'
    )
    assert {f.name: f.type for f in infer_json(sample)} == {
        "n": "BIGINT", "at": "TIMESTAMP WITH TIME ZONE", "obj": "JSON", "x": "DOUBLE", "ok": "BOOLEAN", "none": "VARCHAR",
        "day": "DATE", "big": "DECIMAL(38,0)", "late": "UUID",
    }  # fmt: skip


def test_csv_does_so_too():
    found = infer_csv(b"a,b,c\n1,2026-01-01 00:00:00,x\n2.5,2026-01-01 00:00:00.5,\n")
    assert [(f.name, f.type) for f in found] == [("a", "DOUBLE"), ("b", "TIMESTAMP"), ("c", "VARCHAR")]


def test_csv_without_a_header_has_numbered_columns():
    sample = b'1;2026-01-01;"a\n;b"\n2;2026-01-02;\nx;y\n3;2026-01-03;c\n'
    assert [(f.name, f.type) for f in infer_csv(sample, ";", header=False)] == [
        ("column1", "BIGINT"), ("column2", "DATE"), ("column3", "VARCHAR"),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [ArrowIpcFormat, ParquetFormat])
def test_files_of_arrow_say_it_themselves(kind):
    table = pa.table({"a": pa.array([1], pa.int32()), "b": ["x"], "c": [[1.5]]})
    assert [(f.name, f.type) for f in infer_table(kind(()).encode(table))] == [
        ("a", "INTEGER"), ("b", "VARCHAR"), ("c", "DOUBLE[]"),
    ]  # fmt: skip


def headless(sample: bytes) -> object:
    return infer_csv(sample, header=False)


@pytest.mark.parametrize(
    ("infer", "sample"),
    [
        (headless, b""),
        (headless, b"\n\n"),
        (headless, b'"' + b"x" * 200_000 + b'"'),
        (infer_json, b"nonsense"),
        (infer_json, b""),
        (infer_csv, b""),
        (infer_csv, b"a,a\n1,2\n"),
        (infer_table, b"x"),
    ],
)
def test_a_sample_that_says_nothing_is_refused(infer, sample):
    with pytest.raises(InvalidParameterValue):
        infer(sample)
