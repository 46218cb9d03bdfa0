"""``SCHEMA INFERRED`` of messages: by the schema of a registry, or by a sample that is read without being consumed.

The sample is read as a stream reads that begins with the earliest message, each as bytes; no position is kept, no group told.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any

from streamsql.base.errors import InvalidParameterValue
from streamsql.connectors.messages import FORMAT_OPTIONS
from streamsql.connectors.schemas import BINARY, infer_binary
from streamsql.connectors.source import Connector, Given, Source, Surroundings
from streamsql.formats.format import Field
from streamsql.formats.infer import SAMPLE_BYTES_MAX, infer_csv, infer_json
from streamsql.sql.statements import ColumnDefinition

ROWS_MAX = 1_000
# so long for the first message, and so long for another once there is one
FIRST_SECONDS_MAX, NEXT_SECONDS_MAX = 5.0, 0.5
_LOOK_AGAIN_SECONDS = 0.02
# options that say where to begin, or who is told of it
_WHERE = {"startup", "startup_timestamp", "startup_positions", "scan.startup.mode", "auto.offset.reset"}
EARLIEST: Mapping[str, str] = {"startup": "earliest"}
_GROUP = {"group", "group.id", "properties.group.id"}


def infer_columns(
    connector: Connector, given: Given, options: Mapping[str, Any], surroundings: Surroundings,
    sampled: Mapping[str, str] = EARLIEST,
) -> tuple[ColumnDefinition, ...]:  # fmt: skip
    """Tell the columns of a connector's messages. Raises StreamSQLError where there is no telling.

    `sampled` are options of the source that the sample is read from, in place of those that are given.
    """
    return tuple(ColumnDefinition(f.name, f.type) for f in _fields(connector, given, options, surroundings, sampled))


def _fields(
    connector: Connector,
    given: Given,
    options: Mapping[str, Any],
    surroundings: Surroundings,
    sampled: Mapping[str, str],
) -> tuple[Field, ...]:
    name = options["format"]
    if name in BINARY:
        return infer_binary(given, options)
    payloads = _sample(connector, given, surroundings, sampled)
    if not payloads:
        raise InvalidParameterValue(
            "there are no messages to infer columns from", hint="write the columns out",
            position=given.places.get("connector"),
        )  # fmt: skip
    if name == "raw":
        return (Field("value", "VARCHAR" if all(map(_is_text, payloads)) else "BLOB"),)
    if name == "csv":  # a message is a record, and says no names
        return infer_csv(b"".join(p.rstrip(b"\r\n") + b"\n" for p in payloads), options["delimiter"], header=False)
    if name == "debezium":
        payloads = [image for payload in payloads if (image := _image(payload, options)) is not None]
    # a line end within a JSON value is white space
    return infer_json(b"\n".join(p.replace(b"\r", b" ").replace(b"\n", b" ") for p in payloads))


def _sample(connector: Connector, given: Given, surroundings: Surroundings, sampled: Mapping[str, str]) -> list[bytes]:
    """Read the first messages."""
    left_out = _WHERE | _GROUP | {n for name, o in FORMAT_OPTIONS.items() for n in (name, *o.synonyms)}
    values = {n: v for n, v in given.values.items() if n not in left_out}
    values |= {"format": "raw", "tombstones": "skip", **sampled}
    columns = (ColumnDefinition("value", "BLOB"),)
    source = connector.open(Given(values, given.places), columns, {}, time.time_ns() // 1000, surroundings)
    try:
        return _read(source)
    finally:
        source.close()


def _read(source: Source) -> list[bytes]:
    payloads: list[bytes] = []
    size = 0
    ends = time.monotonic() + FIRST_SECONDS_MAX
    pause = threading.Event()
    while len(payloads) < ROWS_MAX and size < SAMPLE_BYTES_MAX and time.monotonic() < ends:
        batch = source.read(ROWS_MAX, time.time_ns() // 1000)
        if batch is None:
            pause.wait(_LOOK_AGAIN_SECONDS)
            continue
        if batch.rows.num_rows:
            found = [value for value in batch.rows.column("value").to_pylist() if value is not None]
            payloads += found
            size += sum(map(len, found))
            ends = time.monotonic() + NEXT_SECONDS_MAX
    return payloads[:ROWS_MAX]


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _image(payload: bytes, options: Mapping[str, Any]) -> bytes | None:
    """Give the row of a change envelope."""
    try:
        found = json.loads(payload)
        if options["payload"]:
            found = found["payload"]
        if not options["flat"]:
            found = found.get("after") or found.get("before")
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    if not isinstance(found, dict):
        return None
    return json.dumps({n: v for n, v in found.items() if n != "__deleted"}).encode()
