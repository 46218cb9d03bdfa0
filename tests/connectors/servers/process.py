"""A server of another project as a process of its own, on a free port of this machine, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

STARTS_WITHIN_SECONDS = 60.0
_LOOK_UP_SECONDS = 0.02


def program(name: str) -> str:
    """Find a program; a test whose program is not there is skipped."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class ServerProcess:
    """Start it, stop it, kill it, start it again: `answers` says, by asking, whether it is ready."""

    def __init__(self, command: Sequence[str], folder: Path, answers: Callable[[], bool]) -> None:
        self._command = command
        self._folder = folder
        self._answers = answers
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=self._folder, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + STARTS_WITHIN_SECONDS
        while not self._ready():
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            assert time.monotonic() < deadline, "the server did not get ready"
            time.sleep(_LOOK_UP_SECONDS)

    def _ready(self) -> bool:
        with contextlib.suppress(OSError):
            return self._answers()
        return False

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal, and wait for its end."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it answer nothing, until `go_on`."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)
