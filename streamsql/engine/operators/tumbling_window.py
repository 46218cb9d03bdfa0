"""Tumbling windows.

Append mode shows a window's groups once, when the watermark reaches its end::

    in    00:10 a 1    00:50 a 2    01:20 a 5        window(ts, '1h'), no delay
    out                             [00:00, 01:00) a 3

State: partial states by (window, keys), appended epoch by epoch and combined when the window closes. Windows that open
and close within one epoch never touch the state. Update mode keeps one state a group and shows each change.
"""

from __future__ import annotations

from dataclasses import replace

from streamsql.engine.changes import Progress
from streamsql.engine.operators.base import Arrival, KeptGroups, Operator, Sink, compacted
from streamsql.engine.watermark import MICROSECONDS, NEVER
from streamsql.plan import stages


class TumblingAppend(Operator):
    """Keeps a tumbling window query whose results are final when they are shown."""

    def apply(self, arrival: Arrival, progress: Progress, sink: Sink) -> Progress:
        watermark = self.watermark(progress)
        assert watermark is not None
        size = self.window.size_us
        # the last window that is closed now, and the first that can have no state yet
        closed = (watermark - size) // size * size
        fresh = progress.pane_high + size if progress.state_rows else NEVER
        whole = False
        if arrival.count:
            assert arrival.times is not None
            low, high = int(arrival.times.min()), int(arrival.times.max())
            whole = closed >= fresh and low < closed + size
            if not whole or low < fresh or high >= closed + size:
                added = self._add_partials(arrival.times, (fresh, closed) if whole else None)
                progress = replace(
                    progress,
                    state_rows=progress.state_rows + added,
                    pane_low=min(progress.pane_low, low // size * size),
                    pane_high=max(progress.pane_high, high // size * size),
                )
        progress = self._close(progress, closed, sink)
        if whole:
            inside = f"{stages.PANE_COLUMN} >= $1 AND {stages.PANE_COLUMN} <= $2"
            sink.append(stages.whole_windows(self.plan, self.tables.delta, inside), fresh, closed)
        return compacted(self, replace(progress, closed_to=max(progress.closed_to, watermark)))

    def _add_partials(self, times: MICROSECONDS, without: tuple[int, int] | None) -> int:
        """Add the delta's partial states, but for panes from the first bound to the second."""
        insert = f"INSERT INTO {self.tables.state} {stages.partials(self.plan, self.tables.delta)}"
        if without is None:
            return self.store.run(insert)
        first, last = without
        with self.delta.narrowed((times < first) | (times >= last + self.window.size_us)):
            return self.store.run(insert)

    def _close(self, progress: Progress, closed: int, sink: Sink) -> Progress:
        """Emit and drop the state of all windows that start at `closed` or before."""
        if not progress.state_rows or progress.pane_low > closed:
            return progress
        assert self.plan.grouping is not None
        groups = stages.groups_of_states(self.plan.grouping, self.tables.state, "w <= $1")
        sink.append(groups, closed)
        gone = self.store.run(f"DELETE FROM {self.tables.state} WHERE w <= $1", closed)
        return after_drop(progress, gone, closed + self.window.size_us)


class TumblingUpdate(KeptGroups):
    """Keeps a tumbling window query that shows a group's new value whenever it changes."""

    def apply(self, arrival: Arrival, progress: Progress, sink: Sink) -> Progress:
        size = self.window.size_us
        if arrival.count:
            assert arrival.times is not None
            progress = replace(
                self.merge(progress, sink),
                pane_low=min(progress.pane_low, int(arrival.times.min()) // size * size),
                pane_high=max(progress.pane_high, int(arrival.times.max()) // size * size),
            )
        watermark = self.watermark(progress)
        if watermark is None:
            return progress
        closed = (watermark - size) // size * size
        if progress.state_rows and progress.pane_low <= closed:
            progress = self._close(progress, closed)
        return replace(progress, closed_to=max(progress.closed_to, watermark))

    def _close(self, progress: Progress, closed: int) -> Progress:
        """Move the groups of closed windows to the result's table, where they have no state any more."""
        tables, grouping = self.tables, self.plan.grouping
        assert grouping is not None
        columns = ", ".join([*stages.result_keys(grouping), *stages.output_columns(self.plan)])
        self.store.run(
            f"INSERT INTO {tables.result} SELECT {columns} FROM {tables.state} WHERE w <= $1 AND __shown", closed
        )
        gone = self.store.run(f"DELETE FROM {tables.state} WHERE w <= $1", closed)
        for number in range(len(self.plan.distincts)):
            seen = self.store.run(f"DELETE FROM {tables.seen(number)} WHERE w <= $1", closed)
            progress = replace(progress, seen_rows=progress.seen_rows - seen)
        return after_drop(progress, gone, closed + self.window.size_us)


def after_drop(progress: Progress, gone: int, low: int) -> Progress:
    """Note that `gone` rows were dropped from the state, and that no pane that is left starts before `low`."""
    left = progress.state_rows - gone
    if not left:
        return replace(progress, state_rows=0, compacted=0, pane_low=-NEVER, pane_high=NEVER)
    return replace(
        progress, state_rows=left, compacted=min(progress.compacted, left), pane_low=max(progress.pane_low, low)
    )
