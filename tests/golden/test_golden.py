"""Every golden file in every mode: the same rows give the same output, however they were cut and whatever died meanwhile."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from streamsql.base.limits import Limits
from tests.driver import Database
from tests.golden import datadriven
from tests.golden.story import MODES, Story

FILES = sorted(Path(__file__).parent.glob("*.test"))


def _cases() -> list[tuple[Path, str]]:
    cases = []
    for path in FILES:
        allowed = datadriven.read(path).settings.get("modes", list(MODES))
        assert "whole" in allowed, path
        assert set(allowed) <= set(MODES), path
        cases += [(path, mode) for mode in MODES if mode in allowed]
    return cases


@pytest.mark.parametrize(("path", "mode"), [pytest.param(p, m, id=f"{p.stem}-{m}") for p, m in _cases()])
def test_a_story_ends_the_same_however_it_is_told(
    path: Path, mode: str, tmp_path: Path, request: pytest.FixtureRequest
):
    document = datadriven.read(path)
    on_disk = mode == "restarts" or any(b.directive == "restart" for b in document.blocks)
    given = {n: int(v) for n, _, v in (s.partition("=") for s in document.settings.get("limits", []))}
    outputs = []
    with Database(tmp_path / "data" if on_disk else None, dataclasses.replace(Limits(), **given)) as database:
        story = Story(path.stem, database, mode)
        for block in document.blocks:
            try:
                printed = story.run(block)
            except Exception as error:
                error.add_note(f"{path.name}:{block.line}: {' '.join(block.words)}\n{block.text}")
                raise
            outputs.append(printed)
    update = request.config.getoption("--update", default=False) and mode == "whole"
    if update:
        path.write_text(document.render(outputs), "utf-8")
        return
    wrong = [(b, o) for b, o in zip(document.blocks, outputs, strict=True) if b.expected.rstrip() != o.rstrip()]
    told = [
        f"{path.name}:{b.line}: {b.directive}\n{b.text}\n---- expected\n{b.expected}\n---- got\n{o}" for b, o in wrong
    ]
    assert not wrong, "\n\n".join(told)
