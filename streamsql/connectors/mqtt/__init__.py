"""MQTT: messages of topics as rows, and changes as messages. The client library is paho-mqtt."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue
from streamsql.connectors.brokers import BrokerConnector
from streamsql.connectors.incoming import ON_GAP, refuse_password
from streamsql.connectors.messages import FORMAT_OPTIONS
from streamsql.connectors.mqtt.client import CLIENT_OPTIONS, require_package
from streamsql.connectors.outgoing import BODY_OPTIONS, MODE, Mode, check_bodies, mode_of, template
from streamsql.connectors.settings import Option, boolean, duration, integer, read_options
from streamsql.connectors.sink import Guarantee, Shape, Sink
from streamsql.connectors.source import Given, Metadata, Source, Surroundings
from streamsql.engine.positions import Positions
from streamsql.sql.statements import ColumnDefinition

# what a level of a topic must not have in it, where a value stands for it
TOPIC_ESCAPED = "/+#\0"

OPTIONS: dict[str, Option] = {
    **CLIENT_OPTIONS,
    "topic": Option(
        str, None, required=True, synonyms=("topics",),
        says="topics or filters, divided by commas: `rooms/+/temperature, alarms/#`",
    ),
    "qos": Option(
        integer(0, 2), 1,
        says="1, and no other: messages sent with 2 come as well, each at least once; 2 would lose what the broker has handed "
        "over when the server is killed before it commits, and 0 what comes while it is away",
    ),
    "session": Option(
        duration, 7 * 86_400_000_000,
        says="how long the broker keeps what comes while the server is away",
    ),
    "unanswered_max": Option(
        integer(1, 65_535), 10_000, says="messages that the broker sends before the first of them is committed"
    ),
    "on_gap": ON_GAP,
    **FORMAT_OPTIONS,
}  # fmt: skip

SINK_OPTIONS: dict[str, Option] = {
    **CLIENT_OPTIONS,
    "topic": Option(
        str, None, required=True,
        says="the topic; columns may stand in it: `rooms/{room}`, in whose values what a topic must not have becomes %XX",
    ),
    "qos": Option(integer(1, 2), 1, says="1 or 2: how each message is sent; at least once either way"),
    "retain": Option(
        boolean, False, synonyms=("retained",),
        says="the broker keeps the last message of each topic for who comes later; in mode upsert a row that goes deletes it",
    ),
    "mode": MODE,
    **BODY_OPTIONS,
}  # fmt: skip


class MqttConnector(BrokerConnector):
    """Messages of topics. MQTT has no position to come back to: the broker keeps a message until it is acknowledged."""

    name = "mqtt"
    options = OPTIONS
    require_package = staticmethod(require_package)
    metadata: Mapping[str, Metadata] = {
        "topic": Metadata("VARCHAR"),
        "retained": Metadata("BOOLEAN"),
        "headers": Metadata("JSON", ("VARCHAR",)),
        "header": Metadata("VARCHAR", bytes=True),
    }

    def check_options(self, given: Given, options: Mapping[str, Any]) -> None:
        if options["qos"] != 1:
            raise FeatureNotSupported(
                "an MQTT source subscribes with QoS 1", position=given.places.get("qos"),
                hint="with QoS 2 the broker forgets a message before its row is committed, and a crash would lose it; "
                "what was sent with QoS 2 comes as well, each message at least once",
            )  # fmt: skip
        for topic in topics_of(options["topic"]):
            if not _is_filter(topic):
                raise InvalidParameterValue(f'"{topic}" is no topic filter', position=given.places.get("topic"))

    def sampled(self) -> Mapping[str, str]:
        """Look at what is retained, and at what comes within a few seconds, by a session of its own that ends at once."""
        return {"client_id": f"streamsql-sample-{secrets.token_hex(8)}", "session": "1 second"}

    def source(
        self,
        options: Mapping[str, Any],
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        surroundings: Surroundings,
    ) -> Source:
        from streamsql.connectors.mqtt.source import MqttSource

        return MqttSource(options, columns, positions, surroundings)


class MqttSinkConnector:
    """Messages to topics: at least once. A broker keeps no note that could tell what it has."""

    def check(self, given: Given, shape: Shape) -> Guarantee:
        require_package()
        options = read_options(given, SINK_OPTIONS, "mqtt")
        refuse_password(given, "url")
        mode = mode_of(given, shape, options["mode"])
        made = template(given, "topic", options["topic"] or "", shape, TOPIC_ESCAPED)
        if not "".join(made.parts) or any(c in part for part in made.parts[::2] for c in "+#\0"):
            raise InvalidParameterValue(
                "messages go to one topic each: it has no wildcards", position=given.places.get("topic")
            )
        if options["retain"] and mode is Mode.UPSERT and set(made.columns) != set(shape.key):
            raise InvalidParameterValue(
                "retained messages of mode upsert need a topic for each key",
                hint=f"topic = 'name/{'/'.join(f'{{{name}}}' for name in shape.key)}'",
                position=given.places.get("topic"),
            )
        check_bodies(given, options, shape, mode, deletes=options["retain"])
        return Guarantee.AT_LEAST_ONCE

    def open(self, given: Given, shape: Shape, surroundings: Surroundings) -> Sink:
        from streamsql.connectors.mqtt.sink import MqttSink

        options = read_options(given, SINK_OPTIONS, "mqtt", surroundings)
        topic = template(given, "topic", options["topic"], shape, TOPIC_ESCAPED)
        return MqttSink(options, shape, mode_of(given, shape, options["mode"]), topic, surroundings)


def topics_of(text: str) -> list[str]:
    """Give the topic filters that an option names."""
    return [topic.strip() for topic in text.split(",") if topic.strip()]


def _is_filter(text: str) -> bool:
    levels = text.split("/")
    return "\0" not in text and all(
        (level in {"+", "#"} or not set(level) & set("+#")) and (level != "#" or place == len(levels) - 1)
        for place, level in enumerate(levels)
    )
