"""Reads topics of an MQTT broker, each message at least once: it is acknowledged when its row is committed.

The broker keeps a session by the client's id, with all messages of QoS 1 that are not acknowledged, also while nobody is
connected. So a server that is killed gets again what it had not acknowledged, and of that what it had committed just before
is there twice: MQTT has no position that could be kept with the rows. The position here only counts messages.

A session that the broker has forgotten (it expired, or the broker lost it) is a gap, which is told (`incoming.Gaps`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamsql.base.errors import ExternalError, Unavailable
from streamsql.connectors.incoming import Gaps
from streamsql.connectors.messages import MessageDecoder
from streamsql.connectors.mqtt import MqttConnector, topics_of
from streamsql.connectors.mqtt.client import ANSWER_SECONDS_MAX, Connection
from streamsql.connectors.source import Batch, Surroundings
from streamsql.engine.positions import Positions
from streamsql.formats.format import rejected
from streamsql.sql.statements import ColumnDefinition

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

PARTITION = "messages"
# the connection is looked at as often, although each message wakes the reader
_LOOK_US = 1_000_000


class MqttSource:
    """An open session. paho's thread puts messages into a queue, which is as long as the broker sends ahead."""

    def __init__(
        self,
        options: Mapping[str, Any],
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        surroundings: Surroundings,
    ) -> None:
        self._wake = surroundings.wake
        self._decoder = MessageDecoder(options, columns, MqttConnector.metadata, surroundings.record_bytes_max)
        empty = self._decoder.decode([], _told([], self._decoder.wanted)).rows
        gaps = Gaps(options["on_gap"])
        self._gaps = gaps
        self._ready: deque[Batch] = deque()
        self._arrived: deque[MQTTMessage] = deque()
        # (how many messages had been read after it, packet id) of those that are not acknowledged
        self._unanswered: deque[tuple[int, int]] = deque()
        self._count = int(positions.get(PARTITION, 0))
        self._subscribed = threading.Event()
        self._refused: str | None = None
        self._connection = Connection(
            options, surroundings, session_seconds=options["session"] // 1_000_000,
            unanswered_max=options["unanswered_max"], prepare=self._prepare,
        )  # fmt: skip
        try:
            self._subscribe(topics_of(options["topic"]))
        except BaseException:
            self._connection.close()
            raise
        if PARTITION not in positions:
            self._ready.append(Batch(PARTITION, empty, 0))  # from now on a session is expected to be there
        elif not self._connection.session_present:
            self._count += 1
            message = "the MQTT broker has forgotten the session: what came since is lost"
            self._ready.append(gaps.found(PARTITION, empty, self._count, message))

    def _prepare(self, client: Client) -> None:
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        self._arrived.append(message)
        self._wake()

    def _on_subscribe(self, client: Client, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        failed = [str(reason) for reason in reasons if reason.is_failure]
        if failed:
            self._refused = failed[0]
        self._subscribed.set()

    def _subscribe(self, topics: list[str]) -> None:
        """Subscribe, also where the session has it: what is retained comes at the first time only."""
        from paho.mqtt.subscribeoptions import SubscribeOptions

        wanted = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        self._connection.client.subscribe([(topic, wanted) for topic in topics])
        if not self._subscribed.wait(ANSWER_SECONDS_MAX):
            self._connection.check()
            raise Unavailable("mqtt: the broker does not answer")
        if self._refused is not None:
            raise ExternalError(f"the MQTT broker refuses the subscription: {self._refused}")

    def read(self, rows_max: int, now_us: int) -> Batch | None:
        if self._ready:
            return self._ready.popleft()
        self._gaps.check()
        messages = [self._arrived.popleft() for _ in range(min(rows_max, len(self._arrived)))]
        if not messages:
            self._connection.check()
            return None
        self._count += len(messages)
        self._unanswered.extend((self._count, m.mid) for m in messages if m.qos)
        payloads = [bytes(m.payload) for m in messages]
        made = self._decoder.decode(payloads, _told(messages, self._decoder.wanted))
        aside = made.rejected
        if aside.num_rows:
            places = aside.column("position").to_pylist()
            reasons = [
                f"{reason} (topic {messages[place].topic})"
                for place, reason in zip(places, aside.column("reason").to_pylist(), strict=True)
            ]
            aside = rejected(places, reasons, [payloads[place] for place in places])
        return Batch(PARTITION, made.rows, self._count, aside, defaults=True)

    def due_us(self, now_us: int) -> int | None:
        return now_us + _LOOK_US

    def committed(self, positions: Positions) -> None:
        """Acknowledge the messages up to here. Where the connection is broken they come again."""
        count = int(positions.get(PARTITION, 0))
        while self._unanswered and self._unanswered[0][0] <= count:
            _, mid = self._unanswered.popleft()
            self._connection.client.ack(mid, 1)

    def close(self) -> None:
        self._connection.close()


def _told(messages: Sequence[MQTTMessage], wanted: frozenset[str]) -> dict[str, Any]:
    """Give what messages tell beside their payload."""
    told: dict[str, Any] = {}
    if "topic" in wanted:
        told["topic"] = pa.array([m.topic for m in messages], pa.string())
    if "retained" in wanted:
        told["retained"] = pa.array([bool(m.retain) for m in messages], pa.bool_())
    if "headers" in wanted:
        told["headers"] = [[(k, v.encode()) for k, v in _properties(m)] for m in messages]
    return told


def _properties(message: MQTTMessage) -> list[tuple[str, str]]:
    """Give the user properties of a message, which are MQTT's headers."""
    found: list[tuple[str, str]] = getattr(message.properties, "UserProperty", [])
    return found
