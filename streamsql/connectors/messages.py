"""Messages of brokers to rows: each holds one record, whatever bytes are in it, and says more beside it.

    decoder = MessageDecoder(options, columns, metadata, record_bytes_max)
    decoder.wanted                          what the messages must tell beside their payload: {"key", "offset"}
    decoder.decode(payloads, told)          rows, records that could not be read, the message of each row

`options` are those of `FORMAT_OPTIONS`, which a connector has among its own; `columns` all columns of the stream, those of
``INCLUDE`` too. There is no Python for each message: payloads are joined, read as a block, and told apart again.

A payload that is None or, of a format of text, empty is no record: ``tombstones`` says what becomes of the first kind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.base.errors import InvalidParameterValue, UndefinedColumn
from streamsql.catalog.objects import nearest
from streamsql.connectors.joined import Payloads
from streamsql.connectors.message_bytes import AvroKeys, BytesReader, KeyReader
from streamsql.connectors.registry import REGISTRY_OPTIONS
from streamsql.connectors.schemas import BINARY, BINARY_OPTIONS, binary_decoder, check_binary
from streamsql.connectors.settings import Option, boolean, one_of
from streamsql.connectors.source import Given, Metadata
from streamsql.formats import casts
from streamsql.formats.csv import CsvFormat
from streamsql.formats.debezium import DebeziumFormat
from streamsql.formats.format import REJECTED_SCHEMA, Field, RecordDecoder, rejected
from streamsql.formats.json import JsonFormat
from streamsql.formats.raw import RawFormat
from streamsql.formats.records import BYTE_ORDER_MARK, Records
from streamsql.sql.includes import HEADER
from streamsql.sql.statements import ColumnDefinition

Indexes = npt.NDArray[np.int64]
# What a message tells beside its payload: bytes a message, headers a message, or an Arrow array.
Told = Mapping[str, "Sequence[bytes | None] | Sequence[Sequence[tuple[str, bytes | None]] | None] | pa.Array"]

_BLANK = b" \t\r\n"


def _delimiter(text: str) -> str:
    if len(text) != 1 or not text.isascii() or text in '"\r\n\0':
        raise InvalidParameterValue("must be one ASCII character, and no quote or line end")
    return text


FORMAT_OPTIONS: dict[str, Option] = {
    "format": Option(
        one_of("json", "csv", "raw", "debezium", *BINARY), "json",
        says="what a message holds: `json` (an object), `csv` (a line without a header), `raw` (text or bytes as they are, "
        "into the one column of type text or bytea), `debezium` (a change envelope in JSON), `avro`, `protobuf`",
    ),
    "columns": Option(
        str, "", says="where in a record columns are, if not under their name: `id:user.id,at:meta.time`"
    ),
    "times": Option(
        one_of(*casts.TIME_UNITS), "auto",
        says="the unit of times that are numbers: `auto` (by their size), `s`, `ms`, `us`, `ns`",
    ),
    "delimiter": Option(_delimiter, ",", says="what stands between the fields of a CSV record"),
    "payload": Option(boolean, False, says="of `debezium`: the envelope stands under the key `payload`, beside its schema"),
    "flat": Option(boolean, False, says="of `debezium`: flattened records, of which `__deleted` tells that a row went"),
    "tombstones": Option(
        one_of("reject", "skip", "null"), None,
        says="what becomes of a message without a payload: `reject` (the default) sets it aside as unreadable, `skip` leaves "
        "it out, `null` makes it a row whose columns are NULL but for the included ones",
    ),
    **BINARY_OPTIONS,
    **REGISTRY_OPTIONS,
}  # fmt: skip
_ONLY_OF = {
    "columns": ("json", "debezium", *BINARY),
    "delimiter": ("csv",),
    "payload": ("debezium",),
    "flat": ("debezium",),
    "message": ("protobuf",),
    **dict.fromkeys(("schema", "framing", *REGISTRY_OPTIONS), BINARY),
}
# any bytes may stand in these, and none at all
_ANY_BYTES = frozenset({"raw", *BINARY})


@dataclass(frozen=True, slots=True)
class DecodedMessages:
    """Rows, records that were not read (`position` is the index of the message), and the index of each row's message."""

    rows: pa.Table
    rejected: pa.Table
    messages: Indexes
    weights: pa.Array | None = None
    defaults: bool = True  # as in `source.Batch`


def check_format(given: Given, options: Mapping[str, Any], columns: Sequence[ColumnDefinition]) -> None:
    """Check the options of a format against each other and the stream's columns. Raises StreamSQLError with a position."""
    name = options["format"]
    for option, formats in _ONLY_OF.items():
        if option in REGISTRY_OPTIONS and options.get("key_format") == "avro":
            continue
        if option in given.values and name not in formats:
            raise InvalidParameterValue(
                f'the option "{option}" is for {" and ".join(formats)}, not for {name}',
                position=given.places.get(option),
            )
    values = [c for c in columns if not c.include]
    if name in BINARY:
        check_binary(given, options)
    if name == "raw" and (len(values) != 1 or values[0].type not in {"VARCHAR", "BLOB"}):
        raise InvalidParameterValue(
            "raw messages need one column, of type text or bytea",
            hint="columns of INCLUDE may stand beside it",
            position=given.places.get("format", given.places.get("connector")),
        )
    try:
        _paths(options["columns"], values)
    except (InvalidParameterValue, UndefinedColumn) as error:
        error.position = given.places.get("columns")
        raise


def _paths(text: str, columns: Sequence[ColumnDefinition]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    names = [c.name for c in columns]
    for item in filter(None, (item.strip() for item in text.split(","))):
        name, colon, path = item.partition(":")
        if not colon or not all(path.split(".")):
            raise InvalidParameterValue(
                f'columns: "{item}" is not of the form column:key.key', hint="columns = 'id:user.id,at:time'"
            )
        if name not in names:
            raise UndefinedColumn(f'column "{name}" does not exist', hint=nearest(name, names))
        found[name] = tuple(path.split("."))
    return found


def fields_of(options: Mapping[str, Any], columns: Sequence[ColumnDefinition]) -> tuple[Field, ...]:
    """Give the fields of a message's payload: all columns but the included ones."""
    values = [c for c in columns if not c.include]
    paths = _paths(options["columns"], values)
    return tuple(
        Field(c.name, c.type, (c.not_null or c.primary_key) and c.default is None, paths.get(c.name, ()))
        for c in values
    )


def _decoder(options: Mapping[str, Any], fields: tuple[Field, ...], record_bytes_max: int) -> RecordDecoder:
    match options["format"]:
        case "json":
            return JsonFormat(fields, times=options["times"], record_bytes_max=record_bytes_max).decoder()
        case "csv":
            return CsvFormat(fields, False, options["delimiter"], options["times"], record_bytes_max).decoder()
        case "raw":
            return RawFormat(fields, "whole", record_bytes_max).decoder()
        case "debezium":
            return DebeziumFormat(
                fields, options["payload"], options["flat"], options["times"], record_bytes_max
            ).decoder()
    return binary_decoder(options, fields)


class MessageDecoder:
    """Reads the messages of one stream. Not for several threads at once."""

    def __init__(
        self,
        options: Mapping[str, Any],
        columns: Sequence[ColumnDefinition],
        metadata: Mapping[str, Metadata],
        record_bytes_max: int = 64 << 20,
    ) -> None:
        self._format: str = options["format"]
        key = [c for c in columns if c.primary_key]
        # what a row that goes is known by is a table's key
        self._tombstones: str = options["tombstones"] or ("delete" if key and "key_format" in options else "reject")
        if self._format == "debezium":
            self._tombstones = "skip"
        self._fields = fields_of(options, columns)
        self._decoder = _decoder(options, self._fields, record_bytes_max)
        self._empty = casts.empty_rows(self._fields)
        self._included = [c for c in columns if c.include]
        self._metadata = metadata
        self._record_bytes_max = record_bytes_max
        self._readers = {
            c.name: AvroKeys(c, options)
            if c.include == "key" and options.get("key_format") == "avro"
            else BytesReader(c, options["times"])
            for c in self._included
            if c.include.startswith(HEADER) or metadata[c.include].bytes
        }
        self.wanted = frozenset("headers" if c.include.startswith(HEADER) else c.include for c in self._included)
        self._keys: KeyReader | None = None
        in_key = [c for c in key if not c.include]
        if self._tombstones == "delete" and in_key:
            self._keys = KeyReader(in_key, options, record_bytes_max)
            self.wanted |= {"key"}
        if options.get("key_format") == "avro" and "key" not in self.wanted:
            raise InvalidParameterValue(
                'the option "key_format" is for keys that are read',
                hint="INCLUDE KEY AS k, or a table with a PRIMARY KEY",
            )

    def decode(self, payloads: Sequence[bytes | None] | Payloads, told: Told) -> DecodedMessages:
        """Read messages; `told` has for each word of `wanted` a value a message."""
        payloads = payloads if isinstance(payloads, Payloads) else Payloads.of(payloads)
        count = len(payloads)
        reasons: dict[int, str] = {}
        rows, messages, weights = self._values(payloads, reasons)
        if self._tombstones == "delete":
            rows, messages, weights = self._with_deleted(rows, messages, payloads, told, reasons)
        columns = self._told(told, count, reasons)
        if reasons:
            bad = np.fromiter(reasons, np.int64, len(reasons))
            kept = ~np.isin(messages, bad)
            if not kept.all():
                mask = pa.array(kept)
                rows, messages = rows.filter(mask), messages[kept]
                weights = None if weights is None else weights.filter(mask)
        if len(messages) != count or weights is not None:
            columns = {name: column.take(pa.array(messages)) for name, column in columns.items()}
        for name, column in columns.items():
            rows = rows.append_column(name, column)
        order = sorted(reasons)
        said = REJECTED_SCHEMA.empty_table()
        if order:
            said = rejected(order, [reasons[i] for i in order], payloads.some(order))
        return DecodedMessages(rows, said, messages, weights, defaults=self._format != "debezium")

    def _values(self, payloads: Payloads, reasons: dict[int, str]) -> tuple[pa.Table, Indexes, pa.Array | None]:
        """Read the payloads; note what is wrong with a message in `reasons`."""
        places, missing = np.flatnonzero(payloads.there), np.flatnonzero(~payloads.there)
        if self._tombstones == "reject":
            reasons.update(dict.fromkeys(missing.tolist(), "a message without a payload"))
        rows, messages, weights = self._present(payloads, places, reasons)
        if len(missing) and self._tombstones == "null":
            self._check_nulls(missing, reasons)
            nothing = pa.table([pa.nulls(len(missing), f.type) for f in rows.schema], schema=rows.schema)
            messages = np.concatenate((messages, missing))
            order = np.argsort(messages, kind="stable")
            rows, messages = pa.concat_tables([rows, nothing]).take(pa.array(order)), messages[order]
        return rows, messages, weights

    def _with_deleted(
        self, rows: pa.Table, messages: Indexes, payloads: Payloads, told: Told, reasons: dict[int, str]
    ) -> tuple[pa.Table, Indexes, pa.Array]:
        """Put in the rows of a table that messages without a payload delete: of these no more than the key is known."""
        missing = np.flatnonzero(~payloads.there)
        weights = np.ones(len(messages), np.int8)
        if len(missing):
            found = pa.table({})
            if self._keys is not None:
                wrong: dict[int, str] = {}
                keys = cast("Sequence[bytes | None]", told["key"])
                found, read = self._keys.read([keys[i] for i in missing.tolist()], wrong)
                reasons.update((int(missing[i]), said) for i, said in wrong.items())
                missing = missing[read]
            columns = [
                found.column(f.name).cast(f.type) if f.name in found.column_names else pa.nulls(len(missing), f.type)
                for f in rows.schema
            ]
            rows = pa.concat_tables([rows, pa.table(columns, schema=rows.schema)])
            messages = np.concatenate((messages, missing))
            weights = np.concatenate((weights, np.full(len(missing), -1, np.int8)))
            order = np.argsort(messages, kind="stable")
            rows, messages, weights = rows.take(pa.array(order)), messages[order], weights[order]
        return rows, messages, pa.array(weights)

    def _check_nulls(self, missing: Indexes, reasons: dict[int, str]) -> None:
        needed = next((f.name for f in self._fields if f.not_null), None)
        if needed is not None:
            said = f'null value in column "{needed}" violates not-null constraint'
            reasons.update(dict.fromkeys(missing.tolist(), said))

    def _present(
        self, payloads: Payloads, places: Indexes, reasons: dict[int, str]
    ) -> tuple[pa.Table, Indexes, pa.Array | None]:
        """Read the payloads that are there, the messages of which are at `places`."""
        data, lengths, starts = payloads.data, payloads.lengths, payloads.starts
        kept = np.ones(len(lengths), np.bool_)
        if self._format not in _ANY_BYTES:
            kept &= lengths > 0
        kept &= lengths <= self._record_bytes_max
        records = Records(data, starts, starts + lengths)
        if not kept.all():
            records = records.filter(kept)
            long = np.flatnonzero(lengths > self._record_bytes_max)
            said = f"a message of more than record_bytes_max = {self._record_bytes_max} bytes"
            reasons.update(dict.fromkeys(places[long].tolist(), said))
            if self._format not in _ANY_BYTES:
                reasons.update(dict.fromkeys(places[np.flatnonzero(lengths == 0)].tolist(), "an empty message"))
        if self._format not in _ANY_BYTES and BYTE_ORDER_MARK in data:
            records = _without_marks(records)
        if self._format == "csv" and len(records):
            records = _lone_records(records, starts, places, reasons)
        found = self._decoder.read_records(records, 0)
        rows = self._empty if not len(records) and not found.rows.num_rows else found.rows
        messages = _of(starts, self._decoder.positions) if len(records) else np.zeros(0, np.int64)
        aside = _of(starts, found.rejected.column("position").to_numpy())
        reasons.update(zip(places[aside].tolist(), found.rejected.column("reason").to_pylist(), strict=True))
        if found.weights is not None or len(messages) + len(aside) < len(records):
            self._note_blank(records, starts, np.concatenate((messages, aside)), places, reasons)
        return rows, places[messages], found.weights

    def _note_blank(
        self, records: Records, starts: Indexes, seen: Indexes, places: Indexes, reasons: dict[int, str]
    ) -> None:
        """Reject what the decoder took for no record: of a sequence of bytes that is right, of messages it is not."""
        found = _of(starts, records.starts)
        for place in np.flatnonzero(~np.isin(found, seen)).tolist():
            index = int(found[place])
            if self._format == "debezium" and records.bytes_of(place).strip(_BLANK) == b"null":
                continue  # a tombstone
            reasons[int(places[index])] = "an empty message"

    def _told(self, told: Told, count: int, reasons: dict[int, str]) -> dict[str, pa.Array]:
        """Make the included columns, a value a message."""
        made: dict[str, pa.Array] = {}
        headers = _Headers.of(told["headers"], count) if "headers" in self.wanted else None  # type: ignore[arg-type]
        for column in self._included:
            if column.include.startswith(HEADER):
                assert headers is not None
                values = headers.values(column.include.removeprefix(HEADER))
            elif column.include == "headers":
                assert headers is not None
                made[column.name] = headers.objects()
                continue
            else:
                values = told[column.include]
            reader = self._readers.get(column.name)
            if reader is not None:
                made[column.name] = reader.read(pa.array(values, pa.binary()), reasons)
                continue
            array = pa.array(values) if not isinstance(values, pa.Array) else values
            plain = column.type == "TIMESTAMP" and pa.types.is_timestamp(array.type)
            made[column.name] = array.cast(pa.timestamp(array.type.unit)) if plain else array
        return made


def _of(starts: Indexes, positions: Indexes) -> Indexes:
    """Give the message in which each position lies."""
    return np.searchsorted(starts, positions, side="right").astype(np.int64) - 1


def _without_marks(records: Records) -> Records:
    """Take byte order marks off the beginnings of records."""
    octets = np.frombuffer(records.data + b"\0\0\0", np.uint8)
    begins = np.ones(len(records), np.bool_)
    for place, octet in enumerate(BYTE_ORDER_MARK):
        begins &= octets[records.starts + place] == octet
    begins &= records.stops - records.starts > len(BYTE_ORDER_MARK)
    return Records(records.data, records.starts + len(BYTE_ORDER_MARK) * begins, records.stops)


def _lone_records(records: Records, starts: Indexes, places: Indexes, reasons: dict[int, str]) -> Records:
    """Take line ends off CSV records, and set aside what is not one: a quote is left open, or a line ends outside of quotes."""
    octets = np.frombuffer(records.data, np.uint8)
    stops = records.stops
    for octet in b"\n\r":
        stops = stops - ((stops > records.starts) & (octets[np.maximum(stops - 1, 0)] == octet))
    records = Records(records.data, records.starts, stops)
    quotes = np.flatnonzero(octets == ord('"'))
    before = np.searchsorted(quotes, records.starts)
    wrong = {
        "a quoted field that does not end": (np.searchsorted(quotes, stops) - before) % 2 == 1,
        "more than one CSV record in a message": np.zeros(len(records), np.bool_),
        "an empty message": stops == records.starts,
    }
    ends = np.flatnonzero(octets == ord("\n"))
    within = np.searchsorted(records.starts, ends, side="right") - 1
    inside = (within >= 0) & (ends < stops[np.maximum(within, 0)])
    ends, within = ends[inside], within[inside]
    outside = (np.searchsorted(quotes, ends) - before[within]) % 2 == 0
    wrong["more than one CSV record in a message"][within[outside]] = True
    kept = np.ones(len(records), np.bool_)
    for reason, mask in wrong.items():
        kept &= ~mask
        reasons.update(dict.fromkeys(places[_of(starts, records.starts[mask])].tolist(), reason))
    return records if kept.all() else records.filter(kept)


@dataclass(frozen=True, slots=True)
class _Headers:
    """The headers of messages: those that are alike are looked at once."""

    distinct: list[tuple[tuple[str, bytes | None], ...]]
    codes: pa.Array

    @classmethod
    def of(cls, headers: Sequence[Sequence[tuple[str, bytes | None]] | None], count: int) -> _Headers:
        known: dict[tuple[tuple[str, bytes | None], ...], int] = {}
        codes = np.fromiter((known.setdefault(tuple(h or ()), len(known)) for h in headers), np.int64, count)
        return cls(list(known), pa.array(codes))

    def values(self, name: str) -> pa.Array:
        """Give the value of one header: the last, if there are several, NULL if there is none."""
        return pa.array([dict(h).get(name) for h in self.distinct], pa.binary()).take(self.codes)

    def objects(self) -> pa.Array:
        """Give each message's headers as a JSON object; values that are no text as ``\\x`` and hexadecimal digits."""
        texts = [json.dumps({k: _shown(v) for k, v in h}, ensure_ascii=False) for h in self.distinct]
        return pa.array(texts, pa.string()).take(self.codes)


def _shown(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    except UnicodeDecodeError:
        return "\\x" + value.hex()
