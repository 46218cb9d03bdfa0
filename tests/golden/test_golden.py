"""Every golden file as it is written, and, by day every fourth one, a row at a time; ``--update`` writes what comes out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.telling import cases, tell


@cases("whole", "rows")
def test_a_story_ends_as_it_is_written(path: Path, mode: str, tmp_path: Path, request: pytest.FixtureRequest):
    update = request.config.getoption("--update", default=False) and mode == "whole"
    tell(path, mode, tmp_path, update=update)
