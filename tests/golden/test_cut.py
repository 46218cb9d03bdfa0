"""Golden files, their rows cut at random: by day those that are not told with restarts, which cut them at random as well; in
the nightly profile all of them, in two ways.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.golden.telling import cases, tell

NIGHTLY = os.environ.get("STREAMSQL_PROFILE") == "nightly"


@cases(*(("random-1", "random-2") if NIGHTLY else ("random-1",)), instead_of=None if NIGHTLY else "restarts")
def test_a_story_ends_the_same_however_it_is_cut(path: Path, mode: str, tmp_path: Path):
    tell(path, mode, tmp_path)
