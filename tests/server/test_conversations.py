"""Conversations in text files, held with a running server: whole, byte by byte, and with PostgreSQL 15 itself.

A block is ``send`` or ``until``, its messages, and ``----``. What stands in ``same_as_postgres`` PostgreSQL answers the same.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import RunningServer
from tests.server.raw import RawClient, play

HERE = Path(__file__).parent
SAME = sorted((HERE / "same_as_postgres").glob("*.pgtest"))
OWN = sorted((HERE / "transcripts").glob("*.pgtest"))
PROGRAMS = Path("/usr/lib/postgresql/15/bin")


@pytest.mark.parametrize("by_byte", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("path", [*SAME, *OWN], ids=lambda path: path.stem)
def test_a_conversation_goes_as_written(server: RunningServer, path: Path, by_byte: bool):
    for kind in ("TABLE", "STREAM"):
        for name, *_ in server.execute(f"SHOW {kind}S"):
            server.execute(f'DROP {kind} "{name}" CASCADE')
    with RawClient(server.port) as client:
        play(client, path, by_byte=by_byte)


@pytest.fixture(scope="module")
def postgres_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a PostgreSQL 15 of its own."""
    if not (PROGRAMS / "initdb").exists() or (os.getuid() == 0 and shutil.which("setpriv") is None):
        pytest.skip("PostgreSQL 15 is not installed")
    folder = tmp_path_factory.mktemp("postgres")
    data = folder / "data"
    become: list[str] = []
    if os.getuid() == 0:  # which PostgreSQL refuses to run as
        for above in [folder, *folder.parents[:2]]:
            above.chmod(0o755)
        shutil.chown(folder, "postgres")
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    subprocess.run(
        [*become, PROGRAMS / "initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"],
        check=True, capture_output=True, cwd=folder,
    )  # fmt: skip
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [*map(str, become), str(PROGRAMS / "pg_ctl"), "-D", str(data)]
    subprocess.run(
        [*control, "-o", options, "-w", "-l", folder / "log", "start"], check=True, capture_output=True, cwd=folder
    )
    try:
        yield port
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=folder)


@pytest.mark.postgres
@pytest.mark.parametrize("path", SAME, ids=lambda path: path.stem)
def test_postgres_holds_the_same_conversation(postgres_port: int, path: Path):
    with RawClient(postgres_port, {"database": "postgres"}) as client:
        play(client, path, by_byte=False)


def test_there_are_conversations():
    assert len(SAME) >= 2
    assert OWN
