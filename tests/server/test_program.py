"""The program around the server: what it loads, and how it ends."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from streamsql import __version__
from tests.running import RunningProgram


def test_a_server_loads_no_package_that_it_has_no_use_for(tmp_path: Path):
    assert importlib.util.find_spec("pandas") is not None  # else this would prove nothing
    with RunningProgram(tmp_path) as server:
        server.execute("CREATE TABLE t (x INT)", "INSERT INTO t VALUES (1)")
        assert server.execute("SELECT x FROM t") == [(1,)]
        assert server.process is not None
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "/pyarrow/" in maps
    assert "/pandas/" not in maps


def test_the_version_is_told_without_the_engine():
    code = (
        "import sys\nfrom streamsql.cli import main\ntry: main(['--version'])\nfinally: print('duckdb' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == f"streamsql {__version__}\nFalse\n"


def test_at_the_end_threads_are_waited_for_and_nothing_is_taken_apart():
    code = """
import atexit, threading
from streamsql import cli

class Object:
    def __del__(self):
        print("taken apart")

def wait():
    threading.main_thread().join()
    print("the thread has ended")

def main():
    atexit.register(print, "what was registered is called")
    threading.Thread(target=wait).start()
    return 3

kept = Object()
cli.main = main
cli.program()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == "the thread has ended\nwhat was registered is called\n"
