"""The server is killed where it hurts, and started again: nothing acknowledged is lost, nothing has happened twice.

Each fault point of `base.faults` is taken in turn, the first time it is reached, the second, and so on, until a run ends
without reaching it. Then the server is killed at arbitrary instants while two clients write.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from streamsql.base.faults import POINTS
from tests.servers import RunningServer, start_server

SETUP = """
CREATE STREAM s (id BIGINT, ts TIMESTAMP, k TEXT, v DOUBLE PRECISION, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
    WITH (retention = '1 day');
CREATE MATERIALIZED VIEW closed AS SELECT window_start, k, count(*) AS n, sum(v) AS total
    FROM s GROUP BY window(ts, '10 seconds'), k EMIT APPEND;
CREATE MATERIALIZED VIEW totals AS SELECT k, count(*) AS n, sum(v) AS total FROM s GROUP BY k EMIT UPDATE;
CREATE MATERIALIZED VIEW hops AS SELECT window_start, count(*) AS n FROM s GROUP BY window(ts, '10 seconds', '5 seconds')
    EMIT UPDATE;
"""
LATER = "CREATE MATERIALIZED VIEW later AS SELECT k, max(v) AS top FROM s GROUP BY k EMIT UPDATE"


def row(number: int) -> tuple[int, str, str, float]:
    """Row `number`: event time moves on by 3 s a row, every fourth is 9 s behind."""
    seconds = 3 * number - (9 if number % 4 == 3 else 0)
    return number, f"2026-01-01 00:{seconds // 60 % 60:02}:{seconds % 60:02}", "ab"[number % 2], number / 8


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a stream, views and the rows 0 to 5."""
    directory = tmp_path_factory.mktemp("prepared") / "data"
    with start_server(directory) as server:
        with connected(server) as connection:
            connection.execute(SETUP)
            insert(connection, range(6))
        assert server.stop() == 0
    return directory


@contextlib.contextmanager
def connected(server: RunningServer) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.dsn, user="crash", autocommit=True) as connection:
        yield connection


def insert(connection: psycopg.Connection, numbers: range) -> None:
    """Insert rows in one statement: they are acknowledged together."""
    values = ", ".join("({}, '{}', '{}', {})".format(*row(n)) for n in numbers)
    connection.execute(f"INSERT INTO s VALUES {values}")


def check(connection: psycopg.Connection, acknowledged: set[int], sent: set[int]) -> set[int]:
    """Hold what is there against what was acknowledged, and the views against the rows; gives the rows that are there."""
    found = [n for (n,) in connection.execute("SELECT id FROM s").fetchall()]
    there = set(found)
    assert len(found) == len(there), "a row is there twice"
    assert acknowledged <= there <= sent
    totals = connection.execute("SELECT k, n, total FROM totals ORDER BY k").fetchall()
    assert totals == connection.execute("SELECT k, count(*), sum(v) FROM s GROUP BY k ORDER BY k").fetchall()
    accepted = connection.execute("SELECT count(*) FROM s").fetchone()
    late = dict(connection.execute("SELECT name, rows_late FROM streamsql.views").fetchall())
    in_ledger = dict(connection.execute("SELECT view, count(*) FROM streamsql.late_rows GROUP BY view").fetchall())
    assert {v: n for v, n in late.items() if n} == in_ledger
    assert accepted is not None
    rows_in = connection.execute("SELECT DISTINCT rows_in FROM streamsql.views WHERE name <> 'later'").fetchall()
    assert rows_in == [accepted], "views have taken in other rows than the stream has"
    return there


def closed_by_hand(numbers: list[int]) -> Counter[tuple[str, str]]:
    """Count the rows of closed windows by the row-by-row rule: what the view `closed` must hold."""
    counts: Counter[tuple[str, str]] = Counter()
    largest = -1_000
    for number in numbers:
        seconds = 3 * number - (9 if number % 4 == 3 else 0)
        start = seconds // 10 * 10
        if start + 10 > largest - 5:
            counts[start, "ab"[number % 2]] += 1  # type: ignore[index]  # keyed by seconds here
        largest = max(largest, seconds)
    return Counter({key: n for key, n in counts.items() if int(key[0]) + 10 <= largest - 5})


def check_closed(connection: psycopg.Connection, there: set[int]) -> None:
    arrived = [n for (n,) in connection.execute("SELECT id FROM s").fetchall()]
    assert set(arrived) == there
    shown = connection.execute(
        "SELECT extract(epoch FROM window_start)::BIGINT - extract(epoch FROM TIMESTAMP '2026-01-01')::BIGINT, k, n FROM closed"
    ).fetchall()
    assert {(int(w), k): n for w, k, n in shown} == dict(closed_by_hand(arrived))


def work(server: RunningServer, acknowledged: set[int], sent: set[int]) -> None:
    """Write, define, drop: what a run does until it is killed, or ends in order."""
    with connected(server) as connection:
        for first in (6, 9, 12):
            numbers = range(first, first + 3)
            sent.update(numbers)
            insert(connection, numbers)
            acknowledged.update(numbers)
        connection.execute(LATER)
        connection.execute("DROP MATERIALIZED VIEW later")
    server.stop()


@pytest.mark.parametrize("point", POINTS)
def test_nothing_is_lost_or_repeated_when_the_server_dies_at(point: str, prepared: Path, tmp_path: Path) -> None:
    reached = 0
    while True:
        directory = tmp_path / f"data{reached}"
        shutil.copytree(prepared, directory)
        acknowledged, sent = set(range(6)), set(range(6))
        with start_server(directory, environment={"STREAMSQL_FAULT": f"{point}:{reached + 1}"}) as server:
            with contextlib.suppress(psycopg.OperationalError):
                work(server, acknowledged, sent)
            status = server.process.wait(timeout=30)
        with start_server(directory) as server, connected(server) as connection:
            there = check(connection, acknowledged, sent)
            check_closed(connection, there)
            views = {name for (name,) in connection.execute("SELECT name FROM streamsql.views").fetchall()}
            assert {"closed", "totals", "hops"} <= views <= {"closed", "totals", "hops", "later"}
            insert(connection, range(20, 24))
            check_closed(connection, check(connection, there | set(range(20, 24)), there | set(range(20, 24))))
        if status == 0:
            break
        assert status == -signal.SIGKILL
        reached += 1
    assert reached > 0, f"nothing reaches {point}: it is not worth its name"


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_or_repeated_when_the_server_dies_at_any_instant(
    seed: int, prepared: Path, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    directory = tmp_path / "data"
    shutil.copytree(prepared, directory)
    acknowledged, sent = set(range(6)), set(range(6))
    enough = chance.randrange(3, 40)
    killed = threading.Event()

    def write(first: int, server: RunningServer) -> None:
        with contextlib.suppress(psycopg.OperationalError), connected(server) as connection:
            for number in range(first, 4_000, 2):
                if killed.is_set():
                    return
                sent.add(number)
                insert(connection, range(number, number + 1))
                acknowledged.add(number)
                if len(acknowledged) >= enough and not killed.is_set():
                    killed.set()
                    server.process.kill()

    with start_server(directory) as server:
        clients = [threading.Thread(target=write, args=(first, server)) for first in (6, 7)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(timeout=60)
        assert server.process.wait(timeout=30) == -signal.SIGKILL
    with start_server(directory) as server, connected(server) as connection:
        there = check(connection, acknowledged, sent)
        check_closed(connection, there)
