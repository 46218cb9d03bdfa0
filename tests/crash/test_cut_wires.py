"""Connections that are cut in the middle of whatever goes over them, origins that send garbage and everything twice.

Between the server and what it reads from and delivers to there is a wire that is cut again and again; a broker stands still and
is killed meanwhile. At the end each message is there once, and each change. STREAMSQL_CRASH_CUTS says how often at
least, and `make nightly` more often than by day.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.connectors.servers import kafka as brokers
from tests.connectors.servers.cutting import CuttingWire
from tests.connectors.servers.kafka import Broker
from tests.connectors.servers.postgres import OtherDatabase, other_database, postgres_cluster
from tests.crash.servers import serving
from tests.crash.test_postgres import created
from tests.running import until

__all__ = ["other_database", "postgres_cluster"]

CUTS = int(os.environ.get("STREAMSQL_CRASH_CUTS", "8"))
pytestmark = pytest.mark.timeout(240 + 10 * CUTS)
SECONDS_MAX = 90.0 + CUTS
Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    yield from brokers.broker_in(tmp_path_factory.mktemp("kafka"))


def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMSQL_LIMIT_SOURCE_BATCH_ROWS_MAX", "200")
    monkeypatch.setenv("STREAMSQL_LIMIT_SOURCE_AHEAD_ROWS_MAX", "600")
    monkeypatch.setenv("STREAMSQL_LIMIT_SINK_BATCH_ROWS_MAX", "100")


def value(connection: Connection, sql: str) -> Any:
    return connection.execute(sql.encode()).fetchall()[0][0]


def all_delivered(connection: Connection) -> bool:
    found = connection.execute("SELECT status, rows_waiting FROM streamsql.sinks").fetchall()
    assert not [row for row in found if row[0].startswith("stopped")], found
    return all(row == ("delivering", 0) for row in found)


# messages that are no rows: no JSON, values that do not fit, nothing at all, bytes that are no text
GARBAGE: list[Any] = [b"{", b'{"id": "x"}', b'{"id": 1e400}', (b"k", None), b"\xff\xfe", b'[{"id":1}]x', b"5"]


@pytest.mark.kafka
def test_kafka_over_a_wire_that_is_cut(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small_batches(monkeypatch)
    for topic in ("origin", "out", "sums"):
        broker.create(topic, 3)
    chance, sent, garbage = random.Random(4), 0, 0

    def send(count: int) -> None:
        """Send rows, each of them twice, with garbage between them."""
        nonlocal sent, garbage
        rows = [b'{"id":%d,"n":%d}' % (i, i % 7) for i in range(sent, sent + count)]
        bad = chance.choices(GARBAGE, k=count // 20)
        messages = [*rows, *rows, *bad]
        chance.shuffle(messages)
        broker.send("origin", messages)
        sent, garbage = sent + count, garbage + len(bad)

    behind, shown = broker.wire
    with CuttingWire(behind, shown) as wire, serving(tmp_path / "data") as server, server.connect() as connection:
        where = (
            f"connector = 'kafka', brokers = '127.0.0.1:{shown}', properties.reconnect.backoff.ms = 10, "
            "properties.reconnect.backoff.max.ms = 50, topic = "
        )
        for sql in (
            f"CREATE STREAM s (id BIGINT NOT NULL, n INT) WITH ({where} 'origin')",
            f"CREATE TABLE t (id BIGINT PRIMARY KEY, n INT) WITH ({where} 'origin', tombstones = 'reject')",
            "CREATE MATERIALIZED VIEW v AS SELECT id, n FROM s EMIT APPEND",
            "CREATE MATERIALIZED VIEW sums AS SELECT n, count(*) AS c, sum(id) AS total FROM t GROUP BY n EMIT UPDATE",
            f"CREATE SINK v_out FROM v WITH ({where} 'out')",
            f"CREATE SINK sums_out FROM sums WITH ({where} 'sums')",
        ):
            connection.execute(sql.encode())
        send(1_000)
        until(lambda: wire.cuts >= CUTS, SECONDS_MAX)
        broker.pause()
        try:
            cuts = wire.cuts
            assert connection.execute("SELECT count(*) FROM streamsql.sources").fetchall() == [(2,)]
        finally:
            broker.go_on()
        send(1_000)
        until(lambda: wire.cuts >= cuts + CUTS, SECONDS_MAX)
        broker.stop(at_once=True)
        broker.start()
        send(500)
        until(lambda: wire.cuts >= cuts + 2 * CUTS, SECONDS_MAX)
        wire.steady()
        until(lambda: value(connection, "SELECT count(*) FROM s") == 2 * sent, SECONDS_MAX)
        until(lambda: value(connection, "SELECT count(*) FROM t") == sent, SECONDS_MAX)
        until(lambda: all_delivered(connection), SECONDS_MAX)
        rejected = "SELECT name, rows_rejected FROM streamsql.sources ORDER BY name"
        until(lambda: connection.execute(rejected).fetchall() == [("s", garbage), ("t", garbage)], SECONDS_MAX)
        assert connection.execute("VERIFY MATERIALIZED VIEW sums").fetchall() == []
    found = Counter(json.loads(m.value())["id"] for m in broker.received("out"))
    assert found == Counter(dict.fromkeys(range(sent), 2))
    last = {m.key(): json.loads(m.value()) for m in broker.received("sums")}
    wanted = [(n, len(range(n, sent, 7)), sum(range(n, sent, 7))) for n in range(7)]
    assert sorted((row["n"], row["c"], row["total"]) for row in last.values()) == wanted


@pytest.mark.postgres
def test_postgres_over_a_wire_that_is_cut(
    other_database: OtherDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    small_batches(monkeypatch)
    other_database.execute(
        "CREATE TABLE accounts (id bigint PRIMARY KEY, owner text, amount numeric); "
        "CREATE TABLE events (id bigint, n bigint); "
        "INSERT INTO accounts SELECT i, 'o' || i % 7, i FROM generate_series(1, 2000) i"
    )
    chance, sent, garbage = random.Random(5), 0, 0

    def change() -> None:
        """Change rows of one table, insert into the other, of which some values fit into no column of ours."""
        nonlocal sent, garbage
        low = chance.randrange(2_000)
        with other_database.connect() as origin, origin.transaction():
            for sql in (
                f"UPDATE accounts SET amount = amount + 1, owner = 'o{low % 5}' WHERE id BETWEEN {low} AND {low + 50}",
                f"DELETE FROM accounts WHERE id = {low + 7}",
                f"INSERT INTO accounts VALUES ({low + 7}, 'again', 5)",
                f"INSERT INTO events SELECT i, i FROM generate_series({sent}, {sent + 49}) i",
                "INSERT INTO events VALUES (-1, 5000000000)",
            ):
                origin.execute(sql.encode())
        sent, garbage = sent + 50, garbage + 1

    with (
        CuttingWire(other_database.cluster.port) as wire,
        serving(tmp_path / "data") as server,
        server.connect() as connection,
    ):
        options = other_database.written_options.replace(str(other_database.cluster.port), str(wire.port))
        for sql in created(options):
            connection.execute(sql.encode())
        while wire.cuts < 3 * CUTS:
            change()
        wire.steady()
        wanted = other_database.rows("SELECT id, owner, amount FROM accounts ORDER BY id")
        held = "SELECT id, owner, amount FROM accounts ORDER BY id"
        until(lambda: connection.execute(held.encode()).fetchall() == wanted, SECONDS_MAX)
        until(lambda: value(connection, "SELECT count(*) FROM events") == sent, SECONDS_MAX)
        until(lambda: all_delivered(connection), SECONDS_MAX)
        rejected = "SELECT name, rows_rejected FROM streamsql.sources ORDER BY name"
        assert connection.execute(rejected).fetchall() == [("accounts", 0), ("events", garbage)]
        totals = "SELECT owner, count(*), sum(amount) FROM accounts GROUP BY owner ORDER BY owner"
        assert sorted(other_database.rows("SELECT owner, n, amount FROM totals_out")) == other_database.rows(totals)
        assert other_database.rows("SELECT id FROM odd_out ORDER BY id") == [(i,) for i in range(1, sent, 2)]
        assert connection.execute("VERIFY MATERIALIZED VIEW totals").fetchall() == []
        for sql in ("DROP SINK totals_out", "DROP SINK odd_out", "DROP MATERIALIZED VIEW totals",
                    "DROP MATERIALIZED VIEW odd", "DROP TABLE accounts", "DROP STREAM events"):  # fmt: skip
            connection.execute(sql.encode())
        slots = f"SELECT 1 FROM pg_replication_slots WHERE database = '{other_database.name}'"
        until(lambda: not other_database.rows(slots))
