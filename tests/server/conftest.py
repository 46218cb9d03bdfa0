"""One server a module, which must be left without live queries; and a PostgreSQL to compare with."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import RunningServer

PROGRAMS = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server"), ["--log-level", "debug"]) as running:
        yield running
        running.wait_for_live_queries(0)


@pytest.fixture(scope="session")
def postgres_port() -> Iterator[int]:
    """The port of a PostgreSQL 15 of our own; its user is the test, its database postgres."""
    if not (PROGRAMS / "initdb").exists() or (os.getuid() == 0 and shutil.which("setpriv") is None):
        pytest.skip("PostgreSQL 15 is not installed")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's own folders are closed to other users
    data = folder / "data"
    become: list[str | Path] = []
    if os.getuid() == 0:  # which PostgreSQL refuses to run as
        shutil.chown(folder, "postgres")
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    subprocess.run(
        [*become, PROGRAMS / "initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"],
        check=True, capture_output=True, cwd=folder,
    )  # fmt: skip
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c timezone=UTC"
    control: list[str | Path] = [*become, PROGRAMS / "pg_ctl", "-D", data]
    # pg_ctl leaves the server with its own output, so that output must not be a pipe
    start = [*control, "-o", options, "-w", "-l", folder / "log", "start"]
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    try:
        yield port
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=folder)
        shutil.rmtree(folder)
