"""NATS JetStream: messages of a stream as rows, and changes as messages. The client library is nats-py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamsql.base.errors import InvalidParameterValue
from streamsql.connectors.brokers import BrokerConnector
from streamsql.connectors.incoming import ON_GAP, POLL, refuse_password
from streamsql.connectors.messages import FORMAT_OPTIONS
from streamsql.connectors.nats.client import CLIENT_OPTIONS, require_package
from streamsql.connectors.outgoing import BODY_OPTIONS, MODE, check_bodies, mode_of, template
from streamsql.connectors.settings import Option, boolean, read_options, timestamp
from streamsql.connectors.sink import Guarantee, Shape, Sink
from streamsql.connectors.source import Given, Metadata, Source, Surroundings
from streamsql.engine.positions import Positions
from streamsql.sql.statements import ColumnDefinition

# what a token of a subject must not have in it
SUBJECT_ESCAPED = " .*>\t\r\n"


def _startup(text: str) -> str | int:
    """Read where to begin: ``earliest``, ``latest``, a sequence number, or a time (as microseconds, marked by "@")."""
    if text.lower() in {"earliest", "latest"}:
        return text.lower()
    if text.isascii() and text.isdecimal():
        return int(text)
    return f"@{timestamp(text)}"


OPTIONS: dict[str, Option] = {
    **CLIENT_OPTIONS,
    "stream": Option(str, None, required=True, says="the stream's name"),
    "subject": Option(str, None, says="only messages of these subjects: `rooms.>`, `rooms.*.temperature`"),
    "startup": Option(
        _startup, "earliest",
        says="where a new stream begins: `earliest`, `latest`, behind a sequence number, or at a time",
    ),
    "poll": POLL,
    "on_gap": ON_GAP,
    **FORMAT_OPTIONS,
}  # fmt: skip

SINK_OPTIONS: dict[str, Option] = {
    **CLIENT_OPTIONS,
    "stream": Option(str, None, required=True, says="the stream that has to take the messages"),
    "subject": Option(
        str, None, required=True,
        says="the subject; columns may stand in it: `rooms.{room}`, in whose values what a subject must not have becomes %XX",
    ),
    "exclusive": Option(
        boolean, False,
        says="nobody else writes to the stream: then each message is written exactly once, whenever the server comes back; "
        "it stops where another message has come between",
    ),
    "mode": MODE,
    **BODY_OPTIONS,
}  # fmt: skip


class NatsConnector(BrokerConnector):
    """Messages of a stream. The position is a message's sequence number in the stream."""

    name = "nats"
    options = OPTIONS
    require_package = staticmethod(require_package)
    metadata: Mapping[str, Metadata] = {
        "subject": Metadata("VARCHAR"),
        "sequence": Metadata("BIGINT"),
        "timestamp": Metadata("TIMESTAMP", ("TIMESTAMP WITH TIME ZONE",)),
        "headers": Metadata("JSON", ("VARCHAR",)),
        "header": Metadata("VARCHAR", bytes=True),
    }

    def source(
        self,
        options: Mapping[str, Any],
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        surroundings: Surroundings,
    ) -> Source:
        from streamsql.connectors.nats.source import NatsSource

        return NatsSource(options, columns, positions, surroundings)


class NatsSinkConnector:
    """Messages with an id each (``Nats-Msg-Id``), which JetStream takes once within its window for duplicates.

    Where the stream is the sink's own, each also says which sequence it expects before it, and the last id that is there tells
    what has been written, however long ago.
    """

    def check(self, given: Given, shape: Shape) -> Guarantee:
        require_package()
        options = read_options(given, SINK_OPTIONS, "nats")
        refuse_password(given, "url")
        check_bodies(given, options, shape, mode_of(given, shape, options["mode"]))
        made = template(given, "subject", options["subject"] or "", shape, SUBJECT_ESCAPED)
        for part in made.parts[::2]:
            if any(c in part for c in " *>\t\r\n") or not "".join(made.parts):
                raise InvalidParameterValue(
                    "messages go to one subject each: it has no wildcards and no spaces",
                    position=given.places.get("subject"),
                )
        return Guarantee.EXACTLY_ONCE if options["exclusive"] else Guarantee.AT_LEAST_ONCE

    def open(self, given: Given, shape: Shape, surroundings: Surroundings) -> Sink:
        from streamsql.connectors.nats.sink import NatsSink

        options: dict[str, Any] = read_options(given, SINK_OPTIONS, "nats", surroundings)
        subject = template(given, "subject", options["subject"], shape, SUBJECT_ESCAPED)
        return NatsSink(options, shape, mode_of(given, shape, options["mode"]), subject, surroundings)
