"""A connection to an MQTT broker: its options, its making, and how its errors are ours. The client library is paho-mqtt."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from streamsql.base.errors import ExternalError, InvalidParameterValue, StreamSQLError, Unavailable
from streamsql.connectors.incoming import require
from streamsql.connectors.settings import Option, allowed_path
from streamsql.connectors.source import Surroundings

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from paho.mqtt.properties import Properties

ANSWER_SECONDS_MAX = 10.0
_KEEP_ALIVE_SECONDS = 30
_PORTS = {"mqtt": 1883, "mqtts": 8883}


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise InvalidParameterValue(f'"{text.rpartition("@")[2]}" does not begin with mqtt:// or mqtts://')
    return text


CLIENT_OPTIONS: dict[str, Option] = {
    "url": Option(
        _url, "mqtt://127.0.0.1:1883", synonyms=("broker",),
        says="where the broker is: `mqtt://host:port`, or `mqtts://...` for TLS; it has to speak MQTT 5",
    ),
    "username": Option(str, None, says="who to log in as"),
    "password": Option(str, None, secret=True, says="the password, by reference"),
    "client_id": Option(
        str, None, says="the client's name, under which the broker keeps its session; by default one that nobody else has"
    ),
    "tls_ca": Option(str, None, says="a file of authorities to believe, as PEM, below --allow-path; else the system's"),
}  # fmt: skip


def require_package() -> None:
    """Raise FeatureNotSupported where paho-mqtt is not installed."""
    require("paho", "paho-mqtt", "mqtt")


class Connection:
    """A connection, with a thread of the library's. Where it breaks it stays broken: `check` raises, another is opened.

    `prepare` is given the client before it connects, for its callbacks.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        surroundings: Surroundings,
        *,
        session_seconds: int | None,
        unanswered_max: int,
        prepare: Callable[[Client], None],
    ) -> None:
        require_package()
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        self.error: StreamSQLError | None = None
        self.ahead_max = unanswered_max  # messages to the broker that are not acknowledged yet
        self.session_present = False
        self.broken = threading.Event()
        self._answered = threading.Event()
        self.client = Client(
            CallbackAPIVersion.VERSION2, options["client_id"] or f"streamsql-{surroundings.identity}",
            protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False, manual_ack=True,
        )  # fmt: skip
        if options["username"] is not None:
            self.client.username_pw_set(options["username"], options["password"])
        parts = urlsplit(options["url"])
        if parts.scheme == "mqtts":
            authorities = None if options["tls_ca"] is None else allowed_path(options["tls_ca"], surroundings)
            self.client.tls_set_context(ssl.create_default_context(cafile=authorities))
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.max_inflight_messages_set(unanswered_max)
        self.client.max_queued_messages_set(0)
        prepare(self.client)
        try:
            self.client.connect(
                parts.hostname or "", parts.port or _PORTS[parts.scheme], _KEEP_ALIVE_SECONDS,
                clean_start=session_seconds is None, properties=_properties(session_seconds, unanswered_max),
            )  # fmt: skip
        except ssl.SSLCertVerificationError as error:
            raise ExternalError(
                f"the certificate of the MQTT broker is not believed: {error.verify_message}"
            ) from error
        except (OSError, ValueError) as error:
            raise Unavailable(f"mqtt: {error}") from error
        self.client.loop_start()
        if not self._answered.wait(ANSWER_SECONDS_MAX):
            self.close()
            raise Unavailable("mqtt: the broker does not answer")
        if self.error is not None:
            self.close()
            raise self.error

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            refused = reason.getName() in {"Bad user name or password", "Not authorized", "Banned"}
            kind = ExternalError if refused else Unavailable
            self.error = kind(f"the MQTT broker refuses the connection: {reason}")
        self.session_present = bool(flags.session_present)
        # a broker that is sent more than it takes at once ends the connection
        self.ahead_max = min(self.ahead_max, getattr(properties, "ReceiveMaximum", self.ahead_max))
        self._answered.set()

    def _on_disconnect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self.error is None:
            self.error = Unavailable(f"the MQTT broker is gone: {reason}")
        self.broken.set()
        self._answered.set()

    def check(self) -> None:
        """Raise where the connection is broken."""
        if self.broken.is_set() and self.error is not None:
            raise self.error

    def close(self) -> None:
        """Close it; a session that lasts stays with the broker."""
        with contextlib.suppress(OSError):
            self.client.disconnect()
        self.client.loop_stop()


def _properties(session_seconds: int | None, unanswered_max: int) -> Properties:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    made = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    made.ReceiveMaximum = unanswered_max
    if session_seconds is not None:
        made.SessionExpiryInterval = session_seconds
    return made
