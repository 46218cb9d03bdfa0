"""examples/postgres does what its expected.txt says; ``--update`` writes that."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.connectors.servers.postgres import OtherDatabase, other_database, postgres_cluster
from tests.house.project import ROOT
from tests.running import RunningServer

__all__ = ["other_database", "postgres_cluster"]

pytestmark = pytest.mark.postgres

FOLDER = ROOT / "examples/postgres"


def test_the_example_prints_what_it_says(tmp_path, request, other_database: OtherDatabase):
    if shutil.which("psql") is None:
        pytest.skip("psql is not installed")
    origin = other_database.options
    with RunningServer(tmp_path, ["--in-memory"]) as server:
        done = subprocess.run(
            ["sh", FOLDER / "run.sh", server.dsn, origin["host"], origin["port"], origin["database"], origin["user"]],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        server.execute("DROP SINK regions", "DROP MATERIALIZED VIEW regions", "DROP TABLE orders")
    assert done.returncode == 0, done.stderr
    if request.config.getoption("--update"):
        (FOLDER / "expected.txt").write_text(done.stdout)
    assert done.stdout == (FOLDER / "expected.txt").read_text()
