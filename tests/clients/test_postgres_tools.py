"""The programs that come with PostgreSQL beside psql: pgbench, vacuumdb, reindexdb, clusterdb."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.clients.programs import needs
from tests.postgres import PROGRAMS
from tests.running import RunningServer

pytestmark = pytest.mark.postgres


def run(server: RunningServer, program: str, *arguments: str) -> str:
    """Run a program against the server; it must end well. Gives what it printed."""
    environment = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "streamsql"}
    done = subprocess.run(
        [needs(PROGRAMS / program, program), *arguments, "streamsql"],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_pgbench_fills_its_tables_and_runs_its_transactions(server: RunningServer):
    made = run(server, "pgbench", "--initialize", "--foreign-keys")
    assert 'storage parameter "fillfactor" has no effect' in made
    assert server.execute("SELECT count(*), sum(abalance) FROM pgbench_accounts") == [(100_000, 0)]
    told = run(server, "pgbench", "--transactions=5")
    assert re.search(r"actually processed: 5/5\b", told), told
    told = run(
        server, "pgbench", "--transactions=20", "--protocol=prepared", "--select-only", "--no-vacuum", "--client=2"
    )
    assert re.search(r"actually processed: 40/40\b", told), told
    (sums,) = server.execute(
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), "
        "(SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(delta) FROM pgbench_history), "
        "(SELECT count(*) FROM pgbench_history)"
    )
    assert len(set(sums[:4])) == 1
    assert sums[4] == 5


def test_upkeep_is_done_for_all_and_for_one_table(server: RunningServer):
    server.execute("CREATE TABLE kept (a INT PRIMARY KEY)", "CREATE INDEX kept_a ON kept (a)")
    for program, *more in (
        ("vacuumdb", "--analyze"), ("vacuumdb", "--full", "--table=kept"), ("vacuumdb", "--analyze-only", "--table=kept(a)"),
        ("reindexdb",), ("reindexdb", "--table=kept"), ("reindexdb", "--index=kept_a"), ("clusterdb",),
        ("clusterdb", "--table=kept"),
    ):  # fmt: skip
        assert "ERROR" not in run(server, program, *more)
