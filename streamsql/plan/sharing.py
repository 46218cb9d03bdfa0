"""Queries that group the same rows in the same way: one plan that keeps the aggregates of all of them.

::

    SELECT k, count(*) FROM s GROUP BY k                          parts count(*)            face: k, the first
    SELECT k, avg(x) FROM s GROUP BY k HAVING count(*) > 1        parts count(*), avg(x)    face: k, the second, its flag

What two queries both ask for is kept once. The outputs of the shared plan are those of all queries, and a flag for each HAVING;
a *face* says which of them a query shows. Places never change as queries come: those of a later one are added behind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from streamsql.plan.nodes import ContinuousPlan, Face, Output
from streamsql.plan.parts import Part

T = TypeVar("T")

# what may hold a name that is none, or the name of a part or of a split
_WORDS = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|(?<![\w.$])(?:p(?P<part>\d+)|__(?P<kind>[xhm])(?P<split>\d+))(?!\w|\s*\()"""
)
_LAMBDA = re.compile(r"->|\blambda\b", re.IGNORECASE)


def grouped_by(plan: ContinuousPlan) -> tuple[object, ...] | None:
    """Give what two plans must have alike to share their groups; None for a plan that cannot share."""
    grouping, window = plan.grouping, plan.window
    if grouping is None or not plan.retracts or plan.origin is not None or plan.recomputed is not None:
        return None
    if window is not None and not window.tumbling:
        return None
    # a lambda's parameters may be called like parts
    if any(_LAMBDA.search(sql) for sql in (grouping.having or "", *(o.sql for o in plan.outputs))):
        return None
    times = (plan.watermark_delay_us, plan.allowed_lateness_us)
    return (plan.source, plan.alias, plan.condition, grouping.keys, grouping.sets, window, *times)


def shared(plans: Sequence[ContinuousPlan]) -> tuple[ContinuousPlan, list[int]]:
    """Make one plan of several with equal `grouped_by`; gives the place of each one's face as well."""
    made = _Shared()
    faces = [made.add(plan) for plan in plans]
    first = plans[0]
    assert first.grouping is not None
    grouping = replace(
        first.grouping, parts=tuple(made.parts), splits=tuple(made.splits), having=None, having_text=None,
        calls=(), growing=(),
    )  # fmt: skip
    different = tuple(dict.fromkeys(faces))
    plan = replace(first, grouping=grouping, outputs=tuple(made.outputs), every_us=None, limit=None, faces=different)
    return plan, [different.index(face) for face in faces]


class _Shared:
    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.splits: list[str] = []
        self.outputs: list[Output] = []

    def add(self, plan: ContinuousPlan) -> Face:
        grouping = plan.grouping
        assert grouping is not None
        splits = [_place(self.splits, split) for split in grouping.splits]
        parts = []
        for part in grouping.parts:
            sql = _renamed(part.sql, lambda word: f"__{word['kind']}{splits[int(word['split'])]}", "split")
            parts.append(_place(self.parts, Part(sql, part.merge)))
        outputs = tuple(self._output(o.sql, o.type, parts) for o in plan.outputs)
        flag = None
        if grouping.having is not None:
            flag = self._output(f"coalesce({grouping.having}, false)", "BOOLEAN", parts)
        return Face(outputs, tuple(parts), flag)

    def _output(self, sql: str, data_type: str, parts: Sequence[int]) -> int:
        renamed = _renamed(sql, lambda word: f"p{parts[int(word['part'])]}", "part")
        return _place(self.outputs, Output("", renamed, data_type))


def _place(kept: list[T], wanted: T) -> int:
    """Give the place of an item, which is added where it is not there yet."""
    if wanted not in kept:
        kept.append(wanted)
    return kept.index(wanted)


def _renamed(sql: str, name: Callable[[re.Match[str]], str], group: str) -> str:
    return _WORDS.sub(lambda word: name(word) if word[group] is not None else word[0], sql)
