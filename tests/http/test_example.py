"""examples/http does what its expected.txt says; ``--update`` writes that."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.house.project import ROOT
from tests.running import RunningServer

FOLDER = ROOT / "examples/http"


def test_the_example_prints_what_it_says(tmp_path, request):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with RunningServer(tmp_path, ["--in-memory", "--http-port", "0"]) as server:
        server.execute(*filter(str.strip, (FOLDER / "setup.sql").read_text().split(";")))
        done = subprocess.run(
            ["sh", FOLDER / "send.sh", server.http], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    if request.config.getoption("--update"):
        (FOLDER / "expected.txt").write_text(done.stdout)
    assert done.stdout == (FOLDER / "expected.txt").read_text()
