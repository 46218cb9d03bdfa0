"""ASOF joins of two flows: each row of the left with the last version of its key at its event time.

::

    a ASOF LEFT JOIN b ON a.k = b.k AND a.ts >= b.ts
    in    b 00:01 x 1    a 00:02 x    b 00:03 x 2    a 00:04 x    a 00:06 x    b 00:06 x 3
    out                                              (00:02, 1)   (00:04, 2)               once the watermark is past each

The watermark is the lower of both sides', a row behind it is late. A row of the left is shown when the watermark has passed it:
then every version that was valid at its time has come, in whatever order. Of versions of one time the last to arrive counts.

State: the rows of the left that wait, and of each key the versions that a row to come can still be given: those from the
watermark on, and the last before it. So one version of each key is kept for ever; with a ttl, versions older than that before
a row are none of its, and are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from streamsql.catalog.objects import quoted
from streamsql.engine.changes import Progress
from streamsql.engine.flow import AT_COLUMN, Arriving, Flow, Idle
from streamsql.engine.operators.interval_join import IntervalJoinNode
from streamsql.engine.watermark import NEVER

# Versions are looked through once so many rows are kept, and again each time that they have grown as much.
PRUNE_ROWS_MIN = 1_024
PRUNE_GROWTH = 2


class AsofJoinNode(IntervalJoinNode):
    """Keeps one such join."""

    def take(self, arriving: Arriving, inner: list[Progress]) -> Flow:
        flows = [side.node.take(arriving, inner) for side in self.sides]
        progress, both = inner[self.index], self._both(flows)
        if both.idle and not any(f.rows.num_rows for f in flows):
            return both
        low = progress.pane_low
        for side, flow in zip(self.sides, flows, strict=True):
            progress = self._see(side, flow, both, arriving, progress)
            low = progress.pane_low if side is self.left else low
        progress = self._keep(replace(progress, pane_low=low))
        rows, at, progress = self._passed(both, progress)
        progress = self._prune(both.last, progress)
        inner[self.index] = replace(progress, largest=both.last, rows_out=progress.rows_out + rows.num_rows)
        return replace(both, rows=rows, at=at)

    def _passed(self, both: Flow, progress: Progress) -> tuple[pa.Table, np.ndarray, Progress]:
        """Give the rows of the left that the watermark has passed, with their versions; drop what no row to come needs."""
        mark = both.last
        if mark == NEVER or progress.pane_low >= mark:
            return self.empty, np.empty(0, dtype=np.int64), progress
        found = self.store.rows(self._sql(), mark, size=progress.state_rows)
        times = np.asarray(found.column("__t"))
        places = np.where(times < both.mark, 0, both.passed_at(times))
        at = np.maximum(np.asarray(found.column("__at")), places)
        order = np.lexsort((np.asarray(found.column("__l")), at))
        numbers = np.arange(progress.rows_out + 1, progress.rows_out + 1 + found.num_rows, dtype=np.int64)
        names = [c.name for c in self.origin.columns]
        rows = found.take(order).drop_columns(["__at", "__l", "__t"]).rename_columns(names)
        progress = self._forget(mark, progress)
        return rows.append_column("__seq", pa.array(numbers)), at[order], progress

    def _sql(self) -> str:
        join, left, right = self.origin, self.left, self.right
        chosen = [f"{s[0]}.{quoted(c)} AS o{i}" for i, (s, c) in enumerate(join.chosen)]
        old = None if join.ttl_us is None else f"r.__t < l.__t - {join.ttl_us}"
        if old is not None and join.kind == "ASOF LEFT":
            chosen = [
                f"CASE WHEN {old} THEN NULL ELSE {s[0]}.{quoted(c)} END AS o{i}" if s == "right" else chosen[i]
                for i, (s, c) in enumerate(join.chosen)
            ]
        elif old is not None:
            old = f" WHERE NOT ({old})"
        forgotten = old if old is not None and join.kind == "ASOF" else ""
        partition = ", ".join([*(quoted(k) for k in join.keys), "__t"])
        last = f"row_number() OVER (PARTITION BY {partition} ORDER BY __seq DESC) = 1"
        versions = f"(SELECT {right.columns} FROM {right.state} QUALIFY {last})"
        return (
            f"SELECT {', '.join(chosen)}, l.{AT_COLUMN} AS __at, l.__seq AS __l, l.__t AS __t "
            f"FROM (SELECT {left.columns} FROM {left.state} WHERE __t < $1) AS l "
            f"ASOF {'LEFT ' if join.kind == 'ASOF LEFT' else ''}JOIN {versions} AS r ON {join.condition}{forgotten}"
        )

    def _forget(self, mark: int, progress: Progress) -> Progress:
        """Drop the rows of the left that have been shown."""
        gone = self.store.run(f"DELETE FROM {self.left.state} WHERE __t < $1", mark)
        first = self.store.rows(f"SELECT min(__t) FROM {self.left.state}").column(0)[0].as_py()
        low = -NEVER if first is None else first
        return replace(progress, state_rows=progress.state_rows - gone, pane_low=low)

    def _prune(self, mark: int, progress: Progress) -> Progress:
        """Drop versions that no row to come can be given, once there are many more rows than after the last time."""
        if mark == NEVER or progress.state_rows <= max(PRUNE_ROWS_MIN, PRUNE_GROWTH * progress.compacted):
            return progress
        right, keys = self.right, ", ".join(quoted(k) for k in self.origin.keys)
        newer = f"row_number() OVER ({f'PARTITION BY {keys} ' if keys else ''}ORDER BY __t DESC, __seq DESC) > 1"
        # of versions that are not after the watermark, the last of each key is enough; with > the last before it
        old = f"SELECT __seq FROM {right.state} WHERE __t <= $1 QUALIFY {newer}"
        limit = mark - 1 if self.origin.strict else mark
        gone = self.store.run(f"DELETE FROM {right.state} WHERE __seq IN ({old})", limit)
        if self.origin.ttl_us is not None:
            gone += self.store.run(f"DELETE FROM {right.state} WHERE __t < $1", mark - self.origin.ttl_us)
        left = progress.state_rows - gone
        return replace(progress, state_rows=left, compacted=left)

    def stirs(self, idle: Idle, inner: Sequence[Progress]) -> bool:
        if any(s.node.stirs(idle, inner) for s in self.sides):
            return True
        return inner[self.index].pane_low < self.mark_if(idle, inner)
