"""EXPLAIN of what a query in append mode reads: views, subqueries, unions and joins, one line a node."""

from __future__ import annotations

from collections.abc import Callable

from streamsql.plan.arrivals import ARRIVAL_COLUMN
from streamsql.plan.nodes import ContinuousPlan, Strategy
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
    When,
)
from streamsql.sql.durations import render_duration

_JOINS = {
    "INNER": "IntervalJoin",
    "LEFT": "IntervalLeftJoin",
    "RIGHT": "IntervalRightJoin",
    "FULL": "IntervalFullJoin",
    "SEMI": "IntervalSemiJoin",
    "ANTI": "IntervalAntiJoin",
}


def origin_lines(origin: Origin, depth: int, of_plan: Callable[[ContinuousPlan, int], list[str]]) -> list[str]:
    """Describe an origin; `of_plan` describes a subquery's stages at a depth."""
    indent = "  " * depth
    match origin:
        case StreamScan():
            known = "no watermark"
            if origin.time_column is not None:
                known = f"watermark: {origin.time_column} - {render_duration(origin.delay_us)}"
            if origin.time_column == ARRIVAL_COLUMN:
                known = "watermark: the arrival of its last row, or the clock once it is idle; no row is late"
            return [f"{indent}-> Scan {origin.name}", f"{indent}     {known}"]
        case ViewScan():
            times = ", ".join(name for name, _ in origin.times) or "no column"
            return [f"{indent}-> Scan {origin.name}", f"{indent}     its watermark bounds: {times}"]
        case Inner():
            return of_plan(origin.plan, depth)
        case Union():
            time = (
                "none" if origin.time is None else f"the lowest of the branches', of {origin.columns[origin.time].name}"
            )
            head = [f"UnionAll  (strategy: {Strategy.LINEAR.value})", f"watermark: {time}"]
        case IntervalJoin():
            head = _join(origin)
        case Lookup():
            name = "LookupLeftJoin" if origin.kind == "LEFT" else "LookupJoin"
            head = [
                f"{name}  (strategy: {Strategy.LINEAR.value})",
                f"condition: {origin.text}",
                f"reads {'view ' * origin.of_view}{origin.table} as it is when a row arrives",
            ]
            if origin.outside is not None:
                head[-1] = f"asks the origin of {origin.table} for keys that are not cached, before the epoch"
        case Rank():
            head = _rank(origin)
        case Over():
            head = _over(origin)
        case _:
            raise AssertionError(origin)
    lines = [f"{indent}-> {head[0]}", *(f"{indent}     {line}" for line in head[1:])]
    for item in origin.inputs:
        lines += origin_lines(item, depth + 1, of_plan)
    return lines


def _rank(rank: Rank) -> list[str]:
    """Describe a ranking, and how long it keeps what."""
    keys = rank.text
    count = "all" if rank.count is None else f"the first {rank.count}" if rank.count > 1 else "the first"
    lines = [
        f"{'Deduplicate' if rank.count == 1 else 'Rank'}  (strategy: {Strategy.COMBINE.value})",
        f"keys: {keys}",
        f"{rank.function}: {count} in the order of {rank.order_text}",
        f"a row is shown {rank.when.value}",
    ]
    if rank.time is not None:
        lines.append(f"watermark: as a bound of {rank.time_text}; rows behind it are late")
    if rank.when is When.CLOSE:
        lines.append(f"state: rows until the watermark is past their {rank.forget_text}")
    elif rank.when is When.TIME:
        lines.append(f"state: rows until the watermark is past their {rank.time_text}")
    if rank.remembers and rank.forget is not None:
        lines.append(f"state: the keys that were shown, until the watermark is past their {rank.forget_text}")
    elif rank.remembers and rank.ttl_us is not None:
        by = "the watermark" if rank.axis is not None else "the clock of arrivals"
        lines.append(f"state: the keys that were shown, for {render_duration(rank.ttl_us)} by {by} (state_ttl)")
    elif rank.remembers:
        lines.append("state: the keys that were shown; unbounded: kept for ever")
    return lines


def _over(over: Over) -> list[str]:
    """Describe window functions: when a row is shown, and what is kept of its key."""
    lines = [f"WindowFunctions  (strategy: {Strategy.COMBINE.value})", f"keys: {over.text}"]
    lines += [f"computes: {call}" for call in over.calls]
    waits = [f"the watermark is past it{_after(over.ahead.us or 0).replace(' + ', ' by more than ')}"]
    if over.ahead.rows:
        waits.append(f"{_some(over.ahead.rows, 'row')} after it of its key are final")
    if over.ahead.times:
        waits.append(f"rows of {_some(over.ahead.times, 'later time')} of its key are final")
    waiting = bool(over.ahead.rows or over.ahead.times)
    if over.when is When.ARRIVAL:
        lines.append("a row is shown at once" if not waiting else f"a row is shown once {waits[-1]}")
    elif over.when is When.TIME:
        lines.append(f"a row is shown once {' and '.join(waits)}")
    else:
        lines.append(f"a row is shown {over.when.value}")
    if over.time is not None:
        lines.append(f"watermark: as a bound of {over.time_text}; rows behind it are late")
        lines.append(f"state: rows until the watermark is past their {over.time_text}")
    until = f", until the watermark is past their {over.forget_text}" if over.forget is not None else ""
    for_ever = until or "; unbounded: kept for ever"
    if over.counted and over.when is not When.CLOSE:
        what = "the aggregates" if over.parts else "the number of rows"
        lines.append(f"state: {what} of each key{for_ever}")
    reach = over.back | over.ahead
    if over.keeps and reach.us:
        lines.append(f"state: the rows of the last {render_duration((over.back.us or 0) + (over.ahead.us or 0))}")
    if over.keeps and reach.rows:
        lines.append(
            f"state: the last {_some((over.back.rows or 0) + (over.ahead.rows or 0), 'row')} of each key{for_ever}"
        )
    if over.keeps and reach.times:
        number = (over.back.times or 0) + (over.ahead.times or 0)
        lines.append(f"state: the rows of the last {_some(number, 'time')} of each key{for_ever}")
    return lines


def _some(count: int, noun: str) -> str:
    return noun if count == 1 else f"{count} {noun}s"


def _join(join: IntervalJoin) -> list[str]:
    left, right = (", ".join(i.names) for i in (join.left, join.right))
    if join.kind.startswith("ASOF"):
        kept = "" if join.ttl_us is None else f", for {render_duration(join.ttl_us)} (state_ttl)"
        return [
            f"{'AsofLeftJoin' if join.kind == 'ASOF LEFT' else 'AsofJoin'}  (strategy: {Strategy.BILINEAR.value})",
            f"condition: {join.text}",
            "watermark: the lower of both sides'; rows behind it are late",
            f"state: rows of {left} until the watermark is past their time",
            f"state: rows of {right} from the watermark on, and of each key the last before it{kept}",
        ]
    name = _JOINS[join.kind]
    if join.left_time is None:
        name = name.removeprefix("Interval")
    shape = [f"{name}  (strategy: {Strategy.BILINEAR.value})", f"condition: {join.text}"]
    if join.left_time is None:
        names = ", ".join(dict.fromkeys((left, right)))
        return [*shape, "watermark: none", f"state: all rows of {names}; unbounded: kept for ever"]
    low = f"{_signed(join.low_us)} <= " if join.low_us > -UNBOUNDED else ""
    high = f" <= {_signed(join.high_us)}" if join.high_us < UNBOUNDED else ""
    ttl = "" if join.ttl_us is None else f" (state_ttl {render_duration(join.ttl_us)})"
    return [
        *shape,
        f"in time: {low}{right}.{join.right_time} - {left}.{join.left_time}{high}{ttl}",
        "watermark: the lower of both sides'; rows behind it are late",
        f"state: rows of {left}{_until(join.high_us)}",
        f"state: rows of {right}{_until(-join.low_us)}",
    ]


def _until(reach: int) -> str:
    if reach >= UNBOUNDED:
        return "; unbounded: kept for ever"
    return f" until the watermark is past their time{_after(reach)}"


def _signed(us: int) -> str:
    return f"-({render_duration(-us)})" if us < 0 else render_duration(us)


def _after(reach: int) -> str:
    if not reach:
        return ""
    return f" + {render_duration(reach)}" if reach > 0 else f" - {render_duration(-reach)}"
