"""Window functions: running aggregates, moving frames, lag and lead, over rows in the order of time.

::

    sum(x) OVER (PARTITION BY k ORDER BY ts)          no delay
    in     00:05 a 1    00:03 a 2    00:09 b 4    00:04 a 8    00:20 b 16
    out                              00:03 a 2                 00:09 b 4       (00:04 is late: the watermark was 00:09)
                                     00:05 a 3

A row is shown when it is final (`plan.origins.When`): when the watermark has passed it, when its key's window is closed, or at
once. Where frames go on after a row, it waits for what is in them.

State: ``pending``, the rows that the watermark has not passed; ``kept``, those that it has and that a frame to come can still
reach; ``gone``, of each key what frames from its first row on need of the rows that are no more: the states of the aggregates,
and how many rows there were. A frame that has a bound needs no ``gone``, one that begins with the first row no ``kept``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from streamsql.catalog.objects import STATE_SCHEMA, quoted
from streamsql.engine.changes import Progress
from streamsql.engine.flow import AT_COLUMN, NO_TIMES, Arriving, Flow, Idle
from streamsql.engine.operators.base import bare
from streamsql.engine.operators.late import Owner, late_rows, record_late
from streamsql.engine.origins import Node, bounded, typed
from streamsql.engine.store import Delta, Store
from streamsql.engine.watermark import MICROSECONDS, NEVER, event_times
from streamsql.plan.bounds import Bounds
from streamsql.plan.origins import Over, When
from streamsql.plan.over import stages
from streamsql.plan.parts import Added

# What is kept is looked through once there are so many rows, and again each time that they have grown as much.
PRUNE_ROWS_MIN = 1_024
PRUNE_GROWTH = 2


class OverNode(Node):
    """Keeps the window functions over one key."""

    def __init__(self, origin: Over, store: Store, index: int, below: Node, owner: Owner, *, temporary: bool) -> None:
        super().__init__(origin, store, index)
        self.origin = origin
        self.input = below
        self.owner = owner
        self.temporary = temporary
        times = dict(origin.input.times)
        self._bound = times[origin.time] if origin.time is not None else Bounds()
        self._forget = times[origin.forget] if origin.forget is not None else Bounds()
        self._names = [f"{owner.name}#{index} {part}" for part in ("pending", "kept", "gone")]
        self.pending, self.kept, self.gone = (
            f"temp.main.{quoted(f'{n} {owner.id}')}" if temporary else f"{STATE_SCHEMA}.{quoted(n)}"
            for n in self._names
        )
        self.delta_name = f"__over {owner.id} {index}"
        self.delta = Delta(pa.table({}))
        # of the keys that an epoch touches, what is gone, and what is gone after it: outside of the database, where they hold
        # no states, since a prepared statement that reads a table is planned anew each time
        self._by_arrow = all(isinstance(p, Added) for p in origin.parts)
        self.touched, self.merged, self.dropped = (
            quoted(f"{self.delta_name} {n}") for n in ("touched", "merged", "dropped")
        )
        self.names = [c.name for c in origin.input.columns]
        self._columns = ", ".join([*(quoted(n) for n in self.names), "__seq", AT_COLUMN, "__t"])
        self._came = f"(SELECT {self._columns} FROM {typed(quoted(self.delta_name), origin.input.columns)})"
        self._keys = stages.keys_of(origin)

    # ---- its tables ----

    def create(self, epoch: int, inner: list[Progress]) -> None:
        temp = "TEMP " if self.temporary else ""
        rows = f"(SELECT *, 0::BIGINT AS __seq, 0::BIGINT AS {AT_COLUMN}, 0::BIGINT AS __t FROM {self.origin.input.shape} AS o)"
        for table in (self.pending, self.kept):
            self.store.execute(f"CREATE {temp}TABLE {table} AS SELECT * FROM {rows} LIMIT 0")
        self.store.execute(f"CREATE {temp}TABLE {self.gone} AS {stages.fresh(self.origin, rows)} LIMIT 0")
        self.open_scratch()

    def open(self) -> None:
        self.delta = Delta(self._rows_of(self.input.empty, NO_TIMES, NO_TIMES))
        self.store.register(self.delta_name, self.delta)

    def open_scratch(self) -> None:
        if self.origin.keeps:
            self.store.execute(f"DROP TABLE IF EXISTS temp.main.{self.dropped}")
            self.store.execute(f"CREATE TEMP TABLE {self.dropped} (row BIGINT)")
        if not self.origin.counted:
            return
        empty = f"SELECT *, 0::BIGINT AS __row FROM {self.gone} LIMIT 0"
        if self._by_arrow:
            columns = self.store.describe(empty)
            self._touched, self._merged = Delta(self.store.arrow(empty)), Delta(self.store.arrow(empty))
            self.store.register(bare(self.touched), self._touched)
            self.store.register(bare(self.merged), self._merged)
            self._read_touched, self._read_merged = (typed(t, columns) for t in (self.touched, self.merged))
            return
        for table in (self.touched, self.merged):
            self.store.execute(f"DROP TABLE IF EXISTS temp.main.{table}")
            self.store.execute(f"CREATE TEMP TABLE {table} AS {empty}")
        self._read_touched, self._read_merged = self.touched, self.merged

    def drop(self) -> None:
        for table in (self.pending, self.kept, self.gone):
            self.store.execute(f"DROP TABLE IF EXISTS {table}")

    def close(self) -> None:
        self.store.unregister(self.delta_name)
        self.store.execute(f"DROP TABLE IF EXISTS temp.main.{self.dropped}")
        for table in (self.touched, self.merged) if self.origin.counted else ():
            if self._by_arrow:
                self.store.unregister(bare(table))
            else:
                self.store.execute(f"DROP TABLE IF EXISTS temp.main.{table}")

    @property
    def state_names(self) -> list[str]:
        return self._names

    # ---- the epoch ----

    def take(self, arriving: Arriving, inner: list[Progress]) -> Flow:
        flow = self.input.take(arriving, inner)
        progress = inner[self.index]
        if flow.idle:
            return replace(flow, rows=self.empty)
        if self.origin.when is When.ARRIVAL:
            rows, at, progress = self._at_once(flow, progress)
        else:
            progress = self._wait(flow, arriving, progress)
            rows, at, progress = self._passed(flow, progress)
        inner[self.index] = replace(progress, rows_out=progress.rows_out + rows.num_rows)
        return replace(flow, rows=rows, at=at)

    def _rows_of(self, rows: pa.Table, at: MICROSECONDS, times: MICROSECONDS) -> pa.Table:
        rows = rows.select([*self.names, "__seq"])
        return rows.append_column(AT_COLUMN, pa.array(at)).append_column("__t", pa.array(times))

    def _wait(self, flow: Flow, arriving: Arriving, progress: Progress) -> Progress:
        """Let the rows that come wait, but for those that come too late."""
        rows = self.input.rows(flow).select([*self.names, "__seq"])
        times, valid = event_times(rows.column(self.origin.time))
        before = self._bound(flow.before(flow.at))
        late = late_rows(times, valid, before)
        taken = self._rows_of(rows, flow.at, times)
        if late.any():
            labels = {label: name for name, label in zip(self.names, self.origin.labels, strict=True) if label}
            added = record_late(
                self.store, self.owner, self.origin.input, rows, times, before, late, arriving,
                "behind the watermark of the window functions", labels,
            )  # fmt: skip
            progress = replace(progress, rows_late=progress.rows_late + added)
            taken, times = taken.filter(pa.array(~late)), times[~late]
        if not times.size:
            return progress
        self.delta.batch = taken
        added = self.store.run(f"INSERT INTO {self.pending} SELECT {self._columns} FROM {self._came}")
        low = min(progress.pane_low, int(times.min()))
        return replace(progress, state_rows=progress.state_rows + added, pane_low=low)

    def _at_once(self, flow: Flow, progress: Progress) -> tuple[pa.Table, MICROSECONDS, Progress]:
        """Take rows in the order of arrival: their numbers are their times."""
        if not flow.rows.num_rows:
            return self.empty, NO_TIMES, progress
        times = np.asarray(flow.rows.column("__seq"))
        self.delta.batch = self._rows_of(self.input.rows(flow), flow.at, times)
        by_arrival = Flow(flow.rows, flow.at, int(times[0]), flow.at, times + 1)
        return self._shown(by_arrival, int(times[0]), int(times[-1]) + 1, progress)

    def _passed(self, flow: Flow, progress: Progress) -> tuple[pa.Table, MICROSECONDS, Progress]:
        """Give the rows that the watermark has passed, and those that have waited for it after that."""
        before, mark = bounded(self._bound, flow.mark), bounded(self._bound, flow.last)
        if mark == NEVER or min(progress.pane_low, progress.forget_low) >= mark:
            return self.empty, NO_TIMES, progress
        self.delta.batch = self.store.rows(
            f"SELECT {self._columns} FROM {self.pending} WHERE __t < $1", mark, size=progress.state_rows
        )
        gone = 0
        if self.delta.batch.num_rows:
            gone = self.store.run(f"DELETE FROM {self.pending} WHERE __t < $1", mark)
            low = self.store.rows(f"SELECT min(__t) FROM {self.pending}").column(0)[0].as_py()
            progress = replace(progress, pane_low=-NEVER if low is None else low)
        progress = replace(progress, state_rows=progress.state_rows - gone)
        bounds = replace(flow, steps=self._bound(flow.steps))
        rows, at, progress = self._shown(bounds, before, mark, progress)
        return rows, at, self._forgotten(flow, progress)

    def _shown(self, flow: Flow, before: int, mark: int, progress: Progress) -> tuple[pa.Table, MICROSECONDS, Progress]:
        """Give the rows that are final by now and were not before, with their values; fold, or keep, those of the delta."""
        over, store = self.origin, self.store
        rows, gone = self._came, None
        if over.keeps:
            rows = f"(SELECT {self._columns} FROM {self._came} UNION ALL {self._kept_of_touched()})"
        if over.counted and over.when is not When.CLOSE:
            self._touch(rows, progress.state_rows, *((before, mark) if over.ahead.us else ()))
            gone = self._read_touched
        # what was shown already comes again where it is kept
        ready = " WHERE __ready >= $1 AND __ready < $2" if over.keeps else ""
        found = store.rows(
            f"SELECT * FROM ({stages.values(over, rows, gone)}){ready} ORDER BY __t, __seq",
            *((before, mark) if over.keeps else ()),
            size=progress.state_rows,
        )
        progress = self._fold(progress) if not over.keeps else self._keep(mark, progress)
        rows_out, at = self._placed(found, flow, progress)
        return rows_out, at, progress

    def _kept_of_touched(self) -> str:
        """SQL of the rows that are kept of the keys that the delta has, or of which rows have waited from $1 to $2."""
        same = " AND ".join(f"b.{k} IS NOT DISTINCT FROM r.{k}" for k in self._keys) or "true"
        wait = self.origin.ahead.us
        touched = f"SELECT {', '.join(self._keys) or '1'} FROM {self._came}"
        if wait:
            names = ", ".join(self._keys) or "1"
            touched += f" UNION ALL SELECT {names} FROM {self.kept} WHERE __t >= $1 - {wait} AND __t < $2 - {wait}"
        return (
            f"SELECT {self._columns} FROM {self.kept} AS r WHERE EXISTS (SELECT 1 FROM ({touched}) AS b WHERE {same})"
        )

    def _placed(self, found: pa.Table, flow: Flow, progress: Progress) -> tuple[pa.Table, MICROSECONDS]:
        """Give rows their places in the order of arrival, and their numbers."""
        ready, own = np.asarray(found.column("__ready")), np.asarray(found.column("__at"))
        at = np.maximum(own, flow.passed_at(ready))
        order = np.argsort(at, kind="stable")
        numbers = np.arange(progress.rows_out + 1, progress.rows_out + 1 + found.num_rows, dtype=np.int64)
        names = [c.name for c in self.origin.input.columns]
        names += [f"__y{i}" for i in range(len(self.origin.values))]
        rows = found.select(names).take(order).rename_columns([c.name for c in self.origin.columns])
        return rows.append_column("__seq", pa.array(numbers)), at[order]

    # ---- what is gone, and what is kept ----

    def _fold(self, progress: Progress) -> Progress:
        """Add the rows of the delta to what is gone: no frame reaches them any more but from its key's first row on."""
        if not self.origin.counted or not self.delta.batch.num_rows:
            return progress
        return self._merge(self._came, progress)

    def _touch(self, rows: str, size: int, *values: int) -> None:
        """Take what is gone of the keys of these rows."""
        same = " AND ".join(f"g.k{i} IS NOT DISTINCT FROM b.{k}" for i, k in enumerate(self._keys)) or "true"
        sql = f"SELECT *, rowid AS __row FROM {self.gone} AS g WHERE EXISTS (SELECT 1 FROM {rows} AS b WHERE {same})"
        if self._by_arrow:
            self._touched.batch = self.store.rows(sql, *values, size=size)
            return
        self.store.run(f"DELETE FROM {self.touched}")
        self.store.run(f"INSERT INTO {self.touched} {sql}", *values, size=size)

    def _merge(self, rows: str, progress: Progress) -> Progress:
        """Add these rows to what is gone of their keys."""
        store, columns = self.store, stages.gone_columns(self.origin)
        folded = f"SELECT {columns}, __row FROM ({stages.folded(self.origin, rows, self._read_touched)})"
        if self._by_arrow:
            self._merged.batch = store.rows(folded)
        else:
            store.run(f"DELETE FROM {self.merged}")
            store.run(f"INSERT INTO {self.merged} {folded}")
        went = store.run(
            f"DELETE FROM {self.gone} WHERE rowid IN (SELECT __row FROM {self._read_merged} WHERE __row IS NOT NULL)",
            size=progress.state_rows,
        )
        came = store.run(f"INSERT INTO {self.gone} ({columns}) SELECT {columns} FROM {self._read_merged}")
        return replace(progress, state_rows=progress.state_rows + came - went)

    def _keep(self, mark: int, progress: Progress) -> Progress:
        """Keep the rows of the delta, and drop those that no frame can reach any more, once that pays."""
        over, store = self.origin, self.store
        if self.delta.batch.num_rows:
            added = store.run(f"INSERT INTO {self.kept} SELECT {self._columns} FROM {self._came}")
            progress = replace(progress, state_rows=progress.state_rows + added)
        wait = over.ahead.us
        if wait:
            low = store.rows(f"SELECT min(__t) FROM {self.kept} WHERE __t >= $1", mark - wait).column(0)[0].as_py()
            progress = replace(progress, forget_low=-NEVER if low is None else low + wait)
        if progress.state_rows <= max(PRUNE_ROWS_MIN, PRUNE_GROWTH * progress.compacted):
            return progress
        return self._pruned(mark, progress)

    def _pruned(self, mark: int, progress: Progress) -> Progress:
        """Drop the kept rows that no frame can reach; add them to what is gone of their keys."""
        over, store = self.origin, self.store
        same = " AND ".join(f"c.{k} IS NOT DISTINCT FROM r.{k}" for k in self._keys) or "true"
        cuts = stages.cuts(over, self.kept, "$1")
        dropped = f"SELECT r.rowid FROM {self.kept} AS r JOIN ({cuts}) AS c ON {same} WHERE r.__t < c.__cut"
        store.run(f"DELETE FROM {self.dropped}")
        if not store.run(f"INSERT INTO {self.dropped} {dropped}", mark, size=progress.state_rows):
            return replace(progress, compacted=progress.state_rows)
        chosen = f"WHERE rowid IN (SELECT row FROM {self.dropped})"
        if over.counted:
            rows = f"(SELECT {self._columns} FROM {self.kept} {chosen})"
            self._touch(rows, progress.state_rows)
            progress = self._merge(rows, progress)
        gone = store.run(f"DELETE FROM {self.kept} {chosen}", size=progress.state_rows)
        left = progress.state_rows - gone
        return replace(progress, state_rows=left, compacted=left)

    def _forgotten(self, flow: Flow, progress: Progress) -> Progress:
        """Drop what is gone of keys whose time has passed."""
        over = self.origin
        if over.forget is None or progress.state_rows <= max(PRUNE_ROWS_MIN, PRUNE_GROWTH * progress.compacted):
            return progress
        mark = bounded(self._forget, flow.last)
        gone = self.store.run(f"DELETE FROM {self.gone} WHERE __u < $1", mark, size=progress.state_rows)
        left = progress.state_rows - gone
        return replace(progress, state_rows=left, compacted=left)

    # ---- time without rows ----

    def mark_if(self, idle: Idle, inner: Sequence[Progress]) -> int:
        return self.input.mark_if(idle, inner)

    def stirs(self, idle: Idle, inner: Sequence[Progress]) -> bool:
        if self.input.stirs(idle, inner):
            return True
        if self.origin.when is When.ARRIVAL:
            return False
        progress, mark = inner[self.index], bounded(self._bound, self.input.mark_if(idle, inner))
        return min(progress.pane_low + (self.origin.ahead.us or 0), progress.forget_low) < mark
