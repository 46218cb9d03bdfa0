"""VERIFY MATERIALIZED VIEW: a view's answer from the rows that are kept, in one SELECT, and how it differs from the view.

Which rows of a window count is decided anew, by the rule of docs/semantics.md: the watermark before a row is the largest event
time of the rows before it, less the delay. Rows that the ledger says were left out are left out; those that an expression
failed on moved no watermark. Tumbling windows need only the ledger: a row that is not in it was in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import exp

from streamsql.catalog.objects import ENGINE_SCHEMA, TimeBound, literal
from streamsql.plan import stages
from streamsql.plan.bounds import Bounds, bounds_of
from streamsql.plan.nodes import ContinuousPlan, Window
from streamsql.plan.windows import windows_of_place
from streamsql.plan.windows.hopping import floor_to
from streamsql.sql.statements import EmitMode

# Where the sessions that rows are in are read from: columns ``seq``, ``s``, ``e``.
SESSIONS = "__sessions"
# Times beyond it are no event times (`engine.watermark`).
_FINITE = (1 << 62) - 1


def difference_sql(answer: str, result: str, columns: list[str]) -> str:
    """Rows of the answer that are not in the result (weight 1, or how often) and the reverse (-1): `columns`, ``__weight``."""
    names = ", ".join(columns)
    return f"SELECT __weight, {names} FROM ({stages.weighed(columns, f'({answer})', result)}) ORDER BY {names}"


def answer_sql(
    plan: ContinuousPlan, name: str, rows_table: str, now_us: int, closed_to: int, *, judged_anew: bool = False
) -> str:
    """What a view ought to hold: its query over the rows that it accepted, of closed windows only in append mode.

    `now_us` is the time of the epoch, `closed_to` the place up to which windows are closed. For session windows the
    relation SESSIONS must say which session each row of `timed_rows_sql` is in. `judged_anew` says that the ledger has
    lost rows of tumbling windows: which were late is told by the watermarks then.
    """
    if plan.recomputed is not None:
        return plan.recomputed.at(now_us)
    accepted = f"(SELECT * EXCLUDE (__arrived_at) FROM {rows_table} WHERE __seq NOT IN ({_ledger(name)}))"
    if plan.grouping is None:
        return stages.linear_result(plan, accepted)
    window = plan.window
    if window is None:
        return stages.result(plan, stages.whole_windows(plan, accepted), ordered=False)
    end = f"{stages.PANE_COLUMN} + {window.size_us}"
    if window.session:
        rows = stages.in_sessions(_judged(plan, window, name, rows_table), SESSIONS)
        end = stages.FROM_COLUMN
    elif window.tumbling and not judged_anew:
        place = floor_to(f"({window.ruler.place_sql(stages.time_us(window))})", window.pane_us)
        rows = f"(SELECT {plan.alias}.*, {place} AS {stages.PANE_COLUMN} FROM {stages.source(plan, accepted)})"
    else:
        rows = _in_windows(plan, window, name, rows_table)
    closed = f"{end} <= {closed_to}" if plan.mode is EmitMode.APPEND else ""
    return stages.result(plan, stages.whole_windows(plan, rows, closed), ordered=False)


@dataclass(frozen=True, slots=True)
class Provable:
    """The output column that says when a row of the result begins; rows that are gone matter up to `reach_us` behind them."""

    column: str
    reach_us: int


def provable(plan: ContinuousPlan, time_column: str | None = None) -> Provable | None:
    """Find what tells which rows of a result have lost no input: window_start; without a window, the event time itself.

    None where the query does not show it.
    """
    window = plan.window
    if window is None:
        if time_column is None:
            return None
        wanted = {exp.column(time_column, quoted=q, table=t).sql("duckdb") for q in (True, False) for t in _names(plan)}
    else:
        starts = stages.window_bounds(window, "w", "e" if window.session else None)[0]
        wanted = {sqlglot.parse_one(starts, read="duckdb").sql("duckdb")}
    shown = next((f"o{i}" for i, o in enumerate(plan.outputs) if o.sql in wanted), None)
    if shown is None:
        return None
    # a session that begins within the gap behind a row is one with it
    return Provable(shown, window.size_us if window is not None and window.session else 0)


@dataclass(frozen=True, slots=True)
class ProvableKey:
    """A key of groups that follows from a time: rows up to a time are in groups up to `bound` of it."""

    output: int
    time_column: str
    bound: TimeBound


def provable_key(plan: ContinuousPlan, time_columns: Sequence[str]) -> ProvableKey | None:
    """Find a key that tells which groups have lost no input, where no window does: ts, date_trunc('hour', ts), ts::date.

    None where there is none that the query shows.
    """
    grouping = plan.grouping
    if grouping is None or grouping.sets or not (plan.window is None or plan.window.instant):
        return None
    shown = {o.sql: i for i, o in enumerate(plan.outputs)}
    for number, key in enumerate(grouping.keys):
        tree = sqlglot.parse_one(key, read="duckdb")
        for name in time_columns:
            bound = bounds_of(tree, {name: Bounds()})
            if bound is not None and f"k{number}" in shown:
                return ProvableKey(shown[f"k{number}"], name, bound)
    return None


def _names(plan: ContinuousPlan) -> list[exp.Identifier | None]:
    alias = plan.alias.strip('"')
    return [None, exp.to_identifier(alias, quoted=True), exp.to_identifier(alias)]


def _ledger(name: str, condition: str = "true") -> str:
    return f"SELECT seq FROM {ENGINE_SCHEMA}.late_rows WHERE view = {literal(name)} AND {condition}"


def _judged(plan: ContinuousPlan, window: Window, name: str, rows_table: str) -> str:
    """The rows that count, with the place of their time for pane, and of the watermark before them (NULL: none yet)."""
    delay, alias = plan.closing_delay_us, plan.alias
    timed = (
        f"SELECT {alias}.*, TRY({stages.time_us(window)}) AS __t FROM "
        f"(SELECT * EXCLUDE (__arrived_at) FROM {rows_table}) AS {alias}"
    )
    before = "NULL::BIGINT"
    if delay is not None:
        failed = _ledger(name, "reason LIKE 'error: %'")
        moving = f"abs(__t) <= {_FINITE} AND __seq NOT IN ({failed})"
        order = "ORDER BY __seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
        before = f"max(__t) FILTER (WHERE {moving}) OVER ({order}) - {delay}"
    place, watermark = (f"CASE WHEN {c} IS NOT NULL THEN {window.ruler.place_sql(c)} END" for c in ("__t", "__before"))
    judged = f"SELECT *, {before} AS __before FROM ({timed})"
    return (
        f"(SELECT * EXCLUDE (__t, __before), {place} AS {stages.PANE_COLUMN}, {watermark} AS {stages.FROM_COLUMN} "
        f"FROM ({judged}) WHERE __seq NOT IN ({_ledger(name)}))"
    )


def _in_windows(plan: ContinuousPlan, window: Window, name: str, rows_table: str) -> str:
    """Every row that counts once for each of its windows that were open, with the window's start for pane."""
    first, last = windows_of_place(window, f"r.{stages.PANE_COLUMN}")
    return (
        f"(SELECT r.* REPLACE (v.w AS {stages.PANE_COLUMN}, {stages.EVERY_WINDOW} AS {stages.FROM_COLUMN}) "
        f"FROM {_judged(plan, window, name, rows_table)} AS r, "
        f"LATERAL (SELECT unnest(generate_series({first}, {last}, {window.slide_us})) AS w) AS v "
        f"WHERE coalesce(v.w + {window.size_us} > r.{stages.FROM_COLUMN}, true))"
    )


# ---- sessions ----


def timed_rows_sql(plan: ContinuousPlan, name: str, rows_table: str) -> str:
    """The rows of session windows as `sessions_of` takes them: ``part``, ``seq``, ``t``, ``b``, ``s``, ``e``, ``apart``.

    Rows of a key of which each comes less than the gap after another are a part. It is one session, from ``s`` to ``e``,
    unless (``apart``) a row came behind the watermark, when some of it may have been closed; any other row reaches only
    sessions that end after the watermark.
    """
    window, grouping = plan.window, plan.grouping
    assert window is not None
    assert grouping is not None
    gap, keys = window.size_us, "".join(f"k{i}, " for i in range(len(grouping.keys)))
    partition = f"PARTITION BY {keys[:-2]} " if keys else ""
    rows = stages.timed_rows(plan, _judged(plan, window, name, rows_table))
    cut = f"SELECT *, coalesce(t - lag(t) OVER ({partition}ORDER BY t, seq) >= {gap}, true)::INT AS cut FROM ({rows})"
    parted = f"SELECT *, sum(cut) OVER ({partition}ORDER BY t, seq ROWS UNBOUNDED PRECEDING) AS number FROM ({cut})"
    of_part = f"OVER (PARTITION BY {keys}number)"
    behind = f"max(b) FILTER (WHERE b > t) {of_part}"
    return (
        f"SELECT min(seq) {of_part} AS part, seq, t, b, min(t) {of_part} AS s, max(t) {of_part} + {gap} AS e, "
        f"coalesce(min(t) {of_part} + {gap} <= {behind}, false) AS apart FROM ({parted}) ORDER BY part, seq"
    )


@dataclass(slots=True)
class _Session:
    start: int
    end: int
    rows: list[int] = field(default_factory=list)


def sessions_of(rows: pa.Table, gap: int) -> pa.Table:
    """Say which session each row is in: ``seq``, ``s``, ``e``; the rows of parts that may be several, one by one."""
    whole = rows.filter(pc.invert(rows.column("apart"))).select(["seq", "s", "e"])
    apart = rows.filter(rows.column("apart")).select(["part", "seq", "t", "b"])
    found: list[_Session] = []
    values = zip(*(column.to_pylist() for column in apart.columns), strict=True)
    for _, part in groupby(values, key=lambda row: row[0]):
        sessions: list[_Session] = []
        for _, seq, time, watermark in part:
            made = _Session(time, time + gap, [seq])
            for session in sessions:
                is_open = watermark is None or session.end > watermark
                if is_open and time < session.end and session.start < time + gap:
                    start, end = min(made.start, session.start), max(made.end, session.end)
                    made = _Session(start, end, session.rows + made.rows)
                    session.rows = []
            sessions = [*(s for s in sessions if s.rows), made]
        found += sessions
    columns = {
        "seq": [seq for s in found for seq in s.rows],
        "s": [s.start for s in found for _ in s.rows],
        "e": [s.end for s in found for _ in s.rows],
    }
    made_apart = pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()})
    return pa.concat_tables([whole.cast(made_apart.schema), made_apart])
