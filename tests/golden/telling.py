"""Golden files: told in several modes, the same rows give the same output, however they were cut and whatever died meanwhile.

Each test file here tells them in some of the modes, so that test processes share the work.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from streamsql.base.limits import Limits
from tests.driver import Database
from tests.golden import datadriven
from tests.golden.story import MODES, NIGHTLY, Story

FILES = sorted(Path(__file__).parent.glob("*.test"))


def cases(*modes: str) -> pytest.MarkDecorator:
    """Give a test every golden file in each of these modes, where the file does not leave it out.

    In the nightly profile all of them. By day each file is told whole, and with restarts, which cut its rows at random as
    well; where it leaves restarts out, in one way at random; and every fourth one a row at a time.
    """
    found = []
    for place, path in enumerate(FILES):
        allowed = datadriven.read(path).settings.get("modes", list(MODES))
        assert "whole" in allowed, path
        assert set(allowed) <= set(MODES), path
        wanted = set(allowed)
        if not NIGHTLY:
            wanted -= {"random-2"} if "restarts" not in wanted else {"random-1", "random-2"}
            wanted -= {"rows"} if "restarts" in wanted and place % 4 else set()
        found += [pytest.param(path, mode, id=f"{path.stem}-{mode}") for mode in modes if mode in wanted]
    return pytest.mark.parametrize(("path", "mode"), found)


def tell(path: Path, mode: str, directory: Path, *, update: bool = False) -> None:
    """Run a file in a mode and hold what it prints against what it expects; or write that into it."""
    document = datadriven.read(path)
    on_disk = mode == "restarts" or any(b.directive == "restart" for b in document.blocks)
    given = {n: int(v) for n, _, v in (s.partition("=") for s in document.settings.get("limits", []))}
    outputs = []
    with Database(directory / "data" if on_disk else None, dataclasses.replace(Limits(), **given)) as database:
        story = Story(path.stem, database, mode)
        for block in document.blocks:
            try:
                printed = story.run(block)
            except Exception as error:
                error.add_note(f"{path.name}:{block.line}: {' '.join(block.words)}\n{block.text}")
                raise
            outputs.append(printed)
    if update:
        path.write_text(document.render(outputs), "utf-8")
        return
    wrong = [(b, o) for b, o in zip(document.blocks, outputs, strict=True) if b.expected.rstrip() != o.rstrip()]
    told = [
        f"{path.name}:{b.line}: {b.directive}\n{b.text}\n---- expected\n{b.expected}\n---- got\n{o}" for b, o in wrong
    ]
    assert not wrong, "\n\n".join(told)
