"""Every golden file, with a restart or a crash after each block that changes something, by day after every third one."""

from __future__ import annotations

from pathlib import Path

from tests.golden.telling import cases, tell


@cases("restarts")
def test_a_story_ends_the_same_whatever_dies_meanwhile(path: Path, mode: str, tmp_path: Path):
    tell(path, mode, tmp_path)
