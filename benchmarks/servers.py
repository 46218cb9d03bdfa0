"""Servers to measure: streamsql and PostgreSQL, each in a temporary folder and on a free port.

PostgreSQL runs with its own defaults (fsync on, 128 MB of shared buffers), as streamsql does. It refuses to run as root, so
there it is given to the user `postgres` or `nobody`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

POSTGRES_FOLDERS = ("/usr/lib/postgresql/15/bin", "/opt/homebrew/opt/postgresql@15/bin")


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server listens, and its process and folder."""

    name: str
    host: str
    port: int
    user: str
    database: str
    pid: int
    folder: Path

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}@{self.host}:{self.port}/{self.database}"

    @property
    def rss_bytes(self) -> int:
        """Resident size of the process (Linux)."""
        return self._status("VmRSS")

    @property
    def rss_peak_bytes(self) -> int:
        return self._status("VmHWM")

    def _status(self, field: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"no {field} in /proc/{self.pid}/status")

    @property
    def folder_bytes(self) -> int:
        """Size of all files that the server keeps."""
        return sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file())


@contextlib.contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """Make a temporary folder beside the current one's disk or in TMPDIR; it is removed in the end."""
    made = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def streamsql(*options: str) -> Iterator[Server]:
    """Run a streamsql server."""
    with folder("streamsql-bench") as base:
        data = base / "data"
        command = [sys.executable, "-m", "streamsql", "serve", "--port", "0", "--data-dir", str(data), *options]
        command += ["--log-level", "warning"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                if not line.startswith("listening on"):
                    raise RuntimeError(f"streamsql did not start: {line!r}")
                port = int(line.rsplit(":", 1)[1].split("/")[0])
                yield Server("streamsql", "127.0.0.1", port, "bench", "streamsql", process.pid, data)
            finally:
                _end(process)


@contextlib.contextmanager
def postgres() -> Iterator[Server | None]:
    """Run a PostgreSQL 15 server; None where its programs are not found."""
    programs = next((Path(p) for p in POSTGRES_FOLDERS if (Path(p) / "initdb").exists()), None)
    if programs is None:
        print("PostgreSQL 15 is not installed: its bounds are left out", file=sys.stderr)
        yield None
        return
    with folder("postgres-bench") as base:
        user = _unprivileged()
        if user is not None:
            os.chown(base, user.pw_uid, user.pw_gid)
        data = base / "data"
        _run(
            [
                *_as(user),
                str(programs / "initdb"),
                "-D",
                str(data),
                "-U",
                "bench",
                "--auth=trust",
                "--locale=C",
                "-E",
                "UTF8",
            ]
        )
        port = free_port()
        command = [*_as(user), str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(base)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=base) as process:
            try:
                _wait_for(port, process)
                yield Server("PostgreSQL 15", "127.0.0.1", port, "bench", "postgres", process.pid, data)
            finally:
                _end(process)


def _unprivileged() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _as(user: pwd.struct_passwd | None) -> list[str]:
    if user is None:
        return []
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr}")


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            # it listens before it lets anybody in
            time.sleep(0.5)
            return
        time.sleep(0.05)
    raise RuntimeError("PostgreSQL did not start")


def _end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
