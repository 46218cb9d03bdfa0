"""Content types and the formats that they name, for what comes in and for what goes out."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
from pyarrow import ipc

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue, UndefinedColumn
from streamsql.base.limits import Limits
from streamsql.base.types import DUCKDB_NAME, canonical_arrow, duckdb_name
from streamsql.catalog.objects import Stream, Table, nearest
from streamsql.formats.arrow_ipc import ArrowIpcFormat
from streamsql.formats.casts import TIME_UNITS
from streamsql.formats.csv import CsvFormat
from streamsql.formats.format import Field, Format
from streamsql.formats.json import JsonFormat, objects
from streamsql.formats.parquet import ParquetFormat
from streamsql.formats.raw import RawFormat
from streamsql.server.http.answers import HttpError
from streamsql.server.results import ResultColumn

JSON, LINES, CSV = "application/json", "application/x-ndjson", "text/csv"
ARROW, ARROW_FILE = "application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file"
PARQUET, TEXT, BYTES = "application/vnd.apache.parquet", "text/plain", "application/octet-stream"
# other names of the same
SYNONYMS = {
    "application/jsonl": LINES, "application/jsonlines": LINES, "application/json-lines": LINES, "application/ndjson": LINES,
    "application/csv": CSV, "application/x-parquet": PARQUET, "application/parquet": PARQUET,
}  # fmt: skip
ACCEPTED = (LINES, JSON, CSV, ARROW, ARROW_FILE, PARQUET, TEXT, BYTES)
GIVEN = (JSON, LINES, CSV, ARROW)


def media_type(text: str) -> tuple[str, dict[str, str]]:
    """Read a media type and its parameters, all lower case."""
    kind, *parameters = (part.strip() for part in text.lower().split(";"))
    pairs = (p.partition("=") for p in parameters)
    return SYNONYMS.get(kind, kind), {name.strip(): value.strip().strip('"') for name, _, value in pairs}


def input_format(content_type: str, query: dict[str, str], relation: Stream | Table, limits: Limits) -> Format:
    """Give the format of a request's body. Raises HttpError 415 and 400."""
    kind, parameters = media_type(content_type)
    fields = _fields(relation, query.get("columns", ""))
    times = query.get("times", "auto")
    if times not in TIME_UNITS:
        raise InvalidParameterValue(f'times = "{times}" is no unit', hint=f"one of {', '.join(TIME_UNITS)}")
    longest = limits.record_bytes_max
    if kind in {LINES, JSON}:
        layout = "lines" if kind == LINES else "values"
        return JsonFormat(fields, layout, times, longest if kind == LINES else limits.http_body_bytes_max)
    if kind == CSV:
        delimiter = query.get("delimiter", ",")
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
            raise InvalidParameterValue("delimiter must be one ASCII character, and no quote or line end")
        return CsvFormat(fields, parameters.get("header") != "absent", delimiter, times, longest)
    if kind in {ARROW, ARROW_FILE}:
        return ArrowIpcFormat(fields, limits.http_body_bytes_max)
    if kind == PARQUET:
        return ParquetFormat(fields, limits.http_body_bytes_max)
    if kind in {TEXT, BYTES}:
        wanted = "VARCHAR" if kind == TEXT else "BLOB"
        only = [f for f in fields if f.type == wanted]
        if len(fields) != 1 or not only:
            name = "text" if kind == TEXT else "bytea"
            raise FeatureNotSupported(
                f'{kind} is for a relation with one column of type {name}, which "{relation.name}" is not',
                hint=f"send {LINES}, or another of {', '.join(ACCEPTED)}",
            )
        return RawFormat(fields, "lines" if kind == TEXT else "whole", limits.http_body_bytes_max)
    raise HttpError(
        415,
        FeatureNotSupported(
            f'content type "{kind}" is not supported' if kind else "there is no Content-Type",
            hint=f"send one of {', '.join(ACCEPTED)}",
        ),
    )


def _fields(relation: Stream | Table, paths: str) -> tuple[Field, ...]:
    """Make the fields of a relation; `paths` (``user_id:user.id,at:meta.time``) say where in a JSON record some are."""
    named: dict[str, tuple[str, ...]] = {}
    for item in filter(None, paths.split(",")):
        name, found, path = item.partition(":")
        if not found or not all(path.split(".")):
            raise InvalidParameterValue(
                f'columns: "{item}" is not of the form column:key.key', hint="columns=id:user.id,at:time"
            )
        if relation.column(name) is None:
            raise UndefinedColumn(
                f'column "{name}" of relation "{relation.bare}" does not exist',
                hint=nearest(name, [c.name for c in relation.columns]),
            )
        named[name] = tuple(path.split("."))
    return tuple(
        Field(c.name, c.type, (c.not_null or c.primary_key) and c.default is None, named.get(c.name, ()))
        for c in relation.columns
    )


# ---- what goes out ----


class Encoder(Protocol):
    """Writes a result: `head`, then `rows` of each batch, then `tail`."""

    def head(self) -> bytes: ...
    def rows(self, batch: pa.RecordBatch) -> bytes: ...
    def tail(self) -> bytes: ...


def accepted(header: str) -> str:
    """Choose the content type of a result by the Accept header; the first of the best that we give. Raises HttpError 406."""
    wanted: list[tuple[float, int, str]] = []
    for index, item in enumerate(filter(None, (header or "*/*").split(","))):
        kind, parameters = media_type(item)
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            quality = 0.0
        wanted.append((-quality, index, kind))
    for quality, _, kind in sorted(wanted):
        if not quality:
            continue
        if kind in GIVEN:
            return kind
        if kind in {"*/*", "application/*"}:
            return JSON
        if kind == "text/*":
            return CSV
    raise HttpError(
        406, FeatureNotSupported(f'cannot answer with "{header}"', hint=f"accept one of {', '.join(GIVEN)}")
    )


def encoder_of(kind: str, columns: Sequence[ResultColumn]) -> Encoder:
    """Give the encoder of a result in a content type."""
    if kind == ARROW:
        return ArrowEncoder(columns)
    fields = tuple(result_fields(columns))
    return CsvEncoder(CsvFormat(fields)) if kind == CSV else JsonEncoder(JsonFormat(fields), array=kind == JSON)


def result_fields(columns: Sequence[ResultColumn]) -> Iterator[Field]:
    """Give the columns of a result, which come in canonical Arrow, as the fields of a format."""
    for column in columns:
        kind = column.type
        name = (kind.element or kind).name
        found = "DECIMAL(38,10)" if name == "numeric" else DUCKDB_NAME.get(name, "VARCHAR")
        if kind.scalar.is_made:
            found = duckdb_name(kind.scalar)
        found = "TIMESTAMP WITH TIME ZONE" if found == "TIMESTAMPTZ" else found
        yield Field(column.name, found if kind.element is None else f"{found}[]")


@dataclass(slots=True)
class JsonEncoder:
    """An array of objects, or an object a line."""

    format: JsonFormat
    array: bool
    _begun: bool = False

    def head(self) -> bytes:
        return b"[" if self.array else b""

    def rows(self, batch: pa.RecordBatch) -> bytes:
        table = pa.Table.from_batches([batch])
        if not self.array:
            return self.format.encode(table)
        lines = b",\n".join(objects(table, self.format.fields).cast(pa.large_binary()).to_pylist())
        begun, self._begun = self._begun, self._begun or bool(lines)
        return b",\n" + lines if begun and lines else lines

    def tail(self) -> bytes:
        return b"]\n" if self.array else b""


@dataclass(slots=True)
class CsvEncoder:
    """A header and lines."""

    format: CsvFormat

    def head(self) -> bytes:
        return self.format.encode(pa.table({}))

    def rows(self, batch: pa.RecordBatch) -> bytes:
        return self.format.encode_rows(pa.Table.from_batches([batch]))

    def tail(self) -> bytes:
        return b""


@dataclass(slots=True)
class ArrowEncoder:
    """Arrow's stream format."""

    columns: Sequence[ResultColumn]
    _sink: io.BytesIO = field(default_factory=io.BytesIO)
    _writer: ipc.RecordBatchStreamWriter | None = None

    def head(self) -> bytes:
        return b""

    def rows(self, batch: pa.RecordBatch) -> bytes:
        named = batch.rename_columns([c.name for c in self.columns])
        if self._writer is None:
            self._writer = ipc.new_stream(self._sink, named.schema)
        self._writer.write_batch(named)
        return self._taken()

    def tail(self) -> bytes:
        if self._writer is None:
            schema = pa.schema([(c.name, canonical_arrow(c.type, c.modifier)) for c in self.columns])
            self._writer = ipc.new_stream(self._sink, schema)
        self._writer.close()
        return self._taken()

    def _taken(self) -> bytes:
        made = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return made
