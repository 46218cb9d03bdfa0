"""The first rows of each key: deduplication, DISTINCT, top-N of a window.

::

    row_number() OVER (PARTITION BY k ORDER BY ts) = 1          no delay
    in     00:05 x    00:03 x    00:09 y    00:04 z    00:20 x
    out                          00:03 x               00:09 y           (z is late: the watermark was 00:09)

A row is shown when no row to come can take its place (`plan.origins.When`): at once, when the watermark has passed it, or when
its key's window is closed. Of rows that the order leaves equal the first to arrive comes first.

State: ``pending``, the rows that wait, as far as they are among the first of their key so far; and ``shown``, a row for each
that was shown, with its key and the time ``__u`` after which the watermark lets it be forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from streamsql.catalog.objects import STATE_SCHEMA, quoted
from streamsql.engine.changes import Progress
from streamsql.engine.flow import AT_COLUMN, NO_TIMES, Arriving, Flow, Idle
from streamsql.engine.operators.generations import FOREVER, ranked
from streamsql.engine.operators.late import Owner, late_rows, record_late
from streamsql.engine.origins import Node, bounded, typed
from streamsql.engine.store import Delta, Store
from streamsql.engine.watermark import MICROSECONDS, NEVER, event_times
from streamsql.plan.bounds import Bounds
from streamsql.plan.origins import Rank, When

# Rows that wait are looked through once there are so many, and again each time that they have grown as much.
PRUNE_ROWS_MIN = 1_024
PRUNE_GROWTH = 2


class RankNode(Node):
    """Keeps one such ranking."""

    def __init__(
        self, origin: Rank, store: Store, index: int, ranked_node: Node, owner: Owner, *, temporary: bool
    ) -> None:
        super().__init__(origin, store, index)
        self.origin = origin
        self.input = ranked_node
        self.owner = owner
        self.temporary = temporary
        times = dict(origin.input.times)
        self._bound = times[origin.time] if origin.time is not None else Bounds()
        self._forget = times[origin.forget] if origin.forget is not None else Bounds()
        self._axis = times[origin.axis] if origin.axis is not None else Bounds()
        self._names = [f"{owner.name}#{index} {part}" for part in ("pending", "shown")]
        self.pending, self.shown = (
            f"temp.main.{quoted(f'{n} {owner.id}')}" if temporary else f"{STATE_SCHEMA}.{quoted(n)}"
            for n in self._names
        )
        self.delta_name = f"__ranked {owner.id} {index}"
        self.delta = Delta(pa.table({}))
        self.names = [c.name for c in origin.input.columns]
        self._keys = [quoted(k) for k in origin.keys]
        self._partition = f"PARTITION BY {', '.join(self._keys)} " if self._keys else ""
        self._order = ", ".join([*origin.order, "__seq"])

    # ---- its tables ----

    @property
    def _columns(self) -> str:
        return ", ".join([*(quoted(n) for n in self.names), "__seq", AT_COLUMN, "__t", "__now"])

    @property
    def _arrived(self) -> str:
        return f"(SELECT {self._columns} FROM {typed(quoted(self.delta_name), self.origin.input.columns)})"

    def create(self, epoch: int, inner: list[Progress]) -> None:
        temp = "TEMP " if self.temporary else ""
        shape = self.origin.input.shape
        self.store.execute(
            f"CREATE {temp}TABLE {self.pending} AS SELECT *, 0::BIGINT AS __seq, 0::BIGINT AS {AT_COLUMN}, 0::BIGINT AS __t, "
            f"0::BIGINT AS __now FROM {shape} AS o LIMIT 0"
        )
        keys = "".join(f"{k} AS __k{i}, " for i, k in enumerate(self._keys))
        self.store.execute(
            f"CREATE {temp}TABLE {self.shown} AS SELECT {keys}0::BIGINT AS __u FROM {shape} AS o LIMIT 0"
        )

    def open(self) -> None:
        self.delta = Delta(self._delta_rows(self.input.empty, NO_TIMES, NO_TIMES, NO_TIMES))
        self.store.register(self.delta_name, self.delta)

    def drop(self) -> None:
        for table in (self.pending, self.shown):
            self.store.execute(f"DROP TABLE IF EXISTS {table}")

    def close(self) -> None:
        self.store.unregister(self.delta_name)

    @property
    def state_names(self) -> list[str]:
        return self._names

    # ---- the epoch ----

    def take(self, arriving: Arriving, inner: list[Progress]) -> Flow:
        flow = self.input.take(arriving, inner)
        progress = inner[self.index]
        if flow.idle:
            return replace(flow, rows=self.empty)
        progress = self._admit(flow, arriving, progress)
        if self.origin.when is When.ARRIVAL:
            rows, at, progress = self._at_once(progress)
        else:
            progress = self._keep(progress)
            rows, at, progress = self._passed(flow, progress)
        progress = self._forgotten(flow, arriving, progress)
        inner[self.index] = replace(progress, rows_out=progress.rows_out + rows.num_rows)
        return replace(flow, rows=rows, at=at)

    def _delta_rows(self, rows: pa.Table, at: MICROSECONDS, times: MICROSECONDS, now: MICROSECONDS) -> pa.Table:
        rows = rows.select([*self.names, "__seq"])
        for name, column in ((AT_COLUMN, at), ("__t", times), ("__now", now)):
            rows = rows.append_column(name, pa.array(column))
        return rows

    def _admit(self, flow: Flow, arriving: Arriving, progress: Progress) -> Progress:
        """Make the rows that come the delta, but for those that come too late."""
        rows = self.input.rows(flow).select([*self.names, "__seq"])
        times, now = self._times(rows, flow, arriving)
        taken = self._delta_rows(rows, flow.at, times, now)
        if self.origin.time is not None:
            own, valid = event_times(rows.column(self.origin.time))
            before = self._bound(flow.before(flow.at))
            late = late_rows(own, valid, before)
            if late.any():
                added = record_late(
                    self.store, self.owner, self.origin.input, rows, own, before, late, arriving,
                    "behind the watermark of the ranking",
                )  # fmt: skip
                progress = replace(progress, rows_late=progress.rows_late + added)
                taken, times = taken.filter(pa.array(~late)), times[~late]
        self.delta.batch = taken
        if times.size and self.origin.when is not When.ARRIVAL:
            progress = replace(progress, pane_low=min(progress.pane_low, int(times.min())))
        return progress

    def _times(self, rows: pa.Table, flow: Flow, arriving: Arriving) -> tuple[MICROSECONDS, MICROSECONDS]:
        """Give each row's time, from which its key is remembered on, and how far time is when it comes."""
        origin = self.origin
        column = origin.time if origin.when is not When.ARRIVAL else origin.forget or origin.axis
        own = NO_TIMES
        if column is not None:
            own, _ = event_times(rows.column(column))
        if origin.when is not When.ARRIVAL:
            return own, own
        if origin.ttl_us is None:
            return (own if column is not None else np.zeros(rows.num_rows, dtype=np.int64)), np.zeros(
                rows.num_rows, dtype=np.int64
            )
        if column is None:
            clock = arriving.clock(flow.at)
            return clock, clock
        now = self._axis(flow.before(flow.at))
        return np.maximum(own, now), now

    def _keep(self, progress: Progress) -> Progress:
        """Let the rows that came wait."""
        if not self.delta.batch.num_rows:
            return progress
        added = self.store.run(f"INSERT INTO {self.pending} SELECT {self._columns} FROM {self._arrived}")
        return self._pruned(replace(progress, state_rows=progress.state_rows + added))

    def _pruned(self, progress: Progress) -> Progress:
        """Drop rows that wait and are behind too many of their key: those that come can only be before them."""
        origin = self.origin
        if origin.count is None or origin.ttl_us is not None:
            return progress
        if progress.state_rows <= max(PRUNE_ROWS_MIN, PRUNE_GROWTH * progress.compacted):
            return progress
        behind = f"SELECT rowid FROM {self.pending} QUALIFY {self._number()} > {origin.count}"
        gone = self.store.run(f"DELETE FROM {self.pending} WHERE rowid IN ({behind})", size=progress.state_rows)
        left = progress.state_rows - gone
        return replace(progress, state_rows=left, compacted=left)

    def _number(self) -> str:
        """SQL of a row's rank."""
        order = self._order if self.origin.function == "row_number" else ", ".join(self.origin.order) or "1"
        return f"{self.origin.function}() OVER ({self._partition}ORDER BY {order})"

    def _at_once(self, progress: Progress) -> tuple[pa.Table, MICROSECONDS, Progress]:
        if not self.delta.batch.num_rows:
            return self.empty, NO_TIMES, progress
        found, progress = self._first(self._arrived, progress)
        found = found.sort_by("__seq")
        return *self._numbered(found, np.asarray(found.column("__at")), progress), progress

    def _passed(self, flow: Flow, progress: Progress) -> tuple[pa.Table, MICROSECONDS, Progress]:
        """Give the rows that the watermark has passed, as far as they are among the first of their keys."""
        mark = bounded(self._bound, flow.last)
        if mark == NEVER or progress.pane_low >= mark:
            return self.empty, NO_TIMES, progress
        passed = f"(SELECT * FROM {self.pending} WHERE __t < {mark})"
        if self.origin.when is When.TIME:
            found, progress = self._first(passed, progress)
        else:
            found = self.store.rows(self._closed(passed), size=progress.state_rows)
        times = np.asarray(found.column("__t"))
        place = replace(flow, steps=self._bound(flow.steps)).passed_at(times)
        place = np.where(times < bounded(self._bound, flow.mark), 0, place)
        at = np.maximum(np.asarray(found.column("__at")) if self.origin.when is When.TIME else 0, place)
        order = np.lexsort((np.asarray(found.column("__place")), at))
        rows, at = self._numbered(found.take(order), at[order], progress)
        gone = self.store.run(f"DELETE FROM {self.pending} WHERE __t < $1", mark)
        low = self.store.rows(f"SELECT min(__t) FROM {self.pending}").column(0)[0].as_py()
        left = progress.state_rows - gone
        progress = replace(
            progress,
            state_rows=left,
            pane_low=-NEVER if low is None else low,
            compacted=min(progress.compacted, left),
        )
        return rows, at, progress

    def _closed(self, passed: str) -> str:
        """SQL of the ranked rows of closed windows, with their order."""
        count = self.origin.count
        first = "" if count is None else f" QUALIFY __rank <= {count}"
        ranks = (
            f"SELECT *, {self._number()} AS __rank, min(__seq) OVER ({self._partition}) AS __key FROM {passed}{first}"
        )
        place = "row_number() OVER (ORDER BY __t, __key, __rank, __seq)"
        return f"SELECT {self._chosen()}, __seq, {AT_COLUMN} AS __at, __t, __rank, {place} AS __place FROM ({ranks})"

    def _chosen(self) -> str:
        return ", ".join(f"{quoted(c)} AS o{i}" for i, c in enumerate(self.origin.chosen) if c) or "1 AS nothing"

    def _first(self, rows: str, progress: Progress) -> tuple[pa.Table, Progress]:
        """Rank rows by what was shown of their keys; give those that are shown, and remember them."""
        origin = self.origin
        same = " AND ".join(f"e.__k{i} IS NOT DISTINCT FROM d.{k}" for i, k in enumerate(self._keys)) or "true"
        names = "".join(f"__k{i}, " for i in range(len(self._keys)))
        seen = (
            f"SELECT {names}count(*) AS __n, max(__u) AS __u FROM {self.shown} AS e "
            f"WHERE EXISTS (SELECT 1 FROM {rows} AS d WHERE {same}){f' GROUP BY {names[:-2]}' if names else ''}"
        )
        forget = "" if origin.forget is None else f", {quoted(origin.forget)} AS __f"
        left = f"QUALIFY row_number() OVER ({self._partition}ORDER BY {self._order}) <= {origin.count}"
        found = self.store.rows(
            f"SELECT {self._chosen()}, __seq, {AT_COLUMN} AS __at, __t, __now, "
            f"coalesce(e.__n, 0) AS __n, coalesce(e.__u, 0) AS __u, min(__seq) OVER ({self._partition}) AS __key, "
            f"row_number() OVER (ORDER BY {self._order}) AS __place{forget} "
            f"FROM {rows} AS d LEFT JOIN ({seen}) AS e ON {same} {left if origin.ttl_us is None else ''} "
            f"ORDER BY __key, __place",
            size=progress.state_rows,
        )
        keys, now, times, counts, lasts = (np.asarray(found.column(c)) for c in ("__key", "__now", "__t", "__n", "__u"))
        if origin.ttl_us is None:
            lasts = np.full(found.num_rows, FOREVER, dtype=np.int64)
        ttl = origin.ttl_us if origin.ttl_us is not None else FOREVER
        ranks, ends = ranked(keys, now, times, counts, lasts, ttl)
        if origin.forget is not None:
            ends, _ = event_times(found.column("__f"))
        shown = ranks <= (origin.count or 0)
        found = found.append_column("__rank", pa.array(ranks)).filter(pa.array(shown))
        numbers = np.asarray(found.column("__seq"))
        self.store.register("__numbers", pa.table({"seq": numbers, "u": ends[shown]}))
        named = "".join(f"d.{k}, " for k in self._keys)
        self.store.execute(
            f"INSERT INTO {self.shown} SELECT {named}n.u FROM __numbers AS n JOIN {rows} AS d ON d.__seq = n.seq"
        )
        low = min(progress.forget_low, int(ends[shown].min(initial=-NEVER)))
        return found, replace(progress, state_rows=progress.state_rows + found.num_rows, forget_low=low)

    def _numbered(self, found: pa.Table, at: MICROSECONDS, progress: Progress) -> tuple[pa.Table, MICROSECONDS]:
        """Give rows their output columns and their numbers."""
        columns = {
            c.name: found.column(f"o{i}" if chosen else "__rank")
            for i, (c, chosen) in enumerate(zip(self.origin.columns, self.origin.chosen, strict=True))
        }
        first = progress.rows_out + 1
        numbers = pa.array(np.arange(first, first + found.num_rows, dtype=np.int64))
        return pa.table({**columns, "__seq": numbers}), at

    def _forgotten(self, flow: Flow, arriving: Arriving, progress: Progress) -> Progress:
        """Drop the keys that are remembered for long enough."""
        origin = self.origin
        if origin.forget is not None:
            mark = bounded(self._forget, flow.last)
        elif origin.ttl_us is None:
            return progress
        elif origin.axis is not None:
            mark = bounded(self._axis, flow.last)
        else:
            mark = arriving.now_us
        if mark == NEVER or progress.forget_low >= mark or not origin.remembers:
            return progress
        gone = self.store.run(f"DELETE FROM {self.shown} WHERE __u < $1", mark)
        low = self.store.rows(f"SELECT min(__u) FROM {self.shown}").column(0)[0].as_py()
        return replace(progress, state_rows=progress.state_rows - gone, forget_low=-NEVER if low is None else low)

    # ---- time without rows ----

    def mark_if(self, idle: Idle, inner: Sequence[Progress]) -> int:
        return self.input.mark_if(idle, inner)

    def stirs(self, idle: Idle, inner: Sequence[Progress]) -> bool:
        if self.input.stirs(idle, inner):
            return True
        waits = self.origin.when is not When.ARRIVAL
        return waits and inner[self.index].pane_low < bounded(self._bound, self.input.mark_if(idle, inner))
