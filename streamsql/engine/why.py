"""EXPLAIN WHY: what holds each open window of a view open, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from streamsql.catalog.objects import literal
from streamsql.engine.origin_query import OriginQuery
from streamsql.engine.positions import StreamProgress
from streamsql.engine.store import Store
from streamsql.engine.views import ContinuousQuery
from streamsql.engine.watermark import NEVER
from streamsql.plan import stages
from streamsql.plan.nodes import ContinuousPlan
from streamsql.plan.origins import IntervalJoin
from streamsql.sql.durations import render_duration

# name -> DuckDB type of the answer's columns; times are UTC
COLUMNS = {
    "reason": "VARCHAR",
    "window_start": "TIMESTAMP",
    "window_end": "TIMESTAMP",
    "keys": "VARCHAR",
    "closes_at_event_time": "TIMESTAMP",
    "event_time_to_go": "INTERVAL",
    "watermark": "TIMESTAMP",
    "watermark_of": "VARCHAR",
    "watermark_moved_at": "TIMESTAMP",
    "open_groups": "BIGINT",
}


def why(
    query: ContinuousQuery,
    store: Store,
    rows_max: int,
    streams: Mapping[str, StreamProgress] | None = None,
    stalled: str | None = None,
) -> pa.Table:
    """Give a row for each open group, by their windows' ends, at most `rows_max`; or one row that says why there is none.

    `streams` know the names of their sources' partitions; `stalled` says what keeps the query from getting anything new.
    """
    found = [_groups(query, store, rows_max, streams or {})]
    if isinstance(query, OriginQuery) and query.progress.error is None:
        found += [_groups(inner, store, rows_max, streams or {}, of=query) for inner in query.subqueries()]
    held = pa.concat_tables([table for table in found if table is not None and table.num_rows] or [_NONE])
    return held.slice(0, rows_max) if held.num_rows else store.arrow(_row(_no_group(query, streams or {}, stalled)))


_NONE = pa.table({})


def _groups(
    query: ContinuousQuery,
    store: Store,
    rows_max: int,
    streams: Mapping[str, StreamProgress],
    of: ContinuousQuery | None = None,
) -> pa.Table | None:
    """Give the open groups of a query, or of one that is in another (`of`); None where there can be none."""
    if query.plan.window is None or query.progress.error is not None:
        return None
    values = _known(query, streams)
    where = "" if of is None else f" of a subquery over {' and '.join(query.plan.sources)}"
    return store.arrow(_open_groups(query, values, _watermark(query), rows_max, where))


def _watermark(query: ContinuousQuery) -> int | None:
    delay, largest = query.plan.watermark_delay_us, query.progress.largest
    if query.plan.window is None and isinstance(query, OriginQuery) and largest != NEVER:
        return query.out.mark(query.progress)
    return None if delay is None or largest == NEVER else largest - delay


def _known(query: ContinuousQuery, streams: Mapping[str, StreamProgress]) -> dict[str, str]:
    moved_at = query.progress.moved_at
    return {
        "watermark": _timestamp(_watermark(query)),
        "watermark_of": literal(_source(query.plan) + _inputs(query, streams)),
        "watermark_moved_at": _timestamp(moved_at if moved_at != NEVER else None),
    }


def _no_group(query: ContinuousQuery, streams: Mapping[str, StreamProgress], stalled: str | None) -> dict[str, str]:
    """Give what is said where no group is open: what waits otherwise, or why nothing does."""
    plan, values = query.plan, _known(query, streams)
    kept, first = query.kept_rows() if isinstance(query, OriginQuery) else (0, 0)
    if kept and query.progress.error is None:
        joins = plan.origin is not None and any(isinstance(n, IntervalJoin) for n in plan.origin.walk())
        reason = f"{kept} rows wait in the join until none can match them any more"
        if not joins:
            reason = f"{kept} rows of state: a row waits until the watermark is past it"
        return {**values, "reason": literal(reason), "closes_at_event_time": _timestamp(first), "open_groups": "0"}
    reason = _nothing_open(query) if stalled is None else f"the view is stalled: {stalled}"
    return {**values, "reason": literal(reason), "open_groups": "0"}


def _inputs(query: ContinuousQuery, streams: Mapping[str, StreamProgress]) -> str:
    """Tell which of several inputs, or of a source's partitions, has the lowest watermark."""
    if query.progress.partitions and query.plan.source in streams:
        number, largest = min(query.progress.partitions, key=lambda p: p[1])
        partitions = streams[query.plan.source].partitions
        name = next((n for n, p in partitions.items() if p.number == number), str(number))
        at = "which has had no row" if largest == NEVER else f"at {np.datetime64(largest, 'us').item()}"
        return f"; the lowest is that of partition {name}, {at}"
    marks = query.marks() if isinstance(query, OriginQuery) else []
    if len(marks) < 2:
        return ""
    name, mark = min(marks, key=lambda m: m[1])
    at = "which has had no row" if mark == NEVER else f"at {np.datetime64(mark, 'us').item()}"
    return f"; the lowest is that of {name}, {at}"


def _row(values: dict[str, str]) -> str:
    return "SELECT " + ", ".join(f"({values.get(name, 'NULL')})::{type_} AS {name}" for name, type_ in COLUMNS.items())


def _open_groups(
    query: ContinuousQuery, values: dict[str, str], watermark: int | None, rows_max: int, where: str = ""
) -> str:
    plan, window, grouping = query.plan, query.plan.window, query.plan.grouping
    assert window is not None
    assert grouping is not None
    closing = plan.closing_delay_us
    end = window.ruler.instant_sql("e")
    named = [f"{literal(key + ' = ')} || coalesce(k{i}::VARCHAR, 'NULL')" for i, key in enumerate(grouping.keys)]
    reason, extra = f"'no watermark: the window{where} never closes'", {}
    if closing is not None:
        extra["closes_at_event_time"] = f"make_timestamp({end} + {closing})"
        end_of = f"the end of the window{where}" if where else "the window's end"
        reason = literal(f"the watermark has not reached {end_of}")
        if window.instant:
            reason = literal(f"the watermark is not past the time of the group{where}")
        if plan.allowed_lateness_us and watermark is not None:
            reason = f"CASE WHEN {end} <= {watermark} THEN 'kept for the allowed lateness' ELSE {reason} END"
        if query.progress.largest != NEVER:
            extra["event_time_to_go"] = f"to_microseconds({end} + {closing} - {query.progress.largest})"
    start_sql, _ = stages.bounds_of_groups(window)
    row = _row(
        {
            **values,
            **extra,
            "reason": reason,
            **(
                {}
                if window.instant
                else {
                    "window_start": f"make_timestamp({start_sql})",
                    "window_end": f"make_timestamp({end})",
                }
            ),
            "keys": " || ', ' || ".join(named) or "NULL",
            "open_groups": "count(*) OVER ()",
        }
    )
    keys = "".join(f", k{i}" for i in range(len(grouping.keys)))
    groups = stages.open_groups(plan, query.tables.state, query.progress.closed_to)
    return f"{row} FROM ({groups}) ORDER BY e, w{keys} LIMIT {rows_max}"


def _timestamp(microseconds: int | None) -> str:
    return "NULL" if microseconds is None else f"make_timestamp({microseconds})"


def _source(plan: ContinuousPlan) -> str:
    if plan.window is None and plan.origin is not None:
        return f"what {plan.source} hand{'s' * (len(plan.sources) < 2)} on"
    if plan.window is None or plan.watermark_delay_us is None:
        return "none"
    allowed = f", allowed lateness {render_duration(plan.allowed_lateness_us)}" if plan.allowed_lateness_us else ""
    if plan.bound is not None:
        less = f", less {render_duration(plan.watermark_delay_us)}" if plan.watermark_delay_us else ""
        return f"what is known of {plan.window.time_sql} from {plan.source}{less}"
    delay = render_duration(plan.watermark_delay_us)
    return f"the largest {plan.window.time_sql} of {plan.source}, less {delay}{allowed}"


def _nothing_open(query: ContinuousQuery) -> str:
    progress = query.progress
    if progress.error is not None:
        return f"the view has stopped: {progress.error}"
    inner = list(query.subqueries()) if isinstance(query, OriginQuery) else []
    came = query.rows_came() if isinstance(query, OriginQuery) else progress.rows_in
    if query.plan.window is None and all(q.plan.window is None for q in inner):
        return "no window: each change is shown at once"
    if not came:
        return f"no row has come from {query.plan.source}"
    late = f"; {progress.rows_late} of them were late or without a time" if progress.rows_late else ""
    return f"no window is open: {came} rows came{late}, and all that they gave is shown"
