"""Changes to messages of brokers: for each a payload and a key, written column by column.

What a message is depends on the view and the format:

    json, csv, raw, avro, protobuf
                      of a view whose rows only ever come: a message a row
                      of any other, by its key: the row as it is now, or a message without a payload where it has gone
    debezium          of any view: a change envelope, an update in one where the key tells which rows belong together
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import InvalidParameterValue
from streamsql.connectors.messages import FORMAT_OPTIONS
from streamsql.connectors.registry import REGISTRY_OPTIONS
from streamsql.connectors.schemas import BINARY, Records, check_records, check_registry, subject_of
from streamsql.connectors.settings import Option, one_of
from streamsql.connectors.sink import Delivery, Shape
from streamsql.connectors.source import Given
from streamsql.formats import casts
from streamsql.formats.csv import CsvFormat
from streamsql.formats.format import Field
from streamsql.formats.json import objects

PAYLOAD_OPTIONS: dict[str, Option] = {
    "format": Option(
        one_of("json", "csv", "raw", "debezium", *BINARY), "json",
        says="what a message holds: `json` (an object), `csv` (a line), `raw` (the one column, of type text or bytea), "
        "`avro` and `protobuf` (a record, with the id that the schema has in the registry), or `debezium` (a change "
        "envelope). All but the last need a key where rows of the view change: the message is the row as "
        "it is now, one without a payload says that it has gone",
    ),
    "key_format": Option(
        one_of("json", "raw", *BINARY), "json",
        says="how the columns of `key` become the message's key: `json` (an object), `raw` (the text of the one column), "
        "`avro` and `protobuf` (a record)",
    ),
    "registry_key_subject": Option(str, None, says="the registry's subject of keys; the default is the topic with `-key`"),
    "delimiter": FORMAT_OPTIONS["delimiter"],
    **REGISTRY_OPTIONS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Payloads:
    """What is to be sent: `values` (null: a tombstone) and `keys` (None: there is no key), and which row each is of."""

    values: pa.Array
    keys: pa.Array | None
    rows: npt.NDArray[np.int64]


def check_payloads(given: Given, options: Mapping[str, Any], shape: Shape) -> None:
    """Check whether such changes can be written so. Raises InvalidParameterValue with a position."""
    place = given.places.get("format", given.places.get("connector"))
    kinds = {column.name: column.type for column in shape.columns}
    if not shape.append_only and not shape.key and options["format"] != "debezium":
        raise InvalidParameterValue(
            "rows of the view change, and no key says which",
            hint="name it: key = 'a, b'; or send changes: format = 'debezium'",
            position=place,
        )
    if options["format"] == "raw" and (len(kinds) != 1 or not set(kinds.values()) <= {"VARCHAR", "BLOB"}):
        raise InvalidParameterValue("raw messages need one column, of type text or bytea", position=place)
    if options["key_format"] == "raw" and len(shape.key) != 1:
        raise InvalidParameterValue(
            "a raw key needs one column", hint="name it: key = 'a'", position=given.places.get("key_format", place)
        )
    check_registry(given, options)
    fields = [Field(column.name, column.type) for column in shape.columns]
    if options["format"] in BINARY:
        check_records(given, "format", options["format"], fields)
    if options["key_format"] in BINARY:
        if not shape.key:
            raise InvalidParameterValue(
                "there is no key", hint="name it: key = 'a, b'", position=given.places.get("key_format")
            )
        check_records(given, "key_format", options["key_format"], [f for f in fields if f.name in shape.key])
    if "delimiter" in given.values and options["format"] != "csv":
        raise InvalidParameterValue(
            f'the option "delimiter" is for csv, not for {options["format"]}', position=given.places.get("delimiter")
        )


class PayloadWriter:
    """Writes the messages of one sink."""

    def __init__(self, options: Mapping[str, Any], shape: Shape) -> None:
        self._options = options
        self._shape = shape
        self._fields = tuple(Field(c.name, c.type) for c in shape.columns)
        self._upserts = not shape.append_only and options["format"] != "debezium"
        self._key_fields = [f for name in shape.key for f in self._fields if f.name == name]
        self._records: Records | None = None
        self._key_records: Records | None = None
        if options["format"] in BINARY:
            subject = subject_of(options)
            assert subject is not None
            self._records = Records(options, options["format"], self._fields, subject)
        if options["key_format"] in BINARY:
            subject = options["registry_key_subject"] or f"{options['topic']}-key"
            self._key_records = Records(options, options["key_format"], self._key_fields, subject)

    def write(self, delivery: Delivery) -> Payloads:
        """Give the messages of a delivery, in order."""
        if self._options["format"] == "debezium":
            return self._changes(delivery)
        places = np.arange(delivery.rows.num_rows)
        if self._upserts:
            numbered = Delivery(
                delivery.rows.append_column("__place", pa.array(places)), delivery.weights, delivery.epochs,
                delivery.numbers, delivery.first_epoch, delivery.last_epoch,
            ).last_of_keys(self._shape.key)  # fmt: skip
            places = np.asarray(numbered.rows.column("__place"))
            delivery = Delivery(
                numbered.rows.drop_columns(["__place"]), numbered.weights, numbered.epochs, numbered.numbers,
                delivery.first_epoch, delivery.last_epoch,
            )  # fmt: skip
        values = self._values(delivery.rows)
        if self._upserts:
            gone = pa.array(delivery.weights < 0)
            values = pc.if_else(gone, pa.scalar(None, values.type), values)
        return Payloads(values, self._keys(delivery.rows), places)

    def _values(self, rows: pa.Table) -> pa.Array:
        match self._options["format"]:
            case "csv":
                written = CsvFormat(self._fields, False, self._options["delimiter"]).lines(rows)
            case "raw":
                written = rows.column(0).combine_chunks()
            case "avro" | "protobuf":
                assert self._records is not None
                return self._records.write(rows)
            case _:
                written = objects(rows, self._fields)
        return written.cast(pa.large_binary())

    def _keys(self, rows: pa.Table) -> pa.Array | None:
        key = self._shape.key
        if not key:
            return None
        fields = self._key_fields
        taken = rows.select(list(key))
        if self._key_records is not None:
            return self._key_records.write(taken)
        if self._options["key_format"] == "json":
            return objects(taken, fields).cast(pa.large_binary())
        if fields[0].type == "BLOB":
            return taken.column(0).combine_chunks().cast(pa.large_binary())
        text = casts.query(
            f"SELECT CAST({casts.to_text('k', fields[0].type)} AS VARCHAR) AS k FROM __rows",
            {"__rows": taken.rename_columns(["k"])},
        )
        return text.column("k").combine_chunks().cast(pa.large_string()).cast(pa.large_binary())

    def _changes(self, delivery: Delivery) -> Payloads:
        """Write envelopes: an update where a row went and one came with the same key in an epoch, at the latter's place."""
        images = objects(delivery.rows, self._fields)
        keys = self._keys(delivery.rows)
        count, comes = len(images), delivery.weights > 0
        before = np.full(count, -1)
        kept = np.ones(count, np.bool_)
        if keys is not None and count:
            went, came = _pairs(keys, delivery)
            before[came], kept[went] = went, False
        rows = np.flatnonzero(kept)
        null = pa.scalar("null", pa.large_string())
        old = np.where(before >= 0, before, np.arange(count))[rows]
        has_before = (before[rows] >= 0) | ~comes[rows]
        befores = pc.if_else(pa.array(has_before), images.take(pa.array(old)), null)
        afters = pc.if_else(pa.array(comes[rows]), images.take(pa.array(rows)), null)
        words = np.where(~comes[rows], "d", np.where(before[rows] >= 0, "u", "c"))
        parts = ['{"before":', befores, ',"after":', afters, ',"op":"', pa.array(words, pa.large_string()), '"}']
        joined = pc.binary_join_element_wise(
            *(pa.scalar(p, pa.large_string()) if isinstance(p, str) else p for p in parts),
            pa.scalar("", pa.large_string()),
        )
        return Payloads(joined.cast(pa.large_binary()), None if keys is None else keys.take(pa.array(rows)), rows)


def _pairs(keys: pa.Array, delivery: Delivery) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Give the places of rows that went and of those that came for them: the only ones of their key and epoch each."""
    codes = np.asarray(keys.dictionary_encode().indices).astype(np.int64)
    group = delivery.epochs * (int(codes.max()) + 1) + codes
    went, came = np.flatnonzero(delivery.weights < 0), np.flatnonzero(delivery.weights > 0)
    one, one_at, one_count = np.unique(group[went], return_index=True, return_counts=True)
    two, two_at, two_count = np.unique(group[came], return_index=True, return_counts=True)
    one_at, one = one_at[one_count == 1], one[one_count == 1]
    two_at, two = two_at[two_count == 1], two[two_count == 1]
    _, first, second = np.intersect1d(one, two, assume_unique=True, return_indices=True)
    return went[one_at[first]], came[two_at[second]]
