"""A PostgreSQL 15 of our own, to compare with."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = Path("/usr/lib/postgresql/15/bin")


def installed() -> bool:
    """Tell whether it can be started."""
    return (PROGRAMS / "initdb").exists() and (os.getuid() != 0 or shutil.which("setpriv") is not None)


@contextlib.contextmanager
def running() -> Iterator[int]:
    """Start it in a folder of its own; gives its port. Its user is tester, its database postgres."""
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
