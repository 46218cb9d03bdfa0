"""MQTT as a source and a sink, against a real mosquitto."""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from streamsql.base.errors import (
    DataCorrupted,
    ExternalError,
    FeatureNotSupported,
    InvalidParameterValue,
    StreamSQLError,
    Unavailable,
)
from streamsql.connectors.mqtt import MqttConnector, MqttSinkConnector
from streamsql.connectors.sink import Guarantee, Sink
from streamsql.connectors.source import Given, Source, Surroundings
from streamsql.sql.secrets import SecretReference
from tests.connectors.by_hand import batches, columns, delivery, given, opened, opened_sink, shape, values
from tests.connectors.servers.mosquitto import Mosquitto
from tests.running import until

pytestmark = pytest.mark.mqtt
KN = "(k TEXT, n INT)"

_open: list[Source | Sink] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close what a test has opened."""
    yield
    while _open:
        _open.pop().close()


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    return f"t{abs(hash(request.node.name)) % 10**9}"


def source(broker: Mosquitto, topic: str, text: str = KN, position: int | None = None, **options: str) -> Source:
    said = {"url": broker.url, "topic": topic, "client_id": f"c-{topic.partition('/')[0]}", **options}
    positions = {} if position is None else {"messages": position}
    made = opened(MqttConnector(), given(**said), columns(text), positions)
    _open.append(made)
    return made


def body(*numbers: int) -> list[bytes]:
    return [b'{"k": "a", "n": %d}' % n for n in numbers]


def send(broker: Mosquitto, topic: str, *numbers: int, qos: int = 1) -> None:
    broker.publish(*((topic, b) for b in body(*numbers)), qos=qos)


def taken(reading: Source, count: int) -> list[int]:
    return [row[1] for row in values(batches(reading, count))]


# ---- reading ----


def test_what_is_not_committed_comes_again_and_what_is_does_not(mosquitto: Mosquitto, topic: str):
    reading = source(mosquitto, topic)
    send(mosquitto, topic, 1, 2, 3)
    found = batches(reading, 3, rows_max=2)
    assert found[0].position == 0  # there are no rows yet: from here on the session is expected to be there
    assert found[-1].position == 3
    reading.committed({"messages": 2})
    reading.close()
    send(mosquitto, topic, 4, qos=2)  # while nobody is there
    again = source(mosquitto, topic, position=2)
    assert taken(again, 2) == [3, 4]
    again.committed({"messages": 4})
    again.close()
    last = source(mosquitto, topic, position=4)
    send(mosquitto, topic, 5)
    assert taken(last, 1) == [5]


def test_filters_and_what_messages_say_beside(mosquitto: Mosquitto, topic: str):
    mosquitto.publish((f"{topic}/b/kept", body(1)[0]), retain=True)
    included = f"{KN} INCLUDE TOPIC AS t TEXT, RETAINED AS r BOOLEAN"
    reading = source(mosquitto, f"{topic}/+/kept, {topic}/all/#", included)
    assert values(batches(reading, 1)) == [("a", 1, f"{topic}/b/kept", True)]
    mosquitto.publish((f"{topic}/all/x/y", body(2)[0]), (f"{topic}/b/other", body(3)[0]), (f"{topic}/all", b"{garbage"))
    found = batches(reading, 2)
    assert values(found) == [("a", 2, f"{topic}/all/x/y", False)]
    reasons = [r for b in found for r in b.rejected.column("reason").to_pylist()]
    assert reasons == [f"invalid JSON (topic {topic}/all)"]


def test_columns_are_inferred_from_what_is_retained_without_taking_it(mosquitto: Mosquitto, topic: str):
    mosquitto.publish((f"{topic}/a", b'{"room": "x", "t": 1}'), (f"{topic}/b", b'{"room": "y", "t": 1.5}'), retain=True)
    said = given(url=mosquitto.url, topic=f"{topic}/#", client_id=f"own-{topic}")
    found = MqttConnector().infer(said, Surroundings())
    assert [(c.name, c.type) for c in found] == [("room", "VARCHAR"), ("t", "DOUBLE")]
    reading = source(mosquitto, f"{topic}/#", "(room TEXT, t DOUBLE PRECISION)")
    assert sorted(values(batches(reading, 2))) == [("x", 1.0), ("y", 1.5)]


def test_more_messages_than_the_broker_may_send_ahead(mosquitto: Mosquitto, topic: str):
    reading = source(mosquitto, topic, unanswered_max="10")
    send(mosquitto, topic, *range(100))
    found: list[int] = []

    def enough() -> bool:
        batch = reading.read(1_000, 0)
        if batch is not None:
            found.extend(row[1] for row in values([batch]))
            reading.committed({"messages": batch.position})
        return len(found) == 100

    until(enough, 30)
    assert found == list(range(100))


def test_a_broker_that_is_restarted_is_waited_for(mosquitto: Mosquitto, topic: str):
    reading = source(mosquitto, topic)
    send(mosquitto, topic, 1)
    assert taken(reading, 1) == [1]
    mosquitto.end()

    def broken() -> bool:
        try:
            reading.read(10, 0)
        except Unavailable:
            return True
        return False

    try:
        until(broken)
        reading.close()
        with pytest.raises(Unavailable):
            source(mosquitto, topic, position=1)
    finally:
        mosquitto.start()
    again = source(mosquitto, topic, position=0)
    assert taken(again, 1) == [1]  # it was not acknowledged


@pytest.mark.parametrize("on_gap", ["fail", "skip"])
def test_a_session_that_is_forgotten_is_told_once(mosquitto: Mosquitto, topic: str, on_gap: str):
    first = source(mosquitto, topic)
    first.close()
    with _forgetful(mosquitto, f"c-{topic}"):
        pass
    send(mosquitto, topic, 1)  # lost
    again = source(mosquitto, topic, position=7, on_gap=on_gap)
    send(mosquitto, topic, 2)
    moved = again.read(10, 0)
    assert moved is not None
    assert (moved.rows.num_rows, moved.position) == (0, 8)
    if on_gap == "fail":
        with pytest.raises(DataCorrupted, match="has forgotten the session"):
            again.read(10, 0)
        again.close()
        again = source(mosquitto, topic, position=8)
    else:
        assert moved.rejected.num_rows == 1
    assert taken(again, 1) == [2]


class _forgetful:  # noqa: N801  # used like a function
    """Connect as a client that wants a new session, which ends with the connection."""

    def __init__(self, broker: Mosquitto, client_id: str) -> None:
        self._client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.connect("127.0.0.1", broker.port, clean_start=True)
        self._client.loop_start()
        until(self._client.is_connected)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def test_who_is_refused_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, topic: str):
    passwords, rights = tmp_path / "passwords", tmp_path / "rights"
    # ann's password is "right", as mosquitto_passwd writes it
    _passwd(passwords)
    rights.write_text("user ann\ntopic read in\ntopic write out\n")
    for file in (passwords, rights):
        file.chmod(0o644)
    broker = Mosquitto(tmp_path, "allow_anonymous false", f"password_file {passwords}", f"acl_file {rights}")
    broker.start()
    try:
        login = {"url": broker.url, "username": "ann", "password": SecretReference("env:MQTT_PASSWORD")}
        monkeypatch.setenv("MQTT_PASSWORD", "wrong")
        with pytest.raises(ExternalError, match="refuses the connection"):
            opened(MqttConnector(), Given({**login, "topic": "in"}, {}), columns(KN))
        monkeypatch.setenv("MQTT_PASSWORD", "right")
        _open.append(opened(MqttConnector(), Given({**login, "topic": "in"}, {}), columns(KN)))
        allowed = opened_sink(MqttSinkConnector(), Given({**login, "topic": "out", "client_id": "w"}, {}), shape())
        _open.append(allowed)
        allowed.deliver(delivery((3, 1, "a", 1)))
        refused = opened_sink(MqttSinkConnector(), Given({**login, "topic": "no", "client_id": "v"}, {}), shape())
        _open.append(refused)
        with pytest.raises(ExternalError, match="refuses a message: Not authorized"):
            refused.deliver(delivery((3, 1, "a", 1)))
    finally:
        broker.kill()


def _passwd(file: Path) -> None:
    import base64
    import hashlib

    salt = b"saltsaltsalt"
    key = hashlib.pbkdf2_hmac("sha512", b"right", salt, 101)
    file.write_text(f"ann:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}\n")


# ---- writing ----


def sink(broker: Mosquitto, topic: str, *, append_only: bool = True, key: tuple[str, ...] = (), **options: Any) -> Sink:
    said = given(url=broker.url, topic=topic, **options)
    made = opened_sink(MqttSinkConnector(), said, shape(append_only=append_only, key=key))
    _open.append(made)
    return made


@pytest.fixture
def listening(mosquitto: Mosquitto, topic: str) -> Iterator[Callable[[int], list[tuple[str, bytes]]]]:
    """Listen to all below a topic; gives a function that gives the next so many messages."""
    arrived: queue.Queue[tuple[str, bytes]] = queue.Queue()
    client = Client(CallbackAPIVersion.VERSION2)
    ready: queue.Queue[None] = queue.Queue()
    client.on_message = lambda c, u, message: arrived.put((message.topic, bytes(message.payload)))
    client.on_subscribe = lambda c, u, mid, reasons, properties: ready.put(None)
    client.connect("127.0.0.1", mosquitto.port)
    client.loop_start()
    client.subscribe(f"{topic}/#", 2)
    ready.get(timeout=20)
    yield lambda count: [arrived.get(timeout=20) for _ in range(count)]
    client.disconnect()
    client.loop_stop()


@pytest.mark.parametrize("qos", ["1", "2"])
def test_rows_are_published_in_their_order(
    mosquitto: Mosquitto, topic: str, listening: Callable[[int], list[tuple[str, bytes]]], qos: str
):
    writing = sink(mosquitto, f"{topic}/{{k}}", qos=qos)
    assert writing.delivered() is None
    writing.deliver(delivery(*((3, 1, "a/b", n) for n in range(1_500)), (4, 1, None, 1_500)))
    found = listening(1_501)
    assert [json.loads(b)["n"] for _, b in found] == list(range(1_501))
    assert {t for t, _ in found} == {f"{topic}/a%2Fb", f"{topic}/%N"}


def test_the_last_of_each_key_is_retained_and_deleted(mosquitto: Mosquitto, topic: str):
    writing = sink(mosquitto, f"{topic}/{{k}}", append_only=False, key=("k",), retain="true")
    writing.deliver(delivery((3, 1, "a", 1), (3, 1, "b", 2), (3, 1, "c", 3)))
    writing.deliver(delivery((4, -1, "a", 1), (4, 1, "a", 5), (4, -1, "b", 2)))
    found = mosquitto.take(f"{topic}/#", 2)
    assert sorted(found) == [(f"{topic}/a", b'{"k":"a","n":5}', True), (f"{topic}/c", b'{"k":"c","n":3}', True)]


def test_a_broker_that_goes_away_or_says_nothing_is_waited_for(
    mosquitto: Mosquitto, topic: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("streamsql.connectors.mqtt.sink.ANSWER_SECONDS_MAX", 1.0)
    changes = delivery((3, 1, "a", 1))
    writing = sink(mosquitto, f"{topic}/x")
    mosquitto.pause()
    try:
        with pytest.raises(Unavailable, match="does not acknowledge"):
            writing.deliver(changes)
    finally:
        mosquitto.go_on()
    writing.deliver(changes)
    mosquitto.end()
    try:
        with pytest.raises(Unavailable):
            until(lambda: writing.deliver(changes))
    finally:
        mosquitto.start()
    sink(mosquitto, f"{topic}/x").deliver(changes)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"qos": "2"}, FeatureNotSupported, "subscribes with QoS 1"),
        ({"topic": "a/#/b"}, InvalidParameterValue, 'a/#/b" is no topic filter'),
        ({"topic": "a+/b"}, InvalidParameterValue, "is no topic filter"),
        ({"url": "http://x"}, InvalidParameterValue, "does not begin with mqtt://"),
        ({"url": "mqtt://a:b@x"}, InvalidParameterValue, "a secret does not stand in a definition"),
    ],
)
def test_options_are_checked(options: dict[str, str], kind: type[StreamSQLError], message: str):
    with pytest.raises(kind, match=message):
        MqttConnector().columns(given(**{"topic": "a/+/#", **options}), columns(KN))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topic": "a/+"}, "it has no wildcards"),
        ({"topic": "a", "retain": "true", "mode": "upsert"}, "need a topic for each key"),
        ({"topic": "a", "qos": "0"}, "is not between 1 and 2"),
    ],
)
def test_options_of_a_sink_are_checked(options: dict[str, str], message: str):
    with pytest.raises(InvalidParameterValue, match=message):
        MqttSinkConnector().check(given(**options), shape(key=("k",)))


def test_the_guarantee():
    assert MqttSinkConnector().check(given(topic="a"), shape()) is Guarantee.AT_LEAST_ONCE
