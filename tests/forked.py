"""Servers that are forked from a process which has imported them: `start` gives one, with what tests use of a Popen.

Where that is not as good as a program's own start, it is one: on other systems than Linux, with an environment that Python or
the C library reads before `cli.program`, and in nightly runs.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

PROGRAM = str(Path(__file__).with_name("fork_server.py"))
REQUEST_BYTES_MAX = 1 << 18
NIGHTLY = os.environ.get("STREAMSQL_PROFILE") == "nightly"
# variables of these names are read before the first line of our own
READ_FIRST = ("ARROW_", "GLIBC_", "LANG", "LC_", "LD_", "MALLOC_", "MIMALLOC_", "OMP_", "OPENBLAS_", "PYTHON")

_lock = threading.Lock()


class Forked:
    """A process that is a child of the fork server: its parts are those of `subprocess.Popen`, with text on stdout."""

    def __init__(self, output: IO[str], told: IO[bytes], arguments: Sequence[str]) -> None:
        self.args = [*arguments]
        self.stdout: IO[str] | None = output
        self._told = told
        self.pid = int(told.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Give the return code, or None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; gives the return code. Raises TimeoutExpired after so many seconds."""
        code = self._ended(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Wait for the end; gives what is left on stdout, and closes it."""
        self.wait(timeout)
        assert self.stdout is not None
        with self.stdout:
            return self.stdout.read(), None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], seconds)[0]:
            line = self._told.readline()
            assert line, "the fork server ended"
            self.returncode = int(line)
            self._told.close()
        return self.returncode


Process = subprocess.Popen[str] | Forked


class _ForkServer:
    """The process that forks. It ends with the tests."""

    def __init__(self) -> None:
        self.environment = _read_first(os.environ)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # without threads of numpy's, for which a server has no use
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        with theirs:
            self._process = subprocess.Popen([sys.executable, PROGRAM], stdin=theirs.fileno(), env=environment)
        atexit.register(self.stop)

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, log: IO[bytes]) -> Forked:
        request = {"arguments": [*arguments], "environment": {**environment}, "folder": str(folder)}
        output, their_output = os.pipe()
        told, their_told = os.pipe()
        try:
            message = json.dumps(request).encode()
            assert len(message) < REQUEST_BYTES_MAX
            socket.send_fds(self._control, [message], [their_output, log.fileno(), their_told])
        finally:
            os.close(their_output)
            os.close(their_told)
        return Forked(os.fdopen(output), os.fdopen(told, "rb", 0), arguments)

    def stop(self) -> None:
        self._control.close()
        self._process.wait()


@functools.cache
def _fork_server() -> _ForkServer:
    return _ForkServer()


def _read_first(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_FIRST)}


def start(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, log: IO[bytes], *, fork: bool = True
) -> Process:
    """Start ``python -m streamsql`` in a folder, with its log on stderr. Without `fork` it is always started as users do."""
    if fork and sys.platform == "linux" and not NIGHTLY:
        with _lock:
            server = _fork_server()
        if server.environment == _read_first(environment):
            return server.start(arguments, environment, folder, log)
    return subprocess.Popen(
        [sys.executable, "-m", "streamsql", *arguments],
        stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=folder,
    )  # fmt: skip
