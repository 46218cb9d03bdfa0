"""ROLLBACK drops what CREATE made in the transaction, unless others use it by then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.running import RunningServer, until

NAMES = (
    "SELECT name FROM (SELECT name FROM streamsql.streams UNION ALL SELECT name FROM streamsql.views "
    "UNION ALL SELECT name FROM streamsql.sinks) AS n ORDER BY name"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("server")
    with RunningServer(folder, ["--allow-path", str(folder)]) as running:
        yield running


@contextlib.contextmanager
def told(server: RunningServer) -> Iterator[tuple[psycopg.Connection[TupleRow], list[str]]]:
    """A session, and what it was warned of."""
    with server.session() as connection:
        warnings: list[str] = []
        connection.add_notice_handler(
            lambda d: warnings.append(d.message_primary or "") if d.severity == "WARNING" else None
        )
        yield connection, warnings


def test_streams_views_and_sinks_are_dropped_again_also_after_a_restart(tmp_path: Path):
    with RunningServer(tmp_path, ["--allow-path", str(tmp_path)]) as server:
        with told(server) as (connection, warnings):
            connection.execute("CREATE STREAM kept (ts TIMESTAMP, k TEXT)")
            connection.execute("INSERT INTO kept VALUES ('2024-01-01', 'a')")
            connection.execute("BEGIN")
            connection.execute("CREATE STREAM s (n INT)")
            connection.execute("CREATE MATERIALIZED VIEW over_new AS SELECT count(*) AS c FROM s")
            connection.execute("CREATE MATERIALIZED VIEW over_old AS SELECT k, count(*) AS c FROM kept GROUP BY k")
            connection.execute("CREATE MATERIALIZED VIEW over_view AS SELECT max(c) AS m FROM over_old")
            connection.execute(
                f"CREATE SINK gone FROM over_old WITH (connector = 'file', path = '{tmp_path / 'out'}', changes = true)"
            )
            assert connection.execute("SELECT * FROM over_view").fetchall() == [(1,)]
            connection.execute("ROLLBACK")
            assert warnings == []
            assert connection.execute(NAMES).fetchall() == [("kept",)]
        server.stop()
        server.start()
        assert server.execute(NAMES) == [("kept",)]
        assert server.execute("CREATE STREAM s (n TEXT)", "SELECT * FROM s") == []


def test_what_others_use_stays_and_is_told(server: RunningServer):
    with told(server) as (connection, warnings):
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE written (a INT)")
        connection.execute("CREATE TABLE read (a INT)")
        connection.execute("CREATE TABLE unused (a INT)")
        connection.execute("CREATE TABLE unused_too (a INT PRIMARY KEY)")
        connection.execute("ALTER TABLE unused ADD FOREIGN KEY (a) REFERENCES unused_too (a)")
        server.execute("INSERT INTO written VALUES (1)", "CREATE VIEW of_another AS SELECT a FROM read")
        connection.execute("ROLLBACK")
        assert warnings == [
            "table written stays: others have written to it",
            "table read stays: view of_another depends on table read",
        ]
        found = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        assert sorted(found.fetchall()) == [("read",), ("written",)]
        assert connection.execute("SELECT a FROM written").fetchall() == [(1,)]


def test_a_client_that_leaves_takes_it_along(server: RunningServer):
    with server.connect() as connection:
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE of_one_who_left (a INT)")
        connection.close()
    gone = "SELECT count(*) = 0 FROM pg_class WHERE relname = 'of_one_who_left'"
    until(lambda: server.execute(gone) == [(True,)])


def test_what_cannot_be_undone_is_warned_of(server: RunningServer):
    with told(server) as (connection, warnings):
        connection.execute("CREATE TABLE before (a INT)")
        connection.execute("CREATE VIEW replaced AS SELECT a FROM before")
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE made (a INT)")
        connection.execute("ALTER TABLE made ADD COLUMN b INT")
        connection.execute("DROP TABLE made")
        assert warnings == []
        connection.execute("ALTER TABLE before ADD COLUMN b INT")
        connection.execute("CREATE OR REPLACE VIEW replaced AS SELECT a, 1 AS one FROM before")
        connection.execute("DROP VIEW replaced")
        assert warnings == [
            "ALTER TABLE takes effect at once: ROLLBACK does not undo it",
            "CREATE VIEW takes effect at once: ROLLBACK does not undo it",
            "DROP VIEW takes effect at once: ROLLBACK does not undo it",
        ]
        connection.execute("ROLLBACK")
