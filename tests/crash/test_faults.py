"""A server killed at each of its named points, the first time it is reached, the second, and so on until it is not.

By day no more than `RUNS_BY_DAY` times.

Each run starts on what the last one left, checks it, and goes on working until it is killed itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from streamsql.base.faults import POINTS
from tests.crash.ledger import SELECTS, Stream, create_stream
from tests.crash.servers import Server, serving

RUNS_MAX = 20
RUNS_BY_DAY = 4
NIGHTLY = os.environ.get("STREAMSQL_PROFILE") == "nightly"
SHARING = SELECTS[2]
Connection = psycopg.Connection[Any]


class Work:
    """What is done in the runs: each makes a stream, fills it, makes a view between two INSERTs, drops the last view."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.doubtful: Callable[[Connection], None] | None = None

    def check(self, connection: Connection, last: int = 2) -> None:
        """Find out what became of the statement that had no answer, then check the streams that were worked on."""
        doubtful, self.doubtful = self.doubtful, None
        if doubtful is not None:
            doubtful(connection)
        for stream in self.streams[-last:]:
            stream.check(connection)

    def go_on(self, connection: Connection, run: int) -> None:
        """Do a run's work; raises OperationalError where the server dies."""
        first = run * 100
        old = self.streams[-1] if self.streams else None
        select = SELECTS[run % len(SELECTS)]
        if old is not None:
            old.insert(connection, [first, first + 1])
        made = Stream(f"s{run}")
        # only the first one has rows to drop, so that each run comes to that point once
        create = create_stream(made.name, "forever" if run else "30 days")
        self._define(connection, create, made.name, lambda: self.streams.append(made))
        made.insert(connection, [first + n for n in range(2, 7)])
        view = f"v{run}"
        create = f"CREATE MATERIALIZED VIEW {view} AS {select.sql(made.name)}"
        self._define(connection, create, view, lambda: made.views.update({view: select}))
        for twin in () if run else ("w", "x"):  # which share a state
            create = f"CREATE MATERIALIZED VIEW {twin} AS {SHARING.sql(made.name)}"
            self._define(connection, create, twin, lambda twin=twin: made.views.update({twin: SHARING}))  # type: ignore[misc]
        made.insert(connection, [first + n for n in range(7, 15)])
        if old is not None:
            for name in list(old.views):
                self._drop(connection, old, name)

    def _define(self, connection: Connection, sql: str, name: str, known: Callable[[], None]) -> None:
        def settle(later: Connection) -> None:
            if _exists(later, name):
                known()

        self.doubtful = settle
        connection.execute(sql)
        self.doubtful = None
        known()

    def _drop(self, connection: Connection, stream: Stream, view: str) -> None:
        def settle(later: Connection) -> None:
            if not _exists(later, view):
                del stream.views[view]

        self.doubtful = settle
        connection.execute(f"DROP MATERIALIZED VIEW {view}")
        self.doubtful = None
        del stream.views[view]


def _exists(connection: Connection, name: str) -> bool:
    try:
        connection.execute(f"SELECT * FROM {name} LIMIT 0")
    except psycopg.errors.UndefinedTable:
        return False
    return True


def _run(work: Work, directory: Path, fault: str, run: int) -> bool:
    """Check, work, stop; tell whether the server was killed on the way."""
    server = Server(directory, fault)
    if server.url:
        try:
            with server.connect() as connection:
                work.check(connection)
                work.go_on(connection, run)
        except psycopg.OperationalError:
            pass  # the server is dead, which is found out below
        except BaseException:
            server.kill()
            raise
    server.stop()
    return server.was_killed()


@pytest.mark.parametrize("point", POINTS)
def test_a_server_killed_at_this_point_loses_nothing_repeats_nothing_and_goes_on(point: str, tmp_path: Path):
    work = Work()
    directory = tmp_path / "data"
    reached = 0
    while (NIGHTLY or reached < RUNS_BY_DAY) and _run(work, directory, f"{point}:{reached + 1}", reached):
        reached += 1
        assert reached < RUNS_MAX, "the point is reached without an end"
    assert reached, "nothing reaches this point"
    with serving(directory) as server, server.connect() as connection:
        work.check(connection)
        work.go_on(connection, reached + 1)
        work.check(connection, last=len(work.streams))
