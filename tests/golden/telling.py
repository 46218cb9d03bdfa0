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
from tests.golden.story import MODES, Story

FILES = sorted(Path(__file__).parent.glob("*.test"))


def cases(*modes: str, instead_of: str | None = None) -> pytest.MarkDecorator:
    """Give a test every golden file in each of these modes, where the file does not leave it out.

    With `instead_of`, only the files that leave that mode out.
    """
    found = []
    for path in FILES:
        allowed = datadriven.read(path).settings.get("modes", list(MODES))
        assert "whole" in allowed, path
        assert set(allowed) <= set(MODES), path
        found += [
            pytest.param(path, mode, id=f"{path.stem}-{mode}")
            for mode in modes
            if mode in allowed and instead_of not in allowed
        ]
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
