"""Event time by partition: the watermark of a stream is the least of its partitions'.

Rows of a source's partitions come in turns, each in an order of its own, so that the largest event time of all says
nothing of a partition that lags. Where a source says so (`connectors.source.Batch.own_watermark`), a row carries the number of
its partition (``__partition``), and event time is the least of the partitions' largest, in the order of arrival, never going
back::

    arrival   partition   event time   largest of 1, of 2   event time after
    1         1           100          100, -               100
    2         1           130          130, -               130
    3         2            90          130, 90              130       it does not go back
    4         2           140          130, 140             130
    5         1           150          150, 140             140

A source tells of its partitions before it gives rows, so that one that is read later is not late: from then on a partition
counts, and without a row holds time back. One that stays without rows for the stream's idle timeout, while others go on,
counts no more until its next row (`TimeMove`). Rows that clients send to such a stream have number 0: they are judged, and
move nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.engine.changes import Progress
from streamsql.engine.watermark import MICROSECONDS, NEVER, largest_before

PARTITION_COLUMN = "__partition"
# a value is how many partitions there were when the row came, and the number of its own in the lowest bits
_NUMBER_BITS = 20
_NUMBER_MASK = (1 << _NUMBER_BITS) - 1


@dataclass(frozen=True, slots=True)
class Judged:
    """Event time before and after each row, and the progress after all of them as far as it is about time."""

    before: MICROSECONDS
    after: MICROSECONDS
    largest: int
    partitions: tuple[tuple[int, int], ...]
    partitions_seen: int = 0

    def taken(self, progress: Progress) -> Progress:
        """Give the progress with this event time."""
        return replace(progress, largest=self.largest, partitions=self.partitions, partitions_seen=self.partitions_seen)


def judged(rows: pa.Table, times: MICROSECONDS, progress: Progress) -> Judged:
    """Tell how far event time is at each row; `times` are the rows' event times, NEVER for none."""
    numbers = _numbers(rows)
    if not progress.partitions and (numbers is None or not numbers.any()):
        before, largest = largest_before(times, progress.largest)
        return Judged(before, np.maximum(before, times), largest, ())
    if numbers is None:
        numbers = np.zeros(len(times), np.int64)
    return _by_partition(numbers, times, progress)


def _numbers(rows: pa.Table) -> npt.NDArray[np.int64] | None:
    return np.asarray(rows.column(PARTITION_COLUMN)) if PARTITION_COLUMN in rows.column_names else None


def _by_partition(numbers: npt.NDArray[np.int64], times: MICROSECONDS, progress: Progress) -> Judged:
    largest, known, seen = progress.largest, dict(progress.partitions), progress.partitions_seen
    after = np.empty(len(times), np.int64)
    # one step for each run of rows of the same partition: a connector's batch is one
    bounds = [*np.flatnonzero(np.diff(numbers, prepend=-1)).tolist(), len(numbers)]
    for start, stop in itertools.pairwise(bounds):
        count, number = divmod(int(numbers[start]), _NUMBER_MASK + 1)
        known.update(dict.fromkeys(range(seen + 1, count + 1), NEVER))
        seen = max(seen, count)
        if number:
            own = np.maximum.accumulate(np.maximum(times[start:stop], known.get(number, NEVER)))
            others = [time for other, time in known.items() if other != number]
            after[start:stop] = np.maximum(np.minimum(own, min(others)) if others else own, largest)
            known[number] = int(own[-1])
        else:
            after[start:stop] = largest
        largest = int(after[stop - 1])
    before = np.concatenate([np.array([progress.largest], np.int64), after[:-1]]) if len(times) else after
    return Judged(before, after, largest, tuple(sorted(known.items())), seen)


@dataclass(frozen=True, slots=True)
class TimeMove:
    """How a stream's time goes on without rows: all of it has been idle for `elapsed_us`, or else only some `partitions`."""

    elapsed_us: int | None = None
    partitions: frozenset[int] = frozenset()

    def moves(self, progress: Progress) -> bool:
        """Tell whether it changes the event time of a query that is so far, or what holds it back."""
        return self.after(progress) != progress

    def after(self, progress: Progress) -> Progress:
        """Give the progress after it, as far as it is about time."""
        if self.elapsed_us is not None:
            if progress.seen == NEVER:
                return progress
            return replace(progress, largest=max(progress.largest, progress.seen + self.elapsed_us))
        left = tuple(p for p in progress.partitions if p[0] not in self.partitions)
        if len(left) == len(progress.partitions):
            return progress
        least = min((time for _, time in left), default=progress.largest)
        return replace(progress, largest=max(progress.largest, least), partitions=left)


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """A source's partition: its number, the last arrival (wall clock), and the largest time of the stream's watermark."""

    number: int
    last_arrival: int = NEVER
    largest: int = NEVER


def number_of(name: str, known: Mapping[str, PartitionProgress]) -> int:
    """Give a partition's number: the next one for one that is new."""
    return known[name].number if name in known else len(known) + 1


def tag(number: int, count: int) -> int:
    """Give what a row carries whose partition has this number, where there were so many when it came."""
    return (count << _NUMBER_BITS) + number


def with_tags(rows: pa.Table, tags: npt.NDArray[np.int64]) -> pa.Table:
    """Give rows that carry their tags."""
    return rows.append_column(PARTITION_COLUMN, pa.array(tags.astype(np.int64, copy=False)))


def numbers_of(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Give the numbers of the rows' partitions."""
    return np.asarray(rows.column(PARTITION_COLUMN)) & _NUMBER_MASK


def without_numbers(rows: pa.Table) -> pa.Table:
    """Give rows without the number of their partition, once they have been judged."""
    return rows.drop_columns([PARTITION_COLUMN]) if PARTITION_COLUMN in rows.column_names else rows
