"""A real server in a process of its own, for tests that need one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

READY = "listening on "


@dataclass(slots=True)
class RunningServer:
    """A server that has said it is ready."""

    process: subprocess.Popen[str]
    dsn: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.dsn.rsplit(":", 1)[1].partition("/")[0])

    def stop(self) -> int:
        """Ask it to end; gives its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@contextlib.contextmanager
def start_server(
    data_directory: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """Start ``streamsql serve`` on a free port and wait until it is ready; kill it at the end if it still runs."""
    log = data_directory.parent / f"{data_directory.name}.log"
    with log.open("a") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamsql", "serve", "--port", "0", "--data-dir", str(data_directory), *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.startswith(READY), f"{line!r}\n{log.read_text()}"
        yield RunningServer(process, line.removeprefix(READY), log)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
