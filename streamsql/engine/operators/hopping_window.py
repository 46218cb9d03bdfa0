"""Hopping and cumulating windows, by panes: a row is aggregated once, into its pane; a window is the combination of its panes.

    window(ts, '10 min', '5 min'): panes of 5 minutes
    in    00:02 a 1    00:07 a 2    00:13 a 4
    out                [-00:05, 00:05) a 1         when the watermark reaches 00:05
                                    [00:00, 00:10) a 3         when it reaches 00:10

State: partial states by (pane, first window that they count for, keys). A pane is dropped when its last window closes.
"""

from __future__ import annotations

from dataclasses import replace

from streamsql.engine.changes import Progress
from streamsql.engine.operators.base import Arrival, Operator, Sink, compacted, merge_partials
from streamsql.engine.operators.tumbling_window import after_drop
from streamsql.plan import stages
from streamsql.plan.frames import (
    FRAMED_WINDOWS_MIN,
    framed,
    groups_of_frames,
    windows_due,
    windows_of_panes,
)
from streamsql.plan.windows import windows_of_place
from streamsql.plan.windows.hopping import floor_to


class _Hopping(Operator):
    def _with_panes(self, arrival: Arrival, progress: Progress) -> Progress:
        assert arrival.times is not None
        pane = self.window.pane_us
        return replace(
            progress,
            pane_low=min(progress.pane_low, int(arrival.times.min()) // pane * pane),
            pane_high=max(progress.pane_high, int(arrival.times.max()) // pane * pane),
        )

    def _drop(self, progress: Progress, watermark: int) -> Progress:
        """Drop the panes whose last window has closed."""
        if not progress.state_rows or self.window.last_end(progress.pane_low) > watermark:
            return progress
        _, last = windows_of_place(self.window, "w")
        last_end = f"{last} + {self.window.size_us}"
        gone = self.store.run(f"DELETE FROM {self.tables.state} WHERE {last_end} <= $1", watermark)
        # the first pane that is left lies in a window that ends after the watermark
        slide = self.window.slide_us
        low = (watermark - self.window.size_us) // slide * slide + slide
        return after_drop(progress, gone, low)


class HoppingAppend(_Hopping):
    """Keeps a hopping window query whose results are final when they are shown."""

    def apply(self, arrival: Arrival, progress: Progress, sink: Sink) -> Progress:
        grouping, size = self.plan.grouping, self.window.size_us
        assert grouping is not None
        if arrival.count:
            partials = stages.partials(self.plan, self.tables.delta)
            added = self.store.run(f"INSERT INTO {self.tables.state} {partials}")
            progress = self._with_panes(arrival, replace(progress, state_rows=progress.state_rows + added))
        watermark = self.watermark(progress)
        assert watermark is not None
        if progress.state_rows and self._first_end(progress) <= watermark:
            states = f"(SELECT * FROM {self.tables.state} WHERE w < $1)"
            if framed(grouping) and watermark - self._first_end(progress) >= FRAMED_WINDOWS_MIN * self.window.slide_us:
                slide = self.window.slide_us
                first, last = (f"{floor_to(f'({end} - {size})', slide)}" for end in ("$2", "$1"))
                windows = windows_due(grouping, states, f"{first} + {slide}", last)
                groups = groups_of_frames(grouping, states, windows)
            else:
                due = f"v.w + {size} <= $1 AND v.w + {size} > $2"
                groups = stages.groups_of_panes(grouping, states, due)
            sink.append(groups, watermark, progress.closed_to)
        progress = self._drop(progress, watermark)
        return compacted(self, replace(progress, closed_to=max(progress.closed_to, watermark)))

    def _first_end(self, progress: Progress) -> int:
        """Give the end of the first window that is still open and can hold a pane of the state."""
        slide, size = self.window.slide_us, self.window.size_us
        first_of_panes = (progress.pane_low - size) // slide * slide + slide + size
        first_open = (progress.closed_to - size) // slide * slide + slide + size
        return max(first_of_panes, first_open)


class HoppingUpdate(_Hopping):
    """Keeps a hopping window query that shows a group's new value whenever it changes."""

    def apply(self, arrival: Arrival, progress: Progress, sink: Sink) -> Progress:
        if arrival.count:
            assert arrival.times is not None
            progress = self._with_panes(arrival, merge_partials(self, progress))
            size = self.window.size_us
            sink.update(self._touched(), int(arrival.times.min()) - size, int(arrival.times.max()) + size)
        watermark = self.watermark(progress)
        if watermark is None:
            return progress
        progress = self._drop(progress, watermark)
        return replace(progress, closed_to=max(progress.closed_to, watermark))

    def create_scratch(self) -> None:
        super().create_scratch()
        grouping = self.plan.grouping
        assert grouping is not None
        columns = ", ".join(stages.result_keys(grouping))
        self.store.execute(
            f"CREATE TEMP TABLE {self.tables.touched} AS SELECT {columns} FROM {self.tables.state} LIMIT 0"
        )

    def _touched(self) -> str:
        """Groups of all windows that hold a pane which this epoch changed; ``$1`` and ``$2`` bound those panes."""
        grouping, tables = self.plan.grouping, self.tables
        assert grouping is not None
        self.store.run(f"DELETE FROM {tables.touched}")
        self.store.run(f"INSERT INTO {tables.touched} {windows_of_panes(grouping, tables.merged)}")
        states = f"(SELECT * FROM {tables.state} WHERE w >= $1 AND w < $2)"
        if framed(grouping):
            return groups_of_frames(grouping, states, f"SELECT * FROM {tables.touched}")
        keys = stages.key_columns(grouping)
        same = " AND ".join(["t.w = v.w", *(f"t.{k} IS NOT DISTINCT FROM s.{k}" for k in keys)])
        return stages.groups_of_panes(grouping, states, f"EXISTS (SELECT 1 FROM {tables.touched} AS t WHERE {same})")
