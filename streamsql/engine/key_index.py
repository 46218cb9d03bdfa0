"""A view's rows in memory, found by a key: what answers a lookup without a query.

An index is a subscriber of its view: it starts from a snapshot and takes the changes of each epoch in when somebody asks, so it
knows what the last committed epoch says and nothing else. It is kept only where the key is one (no two rows have the same), and
only while taking changes in costs less than it saves: each lookup earns `ROWS_A_LOOKUP` rows of changes, up to
`CREDIT_ROWS_MAX`; a view that changes faster than it is read loses its index.

    rows (key, total): (7, 10), (8, 20)     find 7 -> (7, 10)     change: -(7, 10) +(7, 11)     find 7 -> (7, 11)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Sequence

import numpy as np
import pyarrow as pa

from streamsql.base.errors import StreamSQLError
from streamsql.engine.changes import Change
from streamsql.engine.subscriptions import Subscription
from streamsql.engine.views import ContinuousQuery

# reading so many changed rows costs what a lookup by DuckDB does
ROWS_A_LOOKUP = 1_000
CREDIT_ROWS_MAX = 20_000
# rows are taken in by so many, so that other threads have their turn in between
STEP_ROWS = 8_192
# so many rows that have gone stay where they are, however few there are besides
GARBAGE_ROWS_MIN = 4_096
# of a key: its number, its place among the keys and the places of the rows; the values of long keys come on top
KEY_BYTES = 150


class NotKeptError(Exception):
    """The rows cannot be kept by this key, or not any longer."""


class KeyIndex:
    """The rows of one view by one key, as the columns ``o0``.. of its result have them.

    Made and fed (`load`) by one thread, then used by another; `wake` is for any thread.
    """

    def __init__(self, query: ContinuousQuery, key: tuple[int, ...], bytes_max: int) -> None:
        self.query = query
        self._bytes_max = bytes_max
        self.bytes = 0
        self.subscription: Subscription | None = None
        self.closed = False
        self._key = key
        self._places: dict[Hashable, int] = {}  # a row's number, counted through all batches
        self._batches: list[pa.RecordBatch] = []
        self._starts: list[int] = []  # the number of each batch's first row
        self._end = 0
        self._credit = CREDIT_ROWS_MAX

    def __len__(self) -> int:
        return len(self._places)

    def load(self, reader: pa.RecordBatchReader) -> None:
        """Take the rows of the snapshot in. Raises NotKeptError where they are too large, or not told apart by the key."""
        self._add(pa.RecordBatch.from_pylist([], reader.schema))
        for batch in reader:
            for start in range(0, batch.num_rows, STEP_ROWS):
                self._add(batch.slice(start, STEP_ROWS))

    def wake(self) -> None:
        """Look, when an epoch was published, whether changes wait that are not worth taking in."""
        subscription = self.subscription
        if subscription is not None and subscription.waiting_rows > self._credit:
            self.close()

    def close(self) -> None:
        """Stop following the view: the index answers nothing any more. May be called again."""
        self.closed = True  # before the subscription, whose changes are not complete from then on
        if self.subscription is not None:
            self.subscription.close()

    def find(self, key: Hashable) -> pa.RecordBatch:
        """Give the row of a key, or no row. Raises NotKeptError where the index has ended."""
        assert self.subscription is not None
        try:
            changes, _ = self.subscription.take()
        except StreamSQLError as error:
            raise NotKeptError from error
        if self.closed:
            raise NotKeptError
        self._credit = min(self._credit + ROWS_A_LOOKUP, CREDIT_ROWS_MAX)
        for change in changes:
            self._take_in(change)
        place = self._places.get(key)
        if place is None:
            return self._batches[0].slice(0, 0)
        batch = bisect_right(self._starts, place) - 1
        return self._batches[batch].slice(place - self._starts[batch], 1)

    def _take_in(self, change: Change) -> None:
        if change.whole:
            return  # beside the changes that made it
        self._credit -= change.rows.num_rows
        if change.weights is None:
            gone, came = None, change.rows
        else:
            weights = np.asarray(change.weights)
            gone, came = change.rows.filter(pa.array(weights < 0)), change.rows.filter(pa.array(weights > 0))
        if change.rows.schema.types != self._batches[0].schema.types:
            raise NotKeptError
        for batch in gone.to_batches() if gone is not None else ():
            missing = object()
            removed = [self._places.pop(key, missing) for key in self._keys(batch)]
            if missing in removed:
                raise NotKeptError
        for batch in came.to_batches():
            self._add(batch)
        if self._end - len(self._places) > len(self._places) + GARBAGE_ROWS_MIN:
            self._compact()

    def _add(self, batch: pa.RecordBatch) -> None:
        before, end = len(self._places), self._end + batch.num_rows
        self._places.update(zip(self._keys(batch), range(self._end, end), strict=True))
        if len(self._places) != before + batch.num_rows:
            raise NotKeptError
        self._batches.append(batch)
        self._starts.append(self._end)
        self._end = end
        self.bytes += batch.nbytes + batch.num_rows * KEY_BYTES
        if self.bytes > self._bytes_max:
            raise NotKeptError

    def _compact(self) -> None:
        """Let go of the rows that have gone."""
        whole = pa.Table.from_batches(self._batches).take(list(self._places.values())).combine_chunks()
        self._places = dict(zip(self._places, range(len(self._places)), strict=True))
        self._batches = whole.to_batches() or [self._batches[0]]
        self._starts, self._end = [0], whole.num_rows
        self.bytes = whole.nbytes + whole.num_rows * KEY_BYTES

    def _keys(self, batch: pa.RecordBatch) -> Sequence[Hashable]:
        columns = [key_values(batch.column(place)) for place in self._key]
        return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def key_values(column: pa.Array) -> list[Hashable]:
    """Give the values of a key's column as Python has them: times and dates as the numbers that they are stored as."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    values: list[Hashable] = column.to_pylist()
    return values
