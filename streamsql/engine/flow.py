"""Rows on their way from one query in append mode to another, with the watermark that moves between them.

Every row stands at the place of the arrival that brought it: its own number where it is a stream's, that of the row which
closed its window, the later one's of a pair. So rows of several origins have one order, however they were cut into epochs::

    arrival   1: 00:10   2: 00:50   3: 01:20             window(ts, '1 minute'), no delay
    flow                            [00:00, 01:00) 2     at 3; the watermark after 3 is 01:20

A row is judged by the watermark before its arrival: what a query hands on is never late by its own watermark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from streamsql.engine.changes import Progress
from streamsql.engine.partitions import TimeMove, judged, without_numbers
from streamsql.engine.watermark import MICROSECONDS, NEVER, event_times

AT_COLUMN = "__at"
NO_TIMES: MICROSECONDS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Flow:
    """What an origin gives in an epoch.

    `rows` has the origin's columns and ``__seq``, which grows for ever; `at` is the arrival of each, not decreasing.
    `mark` is the watermark before the epoch (NEVER: none yet), `steps` what it is after the arrivals `steps_at`.
    """

    rows: pa.Table
    at: MICROSECONDS
    mark: int
    steps_at: MICROSECONDS = field(default_factory=lambda: NO_TIMES)
    steps: MICROSECONDS = field(default_factory=lambda: NO_TIMES)

    def __post_init__(self) -> None:
        assert len(self.at) == self.rows.num_rows
        assert len(self.steps) == len(self.steps_at)

    @property
    def last(self) -> int:
        """The watermark after the epoch."""
        return int(self.steps[-1]) if self.steps.size else self.mark

    @property
    def idle(self) -> bool:
        """Tell whether nothing has happened."""
        return not self.rows.num_rows and self.last == self.mark

    def before(self, at: MICROSECONDS) -> MICROSECONDS:
        """Give the watermark before each of these arrivals."""
        return self._marks(np.searchsorted(self.steps_at, at, side="left"))

    def after(self, at: MICROSECONDS) -> MICROSECONDS:
        """Give the watermark after each of these arrivals."""
        return self._marks(np.searchsorted(self.steps_at, at, side="right"))

    def passed_at(self, times: MICROSECONDS) -> MICROSECONDS:
        """Give the arrival after which the watermark is past each of these times: the last one, where it is not yet."""
        last = self.steps_at[-1:] if self.steps_at.size else np.zeros(1, dtype=np.int64)
        return np.concatenate([self.steps_at, last])[np.searchsorted(self.steps, times, side="right")]

    def _marks(self, index: MICROSECONDS) -> MICROSECONDS:
        return np.concatenate([np.array([self.mark], dtype=np.int64), self.steps])[index]


@dataclass(slots=True)
class Arriving:
    """What one attempt at an epoch brings to queries over origins.

    `rows` are the streams' with their numbers, `flows` what views give, `moved` how time goes on in streams that
    are idle, `position` the arrival at which it does. Rows came at `now_us`, or where they had been kept at their `clocks`:
    arrival numbers, which grow, and microseconds. `apply` lets a query take its rows in (`rejected.Rejected.apply`).
    """

    epoch: int
    now_us: int
    position: int
    apply: Callable[..., Progress]
    rows: dict[str, pa.Table] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)
    moved: dict[str, TimeMove] = field(default_factory=dict)
    clocks: tuple[MICROSECONDS, MICROSECONDS] | None = None

    def clock(self, at: MICROSECONDS) -> MICROSECONDS:
        """Give the clock (us) at which each of these arrivals came; of rows that a view had, now."""
        now = np.full(len(at), self.now_us, dtype=np.int64)
        if self.clocks is None or not len(self.clocks[0]):
            return now
        numbers, clocks = self.clocks
        place = np.minimum(np.searchsorted(numbers, at), len(numbers) - 1)
        return np.where(numbers[place] == at, clocks[place], now)

    def touches(self, names: Sequence[str]) -> bool:
        """Tell whether something comes from one of these."""
        return any(n in self.rows or n in self.moved or n in self.flows for n in names)


@dataclass(frozen=True, slots=True)
class Idle:
    """A question: what if time went on so in these streams? `mark` gives a view's watermark then."""

    moved: dict[str, TimeMove]
    mark: Callable[[str], int]


def marks_of(largest: MICROSECONDS, delay: int) -> MICROSECONDS:
    """Give watermarks from the largest event times: NEVER where there is none yet."""
    return np.where(largest <= NEVER, NEVER, largest - delay)


def mark_of(largest: int, delay: int) -> int:
    return NEVER if largest <= NEVER else largest - delay


def compressed(at: MICROSECONDS, marks: MICROSECONDS, mark: int) -> tuple[MICROSECONDS, MICROSECONDS]:
    """Leave only the arrivals after which the watermark is another than before: the last of what comes at one arrival."""
    if not at.size:
        return at, marks
    last = np.append(at[1:] != at[:-1], True)
    at, marks = at[last], np.maximum(np.maximum.accumulate(marks[last]), mark)
    moved = np.diff(marks, prepend=mark) > 0
    return at[moved], marks[moved]


def stream_flow(rows: pa.Table, column: str | None, delay: int, progress: Progress) -> tuple[Flow, Progress]:
    """Give the flow of a stream's rows, and how far its time is then; `progress` says how far it was before."""
    at = np.asarray(rows.column("__seq"))
    mark = mark_of(progress.largest, delay)
    if column is None:
        return Flow(without_numbers(rows), at, mark), progress
    times, _ = event_times(rows.column(column))
    found = judged(rows, times, progress)
    rows = without_numbers(rows)
    steps = compressed(at, marks_of(found.after, delay), mark)
    seen = max(progress.seen, int(times.max(initial=NEVER)))
    return Flow(rows, at, mark, *steps), replace(found.taken(progress), seen=seen)
