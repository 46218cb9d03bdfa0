"""Reads the sources of streams and tables that have a connector: one thread each, from CREATE to DROP, from start to stop.

A reader asks its source for batches, submits those that are there together with the positions that they lead to, and goes on
without waiting for the commit, until `source_ahead_rows_max` rows or a few writes are on their way, or the engine's queue is
full: then it pauses. So where the engine is behind, the next write has more rows. One that keeps up rests for as long as its
last write took. What is committed is told to the source.

What cannot be reached now is opened again from what is committed, later and later. A reader whose write is refused stops: what
it reads after that would leave a gap (`engine.positions`); so does one whose source fails, and one of a stream with
``on_error = 'fail'`` at a record that cannot be read. All of it is logged and shown in ``streamsql.sources``. A reader that has
stopped tries again after ALTER ... RESUME, and at the next start.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import structlog

from streamsql.base.errors import AdminShutdown, BadRecord, DiskFull, StreamSQLError, Unavailable
from streamsql.catalog.objects import Stream, Table
from streamsql.connectors import connector_of, given_of
from streamsql.connectors.backoff import Backoff
from streamsql.connectors.forgetting import forget, forget_left_behind
from streamsql.connectors.source import Batch, Source, Surroundings
from streamsql.engine import ingest, outbox, sources
from streamsql.engine.epoch import Engine
from streamsql.engine.finished import Notes
from streamsql.engine.kept_values import Kept
from streamsql.engine.positions import Move, Position, StreamProgress
from streamsql.engine.receipts import Receipt
from streamsql.engine.table_changes import KeyedChange
from streamsql.engine.writes import Write
from streamsql.formats.format import NOTHING_REJECTED

log = structlog.get_logger()

Weights = npt.NDArray[np.int8]
# Writes on their way before the reader waits for one: more would be no faster, and each costs the engine something.
AHEAD_WRITES_MAX = 4
# The same of writes that are not half full: what comes while the engine takes one in is read at once when it has.
AHEAD_SMALL_WRITES_MAX = 1
# A reader that keeps up, as its write of so few rows shows, rests after it for as long as it took, and no longer than this:
# what comes meanwhile costs less together, and what else runs on the machine, such as the rest of a row's way, is not kept
# waiting by epochs without end.
REST_ROWS_MAX = 4_000
REST_SECONDS_MAX = 0.05
# Batches in one write.
BATCHES_MAX = 256
# A reader that waits looks up at least so often; whatever changes wakes it at once.
WAIT_SECONDS_MAX = 5.0


class SourceReaders:
    """The readers of an engine's streams. `start` it once the engine runs, `stop` it before the engine is stopped."""

    def __init__(
        self, engine: Engine, allowed_paths: tuple[Path, ...] = (), allowed_urls: tuple[str, ...] = ()
    ) -> None:
        self._engine = engine
        self._allowed = allowed_paths, allowed_urls
        self._readers: dict[int, Reader] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Read from now on whatever the catalog has, and follow its changes."""
        forget_left_behind(self._engine)
        self._engine.flows.on_change(self._follow)
        self._follow()

    def stop(self) -> None:
        """End all readers; what they have submitted is still committed."""
        with self._lock:
            self._stopped = True
            readers = list(self._readers.values())
        for reader in readers:
            reader.stop()
        for reader in readers:
            reader.join()

    def _follow(self) -> None:
        """Start the readers that are missing, end those whose stream is gone, and wake the others."""
        with self._lock:
            if self._stopped:
                return
            wanted = {o.id: o for o in self._engine.catalog if isinstance(o, (Stream, Table)) and o.is_read}
            for number in [n for n in self._readers if n not in wanted]:
                self._readers.pop(number).stop(dropped=True)
            for number, stream in wanted.items():
                there = self._readers.get(number)
                if there is None or there.ended_before_reset:
                    self._readers[number] = Reader(self._engine, stream, *self._allowed)
                    self._readers[number].start()
                else:
                    there.follow(stream)


class Reader(threading.Thread):
    """Reads one stream's or table's source. Its thread ends by itself where the source does, once all is committed."""

    def __init__(
        self,
        engine: Engine,
        stream: Stream | Table,
        allowed_paths: tuple[Path, ...] = (),
        allowed_urls: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name=f"source {stream.name}", daemon=True)
        self._engine = engine
        self._stream = stream
        self._fails = stream.fails
        self._positions: dict[str, Position] = {}
        self._resets = 0
        self._ended = False
        self._ending = threading.Lock()
        self._woken = threading.Event()
        self._surroundings = Surroundings(
            allowed_paths,
            self._woken.set,
            stream.name,
            f"{engine.identity}-{stream.id}",
            engine.limits.record_bytes_max,
            allowed_urls,
            Notes(engine.store, stream.id),
            engine.limits.snapshot_rows_max,
        )
        self._stopping = self._dropped = False
        self._backoff = Backoff()
        self._refused: StreamSQLError | None = None
        self._failure: StreamSQLError | None = None  # what came after batches that are to be submitted first
        self._held: Batch | None = None  # what was read and could not be in one write with what came before
        self._skipped = False
        self._rest_until = 0.0
        self._ahead: int = 0  # writes that are not answered yet
        self._ahead_rows = 0
        self._committed: deque[tuple[int, dict[str, Position]]] = deque()

    @property
    def ended_before_reset(self) -> bool:
        """Tell whether it came to the end of its source, which has been told to begin elsewhere since."""
        with self._ending:
            return self._ended and self._at.resets != self._resets

    def _ends(self) -> bool:
        """End, unless the source has been told to begin elsewhere meanwhile; who tells it sees either of the two."""
        with self._ending:
            self._ended = self._at.resets == self._resets
            return self._ended

    def follow(self, stream: Stream | Table) -> None:
        """Let it look whether it was paused or resumed; and open the source again, if the stream has other columns."""
        self._stream = stream
        self._woken.set()

    def stop(self, *, dropped: bool = False) -> None:
        """Ask it to end after what it is doing; and to have the origin forget it, where the stream is `dropped`."""
        self._dropped = dropped
        self._stopping = True
        self._woken.set()

    # ---- its thread ----

    def run(self) -> None:
        with contextlib.suppress(AdminShutdown):
            self._read_on()
        if self._dropped:
            with contextlib.suppress(AdminShutdown):
                forget(self._engine, self._stream, self._surroundings)

    def _read_on(self) -> None:
        self._note()
        while not self._stopping:
            self._woken.clear()
            if not self._at.reads:
                self._woken.wait()
            elif self._attempt():
                self._note(finished=True)
                if self._ends():
                    break

    @property
    def _at(self) -> StreamProgress:
        return self._engine.streams.get(self._stream.name) or StreamProgress()

    def _attempt(self) -> bool:
        """Read until something stops it; tell whether the source has ended, so that nothing will ever come."""
        try:
            return self._read_all()
        except AdminShutdown:
            raise
        except Unavailable as error:
            seconds = self._backoff.failed()
            log.warning("source unavailable", stream=self._stream.name, error=error.message)
            self._note(error=error.message, retrying=True)
            self._woken.wait(seconds)
        except StreamSQLError as error:
            if not self._stopping:
                log.error("source stopped", stream=self._stream.name, error=error.message)
                self._note(error=error.message)
        except Exception as error:  # noqa: BLE001  # a connector's own fault must not pass unnoticed in a thread
            log.error("source failed", stream=self._stream.name, error=repr(error))
            self._note(error="an internal error; the server's log says more")
        return False

    def _note(self, *, error: str | None = None, retrying: bool = False, finished: bool = False) -> None:
        """Show how the source is doing."""
        at, engine = self._at, self._engine
        if (at.error, at.retrying, at.finished) != (error, retrying, finished):
            noted = engine.call(lambda: sources.note(engine, self._stream, error, retrying=retrying, finished=finished))
            noted.result()

    def _read_all(self) -> bool:
        stream, engine = self._stream, self._engine
        connector, clock = connector_of(stream.connector, {}), engine.clock
        self._settle()
        at = self._at
        self._positions, self._resets = dict(at.positions), at.resets
        source: Source = connector.open(
            given_of(stream.connector, {}, table=isinstance(stream, Table)),
            stream.columns,
            dict(self._positions),
            clock.now_us(),
            self._surroundings,
        )
        cursor = engine.store.cursor()
        try:
            schema = ingest.arrow_schema(stream, cursor)
            while self._stream.columns == stream.columns and self._may_go_on(source):
                self._woken.clear()
                if self._has_to_wait():
                    self._wait(None)
                    continue
                if (rest := self._rest_until - time.monotonic()) > 0:
                    self._wait(rest)
                    continue
                now = clock.now_us()
                batches = self._next_batches(source, now)
                self._note()
                if not batches:
                    due = source.due_us(now)
                    if due is None and not self._ahead:
                        return True
                    self._wait(None if due is None else (due - now) / 1e6)
                    continue
                first, given = batches[0], pa.concat_tables([b.rows for b in batches])
                given_columns = [c for c in stream.columns if c.name in given.column_names]
                rows = given.select([c.name for c in given_columns])
                if first.defaults:
                    rows = ingest.with_defaults(rows, stream, cursor)
                weights = None if first.weights is None else np.concatenate([_weights(b) for b in batches])
                kept = _kept(batches)
                came = None if weights is None else (weights > 0) & ~np.any([m > 0 for m in kept.values()], axis=0)
                rows = ingest.conform(rows, given_columns, stream, schema, cursor, came=came)
                self._submit(batches, rows, weights, kept)
            return False
        finally:
            source.close()
            cursor.close()

    def _settle(self) -> None:
        """Wait until all that was submitted is committed or refused: only then is it known from where to go on."""
        while self._ahead and not self._stopping:
            self._wait(None)
            self._woken.clear()
        self._committed.clear()
        self._ahead_rows, self._refused, self._failure, self._held, self._skipped = 0, None, None, None, False

    def _next_batches(self, source: Source, now_us: int) -> list[Batch]:
        """Give what is there now and can be one write; an error that comes after some of it is raised the next time."""
        if self._failure is not None:
            raise self._failure
        rows_max = self._engine.limits.source_batch_rows_max
        found, rows = [] if self._held is None else [self._held], 0
        self._held = None
        while len(found) < BATCHES_MAX and 2 * rows < rows_max:
            try:
                batch = source.read(rows_max - rows, now_us)
                if batch is not None:
                    self._check(batch)
            except StreamSQLError as error:
                if not found:
                    raise
                self._failure = error
                break
            if batch is None:
                break
            if found and not _goes_with(found[0], batch):
                self._held = batch
                break
            found.append(batch)
            rows += batch.rows.num_rows
        return found

    def _check(self, batch: Batch) -> None:
        """Raise at a record that cannot be read, where the stream is to stop at it."""
        if not batch.rejected.num_rows or not self._fails:
            return
        if self._at.skips and not self._skipped:
            self._skipped = True
            return
        first = batch.rejected.slice(0, 1).to_pylist()[0]
        raise BadRecord(
            f"a record cannot be read: {first['reason']}, partition {batch.partition}, position {first['position']}",
            hint=f"ALTER STREAM {self._stream.name} RESUME reads it again, RESUME SKIP goes past it",
        )

    def _may_go_on(self, source: Source) -> bool:
        """Tell the source what is committed; tell whether there is more to do. Raises what a write was refused with."""
        positions: dict[str, Position] = {}
        while self._committed:
            rows, reached = self._committed.popleft()
            self._ahead_rows -= rows
            positions.update(reached)
        if positions:
            source.committed(positions)
            self._backoff.succeeded()
        if self._at.resets != self._resets:
            return False  # what was on its way is refused, and reading begins elsewhere
        if self._refused is not None and not self._stopping:
            raise self._refused
        return not self._stopping and self._at.reads

    def _has_to_wait(self) -> bool:
        engine = self._engine
        small = 2 * self._ahead_rows < self._ahead * engine.limits.source_batch_rows_max
        writes_max = AHEAD_SMALL_WRITES_MAX if small else AHEAD_WRITES_MAX
        if self._ahead_rows >= engine.limits.source_ahead_rows_max or self._ahead >= writes_max:
            return True  # the next commit wakes it
        if engine.queue.full:
            engine.queue.when_room(self._woken.set)
            return True
        return outbox.full_for(engine.catalog, engine.sinks, engine.limits, [self._stream.name]) is not None

    def _wait(self, seconds: float | None) -> None:
        self._woken.wait(WAIT_SECONDS_MAX if seconds is None else min(seconds, WAIT_SECONDS_MAX))

    def _submit(self, batches: list[Batch], rows: pa.Table, weights: Weights | None, kept: Kept) -> None:
        """Submit batches as one write; `rows`, `weights` and `kept` are those of all of them."""
        stream, count = self._stream, rows.num_rows
        moves = []
        for batch in batches:
            before, length = self._positions.get(batch.partition), batch.rows.num_rows
            moves.append(
                Move(stream.name, stream.id, batch.partition, before, batch.position, length, batch.own_watermark)
            )
            self._positions[batch.partition] = batch.position
        reached = {batch.partition: batch.position for batch in batches}
        receipt = None
        rejected = [b.rejected for b in batches if b.rejected.num_rows]
        finished = {name: text for b in batches for name, text in b.finished.items()}
        if rejected or finished:
            told = pa.concat_tables(rejected) if rejected else NOTHING_REJECTED
            receipt = Receipt(stream.name, told, stream_id=stream.id, finished=finished)
        write = Write([], moves=tuple(moves), receipt=receipt)
        if isinstance(stream, Stream):
            write.rows.append((stream.name, rows))
        elif count or batches[0].truncated:
            given = np.ones(count, np.int8) if weights is None else weights
            write.keyed = KeyedChange(stream, rows, given, batches[0].truncated, kept)
        self._ahead += 1
        self._ahead_rows += count
        begun = time.monotonic()
        write.done.add_done_callback(lambda done: self._answered(done, count, reached, begun))
        self._engine.submit(write)

    def _answered(self, done: Future[int], rows: int, reached: dict[str, Position], begun: float) -> None:
        """Note, on the engine's thread, what became of a write that was submitted at a time."""
        error, now = done.exception(), time.monotonic()
        if rows <= min(REST_ROWS_MAX, self._engine.limits.source_batch_rows_max // 2) and self._held is None:
            self._rest_until = now + min(now - begun, REST_SECONDS_MAX)
        if error is None:
            self._committed.append((rows, reached))
        elif self._refused is None and isinstance(error, DiskFull):
            self._refused = Unavailable(error.message)  # tried again: there may be room later
        elif self._refused is None:
            self._refused = error if isinstance(error, StreamSQLError) else StreamSQLError(str(error))
        self._ahead -= 1
        self._woken.set()


def _goes_with(first: Batch, other: Batch) -> bool:
    """Tell whether two batches can be one write, one after the other."""
    return (
        not other.truncated
        and (first.weights is None) == (other.weights is None)
        and first.defaults == other.defaults
        and first.rows.schema.equals(other.rows.schema)
    )


def _kept(batches: Sequence[Batch]) -> Kept:
    names = dict.fromkeys(name for b in batches for name in b.kept)
    return {
        name: np.concatenate([b.kept.get(name, np.zeros(b.rows.num_rows, np.int8)) for b in batches]) for name in names
    }


def _weights(batch: Batch) -> Weights:
    if batch.weights is None:
        return np.ones(batch.rows.num_rows, np.int8)
    return np.asarray(batch.weights).astype(np.int8)
