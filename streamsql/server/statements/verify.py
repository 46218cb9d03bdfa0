"""VERIFY MATERIALIZED VIEW: the view's query over the rows that are kept, beside the view, in one snapshot.

weight | <the view's columns>
1      | ...        ought to be in the view and is not        no row: the view is proven equal
-1     | ...        is in the view and ought not to be
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from streamsql.base.errors import FeatureNotSupported, NotInPrerequisiteState
from streamsql.base.types import INT8
from streamsql.catalog.objects import RESULTS_SCHEMA, OutputColumn, Stream, View, quoted
from streamsql.catalog.rights import require_read
from streamsql.engine.changes import Progress
from streamsql.engine.dropped import last_time, time_columns
from streamsql.engine.origin_query import OriginQuery
from streamsql.engine.origins import bounded, typed
from streamsql.engine.replay import Kept, asks_outside, by_partitions, looks_up, replayed, rows_gone
from streamsql.engine.views import ContinuousQuery
from streamsql.engine.watermark import NEVER
from streamsql.plan import stages
from streamsql.plan.nodes import ContinuousPlan
from streamsql.plan.origins import ViewScan
from streamsql.plan.proven import whole_columns
from streamsql.plan.verification import (
    SESSIONS,
    answer_sql,
    difference_sql,
    provable,
    provable_key,
    sessions_of,
    timed_rows_sql,
)
from streamsql.server.context import Context, Values
from streamsql.server.results import ResultColumn, Rows, notice
from streamsql.sql.statements import Verify


async def columns(context: Context, statement: Verify, values: Values) -> list[ResultColumn]:
    view = context.catalog.view(statement.name, statement.name_position + 1)
    require_read(context.catalog, context.asker.role, view)
    return [ResultColumn("weight", INT8), *(ResultColumn.of(c.name, c.type, c.made) for c in view.columns)]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    view: View
    query: ContinuousQuery
    cursor: duckdb.DuckDBPyConnection
    result: str
    marks: dict[str, int]
    next_sequence: int


async def execute(context: Context, statement: Verify, values: Values) -> Rows:
    found = await columns(context, statement, values)
    engine = context.engine

    def take() -> _Snapshot:
        view = engine.catalog.view(statement.name, statement.name_position + 1)
        query = engine.queries[view.name]
        below = {n: engine.queries[n] for n in query.plan.sources if n in engine.queries}
        marks = {name: found.out.mark(found.progress) for name, found in below.items()}
        cursor = engine.store.snapshot(query.tables.result)
        return _Snapshot(view, query, cursor, query.result, marks, engine.next_sequence)

    snapshot = await context.on_engine(take)
    try:
        sql, since = await context.reads.compute(lambda: _difference(context, snapshot))
    except BaseException:
        snapshot.cursor.close()
        raise
    rows = context.reads.stream(sql, found, context.cancel, snapshot.cursor)
    return Rows(found, rows, tag="VERIFY", notices=[] if since is None else [since.notice])


def _forgets(plan: ContinuousPlan) -> bool:
    """Tell whether the time that the view's query was run for is a watermark."""
    return plan.recomputed is not None and bool(plan.recomputed.marks)


def _difference(context: Context, snapshot: _Snapshot) -> tuple[str, Since | None]:
    """Give the SQL of what differs, and from when on it tells. Raises where the rows that are kept cannot tell."""
    view, query, cursor = snapshot.view, snapshot.query, snapshot.cursor
    committed_at, text = cursor.execute(
        "SELECT coalesce(epoch_us(committed_at), 0), progress FROM _engine.epoch"
    ).fetchall()[0]
    progress = next(v for v in json.loads(text)["views"] if v["name"] == view.name)
    if progress["error"] is not None:
        raise NotInPrerequisiteState(f'materialized view "{view.name}" has stopped: {progress["error"]}')
    if isinstance(query, OriginQuery) and not _plain(query.plan):
        return _replayed(context, snapshot, query, progress, committed_at)
    rows_table, judged_anew, since = "", False, None
    if query.plan.recomputed is None:
        rows_table = _rows_of(context, query.plan)
        since = _since(context, view, progress, rows_table, cursor, query.plan)
        judged_anew = _check_kept(view, progress, cursor, query.plan, whole=since is None)
        _check_moves(view, progress, query)
    window = query.plan.window
    if window is not None and window.session:
        rows = cursor.sql(timed_rows_sql(query.plan, view.name, rows_table)).to_arrow_table()
        cursor.register(SESSIONS, sessions_of(rows, window.size_us))
    time = progress["computed_at"] if _forgets(query.plan) else committed_at
    answer = answer_sql(query.plan, view.name, rows_table, time, progress["closed_to"], judged_anew=judged_anew)
    result = snapshot.result
    if since is not None:
        answer, result = since.of(answer), f"({since.of(f'SELECT * FROM {result}')})"
    return difference_sql(answer, result, stages.output_columns(query.plan)), since


def _check_moves(view: View, progress: dict[str, int], query: ContinuousQuery) -> None:
    """Raise where which rows counted cannot be told from the rows alone, because time moved on without them."""
    window = query.plan.window
    if window is None or window.tumbling:
        return
    if progress.get("idle_moves", 0):
        raise NotInPrerequisiteState(
            f'materialized view "{view.name}" cannot be verified: its stream was idle',
            detail="idle_timeout has moved the watermark on, and nothing tells between which rows",
            hint="views of tumbling windows, and of none, can be verified all the same",
        )


def _plain(plan: ContinuousPlan) -> bool:
    """Tell whether DuckDB's answer over a view's rows needs no watermark to tell which of them count."""
    return isinstance(plan.origin, ViewScan) and (plan.window is None or plan.window.tumbling)


def _replayed(
    context: Context, snapshot: _Snapshot, query: OriginQuery, progress: dict[str, Any], now_us: int
) -> tuple[str, Since | None]:
    """Give the same for a view over subqueries, unions and joins, whose query is run again over its sources' rows."""
    view, cursor, before = snapshot.view, snapshot.cursor, Progress.from_json(progress)
    lost = rows_gone(query, before, cursor)
    gone = {name: _times_gone(context, view, cursor, name, *counts) for name, counts in lost.items()}
    since = _since_whole(context, view, query, before, lost, gone) if gone else None
    if query.plan.state_ttl_us is not None:
        raise FeatureNotSupported(
            f'materialized view "{view.name}" cannot be verified: it forgets rows (state_ttl)',
            detail="which rows it had forgotten when others came is told by the clock of that time",
        )
    if asks_outside(query):
        raise FeatureNotSupported(
            f'materialized view "{view.name}" cannot be verified: it joins a table whose rows are not here',
            detail="nothing tells what its origin answered when each row came",
        )
    joins_table, reads_view = looks_up(query)
    if joins_table and reads_view:
        raise FeatureNotSupported(
            f'materialized view "{view.name}" cannot be verified: it joins a table as of now with a view\'s rows',
            detail="nothing tells what the table held when each of these came",
            hint="verify the view below",
        )
    kept = Kept(cursor, context.catalog, snapshot.marks, now_us, snapshot.next_sequence)
    rows = replayed(view.name, query.plan, kept, context.engine.limits, before, gone)
    cursor.register("__replayed", rows)
    columns = [OutputColumn(f"o{i}", o.type) for i, o in enumerate(query.plan.outputs)]
    answer = f"SELECT * FROM {typed('__replayed', columns)}"
    result = snapshot.result
    if since is not None:
        answer, result = since.of(answer), f"({since.of(f'SELECT * FROM {result}')})"
    difference = difference_sql(answer, result, stages.output_columns(query.plan))
    if joins_table and cursor.execute(f"SELECT 1 FROM ({difference}) LIMIT 1").fetchall():
        raise NotInPrerequisiteState(
            f'materialized view "{view.name}" cannot be verified: it differs from a join with its table as it is now',
            detail="it joined the table as it was when each row arrived, and the table may have changed since",
            hint="a view whose table has had INSERTs alone can be verified",
        )
    return difference, since


def _times_gone(
    context: Context, view: View, cursor: duckdb.DuckDBPyConnection, name: str, kept: int, read: int
) -> dict[str, int]:
    """Give of each column that holds times the largest among a stream's rows that are gone. Raises where that is not known."""
    stream = context.catalog.get(name)
    assert isinstance(stream, Stream)
    found = {c: last_time(cursor, stream, c) for c in time_columns(stream)}
    known = {c: NEVER if at[1] is None else at[1] for c, at in found.items() if at is not None and at[0] + kept >= read}
    if not known:
        raise _rows_are_gone(view, name, kept, read)
    return known


def _since_whole(
    context: Context, view: View, query: OriginQuery, before: Progress, lost: dict[str, tuple[int, int]],
    gone: dict[str, dict[str, int]],
) -> Since:  # fmt: skip
    """Tell which rows of a view have lost no input. Raises where none can be told."""
    whole = whole_columns(query.plan, gone.get) or {}
    named = {f"o{i}": (c.name, c.type) for i, c in enumerate(view.columns)}
    timed = {o: time for o, time in whole.items() if named[o][1].startswith(("TIMESTAMP", "DATE"))}
    name, (kept, read) = next(iter(lost.items()))
    if not timed:
        raise _rows_are_gone(view, name, kept, read)
    streams = [context.catalog.get(n) for n in query.plan.sources]
    if by_partitions(query, before) or any(isinstance(s, Stream) and s.idle_timeout_us is not None for s in streams):
        raise NotInPrerequisiteState(
            f'materialized view "{view.name}" cannot be verified: rows that it has read are gone',
            detail="which of those that are kept came in time is not told by them: an idle timeout, or partitions, may have "
            "moved the watermark",
            hint="verify views of streams that keep their rows: WITH (retention = 'forever')",
        )
    conditions, told = [], []
    for output, time in timed.items():
        column, type_ = named[output]
        moment = f"epoch_us({output if 'ZONE' in type_ else f'CAST({output} AS TIMESTAMP)'})"
        conditions.append(f"{output} IS NOT NULL" if time == NEVER else f"(isfinite({output}) AND {moment} > {time})")
        told.append(f"whose {column} is {'not NULL' if time == NEVER else f'after {_moment(time)}'}")
    counts = ", ".join(f"{k} of the {r} rows of {n}" for n, (k, r) in lost.items())
    return Since(
        " OR ".join(conditions),
        notice(
            f'materialized view "{view.name}" is compared for rows {", or ".join(told)}',
            detail=f"retention has kept {counts}: what came of the others cannot be proven",
        ),
    )


def _moment(time_us: int) -> str:
    """Write a time for a person."""
    found = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return found.strftime("%Y-%m-%d %H:%M:%S.%f").removesuffix(".000000")


def _rows_are_gone(view: View, name: str, kept: int, read: int) -> NotInPrerequisiteState:
    return NotInPrerequisiteState(
        f'materialized view "{view.name}" cannot be verified: rows that it has read are gone',
        detail=f"retention has kept {kept} of the {read} rows of {name}",
        hint="verify views of streams that keep their rows: WITH (retention = 'forever'); a view that shows window_start, "
        "a time that it groups by, or the event time of rows that it filters, can be verified from the rows that are kept on",
    )


def _rows_of(context: Context, plan: ContinuousPlan) -> str:
    """Give the relation of the rows that a view has read."""
    if plan.origin is None:
        return context.catalog.relation(plan.source).rows_table
    assert isinstance(plan.origin, ViewScan)
    columns = ", ".join(f"o{i} AS {quoted(c.name)}" for i, c in enumerate(plan.origin.columns))
    table = f"{RESULTS_SCHEMA}.{quoted(plan.origin.name)}"
    return f"(SELECT {columns}, rowid + 1 AS __seq, NULL AS __arrived_at FROM {table})"


@dataclass(frozen=True, slots=True)
class Since:
    """From when on a view can be proven whose stream has lost rows: a condition on the result's rows, and what is said."""

    condition: str
    notice: dict[str, str]

    def of(self, rows: str) -> str:
        """SQL of those of some rows that are compared."""
        return f"SELECT * FROM ({rows}) AS r WHERE {self.condition}"


def _since(
    context: Context, view: View, progress: dict[str, int], rows_table: str, cursor: duckdb.DuckDBPyConnection,
    plan: ContinuousPlan,
) -> Since | None:  # fmt: skip
    """Tell from when on no row is gone that counts; None where all are kept. Raises where that cannot be told."""
    kept = int(cursor.execute(f"SELECT count(*) FROM {rows_table}").fetchall()[0][0])
    read = progress["rows_in"]
    if kept >= read:
        return None
    name, stream = view.sources[0], context.catalog.get(plan.source)
    key = _since_key(view, plan, stream, cursor, kept, read) if isinstance(stream, Stream) else None
    if key is not None:
        return key
    found, column = provable(plan), plan.window.time_column if plan.window is not None else None
    if plan.window is None and plan.grouping is None and isinstance(stream, Stream) and stream.watermark is not None:
        column = stream.watermark.column
        found = provable(plan, column)
    gone = last_time(cursor, stream, column) if isinstance(stream, Stream) and column is not None else None
    if gone is None or found is None or gone[0] + kept < read or column is None:
        raise _rows_are_gone(view, name, kept, read)
    if gone[1] is None:  # none of them has a time
        told = _told(view, name, kept, read, "all rows with a time")
        return None if plan.window is not None else Since(f"isfinite({found.column})", told)
    last = gone[1] + found.reach_us
    shown = cursor.execute("SELECT strftime(make_timestamp(?), '%Y-%m-%d %H:%M:%S.%g')", [last]).fetchall()[0][0]
    moment = shown.removesuffix(".000")
    what = f"rows whose {column} is" if plan.window is None else "windows that begin"
    return Since(
        f"isfinite({found.column}) AND epoch_us({found.column}) > {last}",
        _told(view, name, kept, read, f"{what} after {moment}"),
    )


def _since_key(
    view: View, plan: ContinuousPlan, stream: Stream, cursor: duckdb.DuckDBPyConnection, kept: int, read: int
) -> Since | None:
    """Tell the same of groups by a key that follows from a time of the stream; None for any other query."""
    key = provable_key(plan, time_columns(stream))
    gone = None if key is None else last_time(cursor, stream, key.time_column)
    if key is None or gone is None or gone[0] + kept < read:
        return None
    name, time = view.columns[key.output].name, f"CAST(o{key.output} AS TIMESTAMP)"
    if gone[1] is None:  # none of the rows has a time, and so they were all in one group
        told = _told(view, stream.name, kept, read, f"all groups that have a finite {name}")
        return Since(f"isfinite({time})", told)
    last = bounded(key.bound, gone[1])
    shown = cursor.execute("SELECT make_timestamp(?)::VARCHAR", [last]).fetchall()[0][0]
    told = _told(view, stream.name, kept, read, f"groups whose {name} is after {shown}")
    return Since(f"isfinite({time}) AND epoch_us({time}) > {last}", told)


def _told(view: View, name: str, kept: int, read: int, what: str) -> dict[str, str]:
    return notice(
        f'materialized view "{view.name}" is compared for {what}',
        detail=f"retention has kept {kept} of the {read} rows of {name}: what came of the others cannot be proven",
    )


def _check_kept(
    view: View, progress: dict[str, int], cursor: duckdb.DuckDBPyConnection, plan: ContinuousPlan, *, whole: bool
) -> bool:
    """Tell whether the ledger has lost rows, but watermarks tell which were late. Raises where nothing tells."""
    ledger = cursor.execute("SELECT count(*) FROM _engine.late_rows WHERE view = ?", [view.name]).fetchall()
    if int(ledger[0][0]) >= progress["rows_late"]:
        return False
    if plan.origin is not None or plan.window is None or progress.get("idle_moves", 0) or not whole:
        raise NotInPrerequisiteState(
            f'materialized view "{view.name}" cannot be verified: the ledger of late rows has dropped some of its rows',
            hint="start the server with a larger --limit late_rows_max=N",
        )
    return True
