"""Joins of two flows whose rows match only near each other in event time.

::

    a JOIN b ON a.k = b.k AND a.ts BETWEEN b.ts - INTERVAL '5 minutes' AND b.ts      (0 <= b.ts - a.ts <= 5 minutes)
    in    a 00:01 x    b 00:03 x    b 00:04 x    a 00:20 y    b 00:30 z
    out                (00:01, 00:03) (00:01, 00:04)
          LEFT adds                                           (00:20, NULL) once the watermark is past 00:25

Bilinear: what came on the left meets all that is kept and came on the right, what came on the right meets what was kept on
the left. The watermark is the lower of both sides'. A row below it is late: the rows that it could match may be gone. All
others meet every row that they match, so which pairs there are does not depend on how rows were cut into epochs.

State: a table a side, of rows that a row to come can still match; for outer, semi and anti joins also the numbers of the rows
that have matched. A row is dropped once the watermark is past all that it can match; then, if it has not matched, an outer or
anti join shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from streamsql.catalog.objects import STATE_SCHEMA, quoted
from streamsql.engine.changes import Progress
from streamsql.engine.flow import AT_COLUMN, NO_TIMES, Arriving, Flow, Idle, compressed
from streamsql.engine.operators.late import Owner, late_rows, record_late
from streamsql.engine.origins import Node, bounded, typed
from streamsql.engine.store import Delta, Store
from streamsql.engine.watermark import MICROSECONDS, NEVER, event_times
from streamsql.plan.bounds import Bounds
from streamsql.plan.origins import IntervalJoin

_PLACES = ("__at", "__l", "__r")
# joins that show rows of a side that has not matched, and those that must know which rows have
_UNMATCHED = {"left": ("LEFT", "FULL", "ANTI"), "right": ("RIGHT", "FULL")}
_MATCHED = {"left": ("LEFT", "FULL", "ANTI", "SEMI"), "right": ("RIGHT", "FULL")}


class _Side:
    """One side: its input, its tables, and how long its rows are kept."""

    def __init__(self, name: str, join: IntervalJoin, node: Node, tables: tuple[str, str], delta: str) -> None:
        left = name == "left"
        self.name = name
        self.letter = name[0]
        self.node = node
        self.origin = join.left if left else join.right
        self.time = join.left_time if left else join.right_time
        self.bound = dict(self.origin.times)[self.time] if self.time is not None else Bounds()
        # a row at t matches none that is later than t + reach
        self.reach = join.high_us if left else -join.low_us
        self.state, self.matched = tables
        self.delta_name = delta
        self.names = [c.name for c in self.origin.columns]
        self.shows_unmatched = join.kind in _UNMATCHED[name]
        self.notes_matched = join.kind in _MATCHED[name]
        self.delta = Delta(pa.table({}))

    @property
    def columns(self) -> str:
        return ", ".join([*(quoted(n) for n in self.names), "__seq", AT_COLUMN, "__t"])

    @property
    def rows(self) -> str:
        """The rows that came, in the state's columns."""
        return f"(SELECT {self.columns} FROM {typed(quoted(self.delta_name), self.origin.columns)})"


class IntervalJoinNode(Node):
    """Keeps one join."""

    def __init__(
        self,
        origin: IntervalJoin,
        store: Store,
        index: int,
        inputs: tuple[Node, Node],
        owner: Owner,
        *,
        temporary: bool,
    ) -> None:
        super().__init__(origin, store, index)
        self.origin = origin
        self.owner = owner
        self.temporary = temporary
        query_id = owner.id
        self._names = [f"{owner.name}#{index} {part}" for part in ("left", "right", "left matched", "right matched")]
        tables = [
            f"temp.main.{quoted(f'{n} {query_id}')}" if temporary else f"{STATE_SCHEMA}.{quoted(n)}"
            for n in self._names
        ]
        self.left, self.right = (
            _Side(n, origin, node, (tables[i], tables[i + 2]), f"__{n} {query_id} {index}")
            for i, (n, node) in enumerate(zip(("left", "right"), inputs, strict=True))
        )
        self._pairs_sql = self._pairs()

    @property
    def sides(self) -> tuple[_Side, _Side]:
        return (self.left, self.right)

    # ---- its tables ----

    def create(self, epoch: int, inner: list[Progress]) -> None:
        temp = "TEMP " if self.temporary else ""
        for side in self.sides:
            shape = f"SELECT *, 0::BIGINT AS __seq, 0::BIGINT AS {AT_COLUMN}, 0::BIGINT AS __t FROM {side.origin.shape} AS o"
            self.store.execute(f"CREATE {temp}TABLE {side.state} AS {shape} LIMIT 0")
            if side.notes_matched:
                self.store.execute(f"CREATE {temp}TABLE {side.matched} (seq BIGINT, t BIGINT)")

    def open(self) -> None:
        for side in self.sides:
            side.delta = Delta(self._with_times(side.node.empty, NO_TIMES, NO_TIMES))
            self.store.register(side.delta_name, side.delta)

    def drop(self) -> None:
        for side in self.sides:
            for table in (side.state, side.matched):
                self.store.execute(f"DROP TABLE IF EXISTS {table}")

    def close(self) -> None:
        for side in self.sides:
            self.store.unregister(side.delta_name)

    @property
    def state_names(self) -> list[str]:
        return self._names

    # ---- the epoch ----

    def take(self, arriving: Arriving, inner: list[Progress]) -> Flow:
        flows = [side.node.take(arriving, inner) for side in self.sides]
        progress = inner[self.index]
        both = self._both(flows)
        if both.idle and not any(f.rows.num_rows for f in flows):
            return both
        for side, flow in zip(self.sides, flows, strict=True):
            progress = self._see(side, flow, both, arriving, progress)
        emitted = [self._join(progress)]
        progress = self._keep(progress)
        emitted += [self._unmatched(side, both, progress) for side in self.sides if side.shows_unmatched]
        progress = self._drop(both.last, progress)
        rows, at = self._ordered([t for t in emitted if t.num_rows], progress.rows_out)
        inner[self.index] = replace(progress, largest=both.last, rows_out=progress.rows_out + rows.num_rows)
        return replace(both, rows=rows, at=at)

    def _both(self, flows: Sequence[Flow]) -> Flow:
        """Give the lower of both watermarks, without rows."""
        if self.origin.left_time is None:
            return Flow(self.empty, NO_TIMES, NEVER)
        mark = min(bounded(s.bound, f.mark) for s, f in zip(self.sides, flows, strict=True))
        at = np.unique(np.concatenate([f.steps_at for f in flows]))
        left, right = (s.bound(f.after(at)) for s, f in zip(self.sides, flows, strict=True))
        return Flow(self.empty, NO_TIMES, mark, *compressed(at, np.minimum(left, right), mark))

    @staticmethod
    def _with_times(rows: pa.Table, at: MICROSECONDS, times: MICROSECONDS) -> pa.Table:
        return rows.append_column(AT_COLUMN, pa.array(at)).append_column("__t", pa.array(times))

    def _see(self, side: _Side, flow: Flow, both: Flow, arriving: Arriving, progress: Progress) -> Progress:
        """Make a side's rows its delta, but for those that come too late."""
        rows = side.node.rows(flow).select([*side.names, "__seq"])
        if side.time is None:  # nothing is ever dropped, or late
            side.delta.batch = self._with_times(rows, flow.at, np.zeros(rows.num_rows, dtype=np.int64))
            return progress
        times, valid = event_times(rows.column(side.time))
        before = both.before(flow.at)
        late = late_rows(times, valid, before)
        low = progress.pane_low
        if late.any():
            added = record_late(
                self.store,
                self.owner,
                side.origin,
                rows,
                times,
                before,
                late,
                arriving,
                "behind the watermark of the join",
            )
            progress = replace(progress, rows_late=progress.rows_late + added)
        taken = self._with_times(rows, flow.at, times)
        if late.any():
            taken, times = taken.filter(pa.array(~late)), times[~late]
        side.delta.batch = taken
        if times.size:
            low = min(low, int(times.min()) + side.reach)
        return replace(progress, pane_low=low)

    def _pairs(self) -> str:
        """The new pairs: the chosen columns, the later one's arrival, and both numbers."""
        join, left, right = self.origin, self.left, self.right
        chosen = [f"{s[0]}.{quoted(c)} AS o{i}" for i, (s, c) in enumerate(join.chosen)]
        items = ", ".join(
            [*chosen, f"greatest(l.{AT_COLUMN}, r.{AT_COLUMN}) AS __at", "l.__seq AS __l", "r.__seq AS __r"]
        )
        all_right = f"(SELECT {right.columns} FROM {right.state} UNION ALL SELECT {right.columns} FROM {right.rows})"
        return (
            f"SELECT {items} FROM {left.rows} AS l JOIN {all_right} AS r ON {join.condition} UNION ALL "
            f"SELECT {items} FROM (SELECT {left.columns} FROM {left.state}) AS l JOIN {right.rows} AS r ON {join.condition}"
        )

    def _join(self, progress: Progress) -> pa.Table:
        """Find the new pairs and note which rows have matched; give what is to be shown of them."""
        kind, store, size = self.origin.kind, self.store, progress.state_rows
        sql = self._pairs_sql
        if kind in ("SEMI", "ANTI"):
            # the first match of each row that had none
            seen = f"SELECT seq FROM {self.left.matched}"
            first = "row_number() OVER (PARTITION BY __l ORDER BY __at, __r) = 1"
            sql = f"SELECT * FROM ({sql}) WHERE __l NOT IN ({seen}) QUALIFY {first}"
        if not any(side.delta.batch.num_rows for side in self.sides):
            return self._empty_emitted()
        pairs = store.rows(sql, size=size)
        for side in self.sides:
            if side.notes_matched and pairs.num_rows:
                self._note(side, np.unique(np.asarray(pairs.column(f"__{side.letter}"))))
        if kind == "ANTI":
            return pairs.slice(0, 0)
        return pairs if kind != "SEMI" else pairs.drop_columns(["__r"]).append_column("__r", _none(pairs.num_rows))

    def _empty_emitted(self) -> pa.Table:
        return pa.table({"__at": pa.array([], pa.int64())})

    def _note(self, side: _Side, numbers: MICROSECONDS) -> None:
        self.store.register("__numbers", pa.table({"seq": numbers}))
        kept = f"SELECT __seq, __t FROM {side.state} UNION ALL SELECT __seq, __t FROM {side.rows}"
        self.store.execute(
            f"INSERT INTO {side.matched} SELECT n.seq, k.__t FROM __numbers AS n JOIN ({kept}) AS k ON k.__seq = n.seq "
            f"WHERE n.seq NOT IN (SELECT seq FROM {side.matched})"
        )

    def _keep(self, progress: Progress) -> Progress:
        added = 0
        for side in self.sides:
            if side.delta.batch.num_rows:
                added += self.store.run(f"INSERT INTO {side.state} SELECT {side.columns} FROM {side.rows}")
        return replace(progress, state_rows=progress.state_rows + added)

    def _unmatched(self, side: _Side, both: Flow, progress: Progress) -> pa.Table:
        """Give the rows that can match no more and have not, each at the arrival after which that is so."""
        last = both.last
        if last == NEVER or progress.pane_low >= last:
            return self._empty_emitted()
        chosen = [
            f"{quoted(c)} AS o{i}" if s == side.name else f"NULL::{self.origin.columns[i].type} AS o{i}"
            for i, (s, c) in enumerate(self.origin.chosen)
        ]
        number = {"left": ("__seq", "-1"), "right": ("-1", "__seq")}[side.name]
        rows = self.store.rows(
            f"SELECT {', '.join(chosen)}, {AT_COLUMN} AS __at, ({number[0]})::BIGINT AS __l, ({number[1]})::BIGINT AS __r, __t "
            f"FROM {side.state} WHERE __t < $1 AND __seq NOT IN (SELECT seq FROM {side.matched})",
            last - side.reach,
            size=progress.state_rows,
        )
        ends = np.asarray(rows.column("__t")) + side.reach
        # where the watermark was past it when it came, it is shown as it comes
        places = np.where(ends < both.mark, 0, both.passed_at(ends))
        at = np.maximum(np.asarray(rows.column("__at")), places)
        rows = rows.drop_columns(["__t"])
        return rows.set_column(rows.column_names.index("__at"), "__at", pa.array(at))

    def _drop(self, mark: int, progress: Progress) -> Progress:
        """Drop the rows that no row to come can match."""
        if mark == NEVER or progress.pane_low >= mark:
            return progress
        gone, low = 0, -NEVER
        for side in self.sides:
            gone += self.store.run(f"DELETE FROM {side.state} WHERE __t < $1", mark - side.reach)
            if side.notes_matched:
                self.store.run(f"DELETE FROM {side.matched} WHERE t < $1", mark - side.reach)
            first = self.store.rows(f"SELECT min(__t) FROM {side.state}").column(0)[0].as_py()
            low = low if first is None else min(low, first + side.reach)
        return replace(progress, state_rows=progress.state_rows - gone, pane_low=low)

    def _ordered(self, emitted: list[pa.Table], rows_out: int) -> tuple[pa.Table, MICROSECONDS]:
        if not emitted:
            return self.empty, NO_TIMES
        rows = pa.concat_tables(emitted, promote_options="permissive") if len(emitted) > 1 else emitted[0]
        at, left, right = (np.asarray(rows.column(c)) for c in _PLACES)
        order = np.lexsort((right, left, at))
        names = [c.name for c in self.origin.columns]
        rows = rows.take(order).drop_columns(list(_PLACES)).rename_columns(names)
        numbers = np.arange(rows_out + 1, rows_out + 1 + rows.num_rows, dtype=np.int64)
        return rows.append_column("__seq", pa.array(numbers)), at[order]

    # ---- time without rows ----

    def mark_if(self, idle: Idle, inner: Sequence[Progress]) -> int:
        if self.origin.left_time is None:
            return NEVER
        return min(bounded(s.bound, s.node.mark_if(idle, inner)) for s in self.sides)

    def stirs(self, idle: Idle, inner: Sequence[Progress]) -> bool:
        if any(s.node.stirs(idle, inner) for s in self.sides):
            return True
        shows = any(s.shows_unmatched for s in self.sides)
        return shows and inner[self.index].pane_low < self.mark_if(idle, inner)


def _none(count: int) -> pa.Array:
    return pa.array(np.full(count, -1, dtype=np.int64))
