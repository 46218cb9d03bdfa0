"""Records of a topic that cannot be read go on to another: each once, with where it stood, though the server is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.connectors.servers import kafka as brokers
from tests.connectors.servers.kafka import Broker
from tests.crash.servers import Server, serving
from tests.running import until

FAULTS = ("epoch.rows_written:2", "epoch.receipts_written:3", "epoch.before_commit:2", "epoch.after_commit:3",
          "sink.after_delivery:1")  # fmt: skip
PARTITIONS = 2
BAD = "CREATE STREAM bad (stream TEXT, partition TEXT, position BIGINT, reason TEXT, bytes BYTEA, rejected_at TIMESTAMPTZ)"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    yield from brokers.broker_in(tmp_path_factory.mktemp("kafka"))


def record(number: int) -> bytes:
    """Every third one is none: of these, half are no JSON, and half of the wrong type."""
    if number % 3:
        return b'{"id": %d, "n": %d}' % (number, number % 7)
    return b"garbage %d" % number if number % 2 else b'{"id": "x%d"}' % number


def send(broker: Broker, topic: str, numbers: range) -> None:
    for partition in range(PARTITIONS):
        own = [n for n in numbers if n % PARTITIONS == partition]
        broker.send(topic, [record(n) for n in own], partition=partition)


@pytest.mark.kafka
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["STREAM", "TABLE"])
def test_what_cannot_be_read_goes_on_once(tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch, kind: str):
    monkeypatch.setenv("STREAMSQL_LIMIT_SOURCE_BATCH_ROWS_MAX", "50")
    # the ledger keeps fewer than there are
    monkeypatch.setenv("STREAMSQL_LIMIT_REJECTED_ROWS_MAX", "10")
    directory, topic, dead = tmp_path / "data", f"sent_{kind.lower()}", f"dead_{kind.lower()}"
    broker.create(topic, partitions=PARTITIONS)
    broker.create(dead)
    where = f"connector = 'kafka', brokers = '{broker.address}'"
    with serving(directory) as server, server.connect() as connection:
        key = " PRIMARY KEY" if kind == "TABLE" else ""
        for text in (
            BAD,
            f"CREATE {kind} sent (id BIGINT{key}, n INT) WITH ({where}, topic = '{topic}', rejected_into = 'bad')",
            "CREATE MATERIALIZED VIEW told AS SELECT partition, position, reason, convert_from(bytes, 'UTF8') AS record "
            "FROM bad WHERE stream = 'sent' EMIT APPEND",
            f"CREATE SINK dead FROM told WITH ({where}, topic = '{dead}')",
        ):
            connection.execute(text)
    total = 0
    for fault in FAULTS:
        send(broker, topic, range(total, total + 600))
        total += 600
        assert Server(directory, fault).was_killed(), fault
    wanted = sorted(record(n).decode() for n in range(total) if not n % 3)
    with serving(directory) as server, server.connect() as connection:
        until(lambda: settled(connection, total, len(wanted)), 60)
        rows = connection.execute("SELECT partition, position, convert_from(bytes, 'UTF8') FROM bad").fetchall()
        assert connection.execute("SELECT count(*) FROM streamsql.rejected_rows").fetchall() == [(10,)]
        with pytest.raises(psycopg.errors.DependentObjectsStillExist, match="other objects depend on it"):
            connection.execute("DROP STREAM bad CASCADE")
    assert sorted(str(text) for _, _, text in rows) == wanted
    assert len({(partition, position) for partition, position, _ in rows}) == len(rows)
    found = [json.loads(m.value()) for m in broker.received(dead)]
    assert sorted(f["record"] for f in found) == wanted
    assert {f["reason"] for f in found if f["record"].startswith("garbage")} == {"invalid JSON"}


def settled(connection: psycopg.Connection[Any], total: int, bad: int) -> bool:
    good = connection.execute("SELECT count(*) FROM sent").fetchall()
    sinks = connection.execute("SELECT rows_delivered, rows_waiting FROM streamsql.sinks").fetchall()
    return good == [(total - bad,)] and sinks == [(bad, 0)]
