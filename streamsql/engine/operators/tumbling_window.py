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
from streamsql.engine.operators.base import Arrival, Operator, Sink, compacted, merge_partials
from streamsql.engine.operators.group_aggregate import _values
from streamsql.engine.watermark import NEVER
from streamsql.plan import stages


class TumblingAppend(Operator):
    """Keeps a tumbling window query whose results are final when they are shown."""

    def create(self, sink: Sink, progress: Progress) -> Progress:
        self.create_state()
        return progress

    def apply(self, arrival: Arrival, progress: Progress, sink: Sink) -> Progress:
        watermark = self.watermark(progress)
        assert watermark is not None
        size = self.window.size_us
        # the last window that is closed now, and the first that can have no state yet
        closed = (watermark - size) // size * size
        fresh = progress.pane_high + size if progress.state_rows else NEVER
        whole = None
        if arrival.rows.num_rows:
            self.bind_delta(arrival)
            assert arrival.times is not None
            low, high = int(arrival.times.min()), int(arrival.times.max())
            time = stages.time_us(self.window)
            rest = ""
            if closed >= fresh and low < closed + size:
                whole = f"{time} >= {fresh} AND {time} < {closed + size}"
                rest = f"{time} < {fresh} OR {time} >= {closed + size}"
            if whole is None or low < fresh or high >= closed + size:
                added = self.store.execute(f"INSERT INTO {self.tables.state} {stages.partials(self.plan, rest)}")
                progress = replace(
                    progress,
                    state_rows=progress.state_rows + added,
                    pane_low=min(progress.pane_low, low // size * size),
                    pane_high=max(progress.pane_high, high // size * size),
                )
        progress = self._close(progress, closed, sink)
        if whole is not None:
            sink.append(stages.result(self.plan, stages.whole_windows(self.plan, whole)))
        return compacted(self, replace(progress, closed_to=max(progress.closed_to, watermark)))

    def _close(self, progress: Progress, closed: int, sink: Sink) -> Progress:
        """Emit and drop the state of all windows that start at `closed` or before."""
        if not progress.state_rows or progress.pane_low > closed:
            return progress
        assert self.plan.grouping is not None
        groups = stages.groups_of_states(self.plan.grouping, self.tables.state, f"w <= {closed}")
        sink.append(stages.result(self.plan, groups))
        gone = self.store.execute(f"DELETE FROM {self.tables.state} WHERE w <= {closed}")
        return _after_drop(progress, gone, closed + self.window.size_us)


class TumblingUpdate(Operator):
    """Keeps a tumbling window query that shows a group's new value whenever it changes."""

    def create(self, sink: Sink, progress: Progress) -> Progress:
        self.create_state()
        return progress

    def apply(self, arrival: Arrival, progress: Progress, sink: Sink) -> Progress:
        grouping = self.plan.grouping
        assert grouping is not None
        size = self.window.size_us
        if arrival.rows.num_rows:
            self.bind_delta(arrival)
            assert arrival.times is not None
            progress = merge_partials(self, progress)
            progress = replace(
                progress,
                pane_low=min(progress.pane_low, int(arrival.times.min()) // size * size),
                pane_high=max(progress.pane_high, int(arrival.times.max()) // size * size),
            )
            sink.update(_values(grouping.parts, stages.result_keys(grouping)))
        watermark = self.watermark(progress)
        if watermark is None:
            return progress
        closed = (watermark - size) // size * size
        if progress.state_rows and progress.pane_low <= closed:
            gone = self.store.execute(f"DELETE FROM {self.tables.state} WHERE w <= {closed}")
            progress = _after_drop(progress, gone, closed + size)
        return replace(progress, closed_to=max(progress.closed_to, watermark))


def _after_drop(progress: Progress, gone: int, low: int) -> Progress:
    left = progress.state_rows - gone
    if not left:
        return replace(progress, state_rows=0, compacted=0, pane_low=-NEVER, pane_high=NEVER)
    return replace(progress, state_rows=left, compacted=min(progress.compacted, left), pane_low=max(progress.pane_low, low))
