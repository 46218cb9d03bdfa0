"""Django: a project's migrations, queries, transactions and fixtures, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.running import RunningServer

ROOT = Path(__file__).parents[2]


def test_a_project_is_migrated_used_and_flushed(tmp_path: Path):
    with RunningServer(tmp_path) as server:
        project = {"DJANGO_SETTINGS_MODULE": "tests.clients.django_shop.settings", "DATABASE_PORT": str(server.port)}
        done = subprocess.run(
            [sys.executable, "-m", "tests.clients.django_shop.scenario", str(tmp_path / "kept.json")],
            cwd=ROOT, env={**os.environ, **project}, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
