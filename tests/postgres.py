"""A PostgreSQL 15 of our own: to compare with, to read from, to deliver to."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

PROGRAMS = Path("/usr/lib/postgresql/15/bin")


def installed() -> bool:
    """Tell whether it can be started."""
    return (PROGRAMS / "initdb").exists() and (os.getuid() != 0 or shutil.which("setpriv") is not None)


class Cluster:
    """A server in a folder of its own, which may be stopped and started again. Its user is tester, its database postgres."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's own folders are closed to other users
        data = self.folder / "data"
        become: list[str | Path] = []
        if os.getuid() == 0:  # which PostgreSQL refuses to run as
            shutil.chown(self.folder, "postgres")
            become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        subprocess.run(
            [*become, PROGRAMS / "initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"],
            check=True, capture_output=True, cwd=self.folder,
        )  # fmt: skip
        chosen = {"listen_addresses": "127.0.0.1", "fsync": "off", "timezone": "UTC", **(settings or {})}
        self._options = f"-p {self.port} -k {self.folder} " + " ".join(f"-c {k}={v}" for k, v in chosen.items())
        self._control: list[str | Path] = [*become, PROGRAMS / "pg_ctl", "-D", data]

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        # pg_ctl leaves the server with its own output, so that output must not be a pipe
        start = [*self._control, "-o", self._options, "-w", "-l", self.folder / "log", "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: ``immediate`` as a crash would."""
        subprocess.run([*self._control, "-m", mode, "stop"], check=True, capture_output=True, cwd=self.folder)

    def remove(self) -> None:
        """Delete its folder."""
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def cluster(settings: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Run a server with these settings; it is stopped and deleted at the end."""
    made = Cluster(settings)
    made.start()
    try:
        yield made
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):  # a test may have stopped it
            made.stop()
        made.remove()


@contextlib.contextmanager
def running() -> Iterator[int]:
    """Run a server; gives its port."""
    with cluster() as made:
        yield made.port
