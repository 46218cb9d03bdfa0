"""Killed between one PostgreSQL and another: a captured table equals its origin, and a sink holds each row once."""

from __future__ import annotations

import contextlib
import random
import threading
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from tests.connectors.servers.postgres import OtherDatabase, other_database, postgres_cluster
from tests.crash.servers import Server, serving
from tests.running import until

__all__ = ["other_database", "postgres_cluster"]

pytestmark = pytest.mark.postgres

# the n-th time that a point is reached after a start; the first ones are in the snapshot
FAULTS = ("epoch.before_commit:3", "epoch.outbox_written:3", "sink.after_delivery:2", "epoch.after_commit:7")
ROWS = 6_000
EVENTS = 3_000
SECONDS_MAX = 60.0


def created(options: str) -> list[str]:
    return [
        "CREATE TABLE accounts (id BIGINT PRIMARY KEY, owner TEXT NOT NULL, amount NUMERIC(12, 2)) "
        f"WITH (connector = 'postgres', {options})",
        f"CREATE STREAM events (id BIGINT, n INT) WITH (connector = 'postgres', {options}, retention = '1 day')",
        "CREATE MATERIALIZED VIEW totals AS SELECT owner, count(*) AS n, sum(amount) AS amount FROM accounts "
        "GROUP BY owner EMIT UPDATE",
        "CREATE MATERIALIZED VIEW odd AS SELECT id, n FROM events WHERE n % 2 = 1 EMIT APPEND",
        f"CREATE SINK totals_out FROM totals WITH (connector = 'postgres', {options}, key = 'owner', create_table = true)",
        f"CREATE SINK odd_out FROM odd WITH (connector = 'postgres', {options}, create_table = true)",
    ]


def write(database: OtherDatabase, stop: threading.Event, chance: random.Random) -> None:
    """Change the origin in transactions, as long as it is not stopped; then bring the events to their number."""
    with database.connect() as connection:
        done = 0
        while not stop.is_set() or done < EVENTS:
            with connection.transaction():
                for _ in range(chance.randrange(1, 4)):
                    _change(connection, chance)
                if done < EVENTS:
                    connection.execute(
                        f"INSERT INTO events SELECT i, i FROM generate_series({done}, {done + 9}) i".encode()
                    )
                    done += 10
            stop.wait(0.01)


def _change(connection: psycopg.Connection[Any], chance: random.Random) -> None:
    low = chance.randrange(ROWS)
    owner, high = f"o{chance.randrange(20)}", low + chance.randrange(300)
    kind = chance.random()
    if kind < 0.5:
        sql = (
            "INSERT INTO accounts SELECT i, %s, i FROM generate_series(%s::int, %s::int) i "
            "ON CONFLICT (id) DO UPDATE SET amount = accounts.amount + 1, owner = EXCLUDED.owner"
        )
    elif kind < 0.7:
        sql = "DELETE FROM accounts WHERE owner <> %s AND id BETWEEN %s::int AND %s::int"
    else:
        sql = (
            "UPDATE accounts SET id = -id, owner = %s WHERE id BETWEEN %s::int AND %s::int "
            "AND NOT EXISTS (SELECT 1 FROM accounts o WHERE o.id = -accounts.id)"
        )
    connection.execute(sql.encode(), [owner, low, high])


@pytest.mark.timeout(300)
def test_a_killed_server_between_two_databases_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_database: OtherDatabase
):
    monkeypatch.setenv("STREAMSQL_LIMIT_SOURCE_BATCH_ROWS_MAX", "500")
    monkeypatch.setenv("STREAMSQL_LIMIT_SOURCE_AHEAD_ROWS_MAX", "1500")
    monkeypatch.setenv("STREAMSQL_LIMIT_SINK_BATCH_ROWS_MAX", "50")
    other_database.execute(
        "CREATE TABLE accounts (id bigint PRIMARY KEY, owner text NOT NULL, amount numeric(12, 2)); "
        "CREATE TABLE events (id bigint, n int); "
        f"INSERT INTO accounts SELECT i, 'o' || i % 7, i FROM generate_series(1, {ROWS}) i"
    )
    directory, chance, stop = tmp_path / "data", random.Random(11), threading.Event()
    server = Server(directory)
    connection = server.connect()
    for sql in created(other_database.written_options):
        connection.execute(sql.encode())
    server.kill()  # the snapshot has begun
    assert server.was_killed()
    connection.close()
    writing = threading.Thread(target=write, args=(other_database, stop, random.Random(12)))
    writing.start()
    try:
        for number, fault in enumerate(FAULTS):
            server = Server(directory, fault)
            if number == 2:
                other_database.end_connections("walsender")
            assert server.was_killed()
        server = Server(directory)
        stop.wait(chance.random())
        server.kill()  # at any moment
        assert server.was_killed()
    finally:
        stop.set()
        writing.join()
    with serving(directory) as server, server.connect() as connection:
        columns = "SELECT id, owner, amount FROM accounts ORDER BY id"
        wanted = other_database.rows(columns)
        until(lambda: connection.execute(columns).fetchall() == wanted, SECONDS_MAX)
        totals = "SELECT owner, count(*), sum(amount) FROM accounts GROUP BY owner ORDER BY owner"
        until(
            lambda: (
                sorted(other_database.rows("SELECT owner, n, amount FROM totals_out")) == other_database.rows(totals)
            ),
            SECONDS_MAX,
        )
        until(lambda: other_database.rows("SELECT count(*) FROM odd_out") >= [(EVENTS // 2,)], SECONDS_MAX)
        held = other_database.rows("SELECT count(*), count(DISTINCT id), min(id), max(id) FROM odd_out")
        assert held == [(EVENTS // 2, EVENTS // 2, 1, EVENTS - 1)]
        assert connection.execute("VERIFY MATERIALIZED VIEW totals").fetchall() == []
        # what the origin keeps for us goes with the relations
        for sql in ("DROP SINK totals_out", "DROP SINK odd_out", "DROP MATERIALIZED VIEW totals", "DROP MATERIALIZED VIEW odd",
                    "DROP TABLE accounts", "DROP STREAM events"):  # fmt: skip
            connection.execute(sql.encode())
        slots = f"SELECT 1 FROM pg_replication_slots WHERE database = '{other_database.name}'"
        until(lambda: not other_database.rows(f"{slots} UNION ALL SELECT 1 FROM pg_publication"))


def test_a_slot_of_a_dropped_table_is_dropped_by_the_next_start(tmp_path: Path, other_database: OtherDatabase):
    other_database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    slots = f"SELECT 1 FROM pg_replication_slots WHERE database = '{other_database.name}'"
    options = f"connector = 'postgres', {other_database.written_options}"
    dying = Server(tmp_path / "data", "stream.before_forget")
    with dying.connect() as session:
        session.execute(f"CREATE TABLE t (id INT PRIMARY KEY) WITH ({options})".encode())
        until(lambda: session.execute("SELECT count(*) FROM t").fetchone() == (1,))
        with contextlib.suppress(psycopg.OperationalError):  # it may die before it answers
            session.execute("DROP TABLE t")
    assert dying.was_killed()
    assert other_database.rows(slots)
    with serving(tmp_path / "data"):
        until(lambda: "the origin has let go" in (tmp_path / "server.log").read_text("utf-8"))
        assert not other_database.rows(slots)
    with duckdb.connect(str(tmp_path / "data" / "state.duckdb"), read_only=True) as database:
        assert database.execute("SELECT count(*) FROM _engine.left_behind").fetchall() == [(0,)]
