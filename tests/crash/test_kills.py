"""A server killed at no particular moment, while several clients write."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest

from tests.crash.ledger import SELECTS, Stream, create_stream
from tests.crash.servers import Server, serving

KILLS = 3
# a server that takes this long over so little is stuck
WAIT_SECONDS = 60


class Writers:
    """Two clients, one that inserts and one that copies, and the kill after so many answers."""

    def __init__(self, stream: Stream, server: Server, first: int, answers: int) -> None:
        self._stream = stream
        self._server = server
        self._answers = threading.Semaphore(0)
        self._needed = answers
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._write, args=(stream.insert, first, 1)),
            threading.Thread(target=self._write, args=(stream.copy, first + 50_000, 7)),
        ]

    def _write(self, send: Callable[[psycopg.Connection[Any], list[int]], None], first: int, size: int) -> None:
        try:
            with self._server.connect() as connection:
                for start in range(first, first + 40_000, size):
                    send(connection, list(range(start, start + size)))
                    self._answers.release()
        except psycopg.OperationalError:
            pass  # the server is dead, as it should be
        except BaseException as error:
            self._failures.append(error)
            raise

    def run(self) -> None:
        """Write until enough was answered, and kill the server with whatever is on its way."""
        for thread in self._threads:
            thread.start()
        for _ in range(self._needed):
            assert self._answers.acquire(timeout=WAIT_SECONDS)
        self._server.kill()
        for thread in self._threads:
            thread.join(WAIT_SECONDS)
        assert not self._failures


def test_a_server_killed_while_clients_write_keeps_what_it_acknowledged_and_whole_statements(tmp_path: Path):
    stream = Stream("s")
    random = Random(5)
    for run in range(KILLS + 1):
        server = Server(tmp_path / "data")
        with server.connect() as connection:
            if run == 0:
                connection.execute(create_stream("s"))
                for name, select in zip("abcd", SELECTS, strict=True):
                    connection.execute(f"CREATE MATERIALIZED VIEW {name} AS {select.sql('s')}")
                    stream.views[name] = select
            stream.check(connection)
        if run == KILLS:
            server.stop()
            assert not server.was_killed()
            break
        Writers(stream, server, run * 100_000, random.randint(5, 60)).run()
        assert server.was_killed()
        assert stream.acknowledged


@pytest.mark.parametrize("point", ["start.tables_made", "epoch.before_commit", "epoch.after_commit"])
def test_a_server_that_was_killed_while_it_started_starts_again(tmp_path: Path, point: str):
    directory = tmp_path / "data"
    stream = Stream("s")
    server = Server(directory, f"{point}:1")
    assert not server.url
    assert server.was_killed()
    for keys in ([1, 2, 3], [4]):
        with serving(directory) as server, server.connect() as connection:
            if not stream.acknowledged:
                connection.execute(create_stream("s"))
            stream.insert(connection, keys)
            stream.check(connection)
