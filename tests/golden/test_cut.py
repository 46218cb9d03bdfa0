"""Every golden file, its rows cut at random; in the nightly profile in two ways (restarts cut them in a third)."""

from __future__ import annotations

import os
from pathlib import Path

from tests.golden.telling import cases, tell

WAYS = ("random-1", "random-2") if os.environ.get("STREAMSQL_PROFILE") == "nightly" else ("random-1",)


@cases(*WAYS)
def test_a_story_ends_the_same_however_it_is_cut(path: Path, mode: str, tmp_path: Path):
    tell(path, mode, tmp_path)
