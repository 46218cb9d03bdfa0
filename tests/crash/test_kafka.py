"""From a topic through views to topics, with a server that is killed again and again: each row is there once at the end."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.connectors.servers import kafka as servers
from tests.connectors.servers.kafka import Broker
from tests.crash.servers import Server, serving
from tests.running import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

# points at which the server kills itself; new rows are there at each start, so each is reached
FAULTS = ("sink.after_delivery:1", "epoch.before_commit:2", "sink.before_delivery:1", "epoch.after_commit:2")
INSTANTS = 3
STEP = 4_000
ROWS = STEP * (len(FAULTS) + INSTANTS + 1)


@pytest.fixture(scope="module")
def broker(tmp_path_factory) -> Iterator[Broker]:
    yield from servers.broker_in(tmp_path_factory.mktemp("kafka"))


def test_each_row_is_in_the_sinks_once_whatever_is_killed(broker: Broker, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("STREAMSQL_LIMIT_SOURCE_BATCH_ROWS_MAX", "200")
    monkeypatch.setenv("STREAMSQL_LIMIT_SOURCE_AHEAD_ROWS_MAX", "600")
    for topic in ("numbers", "doubled", "counted"):
        broker.create(topic, 3)
    directory, sent = tmp_path / "data", 0

    def send() -> None:
        nonlocal sent
        broker.send("numbers", [b'{"n":%d}' % n for n in range(sent, sent + STEP)])
        sent += STEP

    with serving(directory) as server, server.connect() as connection:
        where = f"connector = 'kafka', brokers = '{broker.address}'"
        connection.execute(
            f"CREATE STREAM numbers (n INT) INCLUDE PARTITION AS p, OFFSET AS o WITH ({where}, topic = 'numbers')"
        )
        connection.execute("CREATE MATERIALIZED VIEW doubled AS SELECT n, n * 2 AS d, p, o FROM numbers EMIT APPEND")
        connection.execute(
            "CREATE MATERIALIZED VIEW counted AS SELECT n % 10 AS k, count(*) AS c FROM numbers GROUP BY k EMIT UPDATE"
        )
        connection.execute(f"CREATE SINK doubled_out FROM doubled WITH ({where}, topic = 'doubled')")
        connection.execute(f"CREATE SINK counted_out FROM counted WITH ({where}, topic = 'counted', key = 'k')")
    chance = random.Random(5)
    for fault in FAULTS:
        send()
        assert Server(directory, fault).was_killed()
    for _ in range(INSTANTS):
        send()
        server = Server(directory)
        with server.connect() as connection:
            some = sent - chance.randrange(STEP)
            until(lambda: _count(connection) >= some, 60)  # noqa: B023  # called at once
        server.kill()
        assert server.was_killed()
    send()
    broker.stop(at_once=True)  # and the broker once, with the server running
    with serving(directory) as server, server.connect() as connection:
        broker.start()
        query = "SELECT sum(rows_waiting), bool_and((SELECT count(*) FROM numbers) = %s) FROM streamsql.sinks"
        until(lambda: connection.execute(query, [ROWS]).fetchall() == [(0, True)], 60)
        assert connection.execute("SELECT count(DISTINCT n), count(*) FROM numbers").fetchall() == [(ROWS, ROWS)]
        assert connection.execute("VERIFY MATERIALIZED VIEW counted").fetchall() == []
    found = [json.loads(m.value()) for m in broker.received("doubled")]
    assert Counter(row["n"] for row in found) == Counter(range(ROWS))
    assert all(row["d"] == 2 * row["n"] for row in found)
    last = {m.key(): json.loads(m.value()) for m in broker.received("counted")}
    assert sorted((row["k"], row["c"]) for row in last.values()) == [(k, ROWS // 10) for k in range(10)]


def _count(connection: psycopg.Connection[Any]) -> int:
    return int(connection.execute("SELECT count(*) FROM numbers").fetchall()[0][0])
