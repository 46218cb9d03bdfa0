"""A server of its own process, as a user starts it, for tests that talk to it over the wire."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.rows import TupleRow

from tests.forked import Process, start

T = TypeVar("T")

READY = re.compile(r"listening on (postgresql://(\S+):(\d+)/streamsql)\n\Z")
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 20.0
CONDITION_SECONDS_MAX = 15.0
POLL_SECONDS = 0.01
# what must never be in a server's log, whatever clients do
WRONG = ("Traceback", "internal error", "Task was destroyed", "never awaited", "never retrieved")


def until(condition: Callable[[], T], seconds: float = CONDITION_SECONDS_MAX) -> T:
    """Give what a condition gives once it is true; fail if that takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(POLL_SECONDS)
    return found


class RunningServer:
    """``python -m streamsql serve``. Used as a context manager: it is stopped at the end, and must end well.

    It does not import what a process of the tests has imported already (see `tests.forked`).
    """

    fork = True

    def __init__(
        self, folder: Path, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.log_path = folder / "server.log"
        self.arguments = [*arguments]
        if not {"--data-dir", "--in-memory"} & set(arguments):
            self.arguments += ["--data-dir", str(folder / "data")]
        self.environment = {**os.environ, **(environment or {})}
        self.process: Process | None = None
        self.dsn = ""
        self.http = ""
        self.port = 0

    def __enter__(self) -> RunningServer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.process is not None and self.process.poll() is None:
            status = self.stop()
            assert status == 0 or error[0] is not None, (status, self.log())
        if error[0] is None:
            self.check_log()

    def start(self) -> None:
        """Start it, and return when it says that it is ready."""
        port = [] if "--port" in self.arguments else ["--port", "0"]
        with self.log_path.open("ab") as log:
            command = ["serve", *port, *self.arguments]
            self.process = start(command, self.environment, self.folder, log, fork=self.fork)
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], START_SECONDS_MAX)
        line = self.process.stdout.readline() if readable else ""
        ready = READY.match(line)
        if ready is None:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not get ready: {line!r}\n{self.log()}")
        self.dsn, self.port = ready[1], int(ready[3])
        if "--http-port" in self.arguments:
            self.http = self.process.stdout.readline().strip().removeprefix("listening on ")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and give the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end and give the exit status. Nothing but the ready line may have been on stdout."""
        assert self.process is not None
        assert self.process.stdout is not None
        try:
            rest, _ = self.process.communicate(timeout=STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not stop\n{self.log()}") from None
        assert rest == ""
        return self.process.wait()

    def log(self) -> str:
        return self.log_path.read_text("utf-8")

    def check_log(self) -> None:
        """Fail where the server noted a fault of its own."""
        found = [line for line in self.log().splitlines() if any(word in line for word in WRONG)]
        if found:
            raise AssertionError("\n".join(line.replace("\\n", "\n") for line in found))

    # ---- clients ----

    def connect(self, *, autocommit: bool = True, **options: Any) -> psycopg.Connection[TupleRow]:
        """Open a session. Its user is the test."""
        return psycopg.connect(self.dsn, user="tester", autocommit=autocommit, **options)

    def owner(self) -> psycopg.Connection[TupleRow]:
        """Open a session of the first owner, by the password that the environment gave."""
        password = self.environment.get("STREAMSQL_PASSWORD")
        return psycopg.connect(self.dsn, user="streamsql", password=password, autocommit=True)

    @contextlib.contextmanager
    def session(self, **options: Any) -> Iterator[psycopg.Connection[TupleRow]]:
        """Open a session for a block."""
        with self.connect(**options) as connection:
            yield connection

    def execute(self, *statements: str) -> list[TupleRow]:
        """Run statements, one by one; give the rows of the last one."""
        with self.connect() as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description is not None else []

    def live_queries(self) -> list[str]:
        """Name the live queries that run."""
        return [row[0] for row in self.execute("SHOW QUERIES") if row[1] == "live query"]

    def wait_for_live_queries(self, count: int) -> None:
        """Return when so many live queries run."""
        until(lambda: len(self.live_queries()) == count)


class RunningProgram(RunningServer):
    """A server that imports all that it needs itself, and shares no memory with another."""

    fork = False
