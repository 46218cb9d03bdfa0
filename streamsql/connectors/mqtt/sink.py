"""Publishes changes to topics with QoS 1 or 2: a delivery is over when the broker has acknowledged all of its messages.

A delivery that is cut off comes again, with what has arrived of it: at least once. Each message has the user property
``streamsql-id``, ``IDENTITY:EPOCH-NUMBER``, which is the same whenever the row is sent again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from streamsql.base.errors import ExternalError, Unavailable
from streamsql.connectors.mqtt.client import ANSWER_SECONDS_MAX, Connection
from streamsql.connectors.outgoing import Bodies, Mode, Template, told
from streamsql.connectors.sink import Delivery, Shape
from streamsql.connectors.source import Surroundings

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessageInfo
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

ID = "streamsql-id"
# messages that are sent before the first of them is acknowledged
_AHEAD_MAX = 1_000
_LOOK_UP_SECONDS = 0.2
_TOPIC_BYTES_MAX = 65_535


class MqttSink:
    """An open sink."""

    def __init__(
        self, options: Mapping[str, Any], shape: Shape, mode: Mode, topic: Template, surroundings: Surroundings
    ) -> None:
        self._shape, self._mode, self._topic = shape, mode, topic
        self._qos: int = options["qos"]
        self._retain: bool = options["retain"]
        self._identity = surroundings.identity
        self._refused: str | None = None
        self._bodies = Bodies(options, shape, mode)
        self._connection = Connection(
            options, surroundings, session_seconds=None, unanswered_max=_AHEAD_MAX, prepare=self._prepare
        )

    def _prepare(self, client: Client) -> None:
        client.on_publish = self._on_publish

    def _on_publish(self, client: Client, userdata: Any, mid: int, reason: ReasonCode, properties: Any) -> None:
        """Note an acknowledgement that is none: the broker has the message, and does not want it."""
        if reason.is_failure:
            self._refused = str(reason)

    def delivered(self) -> int | None:
        return None

    def deliver(self, delivery: Delivery) -> None:
        changes = told(delivery, self._shape, self._mode)
        topics = self._topic.values(changes.rows, self._shape.columns)
        bodies = self._bodies.of(changes)
        if self._retain and self._mode is Mode.UPSERT:
            for place in np.flatnonzero(changes.weights < 0).tolist():
                bodies[place] = b""  # this is how MQTT deletes what is retained
        keys = changes.row_keys().to_pylist()
        ahead = self._connection.ahead_max
        for start in range(0, len(bodies), ahead):
            stop = min(start + ahead, len(bodies))
            sent = [self._send(topics[n], bodies[n], keys[n]) for n in range(start, stop)]
            self._await(sent)

    def _send(self, topic: str, body: bytes, key: str) -> MQTTMessageInfo:
        if len(topic.encode()) > _TOPIC_BYTES_MAX:
            raise ExternalError(f"an MQTT topic has at most {_TOPIC_BYTES_MAX} bytes")
        self._connection.check()
        try:
            return self._connection.client.publish(
                topic, body, self._qos, self._retain, properties=_properties(f"{self._identity}:{key}")
            )
        except ValueError as error:
            raise ExternalError(f"the MQTT message cannot be sent: {error}") from error

    def _await(self, sent: list[MQTTMessageInfo]) -> None:
        """Wait until all are acknowledged. Raises Unavailable where the connection breaks, or nothing comes any more."""
        waiting, heard = sent, time.monotonic()
        while waiting:
            self._connection.check()
            try:
                waiting[0].wait_for_publish(_LOOK_UP_SECONDS)
            except (RuntimeError, ValueError) as error:
                raise Unavailable(f"mqtt: {error}") from error
            left = [info for info in waiting if not info.is_published()]
            if len(left) < len(waiting):
                heard = time.monotonic()
            elif time.monotonic() - heard > ANSWER_SECONDS_MAX:
                raise Unavailable("mqtt: the broker does not acknowledge")
            waiting = left
        if self._refused is not None:
            raise ExternalError(f"the MQTT broker refuses a message: {self._refused}")

    def close(self) -> None:
        self._connection.close()


def _properties(key: str) -> Properties:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    made = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    made.UserProperty = (ID, key)
    return made
