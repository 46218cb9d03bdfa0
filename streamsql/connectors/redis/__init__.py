"""Redis: entries of streams as rows, and changes as entries of a stream or as hashes. The client library is redis-py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue
from streamsql.connectors.brokers import BrokerConnector
from streamsql.connectors.incoming import ON_GAP, POLL, refuse_password
from streamsql.connectors.messages import FORMAT_OPTIONS, check_format
from streamsql.connectors.outgoing import BODY_OPTIONS, MODE, Mode, check_bodies, mode_of
from streamsql.connectors.redis.client import CLIENT_OPTIONS, require_package
from streamsql.connectors.settings import Option, integer, read_options
from streamsql.connectors.sink import Guarantee, Shape, Sink
from streamsql.connectors.source import Given, Metadata, Source, Surroundings
from streamsql.engine.positions import Positions
from streamsql.sql.statements import ColumnDefinition


def _startup(text: str) -> str:
    if text.lower() in {"earliest", "latest"}:
        return text.lower()
    time, _, number = text.partition("-")
    if not (time.isdecimal() and (number.isdecimal() or not number)):
        raise InvalidParameterValue(f'"{text}" is not earliest, latest or the id of an entry, such as 1700000000000-0')
    return f"{time}-{number or 0}"


OPTIONS: dict[str, Option] = {
    **CLIENT_OPTIONS,
    "stream": Option(
        str, None, required=True, synonyms=("topic", "streams"),
        says="the stream's key, or several divided by commas; each is a partition",
    ),
    "startup": Option(
        _startup, "earliest", says="where a new stream begins: `earliest`, `latest`, or behind the entry of an id"
    ),
    "field": Option(
        str, None,
        says="the field that holds a message in `format`; without it each column is the field of its name, as text",
    ),
    "poll": POLL,
    "on_gap": ON_GAP,
    **FORMAT_OPTIONS,
}  # fmt: skip

SINK_OPTIONS: dict[str, Option] = {
    **CLIENT_OPTIONS,
    "stream": Option(str, None, synonyms=("topic",), says="the key of the stream that entries are added to"),
    "hash": Option(
        str, None,
        says="what the keys of hashes begin with, of which there is one for each key of a row: `rooms:` makes `rooms:kitchen`",
    ),
    "field": Option(
        str, None,
        says="the field of an entry that holds the row as JSON; without it each column is a field of its name, as text",
    ),
    "maxlen": Option(integer(1), None, says="about how many entries the stream keeps"),
    "mode": MODE,
    **BODY_OPTIONS,
}  # fmt: skip


class RedisConnector(BrokerConnector):
    """Entries of streams. A position is the id of the last entry read, and how many entries the stream had had by then."""

    name = "redis"
    options = OPTIONS
    require_package = staticmethod(require_package)
    metadata: Mapping[str, Metadata] = {
        "id": Metadata("VARCHAR"),
        "stream": Metadata("VARCHAR"),
        "timestamp": Metadata("TIMESTAMP", ("TIMESTAMP WITH TIME ZONE",)),
    }

    def check_messages(self, given: Given, options: Mapping[str, Any], declared: Sequence[ColumnDefinition]) -> None:
        if options["field"] is not None:
            check_format(given, options, declared)
            return
        for name in FORMAT_OPTIONS:
            if name in given.values and name != "times":
                raise InvalidParameterValue(
                    f'the option "{name}" is for messages in one field of an entry',
                    hint="say which by the option field", position=given.places.get(name),
                )  # fmt: skip

    def check_sampled(self, given: Given, options: Mapping[str, Any]) -> None:
        if options["field"] is None:
            raise FeatureNotSupported(
                "columns are inferred from messages in one field of an entry", hint="say which by the option field",
                position=given.places.get("connector"),
            )  # fmt: skip

    def source(
        self,
        options: Mapping[str, Any],
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        surroundings: Surroundings,
    ) -> Source:
        from streamsql.connectors.redis.source import RedisSource

        return RedisSource(options, columns, positions, surroundings)


class RedisSinkConnector:
    """Entries of a stream, or hashes by key; the epoch stands beside them, put there by the same transaction."""

    def check(self, given: Given, shape: Shape) -> Guarantee:
        require_package()
        options = read_options(given, SINK_OPTIONS, "redis")
        mode = _sink_mode(given, shape, options)
        refuse_password(given, "url")
        if "format" in given.values and options["field"] is None:
            raise InvalidParameterValue(
                'the option "format" is for messages in one field of an entry', hint="say which by the option field",
                position=given.places.get("format"),
            )  # fmt: skip
        check_bodies(given, options, shape, mode)
        return Guarantee.EXACTLY_ONCE

    def open(self, given: Given, shape: Shape, surroundings: Surroundings) -> Sink:
        from streamsql.connectors.redis.sink import RedisSink

        options = read_options(given, SINK_OPTIONS, "redis", surroundings)
        return RedisSink(options, shape, _sink_mode(given, shape, options), surroundings)


def _sink_mode(given: Given, shape: Shape, options: Mapping[str, Any]) -> Mode:
    at = given.places.get("connector")
    if ("stream" in given.values or "topic" in given.values) is ("hash" in given.values):
        raise InvalidParameterValue(
            'the connector "redis" needs one of the options "stream" and "hash"',
            hint="stream = 'alerts' adds entries; hash = 'rooms:' keeps a hash for each key", position=at,
        )  # fmt: skip
    if "hash" in given.values:
        for name in ("field", "maxlen"):
            if name in given.values:
                raise InvalidParameterValue(f'the option "{name}" is for streams', position=given.places.get(name))
        if options["mode"] not in {None, Mode.UPSERT.value}:
            raise InvalidParameterValue("hashes hold the last row of each key", hint="mode = 'upsert'",
                                        position=given.places.get("mode"))  # fmt: skip
        return mode_of(given, shape, Mode.UPSERT.value)
    return mode_of(given, shape, options["mode"])
