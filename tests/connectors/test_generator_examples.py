"""The examples of generators print what their expected.txt says; ``--update`` writes that."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.house.project import ROOT
from tests.running import RunningServer


@pytest.mark.postgres
@pytest.mark.parametrize("name", ["datagen", "nexmark"])
def test_the_example_prints_what_is_expected(name: str, tmp_path: Path, request: pytest.FixtureRequest):
    example = ROOT / "examples" / name
    with RunningServer(tmp_path) as server:
        done = subprocess.run([example / "run.sh", server.dsn], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    if request.config.getoption("--update"):
        (example / "expected.txt").write_text(done.stdout)
    assert done.stdout == (example / "expected.txt").read_text()
