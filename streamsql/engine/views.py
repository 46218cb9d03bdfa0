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
import pyarrow.compute as pc

from streamsql.base.errors import StreamSQLError
from streamsql.base.limits import Limits
from streamsql.catalog.objects import ENGINE_SCHEMA, RESULTS_SCHEMA, STATE_SCHEMA, literal, quoted
from streamsql.engine.changes import Change, Progress, sorts
from streamsql.engine.operators import for_plan
from streamsql.engine.operators.base import Arrival, Sink, Tables
from streamsql.engine.store import Delta, Store
from streamsql.engine.subscriptions import ChangeLog
from streamsql.engine.translate import translate
from streamsql.engine.watermark import MICROSECONDS, NEVER, event_times, largest_before
from streamsql.plan import stages
from streamsql.plan.nodes import ContinuousPlan

LATE_ROWS_TABLE = f"{ENGINE_SCHEMA}.late_rows"

# Up to so many rows in an epoch, a view's new rows are sorted although nobody follows them: it costs next to nothing,
# and a person who reads the table finds it in order.
ORDERED_ROWS_MAX = 4_096


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


class ContinuousQuery(Sink):
    """One running query. Used by the engine thread alone, but for `log` and `progress`, which any thread may read."""

    def __init__(
        self, query_id: int, name: str, plan: ContinuousPlan, store: Store, limits: Limits, *, temporary: bool
    ) -> None:
        self.id = query_id
        self.name = name
        self.plan = plan
        self.temporary = temporary
        self.tables = tables_of(name, query_id, temporary=temporary)
        self.log = ChangeLog(name, limits)
        self.text = ""
        self.progress = Progress()
        self._store = store
        self._operator = for_plan(plan, store, self.tables)
        self._delta: Delta | None = None
        self._arrived = 0
        self._epoch = 0
        self._emitted: list[Change] = []
        self._rows_out = 0
        self._changed = False

    # ---- the epoch ----

    def open(self, empty: pa.Table) -> None:
        """Let SQL read the query's delta; `empty` has the source's columns, ``__seq``, and no row."""
        self._delta = Delta(self._with_window_columns(empty, np.empty(0, dtype=np.int64), None))
        self._store.register(self.tables.delta.strip('"'), self._delta)
        self._operator.delta = self._delta

    def open_scratch(self) -> None:
        """Make the scratch tables of a query that is there already: they die with the server."""
        self._operator.create_scratch()
        self._create_changed()

    def create(self, epoch: int) -> Progress:
        """Make the query's tables."""
        self._begin(epoch)
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

    def _with_window_columns(
        self, rows: pa.Table, times: MICROSECONDS, first_ends: npt.NDArray[np.int64] | None
    ) -> pa.Table:
        """Add ``__pane`` (a session's row keeps its own place), and ``__from`` unless windows tumble."""
        window = self.plan.window
        if window is None:
            return rows
        panes = times if window.session else times // window.pane_us * window.pane_us
        rows = rows.append_column(stages.PANE_COLUMN, pa.array(panes))
        if window.tumbling:
            return rows
        if first_ends is None:
            first_ends = np.full(rows.num_rows, stages.EVERY_WINDOW, dtype=np.int64)
        return rows.append_column(stages.FROM_COLUMN, pa.array(first_ends))

    def _see(
        self, rows: pa.Table, times: MICROSECONDS | None = None, first_ends: npt.NDArray[np.int64] | None = None
    ) -> None:
        """Make these rows the delta. Without their times, panes are wrong: good enough for what does not group."""
        assert self._delta is not None
        if times is None:
            times = np.zeros(rows.num_rows, dtype=np.int64)
        self._delta.batch = self._with_window_columns(rows, times, first_ends)
        self._arrived = rows.num_rows

    def apply(
        self, epoch: int, rows: pa.Table, arrived_at_us: int, progress: Progress, *, matching: bool = True
    ) -> Progress:
        """Take the rows of an epoch in, in the order of ``__seq``; give the progress to commit with it.

        Where none is `matching` the query's condition, they only move time on.
        """
        self._begin(epoch)
        progress = replace(progress, rows_in=progress.rows_in + rows.num_rows)
        if self.plan.window is None:
            self._see(rows)
            return self._finish(self._operator.apply(Arrival(rows.num_rows if matching else 0), progress, self))
        times, valid = self._times(rows)
        before, largest = largest_before(times, progress.largest)
        arrival, late = self._admitted(rows, times, valid, before)
        progress = replace(progress, seen=max(progress.seen, int(times.max())) if times.size else progress.seen)
        moved_at = arrived_at_us if largest > progress.largest else progress.moved_at
        progress = replace(progress, largest=largest, moved_at=moved_at)
        if late is not None:
            progress = self._record_late(late, arrived_at_us, progress)
        return self._finish(self._operator.apply(arrival if matching else Arrival(0), progress, self))

    def advance(self, epoch: int, largest: int, now_us: int) -> Progress:
        """Move event time on without rows (idle timeout): the watermark becomes `largest` less the delay."""
        self._begin(epoch)
        progress = replace(self.progress, largest=max(self.progress.largest, largest), moved_at=now_us)
        return self._finish(self._operator.apply(Arrival(0), progress, self))

    def would_close(self, largest: int) -> bool:
        """Tell whether moving event time on to `largest` would close a window that holds state."""
        window, delay, progress = self.plan.window, self.plan.closing_delay_us, self.progress
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
        self.log.publish(self._emitted, self._epoch)
        self._emitted = []

    def take_emitted(self) -> list[Change]:
        """Take what was emitted since the last call, while rows that were kept are taken in chunk by chunk."""
        taken, self._emitted = self._emitted, []
        return taken

    def publish(self, changes: list[Change]) -> None:
        """Show the changes that the rows kept have made, once they are committed."""
        self.log.publish(changes, self._epoch)

    def fail(self, error: StreamSQLError) -> None:
        """Stop the query: it could not take an epoch in."""
        self.progress = replace(self.progress, error=error.message)
        self._emitted = []
        self.log.fail(error)

    def drop(self) -> None:
        tables = self.tables
        self._operator.drop_scratch()
        for table in (tables.state, tables.result, tables.changed):
            self._store.execute(f"DROP TABLE IF EXISTS {table}")

    def close(self) -> None:
        """Let go of what is not a table, once the query has been dropped."""
        self._store.unregister(self.tables.delta.strip('"'))

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch
        self._emitted = []
        self._rows_out = 0
        self._changed = False

    def _finish(self, progress: Progress) -> Progress:
        if self._changed and self.plan.retracts and self.log.wants_whole:
            self._emitted.append(Change(self._epoch, self.result_rows(), whole=True))
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
        self._see(rows, places, self._counts_from(places, watermarks))
        return Arrival(rows.num_rows, places), taken

    def _counts_from(self, places: MICROSECONDS, watermarks: MICROSECONDS) -> npt.NDArray[np.int64] | None:
        """For windows of several panes: the end of the first window that each row counts for; for sessions the watermark."""
        window, delay = self.plan.window, self.plan.closing_delay_us
        assert window is not None
        if window.tumbling or delay is None or not places.size:
            return None
        if window.session:
            return watermarks
        size, slide = window.size_us, window.slide_us
        first = (places - size) // slide * slide + slide + size
        if int(first.min()) > int(watermarks.max()):
            return None
        opened = (watermarks - size) // slide * slide + slide + size
        return np.where(first > watermarks, stages.EVERY_WINDOW, opened)

    def record_rejected(self, rows: pa.Table, arrived_at_us: int, epoch: int, reason: str) -> None:
        """Put rows into the ledger that the query's expressions fail on."""
        self._store.register("__late", rows)
        fields = ", ".join(f"{quoted(c)} := l.{quoted(c)}" for c in rows.column_names if c != "__seq")
        self._store.execute(
            f"INSERT INTO {LATE_ROWS_TABLE} SELECT {epoch}, l.__seq, make_timestamp({arrived_at_us}), "
            f"{literal(self.name)}, {literal(self.plan.source)}, {literal('error: ' + reason)}, NULL, NULL, NULL, "
            f"to_json(struct_pack({fields}))::VARCHAR FROM __late AS l"
        )

    def _record_late(self, late: pa.Table, arrived_at_us: int, progress: Progress) -> Progress:
        """Put late rows into the ledger: those that the query's WHERE lets through."""
        store, delay = self._store, self.plan.watermark_delay_us
        store.register("__late", late)
        hidden = ("__seq", "__before", "__time", "__end")
        fields = ", ".join(f"{quoted(c)} := l.{quoted(c)}" for c in late.column_names if c not in hidden)
        watermark = "NULL::TIMESTAMP" if delay is None else f"make_timestamp(l.__before - {delay})"
        missing = f"l.__time = {-(1 << 62)}"
        added = store.execute(
            f"INSERT INTO {LATE_ROWS_TABLE} SELECT {self._epoch}, l.__seq, make_timestamp({arrived_at_us}), "
            f"{literal(self.name)}, {literal(self.plan.source)}, "
            f"CASE WHEN {missing} THEN 'no event time' ELSE 'window closed' END, "
            f"CASE WHEN {missing} THEN NULL ELSE make_timestamp(l.__time) END, "
            f"CASE WHEN {missing} THEN NULL ELSE {watermark} END, "
            f"CASE WHEN {missing} THEN NULL ELSE to_microseconds(epoch_us({watermark}) - l.__end) END, "
            f"to_json(struct_pack({fields}))::VARCHAR "
            f"FROM ({stages.late_rows_of_query(self.plan, '__late')}) AS l"
        )
        return replace(progress, rows_late=progress.rows_late + added)

    # ---- results (Sink) ----

    def _result_shape(self) -> str:
        grouping = self.plan.grouping
        if grouping is None:
            return stages.linear_result(self.plan, self.tables.delta)
        groups = stages.whole_windows(self.plan, self.tables.delta)
        if not self.plan.retracts:
            return stages.result(self.plan, groups, ordered=False)
        return f"SELECT * EXCLUDE (__shown) FROM ({stages.result(self.plan, groups, with_keys=True)})"

    def append(self, groups: str, *values: int) -> int:
        # what is shown comes in the order of its keys; a table has no order, and sorting costs as much as grouping, so
        # that a large epoch's readers sort for themselves where Arrow can
        if self.shown and self._arrived > ORDERED_ROWS_MAX:
            return self._append(stages.result(self.plan, groups, keys_last=True), *values, unordered=True)
        ordered = self._arrived <= ORDERED_ROWS_MAX
        return self._append(stages.result(self.plan, groups, ordered=ordered), *values)

    def append_rows(self, sql: str) -> int:
        return self._append(sql)

    @property
    def shown(self) -> bool:
        return self.temporary or self.log.wanted

    def _append(self, sql: str, *values: int, unordered: bool = False) -> int:
        """Emit what a query gives; `unordered` rows have the columns of their order after the outputs."""
        size = self.progress.state_rows
        if not self.shown:
            count = self._store.run(f"INSERT INTO {self.tables.result} {sql}", *values, size=size)
            self._rows_out += count
            return count
        rows = self._store.rows(sql, *values, size=size)
        if rows.num_rows:
            names = stages.output_columns(self.plan)
            change = Change(self._epoch, rows.select(names))
            if unordered:
                change = self._with_order(rows, names)
            if not self.temporary:
                self._store.register("__emitted", change.rows)
                self._store.execute(f"INSERT INTO {self.tables.result} SELECT * FROM __emitted")
            self._emitted.append(change)
        self._rows_out += rows.num_rows
        return int(rows.num_rows)

    def _with_order(self, rows: pa.Table, names: list[str]) -> Change:
        keys = rows.select(stages.order_columns(self.plan))
        if all(sorts(field.type) for field in keys.schema):
            return Change(self._epoch, rows.select(names), order=keys)
        self._store.register("__emitted", rows)
        order = ", ".join(keys.column_names)
        return Change(self._epoch, self._store.arrow(f"SELECT {', '.join(names)} FROM __emitted ORDER BY {order}"))

    def change(self, merged: pa.Table) -> None:
        changed = merged.column("__changed")
        gone = pc.and_(changed, merged.column("__was_shown"))
        came = pc.and_(changed, merged.column("__shown"))
        count: int = pc.sum(came).as_py() or 0
        self._rows_out += count
        if not (count or pc.any(gone).as_py()):
            return
        self._changed = True
        if not self.log.wanted:
            return
        names = stages.output_columns(self.plan)
        old = merged.select([f"old_{n}" for n in names]).rename_columns(names).filter(gone)
        rows = pa.concat_tables([old, merged.select(names).filter(came)])
        # the order of the groups, the old values of each before the new
        at = np.concatenate([2 * np.flatnonzero(gone), 2 * np.flatnonzero(came) + 1])
        weights = np.repeat(np.array([-1, 1], np.int8), [old.num_rows, rows.num_rows - old.num_rows])
        order = np.argsort(at)
        self._emitted.append(Change(self._epoch, rows.take(order), pa.array(weights[order])))

    def _emit_weighted(self, changes: pa.Table) -> None:
        weights = changes.column("__weight").combine_chunks()
        self._emitted.append(Change(self._epoch, changes.drop_columns(["__weight"]), weights))

    def update(self, groups: str, *values: int) -> int:
        store, grouping, result, changed = self._store, self.plan.grouping, self.tables.result, self.tables.changed
        assert grouping is not None
        keys = stages.result_keys(grouping)
        names = [f"o{i}" for i in range(len(self.plan.outputs))]
        on = " AND ".join(f"r.{k} IS NOT DISTINCT FROM f.{k}" for k in keys) or "true"
        same = " AND ".join(f"r.{n} IS NOT DISTINCT FROM f.{n}" for n in names)
        old = ", ".join(f"r.{n} AS old_{n}" for n in names)
        fresh = stages.result(self.plan, groups, with_keys=True)
        columns = ", ".join(f"f.{c}" for c in [*keys, *names, "__shown"])
        size = self.progress.rows_out
        store.run(f"DELETE FROM {changed}")
        touched = store.run(
            f"INSERT INTO {changed} SELECT {columns}, r.rowid AS __row, {old} FROM ({fresh}) AS f "
            f"LEFT JOIN {result} AS r ON {on} "
            f"WHERE CASE WHEN r.rowid IS NULL THEN f.__shown ELSE NOT (f.__shown AND {same}) END",
            *values,
            size=size,
        )
        if not touched:
            return 0
        gone = store.run(
            f"DELETE FROM {result} WHERE rowid IN (SELECT __row FROM {changed} WHERE __row IS NOT NULL)", size=size
        )
        came = store.run(f"INSERT INTO {result} SELECT {', '.join([*keys, *names])} FROM {changed} WHERE __shown")
        if self.log.wanted:
            self._emit_weighted(self._changes(keys, names))
        self._rows_out += came
        self._changed = self._changed or gone + came > 0
        return gone + came

    def _changes(self, keys: list[str], names: list[str]) -> pa.Table:
        """Read what `update` changed as rows that went and rows that came."""
        changed = self.tables.changed
        return self._store.rows(
            f"SELECT {', '.join(names)}, __weight FROM ("
            f"SELECT {', '.join([*keys, *(f'old_{n} AS {n}' for n in names)])}, (-1)::TINYINT AS __weight "
            f"FROM {changed} WHERE __row IS NOT NULL UNION ALL "
            f"SELECT {', '.join([*keys, *names])}, 1::TINYINT FROM {changed} WHERE __shown) "
            f"ORDER BY {', '.join(keys) or '1'}, __weight"
        )

    def result_rows(self) -> pa.Table:
        """Read the whole result, in the order of its keys."""
        return self._store.arrow(self.snapshot_query())

    @property
    def result(self) -> str:
        """What holds the result, as it stands in FROM: the groups' keys, where there are groups, and ``o0``.. ."""
        if not self._operator.shows_state:
            return self.tables.result
        assert self.plan.grouping is not None
        columns = ", ".join([*stages.result_keys(self.plan.grouping), *stages.output_columns(self.plan)])
        kept = f"SELECT {columns} FROM {self.tables.state} WHERE __shown"
        return f"({kept} UNION ALL SELECT {columns} FROM {self.tables.result})"

    def snapshot_query(self) -> str:
        """SQL that reads the whole result, in the order of its keys."""
        keys = stages.result_keys(self.plan.grouping) if self.plan.grouping and self.plan.retracts else []
        order = f" ORDER BY {', '.join(keys)}" if keys else ""
        return f"SELECT {', '.join(stages.output_columns(self.plan))} FROM {self.result}{order}"

    def failure_of(self, rows: pa.Table) -> StreamSQLError | None:
        """Tell what this query's expressions find wrong with these rows, without writing anything."""
        self._see(rows)
        delta = self.tables.delta
        return self._failure(
            stages.linear_result(self.plan, delta) if self.plan.grouping is None else stages.partials(self.plan, delta)
        )

    def late_without(self, rows: pa.Table, without: npt.NDArray[np.bool_], progress: Progress) -> npt.NDArray[np.bool_]:
        """Tell which rows would be late, if those of the mask `without` moved no watermark."""
        window, delay = self.plan.window, self.plan.closing_delay_us
        if window is None:
            return np.zeros(rows.num_rows, dtype=np.bool_)
        times, valid = self._times(rows)
        late = np.zeros(rows.num_rows, dtype=np.bool_) if valid is None else ~valid
        if delay is not None:
            before, _ = largest_before(np.where(without, NEVER, times), progress.largest)
            late |= window.last_ends(window.ruler.places(times)) <= window.ruler.places(before - delay)
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


def concatenated(tables: list[pa.Table]) -> pa.Table:
    """Join batches of one relation, in order, without copying."""
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables)


def with_sequence(rows: pa.Table, first: int) -> pa.Table:
    """Give each row its arrival number."""
    return rows.append_column("__seq", pa.array(np.arange(first, first + rows.num_rows, dtype=np.int64)))
