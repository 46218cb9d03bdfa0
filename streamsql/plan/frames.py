"""Hopping windows of many panes, found by frames: each window is a frame over its key's panes in order of time.

`stages.groups_of_panes` puts each pane into each of its windows, which for a thousand panes a window is a thousand times the
work of tumbling windows. Here a key's panes are sorted once, and DuckDB answers all frames over them from a tree of combined
states (Leis et al., "Efficient processing of window functions in analytical SQL queries", VLDB 2015)::

    panes     00:00 a 1    00:01 a 2    00:02 a 4      window(ts, '2 min', '1 min')
    due       [00:00, 00:02) a    ->  the frame of panes from 00:00 to 00:01  ->  3

A partial state that does not count for all windows of its pane (``f``, see `plan.stages`) cannot be in the tree. Such are few:
they are put into their windows one by one.
"""

from __future__ import annotations

from streamsql.plan.nodes import Grouping, Window, WindowKind
from streamsql.plan.stages import EVERY_WINDOW, key_columns
from streamsql.plan.windows import windows_of_place

# Below so many panes a window, putting each pane into its windows costs no more.
FRAMED_PANES_MIN = 32
# Sorting a key's panes costs as much as putting them into so many windows.
FRAMED_WINDOWS_MIN = 4


def framed(grouping: Grouping) -> bool:
    """Tell whether the windows can be found by frames, and have so many panes that it pays."""
    window = grouping.window
    return (
        window is not None
        and window.kind is WindowKind.HOP
        and window.size_us // window.pane_us >= FRAMED_PANES_MIN
        and all(part.merge is None for part in grouping.parts)
    )


def groups_of_frames(grouping: Grouping, states: str, windows: str) -> str:
    """Groups of the windows that `windows` gives (``w``, their start, and the keys), from their panes' `states`.

    A window without a pane gives no group.
    """
    window = _window(grouping)
    keys = key_columns(grouping)
    parts = range(len(grouping.parts))
    names = "".join(f", {k}" for k in keys)
    values = "".join(f", {part.value(part.merged_all(f's{i}'))} AS p{i}" for i, part in enumerate(grouping.parts))
    points = (
        f"SELECT w AS place{names}{''.join(f', s{i}' for i in parts)}, false AS due FROM {states} WHERE f = {EVERY_WINDOW} "
        f"UNION ALL SELECT w + {window.size_us}{names}{''.join(', NULL' for _ in parts)}, true FROM ({windows})"
    )
    partition = f"PARTITION BY {', '.join(keys)} " if keys else ""
    frame = f"({partition}ORDER BY place RANGE BETWEEN {window.size_us} PRECEDING AND {window.pane_us} PRECEDING)"
    combined = "".join(f", {part.merged_all(f's{i}')} OVER panes AS s{i}" for i, part in enumerate(grouping.parts))
    on_time = (
        f"SELECT place - {window.size_us} AS w{names}{combined} FROM ({points}) WINDOW panes AS {frame} "
        "QUALIFY due AND count(*) FILTER (NOT due) OVER panes > 0"
    )
    first, last = windows_of_place(window, "s.w")
    same = " AND ".join(["t.w = v.w", *(f"t.{k} IS NOT DISTINCT FROM s.{k}" for k in keys)])
    late = (
        f"SELECT v.w{''.join(f', s.{k}' for k in keys)}{''.join(f', s.s{i}' for i in parts)} FROM {states} AS s, "
        f"LATERAL (SELECT unnest(generate_series({first}, {last}, {window.slide_us})) AS w) AS v "
        f"WHERE s.f > {EVERY_WINDOW} AND v.w + {window.size_us} >= s.f AND EXISTS (SELECT 1 FROM ({windows}) AS t WHERE {same})"
    )
    return f"SELECT w{names}{values} FROM ({on_time} UNION ALL {late}) GROUP BY w{names}"


def windows_due(grouping: Grouping, states: str, first: str, last: str) -> str:
    """The windows of each key of `states` that start from `first` to `last`, as far as they can hold one of its panes."""
    window = _window(grouping)
    keys = key_columns(grouping)
    first_of_low, _ = windows_of_place(window, "min(w)")
    _, last_of_high = windows_of_place(window, "max(w)")
    series = f"generate_series(greatest({first}, {first_of_low}), least({last}, {last_of_high}), {window.slide_us})"
    group_by = f" GROUP BY {', '.join(keys)}" if keys else ""
    return f"SELECT unnest({series}) AS w{''.join(f', {k}' for k in keys)} FROM {states}{group_by}"


def windows_of_panes(grouping: Grouping, panes: str) -> str:
    """The windows that hold one of `panes` (``w``, ``f`` and the keys) and count it; each once.

    On time, a pane brings only the windows that its key's pane before it has not brought.
    """
    window = _window(grouping)
    keys = key_columns(grouping)
    first, last = windows_of_place(window, "w")
    partition = f"PARTITION BY {', '.join(keys)} " if keys else ""
    brought = f"lag({last}) OVER ({partition}ORDER BY w) + {window.slide_us}"
    counted = f"v.w + {window.size_us} >= f"
    names = "".join(f", {k}" for k in keys)
    ranges = (
        f"SELECT f, greatest({first}, {brought}) AS low, {last} AS high{names} FROM {panes} WHERE f = {EVERY_WINDOW} "
        f"UNION ALL SELECT f, {first}, {last}{names} FROM {panes} WHERE f > {EVERY_WINDOW}"
    )
    return (
        f"SELECT DISTINCT v.w AS w{names} FROM ({ranges}), "
        f"LATERAL (SELECT unnest(generate_series(low, high, {window.slide_us})) AS w) AS v WHERE {counted}"
    )


def _window(grouping: Grouping) -> Window:
    assert grouping.window is not None
    return grouping.window
