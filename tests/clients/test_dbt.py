"""dbt with its PostgreSQL adapter: seeds, materialized views and tests work; what is refused says what to do instead."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.programs import CLIENTS, needs
from tests.running import RunningServer

pytestmark = pytest.mark.programs

DBT = Path(__file__).parents[2] / "build" / "dbt" / "bin" / "dbt"
PROFILE = """\
clicks:
  target: dev
  outputs:
    dev:
      {{type: postgres, host: 127.0.0.1, port: {port}, user: tester, password: "", dbname: streamsql, schema: public,
        threads: 1}}
    own:
      {{type: postgres, host: 127.0.0.1, port: {port}, user: tester, password: "", dbname: streamsql, schema: dbt_ann,
        threads: 1}}
"""


@pytest.fixture(scope="module")
def project(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs(DBT, "dbt (.ci/run installs it)")
    server.execute("CREATE STREAM clicks (who INT)", "INSERT INTO clicks VALUES (1), (1), (2)")
    folder = tmp_path_factory.mktemp("dbt") / "project"
    shutil.copytree(CLIENTS / "dbt", folder)
    (folder / "profiles.yml").write_text(PROFILE.format(port=server.port))
    return folder


def dbt(project: Path, *arguments: str, status: int = 0) -> str:
    environment = {**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DBT_PROFILES_DIR": str(project)}
    done = subprocess.run(
        [str(DBT), "--no-use-colors", *arguments],
        cwd=project, env=environment, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_the_connection_is_found_good(project: Path):
    assert "All checks passed!" in dbt(project, "debug")


def test_seeds_materialized_views_and_tests_are_built_once_and_again(server: RunningServer, project: Path):
    selected = ["--select", "visits", "users"]
    assert "PASS=4 WARN=0 ERROR=0" in dbt(project, "build", *selected)
    server.execute("INSERT INTO clicks VALUES (2), (2)")
    assert server.execute("SELECT * FROM visits ORDER BY who") == [(1, 2), (2, 3)]
    assert "PASS=4 WARN=0 ERROR=0" in dbt(project, "build", *selected)
    assert server.execute("SELECT * FROM visits ORDER BY who") == [(1, 2), (2, 3)]
    assert server.execute("SELECT * FROM users ORDER BY id") == [(1, "ann"), (2, "bob")]
    shown = dbt(project, "show", "--inline", "select sum(n) as total from {{ ref('visits') }}")
    assert "| total |" in shown
    assert "|     5 |" in shown


def test_each_developer_builds_in_a_schema_of_his_own(server: RunningServer, project: Path):
    assert "PASS=4 WARN=0 ERROR=0" in dbt(project, "build", "--target", "own", "--select", "visits", "users")
    assert server.execute("SELECT * FROM dbt_ann.users ORDER BY id") == [(1, "ann"), (2, "bob")]
    held = (
        "SELECT relname FROM pg_class WHERE relnamespace = 'dbt_ann'::regnamespace AND relkind IN ('r', 'm') ORDER BY 1"
    )
    assert server.execute(held) == [("users",), ("visits",)]


def test_views_are_made_and_replaced(server: RunningServer, project: Path):
    for _ in range(2):
        assert "PASS=1 WARN=0 ERROR=0" in dbt(project, "run", "--select", "shown")
        assert server.execute("SELECT count(*) > 0 FROM shown") == [(True,)]
    assert server.execute("SELECT relkind FROM pg_class WHERE relname LIKE 'shown%'") == [("v",)]
