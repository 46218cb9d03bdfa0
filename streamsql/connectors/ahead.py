"""Writes of a reader that are on their way: submitted to the engine, and not answered yet.

A reader goes on without waiting for the commit, until `source_ahead_rows_max` rows or a few writes are on their way, or the
engine's queue is full. So where the engine is behind, the next write has more rows. One that keeps up rests for as long as its
last write took.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.base.errors import BadRecord, DiskFull, StreamSQLError, Unavailable
from streamsql.catalog.objects import Stream, Table
from streamsql.connectors.source import Batch
from streamsql.engine import dead_letters, ingest, outbox
from streamsql.engine.epoch import Engine
from streamsql.engine.kept_values import Kept
from streamsql.engine.positions import Move, Position
from streamsql.engine.receipts import Receipt
from streamsql.engine.table_changes import KeyedChange
from streamsql.engine.writes import Write
from streamsql.formats.format import NOTHING_REJECTED

Weights = npt.NDArray[np.int8]
T = TypeVar("T")

# Writes on their way before the reader waits for one: more would be no faster, and each costs the engine something.
AHEAD_WRITES_MAX = 4
# The same of writes that are not half full: what comes while the engine takes one in is read at once when it has.
AHEAD_SMALL_WRITES_MAX = 1
# A reader that keeps up, as its write of so few rows shows, rests after it for as long as it took, and no longer than this:
# what comes meanwhile costs less together, and what else runs on the machine, such as the rest of a row's way, is not kept
# waiting by epochs without end.
REST_ROWS_MAX = 4_000
REST_SECONDS_MAX = 0.05


class Ahead(Generic[T]):
    """The writes of one reader; `woken` is set as each is answered. With each comes what the reader wants to know it by."""

    def __init__(self, engine: Engine, woken: threading.Event) -> None:
        self._engine = engine
        self._woken = woken
        self.writes = 0
        self._rows = 0
        self._rest_until = 0.0
        self._committed: deque[tuple[int, T]] = deque()
        # what the first write was refused with, and what it was known by
        self.refused: tuple[StreamSQLError, T] | None = None

    def begin(self) -> None:
        """Forget what was before. None is on its way."""
        self._committed.clear()
        self._rows, self.refused = 0, None

    def submit(self, write: Write, rows: int, known_by: T, *, rests: bool = True) -> None:
        """Submit a write of so many rows; if it is small, and the engine keeps up, the reader `rests` after it."""
        few = rests and rows <= min(REST_ROWS_MAX, self._engine.limits.source_batch_rows_max // 2)
        self.writes += 1
        self._rows += rows
        begun = time.monotonic()
        write.done.add_done_callback(lambda done: self._answered(done, rows, known_by, begun if few else None))
        self._engine.submit(write)

    def _answered(self, done: Future[int], rows: int, known_by: T, begun: float | None) -> None:
        """Note, on the engine's thread, what became of a write; `begun` is when it was submitted, if one rests after it."""
        error, now = done.exception(), time.monotonic()
        if begun is not None:
            self._rest_until = now + min(now - begun, REST_SECONDS_MAX)
        if error is None:
            self._committed.append((rows, known_by))
        elif self.refused is None:
            self.refused = seen_by_reader(error), known_by
        self.writes -= 1
        self._woken.set()

    def committed(self) -> Iterator[T]:
        """Give what was committed since the last call, in its order."""
        while self._committed:
            rows, known_by = self._committed.popleft()
            self._rows -= rows
            yield known_by

    @property
    def rest_seconds(self) -> float:
        """Tell how long to rest from now on; not more than 0 for not at all."""
        return self._rest_until - time.monotonic()

    def has_to_wait(self, relations: Sequence[Stream | Table]) -> bool:
        """Tell whether nothing more may be submitted for these relations now; what changes it wakes the reader."""
        engine = self._engine
        small = 2 * self._rows < self.writes * engine.limits.source_batch_rows_max
        writes_max = AHEAD_SMALL_WRITES_MAX if small else AHEAD_WRITES_MAX
        if self._rows >= engine.limits.source_ahead_rows_max or self.writes >= writes_max:
            return True  # the next commit wakes it
        if engine.queue.full:
            engine.queue.when_room(self._woken.set)
            return True
        fed = [name for relation in relations for name in (relation.name, relation.rejected_into) if name]
        return outbox.full_for(engine.catalog, engine.sinks, engine.limits, fed) is not None


class Part:
    """Batches of one relation, as one write takes them in."""

    def __init__(
        self,
        engine: Engine,
        relation: Stream | Table,
        batches: list[Batch],
        schema: pa.Schema,
        cursor: duckdb.DuckDBPyConnection,
    ) -> None:
        self.relation = relation
        self._batches = batches
        self._weights = None
        if batches[0].weights is not None:
            self._weights = np.concatenate([_weights(b) for b in batches])
        self._kept = _kept(batches)
        self.rows = self._conformed(schema, cursor)
        rejected = [(b.partition, b.rejected) for b in batches]
        self._dead = list(dead_letters.rows_of(relation, rejected, engine.catalog, engine.clock.now_us(), cursor))

    def _conformed(self, schema: pa.Schema, cursor: duckdb.DuckDBPyConnection) -> pa.Table:
        relation, first = self.relation, self._batches[0]
        given = pa.concat_tables([b.rows for b in self._batches])
        columns = [c for c in relation.columns if c.name in given.column_names]
        rows = given.select([c.name for c in columns])
        if first.defaults:
            rows = ingest.with_defaults(rows, relation, cursor)
        came = None
        if self._weights is not None:
            came = (self._weights > 0) & ~np.any([m > 0 for m in self._kept.values()], axis=0)
        return ingest.conform(rows, columns, relation, schema, cursor, came=came)

    def moves(self, positions: dict[str, Position]) -> tuple[Move, ...]:
        """Give the moves from `positions`, which go on with them."""
        moves, relation = [], self.relation
        for batch in self._batches:
            before, length = positions.get(batch.partition), batch.rows.num_rows
            moves.append(
                Move(relation.name, relation.id, batch.partition, before, batch.position, length, batch.own_watermark)
            )
            positions[batch.partition] = batch.position
        return tuple(moves)

    @property
    def streamed(self) -> list[tuple[str, pa.Table]]:
        """Give the rows that streams get: the relation, if it is one, and the one that gets what cannot be read."""
        own = [(self.relation.name, self.rows)] if isinstance(self.relation, Stream) else []
        return own + self._dead

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """Give what is told beside the rows."""
        rejected = [b.rejected for b in self._batches if b.rejected.num_rows]
        finished = {name: text for b in self._batches for name, text in b.finished.items()}
        if not rejected and not finished:
            return ()
        told = pa.concat_tables(rejected) if rejected else NOTHING_REJECTED
        return (Receipt(self.relation.name, told, stream_id=self.relation.id, finished=finished),)

    @property
    def keyed(self) -> tuple[KeyedChange, ...]:
        """Give what changes, where it is a table."""
        truncated = self._batches[0].truncated
        if not isinstance(self.relation, Table) or not (self.rows.num_rows or truncated):
            return ()
        given = np.ones(self.rows.num_rows, np.int8) if self._weights is None else self._weights
        return (KeyedChange(self.relation, self.rows, given, truncated, self._kept),)


def seen_by_reader(error: BaseException) -> StreamSQLError:
    """Give what a write was refused with as what a source fails with."""
    if isinstance(error, DiskFull):
        return Unavailable(error.message)  # tried again: there may be room later
    return error if isinstance(error, StreamSQLError) else StreamSQLError(str(error))


def bad_record(relation: Stream | Table, batch: Batch) -> BadRecord:
    """Make the error for the first record of a batch that cannot be read."""
    first = batch.rejected.slice(0, 1).to_pylist()[0]
    return BadRecord(
        f"a record cannot be read: {first['reason']}, partition {batch.partition}, position {first['position']}",
        hint=f"ALTER STREAM {relation.name} RESUME reads it again, RESUME SKIP goes past it",
    )


def _kept(batches: list[Batch]) -> Kept:
    names = dict.fromkeys(name for b in batches for name in b.kept)
    return {
        name: np.concatenate([b.kept.get(name, np.zeros(b.rows.num_rows, np.int8)) for b in batches]) for name in names
    }


def _weights(batch: Batch) -> Weights:
    if batch.weights is None:
        return np.ones(batch.rows.num_rows, np.int8)
    return np.asarray(batch.weights).astype(np.int8)
