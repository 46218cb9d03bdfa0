"""Real servers in processes of their own, to be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg

from tests.forked import start

READY = "listening on "

# what is to kill itself does so within that time, or never comes to where it would
SECONDS_MAX = 90.0


class Server:
    """``streamsql serve`` on a data directory. With `fault` it kills itself at that point (see `base.faults`)."""

    def __init__(self, directory: Path, fault: str = "") -> None:
        environment = {**os.environ, "STREAMSQL_FAULT": fault}
        command = ["serve", "--port", "0", "--data-dir", str(directory)]
        with (directory.parent / "server.log").open("ab") as log:
            self._process = start(command, environment, Path.cwd(), log)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip().removeprefix(READY)
        """Where it listens, or the empty text if it died before it could."""

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url, autocommit=True, prepare_threshold=None)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def stands_still(self) -> bool:
        """Tell whether it has been stopped, as by SIGSTOP."""
        status = Path(f"/proc/{self._process.pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] == "T"

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ask it to end."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def ended_by_itself(self, seconds: float = 5.0) -> bool:
        """Wait a while for its end; tell whether it ended, with the status of a failure."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code == 1

    def was_killed(self) -> bool:
        """Wait for its end, and tell whether it was by SIGKILL. Any other end but an orderly one is a failure."""
        try:
            code = self._process.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the server lives on: it does not come to the point at which it would end") from None
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert code in {0, -signal.SIGKILL}, f"the server ended with status {code}; see server.log"
        return code != 0


@contextlib.contextmanager
def serving(directory: Path, fault: str = "") -> Iterator[Server]:
    """Run a server; it is stopped at the end, if it lives that long."""
    server = Server(directory, fault)
    try:
        yield server
    except BaseException:
        server.kill()
        raise
    server.stop()
    assert not server.was_killed()
