"""Rows leave as Avro and Protocol Buffers through brokers without schemas of their own, and come back as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from nats.js.api import StreamConfig

from streamsql.base.errors import InvalidParameterValue, StreamSQLError
from streamsql.catalog.objects import OutputColumn
from streamsql.connectors import CONNECTORS, SINKS
from streamsql.connectors.sink import Shape
from tests.connectors.by_hand import batches, columns, delivery, given, opened, opened_sink, shape, values
from tests.connectors.servers.mosquitto import Mosquitto
from tests.connectors.servers.nats import NatsServer
from tests.connectors.servers.redis import RedisServer
from tests.connectors.servers.registry import Registry, running

ROWS = [("a", 1), (None, -(2**40)), ("ü", None)]


@pytest.fixture
def registry() -> Iterator[Registry]:
    yield from running()


def _there_and_back(
    connector: str, registry: Registry, kind: str, source: dict[str, str], sink: dict[str, str]
) -> None:
    binary = {"format": kind, "registry": registry.url}
    reading = opened(CONNECTORS[connector], given(**source, **binary), columns("(k TEXT, n BIGINT)"))
    writing = opened_sink(
        SINKS[connector], given(**sink, **binary, registry_subject="rows-value"), shape(), f"test-{kind}"
    )
    try:
        reading.read(1, 0)
        writing.deliver(delivery(*((3, 1, k, n) for k, n in ROWS)))
        assert values(batches(reading, 3)) == ROWS
    finally:
        reading.close()
        writing.close()
    assert list(registry.subjects) == ["rows-value"]


@pytest.mark.redis
@pytest.mark.parametrize("kind", ["avro", "protobuf"])
def test_redis_carries_records_in_a_field(redis_server: RedisServer, registry: Registry, kind: str):
    to = {"url": redis_server.url, "stream": f"binary-{kind}", "field": "body"}
    _there_and_back("redis", registry, kind, to, to)


@pytest.mark.nats
@pytest.mark.parametrize("kind", ["avro", "protobuf"])
def test_nats_carries_records(nats_server: NatsServer, registry: Registry, kind: str):
    config = StreamConfig(name=f"B{kind}", subjects=[f"B{kind}.>"])
    nats_server.run(lambda js: js.add_stream(config))
    to = {"url": nats_server.url, "stream": f"B{kind}"}
    _there_and_back("nats", registry, kind, to, {**to, "subject": f"B{kind}.out"})


@pytest.mark.mqtt
@pytest.mark.parametrize("kind", ["avro", "protobuf"])
def test_mqtt_carries_records(mosquitto: Mosquitto, registry: Registry, kind: str):
    to = {"url": mosquitto.url, "topic": f"binary/{kind}"}
    _there_and_back("mqtt", registry, kind, {**to, "client_id": f"r{kind}"}, {**to, "client_id": f"w{kind}"})


CHANGES = Shape((OutputColumn("k", "VARCHAR"), OutputColumn("n", "BIGINT")), append_only=False, key=("k",))


@pytest.mark.parametrize(
    ("connector", "more", "said"),
    [
        ("nats", {"format": "avro", "registry": "http://x"}, "in mode upsert rows go as well"),
        ("nats", {"format": "avro"}, "avro needs a registry"),
        ("nats", {"registry": "http://x"}, 'the option "registry" is for avro and protobuf, not for json'),
        (
            "mqtt",
            {"format": "avro", "registry": "http://x", "retain": "true"},
            "avro needs the option registry_subject",
        ),
        ("redis", {"format": "avro", "registry": "http://x"}, 'the option "format" is for messages in one field'),
    ],
)
def test_what_cannot_be_written_so_is_refused(connector: str, more: dict[str, str], said: str):
    to = {"nats": {"stream": "s", "subject": "s"}, "mqtt": {"topic": "a/{k}"}, "redis": {"stream": "s"}}[connector]
    with pytest.raises(StreamSQLError) as caught:
        SINKS[connector].check(given(url=f"{connector}://x", **to, **more), CHANGES)
    assert said in caught.value.message
    assert isinstance(caught.value, InvalidParameterValue)
