"""Streams are joined with a table of PostgreSQL that stays there: what cannot be asked waits."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import psycopg
import pytest

from tests.connectors.servers.postgres import OtherDatabase, other_database, postgres_cluster
from tests.running import RunningServer, until

__all__ = ["other_database", "postgres_cluster"]

pytestmark = pytest.mark.postgres

ORIGIN = (
    "CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, tags text[], since timestamptz); "
    "INSERT INTO customers VALUES (1, 'ann', '{a,\"b,c\"}', '2026-01-01 12:00+00'), "
    "(2, E'b\"o\\\\b', NULL, NULL), (3, '', '{}', NULL)"
)
VIEW = (
    "CREATE MATERIALIZED VIEW named AS SELECT o.n, o.customer, c.name, c.tags, c.since FROM orders AS o "
    "LEFT JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON o.customer = c.id EMIT APPEND"
)


def _define(session: psycopg.Connection, origin: OtherDatabase, more: str = "") -> None:
    session.execute(
        "CREATE TABLE customers (id BIGINT PRIMARY KEY, name TEXT NOT NULL, tags TEXT[], since TIMESTAMPTZ) "
        f"WITH (connector = 'postgres-lookup', {origin.written_options}{more})".encode()
    )


def test_rows_are_joined_with_what_the_origin_has_when_they_arrive(tmp_path: Path, other_database: OtherDatabase):
    other_database.execute(ORIGIN)
    with RunningServer(tmp_path, ["--in-memory"]) as server, server.session() as session:
        _define(session, other_database, ", cache_ttl = '1 day'")
        session.execute("CREATE STREAM orders (n INT, customer INT)")
        session.execute("INSERT INTO orders VALUES (0, 1)")  # kept before there is a view
        session.execute(VIEW)
        session.execute("INSERT INTO orders VALUES (1, 1), (2, 2), (3, 3), (4, 9), (5, NULL)")
        other_database.execute("UPDATE customers SET name = 'anna'; INSERT INTO customers VALUES (9, 'zoe')")
        session.execute("INSERT INTO orders VALUES (6, 1), (7, 9), (8, 10)")  # cached, and so is that there was no 9
        assert session.execute("SELECT n, customer, name, tags FROM named ORDER BY n").fetchall() == [
            (0, 1, "ann", ["a", "b,c"]), (1, 1, "ann", ["a", "b,c"]), (2, 2, 'b"o\\b', None), (3, 3, "", []),
            (4, 9, None, None), (5, None, None, None), (6, 1, "ann", ["a", "b,c"]), (7, 9, None, None), (8, 10, None, None),
        ]  # fmt: skip
        assert session.execute("SELECT count(since) FROM named").fetchone() == (3,)
        assert session.execute("SELECT name, keys_cached, rows_waiting, status FROM streamsql.lookups").fetchall() == [
            ("customers", 5, 0, "ready")
        ]
        assert session.execute("SELECT * FROM streamsql.sources").fetchall() == []


def test_without_a_cache_every_epoch_asks(tmp_path: Path, other_database: OtherDatabase):
    other_database.execute(ORIGIN)
    with RunningServer(tmp_path, ["--in-memory"]) as server, server.session() as session:
        _define(session, other_database, ", cache_ttl = '0'")
        session.execute("CREATE STREAM orders (n INT, customer INT)")
        session.execute(VIEW)
        session.execute("INSERT INTO orders VALUES (1, 1), (2, 1)")
        other_database.execute("UPDATE customers SET name = 'anna'")
        session.execute("INSERT INTO orders VALUES (3, 1)")
        assert session.execute("SELECT n, name FROM named ORDER BY n").fetchall() == [
            (1, "ann"),
            (2, "ann"),
            (3, "anna"),
        ]


def test_what_cannot_be_asked_waits_while_other_streams_go_on(tmp_path: Path, other_database: OtherDatabase):
    other_database.execute(ORIGIN)
    with RunningServer(tmp_path) as server, server.session() as session:
        _define(session, other_database)
        session.execute("CREATE STREAM orders (n INT, customer INT)")
        session.execute("CREATE STREAM other (n INT)")
        session.execute(VIEW)
        session.execute("CREATE MATERIALIZED VIEW others AS SELECT n FROM other EMIT APPEND")
        session.execute("INSERT INTO orders VALUES (1, 1)")
        other_database.cluster.stop()
        waiting = threading.Thread(target=lambda: server.execute("INSERT INTO orders VALUES (2, 2)"))
        waiting.start()
        lookups = "SELECT rows_waiting, streams, split_part(status, ':', 1) FROM streamsql.lookups"
        until(lambda: session.execute(lookups).fetchall() == [(1, ["orders"], "retrying")])
        with server.session() as impatient:
            impatient.execute("SET statement_timeout = '200ms'")
            with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
                impatient.execute("INSERT INTO orders VALUES (3, 3)")
        session.execute("INSERT INTO other VALUES (1)")
        assert session.execute("SELECT * FROM others").fetchall() == [(1,)]
        assert session.execute("SELECT n FROM named").fetchall() == [(1,)]
        stalled = "SELECT name, split_part(status, ':', 1) FROM streamsql.views ORDER BY name"
        assert session.execute(stalled).fetchall() == [("named", "stalled"), ("others", "running")]
        other_database.cluster.start()
        waiting.join()
        assert session.execute("SELECT n, name FROM named ORDER BY n").fetchall() == [(1, "ann"), (2, 'b"o\\b')]
        assert session.execute("SELECT rows_waiting, status FROM streamsql.lookups").fetchall() == [(0, "ready")]
        assert session.execute("SELECT DISTINCT status FROM streamsql.views").fetchall() == [("running",)]
        other_database.execute("ALTER TABLE customers RENAME name TO called")
        waiting = threading.Thread(target=lambda: _refused(server))
        waiting.start()
        until(lambda: session.execute(lookups).fetchall() == [(1, ["orders"], "retrying")])
        session.close()
        server.stop()
        waiting.join()
        server.start()
        assert server.execute("SELECT rows_waiting, status FROM streamsql.lookups") == [(0, "ready")]
        other_database.execute("ALTER TABLE customers RENAME called TO name")
        server.execute("INSERT INTO orders VALUES (3, 3)")
        assert server.execute("SELECT n, name FROM named ORDER BY n") == [(1, "ann"), (2, 'b"o\\b'), (3, "")]


def test_a_source_waits_and_a_killed_server_reads_on(tmp_path: Path, other_database: OtherDatabase):
    other_database.execute(ORIGIN)
    with RunningServer(tmp_path, ["--limit", "source_batch_rows_max=100"]) as server:
        with server.session() as session:
            _define(session, other_database)
            other_database.cluster.stop()
            session.execute(
                "CREATE STREAM orders (n BIGINT, customer INT) WITH (connector = 'datagen', rows = 1000, fields.n.kind = "
                "'sequence', fields.customer.min = 0, fields.customer.max = 9, rows_per_second = 1000)"
            )
            session.execute("ALTER STREAM orders PAUSE")
            session.execute("ALTER STREAM orders RESET TO EARLIEST")
            session.execute(VIEW)
            session.execute("ALTER STREAM orders RESUME")
            until(lambda: session.execute("SELECT rows_waiting > 0 FROM streamsql.lookups").fetchone() == (True,))
            assert session.execute("SELECT max(rows_waiting) <= 400 FROM streamsql.lookups").fetchone() == (True,)
        server.stop(signal.SIGKILL)
        server.start()
        until(lambda: server.execute("SELECT status LIKE 'retrying%' FROM streamsql.lookups") == [(True,)])
        assert server.execute("SELECT count(*) FROM named") == [(0,)]
        other_database.cluster.start()
        until(lambda: server.execute("SELECT count(*) FROM named") == [(1000,)])
        wrong = "count(*) FILTER ((name IS NULL) <> (customer NOT IN (1, 2, 3)))"
        assert server.execute(f"SELECT count(*), count(DISTINCT n), {wrong} FROM named") == [(1000, 1000, 0)]


def _refused(server: RunningServer) -> None:
    with pytest.raises(psycopg.errors.AdminShutdown):
        server.execute("INSERT INTO orders VALUES (9, 9)")
