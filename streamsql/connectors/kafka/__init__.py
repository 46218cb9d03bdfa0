"""Kafka: ``CREATE STREAM ... WITH (connector = 'kafka', brokers = ..., topic = ...)`` and ``CREATE SINK``.

`options` are what both have of the connection, `source` reads a topic, `sink` delivers to one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamsql.base.errors import InvalidParameterValue
from streamsql.connectors.kafka.options import (
    CONNECTION_OPTIONS,
    NAME,
    SINK_PROPERTIES,
    SOURCE_PROPERTIES,
    check_connection,
)
from streamsql.connectors.kafka.sink import KafkaSink
from streamsql.connectors.kafka.source import KafkaSource
from streamsql.connectors.messages import FORMAT_OPTIONS, MessageDecoder, check_format
from streamsql.connectors.payloads import PAYLOAD_OPTIONS, PayloadWriter, check_payloads
from streamsql.connectors.sampling import infer_columns
from streamsql.connectors.schemas import check_key_registry
from streamsql.connectors.settings import (
    Option,
    boolean,
    duration,
    integer,
    one_of,
    read_options,
    timestamp,
    written_positions,
)
from streamsql.connectors.sink import Guarantee, Shape, Sink
from streamsql.connectors.source import Given, Metadata, Source, Surroundings
from streamsql.engine.positions import Positions
from streamsql.sql.statements import ColumnDefinition

METADATA = {
    "key": Metadata("VARCHAR", bytes=True),
    "partition": Metadata("INTEGER", ("BIGINT",)),
    "offset": Metadata("BIGINT"),
    "timestamp": Metadata("TIMESTAMP WITH TIME ZONE", ("TIMESTAMP",)),
    "headers": Metadata("JSON"),
    "header": Metadata("VARCHAR", bytes=True),
}


def _offsets(text: str) -> dict[int, int]:
    found: dict[int, int] = {}
    for item in text.split(","):
        number, _, offset = (part.strip() for part in item.partition(":"))
        if not (number.isdecimal() and offset.isdecimal()):
            raise InvalidParameterValue(
                f'"{item.strip()}" is not of the form partition:offset', hint="startup_positions = '0:42,1:7'"
            )
        found[int(number)] = int(offset)
    return found


def _discovery(text: str) -> int:
    every = duration(text)
    if every < 1_000_000:
        raise InvalidParameterValue("must be a second or more")
    return every


SOURCE_OPTIONS: dict[str, Option] = {
    **CONNECTION_OPTIONS,
    "startup": Option(
        one_of("earliest", "latest", "timestamp", "positions"), "earliest", ("scan.startup.mode", "auto.offset.reset"),
        says="where a new stream begins: with the `earliest` message that there is, with those after the `latest`, with the "
        "first since a `timestamp`, or at `positions`; later it goes on from what is committed",
    ),
    "startup_timestamp": Option(timestamp, None, says="the time for `startup = 'timestamp'`"),
    "startup_positions": Option(
        _offsets, None, says="the offsets for `startup = 'positions'`: `0:42,1:7`; other partitions begin with the earliest"
    ),
    "auto_reset": Option(
        one_of("stop", "earliest", "latest"), "stop",
        says="what to do where the broker no longer has the next message: `stop` the stream and say what is missing, or go on "
        "with the `earliest` that is left or the `latest`, and log it",
    ),
    "isolation": Option(
        one_of("read_committed", "read_uncommitted"), "read_committed", ("isolation.level", "properties.isolation.level"),
        says="whether messages of transactions that are open or were aborted are left out",
    ),
    "discovery": Option(
        _discovery, 30_000_000, says="how often to look for new partitions, which are read from their beginning"
    ),
    "group": Option(
        str, None, ("group.id", "properties.group.id"),
        says="a consumer group that is told of committed offsets, for tools that watch lag; it is never asked",
    ),
    **FORMAT_OPTIONS,
    "tombstones": Option(
        one_of("reject", "skip", "null", "delete"), None,
        says="what becomes of a message without a payload: `delete` (a table's default) deletes the row of its key, `reject` "
        "(a stream's default) sets it aside as unreadable, `skip` leaves it out, `null` makes it a row whose columns are NULL "
        "but for the included ones",
    ),
    "key_format": Option(
        one_of("json", "raw", "avro"), "json",
        says="of a table: how the message's key names the row to delete, if the primary key is not included by `INCLUDE KEY`: "
        "`json` (an object with the columns of the primary key), `raw` (the text of its one column), `avro` (a record with "
        "them, or the value of the one column, by the registry's schema); with `avro`, `INCLUDE KEY` is the key's value, too",
    ),
    **SOURCE_PROPERTIES,
}  # fmt: skip


SINK_OPTIONS: dict[str, Option] = {
    **CONNECTION_OPTIONS,
    **PAYLOAD_OPTIONS,
    "transactions": Option(
        boolean, True,
        says="a delivery is one transaction, so that readers of what is committed have each change once; without them a server "
        "that was killed may repeat its last delivery",
    ),
    "transactional_id": Option(
        str, None, ("transactional.id", "properties.transactional.id"),
        says="the name of the sink's transactions, and of the group that keeps the last epoch; without it one that no other "
        "has",
    ),
    "create_topic": Option(boolean, False, says="make the topic if there is none"),
    "topic_partitions": Option(integer(1, 100_000), 1, says="the partitions of a topic that is made"),
    "topic_replication": Option(
        integer(1, 1_000), -1, says="the replicas of a topic that is made; without it as the broker has it set"
    ),
    "topic_compact": Option(
        boolean, None, says="whether a topic that is made keeps only the last message of each key; without it where rows change"
    ),
    **SINK_PROPERTIES,
}  # fmt: skip


class Kafka:
    """Reads a topic."""

    metadata = METADATA

    def columns(self, given: Given, declared: Sequence[ColumnDefinition]) -> tuple[ColumnDefinition, ...]:
        options = read_options(given, SOURCE_OPTIONS, NAME)
        check_connection(given, options)
        for word in ("timestamp", "positions"):
            name = f"startup_{word}"
            if options["startup"] == word and name not in given.values:
                raise InvalidParameterValue(
                    f'startup = "{word}" needs the option "{name}"', position=given.places.get("startup")
                )
            if options["startup"] != word and name in given.values:
                raise InvalidParameterValue(
                    f'the option "{name}" needs startup = "{word}"', position=given.places.get(name)
                )
        check_format(given, options, declared)
        _check_tombstones(given, options, declared)
        if not declared:
            raise InvalidParameterValue('the connector "kafka" needs columns', position=given.places.get("connector"))
        return tuple(declared)

    def infer(self, given: Given, surroundings: Surroundings) -> tuple[ColumnDefinition, ...]:
        return infer_columns(self, given, read_options(given, SOURCE_OPTIONS, NAME, surroundings), surroundings)

    def open(
        self,
        given: Given,
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        now_us: int,
        surroundings: Surroundings,
    ) -> Source:
        options = read_options(given, SOURCE_OPTIONS, NAME, surroundings)
        decoder = MessageDecoder(options, columns, METADATA, surroundings.record_bytes_max)
        return KafkaSource(options, decoder, positions, surroundings)

    def positions_at(
        self,
        given: Given,
        columns: Sequence[ColumnDefinition],
        target: str,
        value: str | None,
        surroundings: Surroundings,
    ) -> Positions:
        """Ask the broker for the offsets, as a new stream does whose ``startup`` is the target."""
        options = read_options(given, SOURCE_OPTIONS, NAME, surroundings)
        options |= {"startup": target, "startup_timestamp": None, "startup_positions": None}
        if target == "timestamp":
            options["startup_timestamp"] = timestamp(value or "")
        if target == "positions":
            offsets = written_positions(value or "").items()
            options["startup_positions"] = {int(number): int(offset) for number, offset in offsets}
        decoder = MessageDecoder(options, columns, METADATA, surroundings.record_bytes_max)
        source = KafkaSource(options, decoder, {}, surroundings)
        try:
            return source.begins
        finally:
            source.close()


def _check_tombstones(given: Given, options: Mapping[str, Any], declared: Sequence[ColumnDefinition]) -> None:
    """Check the options about the rows that messages without a payload delete."""
    place = given.places.get("tombstones")
    if options["tombstones"] == "delete" and not given.table:
        raise InvalidParameterValue(
            "a stream's rows are not deleted", hint="make it a table, with a PRIMARY KEY", position=place
        )
    if options["tombstones"] is not None and options["format"] == "debezium":
        raise InvalidParameterValue("of debezium, tombstones are skipped", position=place)
    in_key = [c for c in declared if c.primary_key and not c.include]
    deletes = given.table and options["tombstones"] in {None, "delete"} and options["format"] != "debezium"
    if options["key_format"] == "avro":
        check_key_registry(given)
    elif "key_format" in given.values and not (deletes and in_key):
        raise InvalidParameterValue(
            'the option "key_format" is for tables whose rows are deleted by key',
            position=given.places.get("key_format"),
        )
    if options["key_format"] == "raw" and len(in_key) > 1:
        raise InvalidParameterValue(
            "a raw key is one column, and the primary key is several", position=given.places.get("key_format")
        )


class KafkaSinks:
    """Delivers to a topic."""

    def check(self, given: Given, shape: Shape) -> Guarantee:
        options = read_options(given, SINK_OPTIONS, NAME)
        check_connection(given, options)
        check_payloads(given, options, shape)
        for name in ("topic_partitions", "topic_replication", "topic_compact"):
            if name in given.values and not options["create_topic"]:
                raise InvalidParameterValue(
                    f'the option "{name}" needs create_topic = true', position=given.places.get(name)
                )
        if options["topic_compact"] and not shape.key:
            raise InvalidParameterValue(
                "messages without a key cannot be compacted", hint="name it: key = 'a, b'",
                position=given.places.get("topic_compact"),
            )  # fmt: skip
        if options["transactions"]:
            return Guarantee.EXACTLY_ONCE
        if options["transactional_id"]:
            raise InvalidParameterValue(
                "there is a transactional_id, and there are no transactions", position=given.places.get("transactions")
            )
        return Guarantee.AT_LEAST_ONCE

    def open(self, given: Given, shape: Shape, surroundings: Surroundings) -> Sink:
        options = read_options(given, SINK_OPTIONS, NAME, surroundings)
        if options["topic_compact"] is None:
            options["topic_compact"] = not shape.append_only and bool(shape.key) and options["format"] != "debezium"
        return KafkaSink(options, PayloadWriter(options, shape), surroundings)
