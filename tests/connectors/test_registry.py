"""Schemas from a registry: what is asked, how often, and what becomes of streams when it does not answer."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fastavro
import pytest

from streamsql.base.errors import ExternalError, InvalidParameterValue, StreamSQLError, Unavailable, UndefinedObject
from streamsql.catalog.objects import OutputColumn
from streamsql.connectors.kafka import SINK_OPTIONS, SOURCE_OPTIONS, Kafka, KafkaSinks
from streamsql.connectors.registry import Registry
from streamsql.connectors.settings import read_options
from streamsql.connectors.sink import Shape
from streamsql.connectors.source import Given
from streamsql.formats.binary import SchemaText
from streamsql.sql.statements import ColumnDefinition
from tests.connectors.servers import kafka as brokers
from tests.connectors.servers import registry as servers
from tests.connectors.servers.kafka import Broker
from tests.running import RunningServer, until

EXAMPLE = Path(__file__).parents[2] / "examples" / "avro"
TRADE = json.dumps({
    "type": "record", "name": "Trade", "namespace": "shop", "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "symbol", "type": "string"},
        {"name": "price", "type": "double"},
        {"name": "tags", "type": {"type": "map", "values": "string"}},
        {"name": "rate", "type": "float"},
    ],
})  # fmt: skip


@pytest.fixture
def registry() -> Iterator[servers.Registry]:
    yield from servers.running()


def client(registry: servers.Registry, **more: str) -> Registry:
    options = dict.fromkeys(SOURCE_OPTIONS) | {"registry": registry.url} | more
    return Registry(options)


def test_schemas_come_with_those_that_they_refer_to(registry):
    registry.register("money", '{"type":"enum","name":"Currency","symbols":["CHF"]}')
    registry.register("unused", '"int"')
    text = '{"type":"record","name":"R","fields":[{"name":"c","type":"Currency"}]}'
    number = registry.register("r", text, references=[{"name": "Currency", "subject": "money", "version": 1}])
    asked = client(registry)
    wanted = SchemaText(text, "AVRO", (("Currency", registry.schemas[1]["schema"]),))
    assert asked.schema(number) == asked.schema(number) == asked.latest("r") == wanted
    assert registry.asked.count(f"GET /schemas/ids/{number}") == 1
    with pytest.raises(UndefinedObject, match="no such schema"):
        asked.schema(99)
    with pytest.raises(UndefinedObject, match='no subject "a/b"'):
        asked.latest("a/b")
    asked.close()


def test_what_passes_is_told_from_what_does_not(registry):
    registry.out_of_order = True
    with pytest.raises(Unavailable, match="answered 500: Error in the backend"):
        client(registry).schema(1)
    registry.out_of_order, registry.login = False, ("alice", "secret")
    with pytest.raises(ExternalError, match="lets nobody in"):
        client(registry).schema(1)
    registry.register("s", TRADE)
    assert client(registry, registry_username="alice", registry_password="secret").schema(1).text == TRADE
    registry.login, registry.refuses = None, "Schema being registered is incompatible with an earlier schema"
    with pytest.raises(ExternalError, match=r'refuses subject "s".*incompatible'):
        client(registry).register("s", SchemaText('"int"'))
    gone = client(registry)
    registry.stop()
    with pytest.raises(Unavailable, match="cannot be reached"):
        gone.schema(1)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"format": "avro"}, "avro needs a schema"),
        ({"format": "avro", "registry": "ftp://x"}, "does not begin with https"),
        ({"format": "avro", "registry": "http://a:b@x"}, "a secret does not stand in a definition"),
        ({"format": "avro", "schema": "{"}, "the Avro schema is not JSON"),
        ({"format": "avro", "schema": TRADE, "registry": "http://x"}, "said twice"),
        ({"format": "avro", "schema": TRADE, "registry_subject": "s"}, 'needs the option "registry"'),
        ({"format": "avro", "schema": TRADE, "message": "M"}, 'the option "message" is for protobuf, not for avro'),
        ({"format": "json", "registry": "http://x"}, 'the option "registry" is for avro and protobuf, not for json'),
        ({"format": "protobuf", "schema": 'syntax = "proto3";'}, "has no message"),
        ({"format": "json", "key_format": "avro"}, "keys that are avro need a registry"),
    ],
)
def test_what_is_wrong_in_a_definition_is_said_where_it_stands(more, said):
    given = Given({"brokers": "x:1", "topic": "t", **more}, dict.fromkeys(["format", "schema", "registry"], 7))
    with pytest.raises(InvalidParameterValue, match=said):
        Kafka().columns(given, [ColumnDefinition("a", "INTEGER")])


@pytest.mark.parametrize(
    ("more", "name", "said"),
    [
        ({"format": "avro"}, "a", "avro needs a registry"),
        ({"format": "avro", "registry": "http://x"}, "count(*)", "cannot be the name of a field in Avro"),
        (
            {"format": "json", "registry": "http://x"},
            "a",
            'the option "registry" is for avro and protobuf, not for json',
        ),
        ({"format": "protobuf"}, "a", "protobuf needs a registry"),
        (
            {"format": "protobuf", "registry": "http://x"},
            "count(*)",
            "cannot be the name of a field in Protocol Buffers",
        ),
        ({"format": "json", "key_format": "avro", "registry": "http://x"}, "a", "there is no key"),
    ],
)
def test_what_is_wrong_in_a_sink_is_said(more, name, said):
    given = Given({"brokers": "x:1", "topic": "t", **more}, {})
    shape = Shape((OutputColumn(name, "INTEGER"),), append_only=True, key=())
    with pytest.raises(StreamSQLError) as caught:
        KafkaSinks().check(given, shape)
    assert said in caught.value.message
    assert read_options(Given({"brokers": "x:1", "topic": "t"}, {}), SINK_OPTIONS, "kafka")["registry"] is None


# ---- through the server, from a topic to a topic ----


@pytest.fixture(scope="module")
def broker(tmp_path_factory) -> Iterator[Broker]:
    yield from brokers.broker_in(tmp_path_factory.mktemp("kafka"))


def framed(number: int, schema: str, *values: dict[str, object]) -> list[bytes]:
    found = []
    for value in values:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(schema)), value)
        found.append(b"\0" + number.to_bytes(4, "big") + out.getvalue())
    return found


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_avro_goes_from_a_topic_to_a_topic_and_schemas_grow(broker, registry, tmp_path):
    old = registry.register("trades-value", TRADE)
    grown = json.loads(TRADE)
    grown["fields"].insert(1, {"name": "venue", "type": ["null", "string"], "default": None})
    for topic in ("trades", "totals", "plain", "odd"):
        broker.create(topic)
    trade = {"at": 1_700_000_000_000, "symbol": "A", "price": 1.5, "tags": {"k": "v"}, "rate": 0.5}
    broker.send("trades", framed(old, TRADE, trade, {**trade, "price": 2.5}))
    broker.send("plain", [b'{"n": 1, "at": "2024-01-01 00:00:00",\n "deep": {"x": [1]}}', b'{"n": 2.5}'])
    with_registry = f"connector = 'kafka', brokers = '{broker.address}', format = 'avro', registry = '{registry.url}'"
    told: list[str] = []
    with RunningServer(tmp_path) as server:
        with server.connect() as connection:
            connection.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
            connection.execute(f"CREATE STREAM t SCHEMA INFERRED WITH ({with_registry}, topic = 'trades')")
            connection.execute(
                f"CREATE STREAM p SCHEMA INFERRED WITH (connector = 'kafka', brokers = '{broker.address}', topic = 'plain')"
            )
        assert (
            "(at TIMESTAMP WITH TIME ZONE, symbol TEXT, price DOUBLE, tags MAP(TEXT, TEXT), rate REAL) WITH" in told[0]
        )
        assert "(n DOUBLE, at TIMESTAMP, deep JSON) WITH" in told[1]
        server.execute(
            "CREATE MATERIALIZED VIEW v AS SELECT symbol, count(*) AS c, sum(price) AS total FROM t GROUP BY symbol",
            f"CREATE SINK k FROM v WITH ({with_registry}, topic = 'totals', key = 'symbol')",
        )
        until(lambda: server.execute("SELECT * FROM v") == [("A", 2, 4.0)])
        until(lambda: server.execute("SELECT n, deep FROM p ORDER BY n") == [(1.0, {"x": [1]}), (2.5, None)])
        # a schema that has grown, one that nobody knows, and no schema at all
        new = registry.register("trades-value", json.dumps(grown))
        broker.send("trades", [
            *framed(new, json.dumps(grown), {**trade, "symbol": "B", "venue": "X"}), b"\0\0\0\0\x63zz", b"{}",
        ])  # fmt: skip
        until(lambda: server.execute("SELECT * FROM v ORDER BY symbol") == [("A", 2, 4.0), ("B", 1, 1.5)])
        until(lambda: len(server.execute("SELECT reason FROM streamsql.rejected_rows")) == 2)
        assert sorted(server.execute("SELECT reason, position FROM streamsql.rejected_rows")) == [
            (
                "no schema id: the message does not begin with the byte 0 and four more, as Confluent's framing has it",
                4,
            ),
            ("schema 99: the registry has no such schema", 3),
        ]
        server.stop()
        server.start()
        assert server.execute("SELECT rate, tags FROM t ORDER BY price LIMIT 1")[0][0] == 0.5
        registry.out_of_order = True
        broker.send("trades", framed(old, TRADE, {**trade, "price": 10.0}))
        until(lambda: "answered 500" in str(server.execute("SELECT status FROM streamsql.sources WHERE name = 't'")))
        registry.out_of_order = False
        until(lambda: server.execute("SELECT * FROM v ORDER BY symbol") == [("A", 3, 14.0), ("B", 1, 1.5)], 60)
        schema = fastavro.parse_schema(json.loads(registry.schemas[registry.subjects["totals-value"][0]]["schema"]))
        wanted = {"symbol": "A", "c": 3, "total": 14.0}

        def last() -> object:
            found = [m for m in broker.received("totals") if m.value() is not None and m.key() == b'{"symbol":"A"}']
            number, body = int.from_bytes(found[-1].value()[1:5], "big"), found[-1].value()[5:]
            assert number == registry.subjects["totals-value"][0]
            return fastavro.schemaless_reader(io.BytesIO(body), schema)

        until(lambda: last() == wanted)
        _by_protocol_buffers(server, broker, registry, framed(old, TRADE, {**trade, "symbol": "B", "price": 1.0}))


def _by_protocol_buffers(server: RunningServer, broker: Broker, registry: servers.Registry, more: list[bytes]) -> None:
    """The same totals as Protocol Buffers by a key that is Avro; a table is made of them, and a stream has the key, too."""
    protos = f"connector = 'kafka', brokers = '{broker.address}', format = 'protobuf', registry = '{registry.url}'"
    server.execute(
        "CREATE MATERIALIZED VIEW odd AS SELECT symbol, c, total FROM v WHERE c % 2 = 1 EMIT UPDATE",
        f"CREATE SINK o FROM odd WITH ({protos}, topic = 'odd', key = 'symbol', key_format = 'avro')",
        "CREATE TABLE back (symbol TEXT PRIMARY KEY, total DOUBLE PRECISION, c INT) "
        f"WITH ({protos}, topic = 'odd', key_format = 'avro')",
        "CREATE STREAM told (c BIGINT, total REAL) INCLUDE KEY AS k JSON "
        f"WITH ({protos}, topic = 'odd', key_format = 'avro', tombstones = 'null')",
    )
    until(lambda: server.execute("SELECT * FROM back ORDER BY symbol") == [("A", 14.0, 3), ("B", 1.5, 1)])
    broker.send("trades", more)
    until(lambda: server.execute("SELECT * FROM back ORDER BY symbol") == [("A", 14.0, 3)])
    until(lambda: server.execute("SELECT count(*) FROM told") == [(3,)])
    assert server.execute("SELECT * FROM told ORDER BY c") == [
        (1, 1.5, {"symbol": "B"}), (3, 14.0, {"symbol": "A"}), (None, None, {"symbol": "B"}),
    ]  # fmt: skip


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_the_example_gives_what_it_says(broker, registry, tmp_path):
    broker.create("readings")
    subprocess.run([sys.executable, EXAMPLE / "produce.py", broker.address, registry.url], check=True, timeout=60)
    setup = (EXAMPLE / "setup.sql").read_text()
    setup = setup.replace("localhost:9092", broker.address).replace("http://localhost:8081", registry.url)
    wanted = [tuple(line.split("|")) for line in (EXAMPLE / "expected.txt").read_text().splitlines()]
    with RunningServer(tmp_path) as server:
        server.execute(*filter(str.strip, setup.split(";")))
        until(lambda: server.execute("SELECT sum(readings) FROM rooms") == [(4,)])
        assert [tuple(map(str, r)) for r in server.execute("SELECT * FROM rooms ORDER BY room")] == wanted
        until(lambda: len(broker.received("rooms")) >= len(wanted))
    assert "rooms-value" in registry.subjects
