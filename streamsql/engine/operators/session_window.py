"""Session windows: a key's rows, as long as each comes less than the gap after another.

::

    session_window(ts, '10 min'), watermark ts
    in    00:00 a 1    00:07 a 2       00:30 a 4
    out                                [00:00, 00:17) a 3

State: partial states by (start, end, keys), one row an open session. What row by row would be (docs/semantics.md) is found
for a whole epoch at once: rows and open sessions of a key whose intervals ``[time, time + gap)`` overlap are an *island*, and
an island is one session, unless a part of it was closed before a row of it came. That takes a row behind the watermark,
since any other row overlaps only sessions that end after the watermark; islands with such rows are gone through row by row.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import ClassVar

import pyarrow as pa

from streamsql.engine.changes import Progress
from streamsql.engine.operators.base import Arrival, KeptGroups, Operator, Sink
from streamsql.engine.watermark import NEVER
from streamsql.plan import stages
from streamsql.plan.nodes import Grouping


@dataclass(slots=True)
class _Session:
    """An open session while an island is gone through: its bounds, and the rows of the scratch table that are in it."""

    start: int
    end: int
    members: list[int] = field(default_factory=list)


class _Sessions(Operator):
    """What both modes share. The scratch table ``touched`` tells for rows (``seq``) and open sessions (``row``) of
    islands that have new rows which session ``[s, e)`` they are in now."""

    @property
    def grouping(self) -> Grouping:
        assert self.plan.grouping is not None
        return self.plan.grouping

    @property
    def keys(self) -> list[str]:
        return [f"k{i}" for i in range(len(self.grouping.keys))]

    def create_scratch(self) -> None:
        super().create_scratch()
        self.store.execute(f"CREATE TEMP TABLE {self.tables.touched} AS SELECT * FROM ({self._islands()}) LIMIT 0")

    def _islands(self) -> str:
        """The rows of the delta, and the open sessions in reach of them, with their island's bounds."""
        gap, keys = self.window.size_us, "".join(f", {k}" for k in self.keys)
        of_key = f"PARTITION BY {', '.join(self.keys)} " if self.keys else ""
        of_island = f"PARTITION BY {', '.join([*self.keys, 'part'])}"
        same = " AND ".join(f"g.{k} IS NOT DISTINCT FROM r.{k}" for k in self.keys) or "true"
        of_sessions = "".join(f", g.{k}" for k in self.keys)
        before = f"OVER ({of_key}ORDER BY t, l, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        return (
            f"WITH arrived AS ({stages.timed_rows(self.plan, self.tables.delta)}), "
            f"members AS (SELECT seq, NULL::BIGINT AS row, t, t AS l, b{keys} FROM arrived UNION ALL "
            f"SELECT NULL, g.rowid, g.w, g.e - {gap}, NULL{of_sessions} FROM {self.tables.state} AS g "
            f"WHERE EXISTS (SELECT 1 FROM arrived AS r WHERE {same})), "
            f"cut AS (SELECT *, coalesce(t >= max(l) {before} + {gap}, true) AS first FROM members), "
            f"parted AS (SELECT *, sum(first::INT) OVER ({of_key}ORDER BY t, l, seq "
            f"ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS part FROM cut) "
            f"SELECT seq, row, t, l, b{keys}, min(seq) OVER ({of_island}) AS island, min(t) OVER ({of_island}) AS s, "
            f"max(l) OVER ({of_island}) + {gap} AS e, coalesce(min(l) OVER ({of_island}) + {gap} <= "
            f"max(b) FILTER (WHERE b > t) OVER ({of_island}), false) AS apart FROM parted "
            f"QUALIFY min(seq) OVER ({of_island}) IS NOT NULL"
        )

    def _touch(self, progress: Progress) -> None:
        touched = self.tables.touched
        self.store.run(f"DELETE FROM {touched}")
        self.store.run(f"INSERT INTO {touched} {self._islands()}", size=progress.state_rows)
        apart = self.store.rows(
            f"SELECT island, rowid AS id, row IS NOT NULL AS open, t, l, b FROM {touched} WHERE apart "
            "ORDER BY island, open DESC, seq"
        )
        if apart.num_rows:
            self.store.register("__sessions", self._row_by_row(apart))
            self.store.execute(
                f"UPDATE {touched} SET s = n.s, e = n.e FROM __sessions AS n WHERE {touched}.rowid = n.id"
            )

    def _row_by_row(self, members: pa.Table) -> pa.Table:
        """Find the sessions of islands as the definition says. Takes open sessions first, then rows as they came."""
        gap = self.window.size_us
        found: list[_Session] = []
        rows = zip(*(members.column(c).to_pylist() for c in members.column_names), strict=True)
        for _, island in groupby(rows, key=lambda row: row[0]):
            sessions: list[_Session] = []
            for _, number, is_open, time, last, watermark in island:
                made = _Session(time, last + gap, [number])
                if is_open:
                    sessions.append(made)
                    continue
                found += [s for s in sessions if s.end <= watermark]
                sessions = [s for s in sessions if s.end > watermark]
                joined = [s for s in sessions if time < s.end and s.start < time + gap]
                for session in joined:
                    made.start, made.end = min(made.start, session.start), max(made.end, session.end)
                    made.members += session.members
                sessions = [s for s in sessions if s not in joined] + [made]
            found += sessions
        return pa.table(
            {
                "id": pa.array([m for s in found for m in s.members], pa.int64()),
                "s": pa.array([s.start for s in found for _ in s.members], pa.int64()),
                "e": pa.array([s.end for s in found for _ in s.members], pa.int64()),
            }
        )

    def _merged_states(self) -> str:
        """The sessions that have new rows: the state's columns."""
        states = "".join(f", g.s{i}" for i in range(len(self.grouping.parts)))
        keys = "".join(f", g.{k}" for k in self.keys)
        arrived = stages.partials(self.plan, stages.in_sessions(self.tables.delta, self.tables.touched))
        joined = f"{self.tables.state} AS g JOIN {self.tables.touched} AS a ON a.row = g.rowid"
        kept = f"SELECT a.s AS w, a.e AS e{keys}{states} FROM {joined}"
        return stages.combined(self.grouping, f"({arrived} UNION ALL {kept})")

    def _closes(self, arrival: Arrival, progress: Progress, watermark: int) -> bool:
        """Tell whether the watermark can have reached a session's end: `pane_low` is of the sessions before this epoch."""
        low = (
            progress.pane_low
            if arrival.times is None
            else min(progress.pane_low, int(arrival.times.min(initial=-NEVER)))
        )
        return progress.state_rows > 0 and low + self.window.size_us <= watermark

    def _advanced(self, progress: Progress, watermark: int | None) -> Progress:
        """Note the first end of an open session, less the gap, and what is closed."""
        if watermark is None:
            return progress
        low = -NEVER
        if progress.state_rows:
            first = self.store.rows(f"SELECT min(e) FROM {self.tables.state}", size=progress.state_rows)
            low = first.column(0)[0].as_py() - self.window.size_us
        return replace(progress, pane_low=low, closed_to=max(progress.closed_to, watermark))


class SessionAppend(_Sessions):
    """Keeps a session window query whose results are final when they are shown."""

    def apply(self, arrival: Arrival, progress: Progress, sink: Sink) -> Progress:
        store, tables, size = self.store, self.tables, progress.state_rows
        if arrival.count:
            self._touch(progress)
            came = store.run(f"INSERT INTO {tables.state} {self._merged_states()}", size=size)
            gone = store.run(
                f"DELETE FROM {tables.state} WHERE rowid IN (SELECT row FROM {tables.touched} WHERE row IS NOT NULL)",
                size=size,
            )
            progress = replace(progress, state_rows=size + came - gone)
        watermark = self.watermark(progress)
        assert watermark is not None
        if self._closes(arrival, progress, watermark):
            sink.append(stages.groups_of_states(self.grouping, tables.state, "e <= $1"), watermark)
            gone = store.run(f"DELETE FROM {tables.state} WHERE e <= $1", watermark)
            progress = replace(progress, state_rows=progress.state_rows - gone)
        return self._advanced(progress, watermark)


class SessionUpdate(_Sessions, KeptGroups):
    """Keeps a session window query that shows a session's new value whenever it changes; sessions that merge go."""

    takes_out: ClassVar[bool] = False

    def apply(self, arrival: Arrival, progress: Progress, sink: Sink) -> Progress:
        if arrival.count:
            self._touch(progress)
            progress = self._replace(progress)
            sink.change(self.read_merged(sink))
        watermark = self.watermark(progress)
        if watermark is not None and self._closes(arrival, progress, watermark):
            progress = self._close(progress, watermark)
        return self._advanced(progress, watermark)

    def _replace(self, progress: Progress) -> Progress:
        """Put the sessions that have new rows in the place of those that they were made of.

        A new session's old value is that of the first of these. The others are rows of ``merged`` without a start.
        """
        store, tables, plan, size = self.store, self.tables, self.plan, progress.state_rows
        outputs = stages.output_columns(plan)
        partition = ", ".join(["a.s", "a.e", *(f"g.{k}" for k in self.keys)])
        same = " AND ".join(
            ["o.nth = 1", "o.into_s = n.w", "o.into_e = n.e", *(f"o.{k} IS NOT DISTINCT FROM n.{k}" for k in self.keys)]
        )
        rest = ["e", *self.keys, *(f"s{i}" for i in range(len(self.grouping.parts))), *outputs]
        olds = (
            f"SELECT g.*, g.rowid AS __row, a.s AS into_s, a.e AS into_e, "
            f"row_number() OVER (PARTITION BY {partition} ORDER BY g.w) AS nth "
            f"FROM {tables.state} AS g JOIN {tables.touched} AS a ON a.row = g.rowid"
        )
        store.run(f"DELETE FROM {tables.merged}")
        old = "".join(f", o.{c} AS old_{c}" for c in outputs)
        merged = (
            f"WITH olds AS ({olds}) SELECT n.*, o.__row{old}, coalesce(o.__shown, false) AS __was_shown "
            f"FROM ({stages.kept_groups(plan, self._merged_states())}) AS n LEFT JOIN olds AS o ON {same} UNION ALL "
            f"SELECT NULL, {', '.join(rest)}, false, __row, {', '.join(outputs)}, __shown FROM olds WHERE nth > 1"
        )
        store.run(f"INSERT INTO {tables.merged} {stages.with_changed(plan, merged)}", size=size)
        gone = store.run(
            f"DELETE FROM {tables.state} WHERE rowid IN (SELECT __row FROM {tables.merged} WHERE __row IS NOT NULL)",
            size=size,
        )
        came = store.run(
            f"INSERT INTO {tables.state} SELECT {', '.join(stages.kept_columns(plan))} FROM {tables.merged} WHERE w IS NOT NULL"
        )
        return replace(progress, state_rows=size + came - gone)

    def _close(self, progress: Progress, watermark: int) -> Progress:
        """Move closed sessions to the result's table, where they have no state any more."""
        tables = self.tables
        columns = ", ".join([*stages.result_keys(self.grouping), *stages.output_columns(self.plan)])
        self.store.run(
            f"INSERT INTO {tables.result} SELECT {columns} FROM {tables.state} WHERE e <= $1 AND __shown", watermark
        )
        gone = self.store.run(f"DELETE FROM {tables.state} WHERE e <= $1", watermark)
        return replace(progress, state_rows=progress.state_rows - gone)
