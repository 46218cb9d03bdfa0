"""examples/files does what its README says, on a real server."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.running import RunningServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "files"


@pytest.mark.postgres
def test_the_example_prints_what_is_expected(tmp_path: Path, request: pytest.FixtureRequest):
    copy, place = tmp_path / "example", tmp_path / "files"
    shutil.copytree(EXAMPLE, copy)
    (place / "visits").mkdir(parents=True)
    for name in ("setup.sql", "run.sh"):
        (copy / name).write_text((copy / name).read_text().replace("/tmp/streamsql-files", str(place)))
    with RunningServer(tmp_path, ["--allow-path", str(place)]) as server:
        done = subprocess.run([copy / "run.sh", server.dsn], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    if request.config.getoption("--update"):
        (EXAMPLE / "expected.txt").write_text(done.stdout)
    assert done.stdout == (EXAMPLE / "expected.txt").read_text()
