"""Advisory locks between sessions, as migration tools take them; each answer is PostgreSQL's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import TupleRow

from tests.running import RunningServer, until

Connection = psycopg.Connection[TupleRow]


@pytest.fixture(params=["ours", pytest.param("postgres", marks=pytest.mark.postgres)])
def sessions(request: pytest.FixtureRequest) -> Iterator[tuple[Connection, Connection]]:
    """Two sessions of one server."""
    with ExitStack() as open_:
        if request.param == "ours":
            server: RunningServer = request.getfixturevalue("server")
            yield tuple(open_.enter_context(server.session()) for _ in range(2))  # type: ignore[misc]
        else:
            port = request.getfixturevalue("postgres_port")
            url = f"postgresql://tester@127.0.0.1:{port}/postgres"
            yield tuple(open_.enter_context(psycopg.connect(url, autocommit=True)) for _ in range(2))  # type: ignore[misc]


def value(session: Connection, query: str) -> object:
    row = session.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_a_lock_keeps_others_out_until_it_is_let_go_as_often_as_it_was_taken(sessions: tuple[Connection, Connection]):
    one, two = sessions
    cursor = one.execute("SELECT pg_advisory_lock(%s), 1 AS n", (2**62,))
    assert cursor.description is not None
    assert [(c.name, c.type_code) for c in cursor.description] == [("pg_advisory_lock", 2278), ("n", 23)]
    assert cursor.fetchall() == [("", 1)]
    assert value(one, f"SELECT pg_try_advisory_lock({2**62}) AS taken") is True
    assert value(two, f"SELECT pg_try_advisory_lock({2**62})") is False
    assert value(two, "SELECT pg_try_advisory_lock(1, 2)") is True
    assert value(one, f"SELECT pg_try_advisory_lock({(1 << 32) + 2})") is True  # not the same as (1, 2)
    assert value(two, f"SELECT pg_advisory_unlock({2**62})") is False
    assert value(one, f"SELECT pg_advisory_unlock({2**62})") is True
    assert value(two, f"SELECT pg_try_advisory_lock({2**62})") is False
    assert value(one, f"SELECT pg_advisory_unlock({2**62})") is True
    assert value(one, f"SELECT pg_advisory_unlock({2**62})") is False
    assert value(two, f"SELECT pg_try_advisory_lock({2**62})") is True
    assert value(one, "SELECT pg_try_advisory_lock(NULL)") is None
    assert two.execute("SELECT pg_advisory_unlock_all()").fetchall() == [("",)]
    assert value(one, f"SELECT pg_try_advisory_lock({2**62})") is True
    assert one.execute("SELECT n, pg_try_advisory_lock(n) FROM (VALUES (71), (72)) AS v(n) ORDER BY n").fetchall() == [
        (71, True),
        (72, True),
    ]
    assert value(two, "SELECT pg_try_advisory_lock(72)") is False


def test_locks_are_shared_by_who_shares_them(sessions: tuple[Connection, Connection]):
    one, two = sessions
    one.execute("SELECT pg_advisory_lock_shared(5)")
    assert value(two, "SELECT pg_try_advisory_lock_shared(5)") is True
    assert value(two, "SELECT pg_try_advisory_lock(5)") is False
    assert value(one, "SELECT pg_advisory_unlock(5)") is False
    assert value(one, "SELECT pg_advisory_unlock_shared(5)") is True
    assert value(two, "SELECT pg_try_advisory_lock(5)") is True
    assert value(one, "SELECT pg_try_advisory_lock_shared(5)") is False


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_transaction_s_locks_go_with_it(sessions: tuple[Connection, Connection], end: str):
    one, two = sessions
    one.execute("SELECT pg_advisory_xact_lock(6)")
    assert value(two, "SELECT pg_try_advisory_xact_lock(6)") is True  # each was a transaction of its own
    one.execute("BEGIN")
    one.execute("SELECT pg_advisory_xact_lock(6)")
    assert value(one, "SELECT pg_advisory_unlock(6)") is False
    assert value(two, "SELECT pg_try_advisory_lock(6)") is False
    one.execute(end.encode())
    assert value(two, "SELECT pg_try_advisory_lock(6)") is True
    one.execute("BEGIN; SELECT pg_advisory_xact_lock(66)")
    with pytest.raises(errors.DivisionByZero):
        one.execute("SELECT 1 / 0")
    assert value(two, "SELECT pg_try_advisory_lock(66)") is True  # a transaction that has failed holds nothing
    one.execute("ROLLBACK")
    two.close()
    until(lambda: value(one, "SELECT pg_try_advisory_lock(6)"))


def test_who_waits_gets_the_lock_when_the_other_has_gone_and_gives_up_in_time(sessions: tuple[Connection, Connection]):
    one, two = sessions
    one.execute("SELECT pg_advisory_lock(7)")
    two.execute("SET lock_timeout = '20ms'")
    with pytest.raises(errors.LockNotAvailable, match="canceling statement due to lock timeout"):
        two.execute("SELECT pg_advisory_lock(7)")
    two.execute("SET lock_timeout = 0")
    two.execute("SET statement_timeout = '20ms'")
    with pytest.raises(errors.QueryCanceled, match="statement timeout"):
        two.execute("SELECT pg_advisory_lock(7)")
    two.execute("SET statement_timeout = 0")
    waiting = threading.Thread(target=two.execute, args=("SELECT pg_advisory_lock(7)",))
    waiting.start()
    until(lambda: value(one, f"SELECT state FROM pg_stat_activity WHERE pid = {two.info.backend_pid}") == "active")
    one.execute("SELECT pg_advisory_unlock(7)")
    waiting.join(10)
    assert value(one, "SELECT pg_try_advisory_lock(7)") is False
    assert value(two, "SELECT pg_advisory_unlock(7)") is True


def test_who_would_wait_for_each_other_for_ever_is_told(sessions: tuple[Connection, Connection]):
    one, two = sessions
    for session in sessions:
        session.execute("BEGIN")
    one.execute("SELECT pg_advisory_xact_lock(8)")
    two.execute("SELECT pg_advisory_xact_lock(9)")
    found: list[Exception] = []

    def ask(session: Connection, key: int) -> None:
        try:
            session.execute(f"SELECT pg_advisory_xact_lock({key})".encode())
        except errors.DeadlockDetected as error:
            found.append(error)
            session.execute("ROLLBACK")

    waiting = [threading.Thread(target=ask, args=given) for given in ((one, 9), (two, 8))]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(10)
    assert len(found) == 1


def test_locks_are_asked_for_in_the_list_of_a_select(server: RunningServer):
    with server.session() as session:
        with pytest.raises(errors.FeatureNotSupported, match="can only stand in the list of a SELECT"):
            session.execute("SELECT 1 WHERE pg_try_advisory_lock(1)")
        with pytest.raises(errors.UndefinedFunction, match="takes a bigint, or two integers"):
            session.execute("SELECT pg_advisory_lock(1, 2, 3)")
        with pytest.raises(errors.NumericValueOutOfRange):
            session.execute("SELECT pg_advisory_lock(9223372036854775808)")
        session.execute("SELECT pg_advisory_lock(11)")
        session.execute("DISCARD ALL")
        with server.session() as other:
            assert value(other, "SELECT pg_try_advisory_lock(11)") is True


def test_how_many_locks_there_may_be_is_a_limit(tmp_path: Path):
    with (
        RunningServer(tmp_path, ["--in-memory", "--limit", "advisory_locks_max=2"]) as server,
        server.session() as session,
    ):
        session.execute("SELECT pg_advisory_lock(1), pg_advisory_lock(2), pg_advisory_lock(1)")
        with pytest.raises(errors.ProgramLimitExceeded, match="advisory_locks_max = 2"):
            session.execute("SELECT pg_try_advisory_lock(3)")
        session.execute("SELECT pg_advisory_unlock(2)")
        session.execute("SELECT pg_advisory_lock(3)")
