"""Reads the sources of streams and tables that have a connector: one thread each, from CREATE to DROP, from start to stop.

A reader asks its source for a batch, submits it together with the positions that it leads to, and goes on without waiting for
the commit, until `source_ahead_rows_max` rows are on their way or the engine's queue is full: then it pauses. What is committed
is told to the source.

What cannot be reached now is opened again from what is committed, later and later. A reader whose write is refused stops: what
it reads after that would leave a gap (`engine.positions`); so does one whose source fails, and one of a stream with
``on_error = 'fail'`` at a record that cannot be read. All of it is logged and shown in ``streamsql.sources``. A reader that has
stopped tries again after ALTER ... RESUME, and at the next start.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import structlog

from streamsql.base.errors import AdminShutdown, BadRecord, StreamSQLError, Unavailable
from streamsql.catalog.objects import Stream, Table, View
from streamsql.connectors import connector_of, given_of
from streamsql.connectors.backoff import Backoff
from streamsql.connectors.source import Batch, LeavesTraces, Source, Surroundings
from streamsql.engine import ingest, outbox, sources
from streamsql.engine.epoch import Engine
from streamsql.engine.finished import Notes
from streamsql.engine.positions import Move, Position, StreamProgress
from streamsql.engine.receipts import Receipt
from streamsql.engine.table_changes import KeyedChange
from streamsql.engine.writes import Write

log = structlog.get_logger()

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
            wanted = {o.id: o for o in self._engine.catalog if not isinstance(o, View) and o.connector}
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
        self._ahead: int = 0  # writes that are not answered yet
        self._ahead_rows = 0
        self._committed: deque[tuple[int, str, Position]] = deque()

    @property
    def ended_before_reset(self) -> bool:
        """Tell whether it came to the end of its source, which has been told to begin elsewhere since."""
        return self._ended and self._at.resets != self._resets

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
            self._note(error=None, retrying=False)
            while not self._stopping:
                self._woken.clear()
                if not self._at.reads:
                    self._woken.wait()
                elif self._attempt():
                    self._ended = True
                    break
        if self._dropped:
            self._forget()

    def _forget(self) -> None:
        connector = connector_of(self._stream.connector, {})
        if not isinstance(connector, LeavesTraces):
            return
        given = given_of(self._stream.connector, {}, table=isinstance(self._stream, Table))
        try:
            connector.forget(given, self._stream.columns, self._surroundings)
        except StreamSQLError as error:
            log.warning(
                "the origin still keeps something", stream=self._stream.name, error=error.message, hint=error.hint
            )

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
                self._note(error=error.message, retrying=False)
        except Exception as error:  # noqa: BLE001  # a connector's own fault must not pass unnoticed in a thread
            log.error("source failed", stream=self._stream.name, error=repr(error))
            self._note(error="an internal error; the server's log says more", retrying=False)
        return False

    def _note(self, *, error: str | None, retrying: bool) -> None:
        """Show how the source is doing."""
        if (self._at.error, self._at.retrying) != (error, retrying):
            self._engine.call(lambda: sources.note(self._engine, self._stream, error, retrying=retrying)).result()

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
                now = clock.now_us()
                batch = source.read(engine.limits.source_batch_rows_max, now)
                self._note(error=None, retrying=False)
                if batch is None:
                    due = source.due_us(now)
                    if due is None and not self._ahead:
                        return True
                    self._wait(None if due is None else (due - now) / 1e6)
                    continue
                self._check(batch)
                given_columns = [c for c in stream.columns if c.name in batch.rows.column_names]
                rows = batch.rows.select([c.name for c in given_columns])
                if batch.defaults:
                    rows = ingest.with_defaults(rows, stream, cursor)
                came = None if batch.weights is None else _weights(batch) > 0
                self._submit(batch, ingest.conform(rows, given_columns, stream, schema, cursor, came=came))
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
        self._ahead_rows, self._refused = 0, None

    def _check(self, batch: Batch) -> None:
        """Raise at a record that cannot be read, where the stream is to stop at it."""
        if not batch.rejected.num_rows or not self._fails:
            return
        if self._at.skips:
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
            rows, partition, position = self._committed.popleft()
            self._ahead_rows -= rows
            positions[partition] = position
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
        if self._ahead_rows >= engine.limits.source_ahead_rows_max:
            return True  # the next commit wakes it
        if engine.queue.full:
            engine.queue.when_room(self._woken.set)
            return True
        return outbox.full_for(engine.catalog, engine.sinks, engine.limits, [self._stream.name]) is not None

    def _wait(self, seconds: float | None) -> None:
        self._woken.wait(WAIT_SECONDS_MAX if seconds is None else min(seconds, WAIT_SECONDS_MAX))

    def _submit(self, batch: Batch, rows: pa.Table) -> None:
        stream, partition, count = self._stream, batch.partition, rows.num_rows
        table = stream if isinstance(stream, Table) else None
        move = Move(
            stream.name,
            stream.id,
            partition,
            self._positions.get(partition),
            batch.position,
            rows=count if table is not None else 0,
            own_watermark=batch.own_watermark,
        )
        receipt = None
        if batch.rejected.num_rows or batch.finished:
            receipt = Receipt(stream.name, batch.rejected, stream_id=stream.id, finished=batch.finished)
        write = Write([], moves=(move,), receipt=receipt)
        if table is None:
            write.rows.append((stream.name, rows))
        elif count or batch.truncated:
            write.keyed = KeyedChange(table, rows, _weights(batch), batch.truncated)
        self._ahead += 1
        self._ahead_rows += count
        self._positions[partition] = batch.position
        write.done.add_done_callback(lambda done: self._answered(done, count, partition, batch.position))
        self._engine.submit(write)

    def _answered(self, done: Future[int], rows: int, partition: str, position: Position) -> None:
        """Note, on the engine's thread, what became of a write."""
        error = done.exception()
        if error is None:
            self._committed.append((rows, partition, position))
        elif self._refused is None:
            self._refused = error if isinstance(error, StreamSQLError) else StreamSQLError(str(error))
        self._ahead -= 1
        self._woken.set()


def _weights(batch: Batch) -> npt.NDArray[np.int8]:
    if batch.weights is None:
        return np.ones(batch.rows.num_rows, np.int8)
    return np.asarray(batch.weights).astype(np.int8)
