"""Killed while tables share a replication slot: no transaction is ever seen in part, no row is lost, none comes twice."""

from __future__ import annotations

import random
from pathlib import Path

import psycopg
import pytest

from tests.connectors.servers.postgres import OtherDatabase, other_database, postgres_cluster
from tests.connectors.sharing import ACCOUNTS, NAMES, TOTAL, captured, caught_up, made, same, slots, transfers
from tests.crash.servers import Server, serving
from tests.running import until

__all__ = ["other_database", "postgres_cluster"]

pytestmark = pytest.mark.postgres

FAULTS = ("epoch.before_commit:4", "epoch.operators_applied:3", "epoch.after_commit:6", "epoch.before_commit:9")
SECONDS_MAX = 60.0


def watch_until_killed(server: Server, whole: int, times_max: int | None = None) -> int:
    """Look at both tables for as long as the server lives, or so often, and then kill it; gives how often."""
    looked = 0
    try:
        with server.connect() as session:
            while True:
                assert session.execute(TOTAL).fetchone() == (whole,)
                looked += 1
                if looked == times_max:
                    server.kill()
    except psycopg.OperationalError:
        assert server.was_killed()
    return looked


@pytest.mark.timeout(300)
def test_a_killed_server_shows_no_transaction_in_part(tmp_path: Path, other_database: OtherDatabase):
    made(other_database, [*NAMES, "third"])
    directory, chance, whole = tmp_path / "data", random.Random(21), 2 * ACCOUNTS * 100
    server = Server(directory)
    with server.connect() as session:
        for name in NAMES:
            captured(session, other_database, name)
    server.kill()  # snapshots have begun, or are about to
    assert server.was_killed()
    with serving(directory) as server, server.connect() as session:
        until(lambda: session.execute(TOTAL).fetchone() == (whole,), SECONDS_MAX)
        caught_up(session, other_database)
    looked = 0
    with transfers(other_database, 22), transfers(other_database, 23, ["third"]):
        for number, fault in enumerate(FAULTS):
            server = Server(directory, fault)
            if number == 1:  # another one joins meanwhile
                session = server.connect()
                captured(session, other_database, "third")
                session.close()
            if number == 2:
                other_database.end_connections("walsender")
            looked += watch_until_killed(server, whole)
        server = Server(directory)
        looked += watch_until_killed(server, whole, chance.randrange(20, 100))  # at any moment
    assert looked
    with serving(directory) as server, server.connect() as session:
        until(lambda: all(same(session, other_database, name) for name in (*NAMES, "third")), SECONDS_MAX)
        assert session.execute("SELECT count(*) FROM streamsql.sources WHERE status <> 'reading'").fetchone() == (0,)
        assert slots(other_database) == ["shop"]
        for name in (*NAMES, "third"):
            session.execute(f"DROP TABLE {name}".encode())
        gone = "SELECT 1 FROM pg_publication"
        until(lambda: not slots(other_database) and not other_database.rows(gone), SECONDS_MAX)


def test_the_slot_outlives_a_table_that_was_dropped_as_the_server_died(tmp_path: Path, other_database: OtherDatabase):
    made(other_database)
    dying = Server(tmp_path / "data", "stream.before_forget")
    with dying.connect() as session:
        for name in NAMES:
            captured(session, other_database, name)
        caught_up(session, other_database)
        try:
            session.execute("DROP TABLE left_side")
        except psycopg.OperationalError:
            pass  # it may die before it answers
    assert dying.was_killed()
    with serving(tmp_path / "data") as server, server.connect() as session:
        until(lambda: "the origin has let go" in (tmp_path / "server.log").read_text("utf-8"))
        assert slots(other_database) == ["shop"]
        assert other_database.rows("SELECT tablename FROM pg_publication_tables") == [("right_side",)]
        caught_up(session, other_database, ["right_side"])
