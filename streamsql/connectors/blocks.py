"""A source that makes its rows in blocks: a block is a function of its number, so that rows are the same however they are read.

The position is the number of the next event. A block of `block_events` events may have a row for each, or for some of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.connectors.pace import Pace
from streamsql.connectors.source import Batch
from streamsql.engine.positions import Positions

INTEGERS = npt.NDArray[np.int64]
PARTITION = "0"


class BlockSource:
    """Rows from an event on, as fast as asked for or as they are due; `events` None: without end.

    `make` gives the rows of a block, and the number of each one's event, in order.
    """

    def __init__(
        self, make: Callable[[int], tuple[INTEGERS, pa.Table]], block_events: int, events: int | None, pace: Pace
    ) -> None:
        self._make = make
        self._block_events = block_events
        self._events = events
        self._pace = pace
        self._place = pace.first
        self._block: tuple[int, INTEGERS, pa.Table] | None = None

    def read(self, rows_max: int, now_us: int) -> Batch | None:
        """Give the rows that are due; events without a row are passed over."""
        due = self._pace.due(now_us, self._events)
        while self._place < due:
            number = self._place // self._block_events
            places, rows = self._rows_of(number)
            last = (number + 1) * self._block_events
            end = min(last, due)
            low, high = (int(i) for i in np.searchsorted(places, [self._place, end]))
            if high - low > rows_max:
                high = low + rows_max
                end = int(places[high - 1]) + 1
            if high > low:
                self._place = end
                return Batch(PARTITION, rows.slice(low, high - low), end)
            if end < last:
                return None  # no row yet; what was passed over is so again
            self._place = end
        return None

    def _rows_of(self, number: int) -> tuple[INTEGERS, pa.Table]:
        if self._block is None or self._block[0] != number:
            self._block = number, *self._make(number)
        return self._block[1], self._block[2]

    def due_us(self, now_us: int) -> int | None:
        return self._pace.next_us(now_us, self._place, self._events)

    def committed(self, positions: Positions) -> None:
        """There is nobody to tell."""

    def close(self) -> None:
        self._block = None
