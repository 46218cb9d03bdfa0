"""Golden files, their rows cut at random: which of them by day, `tests.golden.telling` says."""

from __future__ import annotations

from pathlib import Path

from tests.golden.telling import cases, tell


@cases("random-1", "random-2")
def test_a_story_ends_the_same_however_it_is_cut(path: Path, mode: str, tmp_path: Path):
    tell(path, mode, tmp_path)
