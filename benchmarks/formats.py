"""Formats: bytes to Arrow columns and back, on one thread, in rows a second of CPU time.

Estimate. A row of four columns is 75 bytes of JSON. DuckDB's parser (yyjson) goes over them at 1 GB/s at best, 13 M rows/s; a
string for each value, and the casts of a time, a float and an integer bring that to 2 to 3 M. The bound beside each figure is
Arrow's own reader or writer for the same bytes: it knows the types before it parses, and fails as a whole where one row is bad.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from pyarrow import csv, json

from benchmarks.events import scaled
from benchmarks.figures import Figure, say
from streamsql.formats.avro.format import AvroCodec
from streamsql.formats.avro.writing import AvroWriter
from streamsql.formats.binary import BinaryDecoder, SchemaText
from streamsql.formats.csv import CsvFormat
from streamsql.formats.format import Field
from streamsql.formats.json import JsonFormat
from streamsql.formats.records import Records

ROWS = 500_000
MESSAGES = 65_536
FIELDS = (Field("ts", "TIMESTAMP"), Field("symbol", "VARCHAR"), Field("price", "DOUBLE"), Field("qty", "BIGINT"))
SCHEMA = pa.schema([("ts", pa.timestamp("us")), ("symbol", pa.string()), ("price", pa.float64()), ("qty", pa.int64())])


def run(scale: float) -> list[Figure]:
    """Measure reading and writing."""
    rows = scaled(ROWS, scale)
    lines = b'{"ts":"2026-01-01T00:00:01.123456Z","symbol":"ABC","price":12.34,"qty":100}\n' * rows
    numbers = lines.replace(b'"2026-01-01T00:00:01.123456Z"', b"1767225601123")
    bad = lines.replace(b"\n", b"\nnonsense\n", rows // 100)
    commas = b"ts,symbol,price,qty\n" + b"2026-01-01T00:00:01.123456Z,ABC,12.34,100\n" * rows
    reader, values, table = (
        JsonFormat(FIELDS),
        JsonFormat(FIELDS, "values", record_bytes_max=1 << 30),
        CsvFormat(FIELDS),
    )
    decoded = reader.decode(lines).rows
    arrow_json = _rate(rows, lambda: _arrow_json(lines))
    arrow_csv = _rate(rows, lambda: _arrow_csv(commas))
    avro = AvroWriter(FIELDS, "row")
    messages = avro.write(decoded).to_pylist()
    avro_in = AvroCodec(FIELDS, "auto", None, SchemaText(avro.schema)).decoder(framed=False)
    array = b"[" + lines[:-1].replace(b"\n", b",") + b"]"
    return [
        _figure("NDJSON in", _rate(rows, lambda: reader.decode(lines)), arrow_json, "pyarrow.json", least=1_000_000),
        _figure("NDJSON in, times as numbers", _rate(rows, lambda: reader.decode(numbers)), arrow_json, "pyarrow.json"),
        _figure("NDJSON in, bad lines between", _rate(rows, lambda: reader.decode(bad)), arrow_json, "pyarrow.json"),
        _figure("JSON array in", _rate(rows, lambda: values.decode(array)), arrow_json, "pyarrow.json"),
        _figure("CSV in", _rate(rows, lambda: table.decode(commas)), arrow_csv, "pyarrow.csv"),
        _figure("NDJSON out", _rate(rows, lambda: reader.encode(decoded)), None, None),
        _figure(
            "CSV out",
            _rate(rows, lambda: table.encode(decoded)),
            _rate(rows, lambda: _write_csv(decoded)),
            "pyarrow.csv",
        ),
        _figure("Avro messages in", _rate(rows, lambda: _messages(avro_in, messages)), None, None, least=1_000_000),
        _figure("Avro messages out", _rate(rows, lambda: avro.write(decoded)), None, None),
    ]


def _messages(decoder: BinaryDecoder, payloads: list[bytes]) -> None:
    """Read messages as a broker's source does, in batches."""
    for start in range(0, len(payloads), MESSAGES):
        part = payloads[start : start + MESSAGES]
        lengths = np.fromiter(map(len, part), np.int64, len(part))
        begins = np.cumsum(lengths + 1) - lengths - 1
        decoder.read_records(Records(b"\n".join(part), begins, begins + lengths), 0)


def _figure(name: str, value: float, bound: float | None, bound_name: str | None, least: float | None = None) -> Figure:
    return say(Figure("formats", name, value, "rows/s", bound, bound_name or "", value_min=least))


def _rate(rows: int, work: Callable[[], object]) -> float:
    """Give rows a second of CPU time, the best of three."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return rows / best


def _arrow_json(data: bytes) -> pa.Table:
    options = json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="ignore")
    return json.read_json(io.BytesIO(data), json.ReadOptions(use_threads=False, block_size=4 << 20), options)


def _arrow_csv(data: bytes) -> pa.Table:
    wanted = {**dict(zip(SCHEMA.names, SCHEMA.types, strict=True)), "ts": pa.timestamp("us", "UTC")}
    types = csv.ConvertOptions(column_types=wanted)
    return csv.read_csv(io.BytesIO(data), csv.ReadOptions(use_threads=False), convert_options=types)


def _write_csv(table: pa.Table) -> None:
    csv.write_csv(table, pa.BufferOutputStream())
