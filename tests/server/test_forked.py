"""Servers that are forked are what a program's start gives: its environment, folder, descriptors, signals and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psycopg
import pytest

from tests.forked import Forked, Process, start
from tests.running import RunningProgram, RunningServer, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked on Linux only")


def forked(server: RunningServer) -> Forked:
    assert isinstance(server.process, Forked)
    return server.process


def of_process(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def descriptors(process: Process) -> list[str]:
    folder = Path(f"/proc/{process.pid}/fd")
    return sorted(os.readlink(each).partition(":")[0] for each in folder.iterdir())


def test_nothing_is_open_in_it_that_is_not_in_a_program(tmp_path: Path):
    folders = [tmp_path / name for name in ("other", "forked", "program")]
    for folder in folders:
        folder.mkdir()
    with RunningServer(folders[0]), RunningServer(folders[1]) as server, RunningProgram(folders[2]) as program:
        assert program.process is not None
        ours, theirs = descriptors(forked(server)), descriptors(program.process)
        assert [each.replace("forked", "program") for each in ours if each != "/dev/null"] == [
            each for each in theirs if each != "/dev/null"
        ]
        assert os.readlink(f"/proc/{forked(server).pid}/cwd") == str(folders[1])
        names = ("SigIgn", "SigCgt", "SigBlk", "NoNewPrivs", "Seccomp")
        signals = [
            [line for line in of_process(each.pid, "status").splitlines() if line.startswith(names)]
            for each in (forked(server), program.process)
        ]
        assert signals[0] == signals[1]


def nested_savepoints(server: RunningServer) -> int:
    """Find out how many savepoints a transaction may have."""
    with server.session(autocommit=False) as connection:
        for number in range(20):
            try:
                connection.execute("SAVEPOINT s")
            except psycopg.Error:
                return number
    return 20


def test_its_environment_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STREAMSQL_LIMIT_SAVEPOINTS_MAX", "7")
    with RunningServer(tmp_path, ["--in-memory"], {"STREAMSQL_LOG_LEVEL": "debug"}) as server:
        assert (forked(server).returncode, nested_savepoints(server)) == (None, 7)
        assert "level=debug" in server.log()
    monkeypatch.delenv("STREAMSQL_LIMIT_SAVEPOINTS_MAX")
    with RunningServer(tmp_path, ["--in-memory"], {"STREAMSQL_FAULT": "epoch.rows_written:1"}) as server:
        assert nested_savepoints(server) == 20
        with pytest.raises(psycopg.OperationalError):
            server.execute("CREATE STREAM s (x INT)", "INSERT INTO s VALUES (1)")
        assert forked(server).wait(20) == server.wait() == -signal.SIGKILL


def test_what_python_reads_before_the_program_makes_it_a_program(tmp_path: Path):
    with RunningServer(tmp_path, ["--in-memory"], {"PYTHONHASHSEED": "1"}) as server:
        assert isinstance(server.process, subprocess.Popen)


def test_its_end_is_told_as_that_of_a_program(tmp_path: Path):
    with (tmp_path / "log").open("wb") as log:
        process = start(["serve", "--port", "0", "--in-memory"], os.environ, tmp_path, log)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening on ")
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20) == ("", None)
        assert process.returncode == process.poll() == process.wait() == 0
        process.kill()  # it has ended, and nobody else is killed
        for arguments, code, said in (
            (["serve", "--port", "x"], 1, "streamsql: port must be a number, not 'x'\n"),
            (["serve", "--nosuch"], 2, "streamsql: error: unrecognized arguments: --nosuch\n"),
        ):
            failed = start(arguments, os.environ, tmp_path, log)
            assert failed.communicate(timeout=20) == ("", None)
            assert failed.returncode == code
            assert (tmp_path / "log").read_text().endswith(said)
        version = start(["--version"], os.environ, tmp_path, log)
        assert version.communicate(timeout=20)[0].startswith("streamsql ")


def test_no_server_outlives_the_tests(tmp_path: Path):
    """Not even where they are killed."""
    program = textwrap.dedent(f"""
        import os, pathlib
        from tests.running import RunningServer
        server = RunningServer(pathlib.Path({str(tmp_path)!r}), ["--in-memory"])
        server.start()
        print(server.process.pid, flush=True)
        os.kill(os.getpid(), 9)
    """)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=root, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    until(lambda: not Path(f"/proc/{pid}").exists() or "State:\tZ" in of_process(pid, "status"))
