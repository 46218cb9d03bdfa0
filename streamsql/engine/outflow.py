"""What a query in append mode hands on to the queries that read it: its rows of an epoch, and its watermark."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from streamsql.engine.changes import Progress
from streamsql.engine.flow import AT_COLUMN, NO_TIMES, Flow, compressed, mark_of, marks_of, stream_flow
from streamsql.engine.watermark import MICROSECONDS
from streamsql.plan import stages
from streamsql.plan.nodes import ContinuousPlan


class Outflow:
    """Gathers what one query emits in an epoch. Nobody looks at it unless it is `wanted`."""

    def __init__(self, plan: ContinuousPlan) -> None:
        self.wanted = False
        self.flow: Flow | None = None
        self._plan = plan
        self._emitted: list[pa.Table] = []
        self._rows_at: tuple[MICROSECONDS, MICROSECONDS] = (NO_TIMES, NO_TIMES)
        self._steps: tuple[MICROSECONDS, MICROSECONDS] = (NO_TIMES, NO_TIMES)
        self._mark = 0

    @property
    def delay_us(self) -> int:
        """How far the watermark that is handed on lies behind the largest event time."""
        return self._plan.closing_delay_us or (self._plan.time[1] if self._plan.time is not None else 0)

    def mark(self, progress: Progress) -> int:
        """Give the watermark that a query hands on: no row to come lies below its bounds."""
        return mark_of(progress.largest, self.delay_us)

    def begin(self, progress: Progress) -> None:
        """Start an epoch: nothing is emitted, and the watermark stands where it stood."""
        self._emitted, self.flow = [], None
        self._rows_at = self._steps = (NO_TIMES, NO_TIMES)
        self._mark = self.mark(progress)

    def emit(self, rows: pa.Table) -> None:
        """Take emitted rows: the output columns, and ``__end`` (a window's end) or ``__seq`` of the row they came from."""
        self._emitted.append(rows)

    def see_rows(self, rows: pa.Table) -> None:
        """Say at which arrivals the rows came that are taken in."""
        numbers = np.asarray(rows.column("__seq"))
        at = np.asarray(rows.column(AT_COLUMN)) if AT_COLUMN in rows.column_names else numbers
        self._rows_at = (numbers, at)

    def move(self, at: MICROSECONDS, largest: MICROSECONDS) -> None:
        """Say what the largest event time is after each of these arrivals."""
        self._steps = (at, marks_of(largest, self.delay_us))

    def follow(self, at: MICROSECONDS, marks: MICROSECONDS) -> None:
        """Say that the watermark is another query's."""
        self._steps = (at, marks)

    def see_stream(self, rows: pa.Table, progress: Progress) -> Progress:
        """Follow the event time of a stream's rows, for a query that has no window; give how far it is then."""
        assert self._plan.time is not None
        flow, progress = stream_flow(rows, *self._plan.time, progress)
        self._steps = (flow.steps_at, flow.steps)
        return progress

    def close(self, rows_out: int) -> None:
        """End the epoch; `rows_out` rows were handed on before it."""
        if not self.wanted:
            return
        names = stages.output_columns(self._plan)
        steps_at, steps = compressed(*self._steps, self._mark)
        if not self._emitted:
            rows, at = None, NO_TIMES
        else:
            rows = pa.concat_tables(self._emitted) if len(self._emitted) > 1 else self._emitted[0]
            at = self._places(rows, steps_at, steps)
            numbers = np.arange(rows_out + 1, rows_out + 1 + rows.num_rows, dtype=np.int64)
            rows = rows.select(names).rename_columns([o.name for o in self._plan.outputs])
            rows = rows.append_column("__seq", pa.array(numbers))
        self._close(rows, at, steps_at, steps)

    def _close(self, rows: pa.Table | None, at: MICROSECONDS, steps_at: MICROSECONDS, steps: MICROSECONDS) -> None:
        if rows is None:
            rows = pa.table({"__seq": pa.array([], pa.int64())})
        self.flow = Flow(rows, at, self._mark, steps_at, steps)

    def _places(self, rows: pa.Table, steps_at: MICROSECONDS, steps: MICROSECONDS) -> MICROSECONDS:
        """Give the arrivals that brought the emitted rows: those of their rows, or that closed their windows."""
        if self._plan.window is None:
            numbers, at = self._rows_at
            return at[np.searchsorted(numbers, np.asarray(rows.column("__seq")))]
        if not steps.size:
            return np.zeros(rows.num_rows, dtype=np.int64)
        ends = np.asarray(rows.column("__end"))
        first = np.searchsorted(self._plan.window.ruler.places(steps), ends, side="left")
        return steps_at[np.minimum(first, steps.size - 1)]
