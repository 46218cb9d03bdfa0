"""A continuous query as the engine runs it: a materialized view, or a live SELECT.

Here the rows of an epoch are told from the late ones, the operator is run, and what it emits goes to the result table
and, if somebody subscribes, to the change log.
"""

from __future__ import annotations

from dataclasses import replace

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.base.errors import StreamSQLError
from streamsql.base.limits import Limits
from streamsql.catalog.objects import RESULTS_SCHEMA, ROWS_SCHEMA, STATE_SCHEMA, quoted
from streamsql.engine import ledger
from streamsql.engine.changes import Change, Progress
from streamsql.engine.flow import NO_TIMES, Idle
from streamsql.engine.operators import for_plan
from streamsql.engine.operators.base import Arrival, Tables
from streamsql.engine.outflow import Outflow
from streamsql.engine.panes import counts_from, with_window_columns
from streamsql.engine.partitions import Judged, TimeMove, judged
from streamsql.engine.results import Results
from streamsql.engine.store import Delta, Store
from streamsql.engine.subscriptions import ChangeLog
from streamsql.engine.translate import translate
from streamsql.engine.watermark import MICROSECONDS, NEVER, event_times
from streamsql.plan import stages
from streamsql.plan.nodes import ContinuousPlan


def tables_of(name: str, query_id: int, *, temporary: bool) -> Tables:
    """Name the tables of a query: after the view, or after the live query's number."""
    scratch = {
        "delta": f'"__delta {query_id}"',
        "merged": f'temp.main."merged {query_id}"',
        "changed": f'temp.main."changed {query_id}"',
        "touched": f'temp.main."touched {query_id}"',
    }
    if temporary:
        return Tables(f'temp.main."state {query_id}"', f'temp.main."result {query_id}"', **scratch, temporary=True)
    return Tables(f"{STATE_SCHEMA}.{quoted(name)}", f"{RESULTS_SCHEMA}.{quoted(name)}", **scratch, temporary=False)


class ContinuousQuery(Results):
    """One running query. Used by the engine thread alone, but for `log` and `progress`, which any thread may read."""

    def __init__(
        self, query_id: int, name: str, plan: ContinuousPlan, store: Store, limits: Limits, *, temporary: bool
    ) -> None:
        self.id = query_id
        self.name = name
        self.plan = plan
        self.temporary = temporary
        self.tables = tables_of(name, query_id, temporary=temporary)
        self._delta_name = self.tables.delta.strip('"')
        self.log = ChangeLog(name, limits)
        self.text = ""
        self.progress = Progress()
        self._store = store
        self.keeps_result = not temporary
        self.out = Outflow(plan)
        self.owner: ContinuousQuery | None = None
        self.shared: ContinuousQuery | None = None  # what keeps this query's groups together with others'
        self._operator = for_plan(plan, store, self.tables)
        self._delta: Delta | None = None
        self._arrived = 0
        self._epoch = 0
        self.emitted: list[Change] = []
        self._rows_out = 0
        self._changed = False

    def use_delta(self, relation: str) -> None:
        """Read the rows of an epoch as `relation` has them, which is made of those under the delta's name."""
        self.tables = replace(self.tables, delta=relation)
        self._operator.tables = self.tables

    @property
    def label(self) -> str:
        """What the ledger calls the query: it is the view's, where the query is inside of one."""
        return self.name if self.owner is None else self.owner.label

    @property
    def _labels(self) -> list[str]:
        return [self.label]

    @property
    def unit(self) -> ContinuousQuery:
        """What takes rows in for this query."""
        return self.shared or self

    def all_progress(self, progress: Progress) -> list[tuple[ContinuousQuery, Progress]]:
        """Give the progress of all queries that this one takes rows in for, from its own."""
        return [(self, progress)]

    # ---- the epoch ----

    def open(self) -> None:
        """Let SQL read the query's delta: the source's columns and ``__seq``, without a row for now."""
        self._delta = Delta(self._with_new(with_window_columns(self.plan.window, self._no_rows(), NO_TIMES, None)))
        self._store.register(self._delta_name, self._delta)
        self._operator.delta = self._delta

    def _no_rows(self) -> pa.Table:
        table = f"{ROWS_SCHEMA}.{quoted(self.plan.source)}"
        return self._store.arrow(f"SELECT * EXCLUDE (__arrived_at) FROM {table} LIMIT 0")

    def open_scratch(self) -> None:
        """Make the scratch tables of a query that is there already: they die with the server."""
        self._operator.create_scratch()
        self._create_changed()

    def create(self, epoch: int) -> Progress:
        """Make the query's tables."""
        self._begin(epoch, self.progress)
        if self.keeps_result or self.temporary:
            self._store.execute(f"{self.tables.create(self.tables.result)} AS {self._result_shape()} LIMIT 0")
        self._create_changed()
        progress = self._operator.create(self, self.progress)
        if progress == self.progress:
            self._operator.create_scratch()
        return self._finish(progress)

    def _create_changed(self) -> None:
        if not self.plan.retracts or self._operator.shows_state:
            return
        names = ", ".join(f"o{i} AS old_o{i}" for i in range(len(self.plan.outputs)))
        self._store.execute(
            f"CREATE TEMP TABLE {self.tables.changed} AS "
            f"SELECT *, true AS __shown, 0::BIGINT AS __row, {names} FROM {self.tables.result} LIMIT 0"
        )

    def _see(
        self, rows: pa.Table, times: MICROSECONDS | None = None, first_ends: npt.NDArray[np.int64] | None = None
    ) -> None:
        """Make these rows the delta. Without their times, panes are wrong: good enough for what does not group."""
        assert self._delta is not None
        if times is None:
            times = np.zeros(rows.num_rows, dtype=np.int64)
        made = self._with_new(with_window_columns(self.plan.window, rows, times, first_ends))
        # DuckDB asks for the columns in the order in which it was told of them; of a stream with a connector they come in
        # another, and of one that has got more columns since there are more
        names = self._delta.batch.schema.names
        self._delta.batch = made if made.column_names == names else made.select(names)
        self._arrived = rows.num_rows

    def _with_new(self, rows: pa.Table) -> pa.Table:
        """Add the columns that tell which rows bring a group a new value: none does, until the operator has looked."""
        for item in self.plan.distincts:
            rows = rows.append_column(item.column, pa.array(np.zeros(rows.num_rows, np.bool_)))
        return rows

    def apply(
        self, epoch: int, rows: pa.Table, arrived_at_us: int, progress: Progress, *, matching: bool = True
    ) -> Progress:
        """Take the rows of an epoch in, in the order of ``__seq``; give the progress to commit with it.

        Where none is `matching` the query's condition, they only move time on.
        """
        self._begin(epoch, progress)
        self.out.see_rows(rows)
        progress = replace(progress, rows_in=progress.rows_in + rows.num_rows)
        if self.plan.window is None:
            self._see(rows)
            progress = self._handed_on(rows, progress)
            return self._finish(self._operator.apply(Arrival(rows.num_rows if matching else 0), progress, self))
        times, valid = self._times(rows)
        found = self._judged_by(rows, times, progress)
        arrival, late = self._admitted(rows, times, valid, found.before)
        progress = replace(progress, seen=max(progress.seen, int(times.max())) if times.size else progress.seen)
        moved_at = arrived_at_us if found.largest > progress.largest else progress.moved_at
        progress = replace(found.taken(progress), moved_at=moved_at)
        if late is not None:
            progress = self._record_late(late, arrived_at_us, progress)
        return self._finish(self._operator.apply(arrival if matching else Arrival(0), progress, self))

    def _handed_on(self, rows: pa.Table, progress: Progress) -> Progress:
        """Give how far the event time is that a query without a window hands on."""
        return progress if self.plan.time is None or not rows.num_rows else self.out.see_stream(rows, progress)

    def _judged_by(self, rows: pa.Table, times: MICROSECONDS, progress: Progress, *, hand_on: bool = True) -> Judged:
        """Give the event time before each row, and after all."""
        found = judged(rows, times, progress)
        if hand_on and self.out.wanted:
            self.out.move(np.asarray(rows.column("__seq")), found.after)
        return found

    def advance(self, epoch: int, move: TimeMove, now_us: int, position: int = 0) -> Progress:
        """Move event time on without rows (idle timeout)."""
        self._begin(epoch, self.progress)
        progress = replace(move.after(self.progress), moved_at=now_us, idle_moves=self.progress.idle_moves + 1)
        self.out.move(np.array([position]), np.array([progress.largest]))
        return self._finish(self._operator.apply(Arrival(0), progress, self))

    def largest_if(self, idle: Idle, progress: Progress) -> int:
        """Give the largest event time if time went on without rows."""
        move = idle.moved.get(self.plan.source)
        return (progress if move is None else move.after(progress)).largest

    def mark_if(self, idle: Idle, progress: Progress) -> int:
        """Give the watermark that the query would hand on then."""
        return self.out.mark(replace(progress, largest=max(progress.largest, self.largest_if(idle, progress))))

    def stirs(self, idle: Idle, progress: Progress) -> bool:
        """Tell whether that would bring something out of the query's state, or let partitions hold it back no more."""
        move = idle.moved.get(self.plan.source)
        if move is not None and move.partitions and move.moves(progress):
            return True
        return self.would_close(self.largest_if(idle, progress), progress)

    def would_close(self, largest: int, progress: Progress | None = None) -> bool:
        """Tell whether moving event time on to `largest` would close a window that holds state."""
        window, delay, progress = self.plan.window, self.plan.closing_delay_us, progress or self.progress
        if window is None or delay is None or not progress.state_rows:
            return False
        watermark = window.ruler.place(largest - delay)
        if window.tumbling or window.session:
            return progress.pane_low + window.size_us <= watermark
        first = (max(progress.pane_low, progress.closed_to - window.size_us + 1) - window.size_us) // window.slide_us
        return (first + 1) * window.slide_us + window.size_us <= watermark

    @property
    def changed(self) -> bool:
        """Tell whether the last epoch changed the result."""
        return self._changed or self._rows_out > 0

    def commit(self, progress: Progress) -> None:
        """Take on the progress of an epoch that has been committed, and show its changes."""
        self.progress = progress
        self.log.publish(self.emitted, self._epoch)
        self.emitted = []

    def take_emitted(self) -> list[Change]:
        """Take what was emitted since the last call, while rows that were kept are taken in chunk by chunk."""
        taken, self.emitted = self.emitted, []
        return taken

    def publish(self, changes: list[Change]) -> None:
        """Show the changes that the rows kept have made, once they are committed."""
        self.log.publish(changes, self._epoch)

    def fail(self, error: StreamSQLError) -> None:
        """Stop the query: it could not take an epoch in."""
        if self.owner is not None:
            self.owner.fail(error)
            return
        self.progress = replace(self.progress, error=error.message)
        self.emitted = []
        self.log.fail(error)

    def drop(self) -> None:
        """Drop all tables; of a query that shares its groups none."""
        if self.shared is None:
            self.drop_own()

    def drop_scratch(self) -> None:
        """Drop what dies with the server."""
        self._operator.drop_scratch()

    def drop_own(self) -> None:
        """Drop the query's own tables, but for those of what is inside of it."""
        self.drop_scratch()
        seen = [self.tables.seen(number) for number in range(len(self.plan.distincts))]
        for table in (self.tables.state, self.tables.result, self.tables.changed, *seen):
            self._store.execute(f"DROP TABLE IF EXISTS {table}")

    def close(self) -> None:
        """Let go of what is not a table, once the query has been dropped."""
        if self.shared is None:
            self._store.unregister(self._delta_name)

    # ---- of a query whose groups are kept together with others' (`engine.shared`) ----

    def begin_shared(self, epoch: int) -> None:
        """Start an epoch in which `shared` takes the rows in."""
        self._epoch = epoch
        self.emitted, self._rows_out, self._changed = [], 0, False

    def finish_shared(self, progress: Progress) -> Progress:
        """End it; gives the query's own progress from that of `shared`."""
        if self._changed and self.log.wants_whole:
            self.emitted.append(Change(self._epoch, self.result_rows(), whole=True))
        return replace(progress, rows_out=self.progress.rows_out + self._rows_out)

    def close_alone(self) -> None:
        """Let go of what a query needs that takes rows in itself, but for its tables."""
        self._store.unregister(self._delta_name)

    def stand_alone(self) -> None:
        """Take rows in itself again: its tables are there."""
        self._operator.tables = self.tables
        self.open()
        self.open_scratch()

    @property
    def state_names(self) -> list[str]:  # of what there is beside its own, without their schema
        return [stages.seen_name(self.name, number) for number in range(len(self.plan.distincts))]

    def _begin(self, epoch: int, progress: Progress) -> None:
        self._epoch = epoch
        self.out.begin(progress)
        self.emitted = []
        self._rows_out = 0
        self._changed = False

    def _finish(self, progress: Progress) -> Progress:
        if self._changed and self.plan.retracts and self.log.wants_whole:
            self.emitted.append(Change(self._epoch, self.result_rows(), whole=True))
        self.out.close(progress.rows_out)
        return replace(progress, rows_out=progress.rows_out + self._rows_out, last_epoch=self._epoch)

    # ---- lateness ----

    def _times(self, rows: pa.Table) -> tuple[MICROSECONDS, npt.NDArray[np.bool_] | None]:
        window = self.plan.window
        assert window is not None
        if window.time_column is not None and window.time_type != "DATE":
            return event_times(rows.column(window.time_column))
        self._see(rows)
        return event_times(self._store.rows(stages.event_time_query(self.plan, self.tables.delta)).column("t"))

    def _admitted(
        self, rows: pa.Table, times: MICROSECONDS, valid: npt.NDArray[np.bool_] | None, before: MICROSECONDS
    ) -> tuple[Arrival, pa.Table | None]:
        """Part the rows into those with an open window and those without; the latter with what made them late.

        Gives the places of the former's times on the window's ruler.
        """
        window, delay = self.plan.window, self.plan.closing_delay_us
        assert window is not None
        places, watermarks = window.ruler.places(times), before
        late: npt.NDArray[np.bool_] | None = None if valid is None else ~valid
        if delay is not None and times.size:
            watermarks = window.ruler.places(before - delay)
            # the common case is settled by two numbers: the lowest time and the highest watermark
            if window.last_end(int(places.min())) <= int(watermarks[-1]) or late is not None:
                closed = window.last_ends(places) <= watermarks
                late = closed if late is None else (closed | late)
        taken = None
        if late is not None and late.any():
            ends = window.ruler.instants(window.last_ends(places))
            ledger = rows
            for name, column in (("__before", before), ("__time", times), ("__end", ends)):
                ledger = ledger.append_column(name, pa.array(column))
            taken = ledger.filter(pa.array(late))
            kept = ~late
            rows, places, watermarks = rows.filter(pa.array(kept)), places[kept], watermarks[kept]
        self._see(rows, places, None if delay is None else counts_from(window, places, watermarks))
        return Arrival(rows.num_rows, places), taken

    def record_rejected(self, rows: pa.Table, arrived_at_us: int, epoch: int, reason: str) -> None:
        """Put rows into the ledger that the query's expressions fail on."""
        ledger.record_rejected(self._store, rows, self.label, self.plan.source, epoch, arrived_at_us, reason)

    def _record_late(self, late: pa.Table, arrived_at_us: int, progress: Progress) -> Progress:
        """Put late rows into the ledger: those that the query's WHERE lets through."""
        self._store.register("__late", late)
        selected = stages.late_rows_of_query(self.plan, "__late")
        delay = self.plan.watermark_delay_us
        added = 0
        for label in self._labels:
            added = ledger.record_late(
                self._store, selected, late.column_names, label, self.plan.source, self._epoch, arrived_at_us, delay
            )
        return replace(progress, rows_late=progress.rows_late + added)

    def failure_of(self, rows: pa.Table) -> StreamSQLError | None:
        """Tell what this query's expressions find wrong with these rows, without writing anything."""
        self._see(rows)
        delta = self.tables.delta
        if self.plan.grouping is None:
            return self._failure(stages.linear_result(self.plan, delta))
        states = [stages.partials(self.plan, delta)]
        states += [stages.seen_shape(self.plan, delta, item) for item in self.plan.distincts]
        return next((error for sql in states if (error := self._failure(sql)) is not None), None)

    def late_without(self, rows: pa.Table, without: npt.NDArray[np.bool_], progress: Progress) -> npt.NDArray[np.bool_]:
        """Tell which rows would be late, if those of the mask `without` moved no watermark."""
        window, delay = self.plan.window, self.plan.closing_delay_us
        if window is None:
            return np.zeros(rows.num_rows, dtype=np.bool_)
        times, valid = self._times(rows)
        late = np.zeros(rows.num_rows, dtype=np.bool_) if valid is None else ~valid
        if delay is not None:
            found = self._judged_by(rows, np.where(without, NEVER, times), progress, hand_on=False)
            late |= window.last_ends(window.ruler.places(times)) <= window.ruler.places(found.before - delay)
        return late

    def fails_when_late(self, row: pa.Table) -> bool:
        """Tell whether even the query's WHERE, which late rows pass, fails on this row."""
        self._store.register("__late", row)
        return self._failure(stages.late_rows_of_query(self.plan, "__late")) is not None

    def _failure(self, sql: str) -> StreamSQLError | None:
        try:
            self._store.arrow(sql)  # all of it: DuckDB leaves out what a LIMIT or a count does not need
        except duckdb.Error as error:
            return translate(error)
        return None
