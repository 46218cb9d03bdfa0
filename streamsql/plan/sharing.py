"""Queries that group the same rows: one plan that keeps the aggregates of all of them.

::

    SELECT k, count(*) FROM s GROUP BY k                          parts count(*)            face: k, the first
    SELECT k, avg(x) FROM s GROUP BY k HAVING count(*) > 1        parts count(*), avg(x)    face: k, the second, its flag
    SELECT j, count(*) FROM s GROUP BY j                          parts count(*)            face: j, the first

What two queries both ask for is kept once. The outputs of the shared plan are those of all queries, and a flag for each HAVING;
a *face* says which of them a query shows. Places never change as queries come: those of a later one are added behind.

Queries with other keys are other grouping sets (`plan.grouping_sets`) of the shared plan. Keys of equal types share a column::

    GROUP BY k    GROUP BY j, i        k0: k or j    k1: i    ks: 0 or 1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from streamsql.plan.grouping_sets import SET_COLUMN
from streamsql.plan.nodes import Arm, ContinuousPlan, Face, Output
from streamsql.plan.parts import Part

T = TypeVar("T")

# More aggregates than this are not kept for the groups of queries that do not ask for them.
SET_PARTS_MAX = 32
# Each set is one more branch of the statement of a large epoch.
SETS_MAX = 256

# what may hold a name that is none, or the name of a key, of a part or of a split
_WORDS = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|"""
    r"""(?<![\w.$])(?:p(?P<part>\d+)|k(?P<key>\d+)|__(?P<kind>[xhm])(?P<split>\d+))(?!\w|\s*\()"""
)
_LAMBDA = re.compile(r"->|\blambda\b", re.IGNORECASE)


def rows_of(plan: ContinuousPlan) -> tuple[object, ...] | None:
    """Give what two plans must have alike to share a state; None for a plan that cannot share."""
    grouping, window = plan.grouping, plan.window
    if grouping is None or not plan.retracts or plan.origin is not None or plan.recomputed is not None:
        return None
    if (window is not None and not window.tumbling) or grouping.distincts:
        return None
    # a lambda's parameters may be called like parts
    if any(_LAMBDA.search(sql) for sql in (grouping.having or "", *(o.sql for o in plan.outputs))):
        return None
    times = (plan.watermark_delay_us, plan.allowed_lateness_us)
    return (plan.source, plan.alias, plan.condition, window, *times)


def groups_of(plan: ContinuousPlan) -> tuple[object, ...]:
    """Give what two plans have alike besides that have the same groups."""
    assert plan.grouping is not None
    return (plan.grouping.keys, plan.grouping.sets)


def takes_sets(plan: ContinuousPlan) -> bool:
    """Tell whether the plan's groups can be one grouping set beside others.

    Closed windows would mix with those of others in one table that only grows. Without keys there is a group from the start.
    """
    return plan.window is None and plan.grouping is not None and bool(plan.grouping.keys) and not plan.grouping.sets


@dataclass(frozen=True, slots=True)
class Sharer:
    """A plan that is to be shared, and the DuckDB types of its keys."""

    plan: ContinuousPlan
    key_types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """What of a shared plan is one query's: the place of its face, and those of its parts and keys among all.

    `number` is that of its grouping set; None where all have the same groups.
    """

    face: int
    parts: tuple[int, ...]
    keys: tuple[int, ...]
    number: int | None


def shared(sharers: Sequence[Sharer]) -> tuple[ContinuousPlan, list[Share]]:
    """Make one plan of several with equal `rows_of`, and equal groups where they do not take sets."""
    first = sharers[0].plan
    assert first.grouping is not None
    several = len({groups_of(sharer.plan) for sharer in sharers}) > 1
    made = _Shared(several)
    shares = [made.add(sharer) for sharer in sharers]
    grouping = replace(
        first.grouping, parts=tuple(made.parts), splits=tuple(made.splits), having=None, having_text=None,
        calls=(), growing=(),
    )  # fmt: skip
    if several:
        arms = made.arms()
        keys = tuple(_chosen([arm.keys[place] for arm in arms]) for place in range(len(made.key_types)))
        grouping = replace(grouping, keys=keys, sets=(tuple(range(len(keys))),) * len(arms), arms=arms)
    plan = replace(
        first, grouping=grouping, outputs=tuple(made.outputs), every_us=None, limit=None, faces=tuple(made.faces)
    )
    return plan, shares


def _chosen(keys: Sequence[str | None]) -> str:
    """The SQL of a key column, by the number of the row's set."""
    cases = " ".join(f"WHEN {number} THEN {key}" for number, key in enumerate(keys) if key is not None)
    return f"CASE {SET_COLUMN} {cases} END"


class _Shared:
    def __init__(self, several: bool) -> None:
        self.parts: list[Part] = []
        self.splits: list[str] = []
        self.outputs: list[Output] = []
        self.faces: list[Face] = []
        self.key_types: list[str] = []
        self._sets: list[tuple[str, ...]] | None = [] if several else None
        self._places: list[tuple[int, ...]] = []
        self._parts_of_set: list[set[int]] = []

    def add(self, sharer: Sharer) -> Share:
        grouping = sharer.plan.grouping
        assert grouping is not None
        splits = [_place(self.splits, split) for split in grouping.splits]
        parts = []
        for part in grouping.parts:
            sql = _renamed(part.sql, lambda word: f"__{word['kind']}{splits[int(word['split'])]}", "split")
            parts.append(_place(self.parts, Part(sql, part.merge)))
        number, keys = self._set(sharer, grouping.keys)
        if number is not None:
            self._parts_of_set[number].update(parts)
        outputs = tuple(self._output(o.sql, o.type, parts, keys) for o in sharer.plan.outputs)
        flag = None
        if grouping.having is not None:
            flag = self._output(f"coalesce({grouping.having}, false)", "BOOLEAN", parts, keys)
        return Share(_place(self.faces, Face(outputs, flag)), tuple(parts), keys, number)

    def arms(self) -> tuple[Arm, ...]:
        """The grouping sets: each one's keys by their columns, and the places of its parts."""
        assert self._sets is not None
        made = []
        for keys, places, parts in zip(self._sets, self._places, self._parts_of_set, strict=True):
            by_place = dict(zip(places, keys, strict=True))
            columns = tuple(by_place.get(place) for place in range(len(self.key_types)))
            made.append(Arm(columns, tuple(sorted(parts))))
        return tuple(made)

    def _set(self, sharer: Sharer, keys: tuple[str, ...]) -> tuple[int | None, tuple[int, ...]]:
        """Give the number of the set of these keys, and the places of its keys, which keep their order."""
        if self._sets is None:
            return None, tuple(range(len(keys)))
        if keys in self._sets:
            number = self._sets.index(keys)
            return number, self._places[number]
        places: list[int] = []
        for key_type in sharer.key_types:
            after = places[-1] + 1 if places else 0
            free = (place for place in range(after, len(self.key_types)) if self.key_types[place] == key_type)
            place = next(free, len(self.key_types))
            if place == len(self.key_types):
                self.key_types.append(key_type)
            places.append(place)
        self._sets.append(keys)
        self._places.append(tuple(places))
        self._parts_of_set.append(set())
        return len(self._sets) - 1, tuple(places)

    def _output(self, sql: str, data_type: str, parts: Sequence[int], keys: Sequence[int]) -> int:
        def name(word: re.Match[str]) -> str:
            if word["key"] is None:
                return f"p{parts[int(word['part'])]}"
            place = int(word["key"])
            return f"k{keys[place] if place < len(keys) else place}"  # the number of a grouping set stays what it is

        return _place(self.outputs, Output("", _renamed(sql, name, "part", "key"), data_type))


def _place(kept: list[T], wanted: T) -> int:
    """Give the place of an item, which is added where it is not there yet."""
    if wanted not in kept:
        kept.append(wanted)
    return kept.index(wanted)


def _renamed(sql: str, name: Callable[[re.Match[str]], str], *groups: str) -> str:
    return _WORDS.sub(lambda word: name(word) if any(word[group] is not None for group in groups) else word[0], sql)
