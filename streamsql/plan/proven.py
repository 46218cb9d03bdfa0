"""Which rows of a query in append mode have lost no input where rows of its streams are gone: VERIFY compares these.

Retention drops the first rows that arrived, so of each time column of a stream the largest value among them is known. From it
follows for columns that are computed of it, from the leaves up, a time behind which all is there::

    s.ts                                    rows of s up to 00:10 are gone
    ts of s UNION ALL t                     00:10, if those of t are gone up to 00:03
    r.ts where r.ts <= s.ts + 5 minutes     00:15: a row that is gone may have met one of that time
    window_start of window(ts, '1m')        00:10: a window that begins behind it holds none of the rows

It holds for each of these columns by itself: a row whose value in one of them is behind its time ought to be there as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import sqlglot

from streamsql.catalog.objects import TimeBound
from streamsql.plan.bounds import NEVER, Bounds, bounds_of
from streamsql.plan.nodes import ContinuousPlan
from streamsql.plan.origins import (
    UNBOUNDED,
    Inner,
    IntervalJoin,
    Lookup,
    Origin,
    Over,
    Rank,
    StreamScan,
    Union,
    ViewScan,
)
from streamsql.plan.stages import window_bounds

# a column to the time (us) behind which its rows are whole; None: all rows are there
Whole = Mapping[str, int] | None
# what is gone of a stream: of its time columns the largest value; None: nothing is
Gone = Callable[[str], Whole]


def whole_columns(plan: ContinuousPlan, gone: Gone) -> Whole:
    """Give the outputs, ``o0``.., of a query that tell which of its rows are whole."""
    given = gone(plan.source) if plan.origin is None else _of_origin(plan.origin, gone)
    if given is None:
        return None
    shown = {f"o{i}": o.sql for i, o in enumerate(plan.outputs)}
    if plan.grouping is None:
        return {name: time for name, sql in shown.items() if (time := _of(sql, given)) is not None}
    found: dict[str, int] = {}
    window = plan.window
    if window is not None and not window.instant:
        time = _of(window.time_sql, given)
        starts = window_bounds(window, "w", "e" if window.session else None)[0]
        if time is not None:
            # a session that begins within the gap behind a row is one with it
            behind = _later(time, window.size_us if window.session else 0)
            found |= dict.fromkeys(_showing(shown, sqlglot.parse_one(starts, read="duckdb").sql("duckdb")), behind)
    for number, key in enumerate(plan.grouping.keys):
        time = _of(key, given)
        if time is not None:
            found |= dict.fromkeys(_showing(shown, f"k{number}"), time)
    return found


def _showing(shown: Mapping[str, str], sql: str) -> list[str]:
    return [name for name, text in shown.items() if text == sql]


def _of(sql: str, given: Mapping[str, int]) -> int | None:
    """Give the time of an expression that follows from a column's."""
    tree = sqlglot.parse_one(sql, read="duckdb")
    for name, time in given.items():
        bound = bounds_of(tree, {name: Bounds()})
        if bound is not None:
            return _at(bound, time)
    return None


def _at(bound: TimeBound, time: int) -> int:
    return int(bound(np.array([time], dtype=np.int64))[0])


def _later(time: int, by_us: int) -> int:
    return time if time == NEVER else time + by_us


def _of_origin(origin: Origin, gone: Gone) -> Whole:
    match origin:
        case StreamScan():
            return gone(origin.name)
        case ViewScan():
            return None
        case Inner():
            found = whole_columns(origin.plan, gone)
            names = {f"o{i}": o.name for i, o in enumerate(origin.plan.outputs)}
            return None if found is None else {names[n]: time for n, time in found.items()}
        case Union():
            return _of_union(origin, gone)
        case Lookup():
            return _chosen(origin, _of_origin(origin.left, gone), {})
        case IntervalJoin():
            return _of_join(origin, gone)
        case Rank():
            below = _of_origin(origin.input, gone)
            if below is None:
                return None
            named = zip(origin.chosen, origin.columns, strict=True)
            keys = _keys(origin.input, origin.keys)
            return {column.name: below[name] for name, column in named if name in below and name in keys}
        case Over():
            return _of_over(origin, gone)
    return {}  # nothing is known of another kind


def _of_union(origin: Union, gone: Gone) -> Whole:
    branches = [(_of_origin(b, gone), b) for b in origin.branches]
    lost = [(whole, [c.name for c in b.columns]) for whole, b in branches if whole is not None]
    if not lost:
        return None
    found = {}
    for place, column in enumerate(origin.columns):
        times = [whole.get(names[place]) for whole, names in lost]
        known = [t for t in times if t is not None]
        if len(known) == len(times):
            found[column.name] = max(known)
    return found


def _keys(origin: Origin, keys: tuple[str, ...]) -> set[str]:
    """Give the columns that are keys, under whichever name."""
    if not isinstance(origin, Inner):
        return set(keys)
    made = {o.name: o.sql.replace('"', "") for o in origin.plan.outputs}
    wanted = {made[k] for k in keys}
    return {name for name, sql in made.items() if sql in wanted}


def _of_over(origin: Over, gone: Gone) -> Whole:
    below = _of_origin(origin.input, gone)
    if below is None:
        return None
    found = {k: below[k] for k in _keys(origin.input, origin.keys) if k in below}
    back, time = origin.back, origin.time
    if time is not None and time in below and not (time in found or origin.counted or back.rows or back.times):
        found[time] = _later(below[time], back.us or 0)
    return found


def _of_join(origin: IntervalJoin, gone: Gone) -> Whole:
    left, right = _of_origin(origin.left, gone), _of_origin(origin.right, gone)
    if left is None and right is None:
        return None
    if origin.kind.startswith("ASOF"):  # each version is as old as it likes
        return _chosen(origin, left, {}) if right is None else {}
    # low <= right - left <= high
    left_time = _time_of_side(left, origin.left_time, right, origin.right_time, -origin.low_us)
    right_time = _time_of_side(right, origin.right_time, left, origin.left_time, origin.high_us)
    by_left = {} if left_time is None or origin.left_time is None else {origin.left_time: left_time}
    by_right = {} if right_time is None or origin.right_time is None else {origin.right_time: right_time}
    return _chosen(origin, by_left, by_right)


def _time_of_side(own: Whole, own_name: str | None, other: Whole, other_name: str | None, reach_us: int) -> int | None:
    """Give the time of a side behind which it is whole, and all that it can meet: that lies up to `reach_us` before it."""
    times = []
    if own is not None:
        times.append(None if own_name is None else own.get(own_name))
    if other is not None:
        time = None if other_name is None or reach_us >= UNBOUNDED else other.get(other_name)
        times.append(None if time is None else _later(time, reach_us))
    known = [t for t in times if t is not None]
    return max(known) if len(known) == len(times) else None


def _chosen(origin: IntervalJoin | Lookup, left: Whole, right: Whole) -> Whole:
    """Name the columns of both sides as the output does."""
    if left is None:
        return None
    sides = {"left": left, "right": right or {}}
    named = zip(origin.chosen, origin.columns, strict=True)
    return {column.name: sides[side][name] for (side, name), column in named if name in sides[side]}
