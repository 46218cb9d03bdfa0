"""Reads the sources of all streams that have a connector: one thread each, from CREATE to DROP and from start to stop.

A reader asks its source for a batch, submits it together with the positions that it leads to, and goes on without waiting for
the commit, until `source_ahead_rows_max` rows are on their way or the engine's queue is full: then it pauses. What is committed
is told to the source. A reader whose write is refused stops: what it reads after that would leave a gap (`engine.positions`);
so does one whose source fails. Both are logged and shown in ``streamsql.sources``, and the stream stays as it is until the
next start.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import structlog

from streamsql.base.errors import AdminShutdown, StreamSQLError
from streamsql.catalog.objects import Stream
from streamsql.connectors import CONNECTORS, given_of
from streamsql.connectors.source import Batch, Source, Surroundings
from streamsql.engine import ingest
from streamsql.engine.epoch import Engine, Write
from streamsql.engine.positions import Move, Position, StreamProgress

log = structlog.get_logger()

# A reader that waits looks up at least so often; whatever changes wakes it at once.
WAIT_SECONDS_MAX = 5.0


class SourceReaders:
    """The readers of an engine's streams. `start` it once the engine runs, `stop` it before the engine is stopped."""

    def __init__(self, engine: Engine, allowed_paths: tuple[Path, ...] = ()) -> None:
        self._engine = engine
        self._allowed_paths = allowed_paths
        self._readers: dict[int, Reader] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Read from now on whatever the catalog has, and follow its changes."""
        self._engine.on_catalog_change = self._follow
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
        """Start the readers that are missing, end those whose stream is gone."""
        with self._lock:
            if self._stopped:
                return
            wanted = {o.id: o for o in self._engine.catalog if isinstance(o, Stream) and o.connector}
            for number in [n for n in self._readers if n not in wanted]:
                self._readers.pop(number).stop()
            for number, stream in wanted.items():
                if number not in self._readers:
                    self._readers[number] = Reader(self._engine, stream, self._allowed_paths)
                    self._readers[number].start()


class Reader(threading.Thread):
    """Reads one stream's source. Its thread ends by itself where the source does, once all is committed."""

    def __init__(self, engine: Engine, stream: Stream, allowed_paths: tuple[Path, ...] = ()) -> None:
        super().__init__(name=f"source {stream.name}", daemon=True)
        self._engine = engine
        self._stream = stream
        at = engine.streams.get(stream.name)
        self._positions: dict[str, Position] = dict(at.positions) if at is not None else {}
        self._wake = threading.Event()
        self._surroundings = Surroundings(
            allowed_paths, self._wake.set, stream.name, stream.id, engine.limits.record_bytes_max
        )
        self._stopping = False
        self._refused: StreamSQLError | None = None
        self._ahead_rows = 0
        self._committed: deque[tuple[int, str, Position]] = deque()

    def stop(self) -> None:
        """Ask it to end after what it is doing."""
        self._stopping = True
        self._wake.set()

    def run(self) -> None:
        try:
            self._read_all()
        except AdminShutdown:
            return
        except StreamSQLError as error:
            if not self._stopping:
                log.error("source stopped", stream=self._stream.name, error=error.message)
                self._tell(error.message)
        except Exception as error:  # noqa: BLE001  # a connector's own fault must not pass unnoticed in a thread
            log.error("source failed", stream=self._stream.name, error=repr(error))
            self._tell("an internal error; the server's log says more")

    def _tell(self, error: str) -> None:
        """Note in the catalog's progress why the stream is not read any more."""
        engine, name = self._engine, self._stream.name

        def note() -> None:
            if self._stream in engine.catalog:
                at = engine.streams.get(name) or StreamProgress()
                engine.streams = {**engine.streams, name: replace(at, error=error)}
                with engine.store.transaction():
                    engine.save()

        with contextlib.suppress(AdminShutdown):
            engine.call(note)

    def _read_all(self) -> None:
        stream, engine = self._stream, self._engine
        connector, clock = CONNECTORS[stream.connector["connector"]], engine.clock
        given = given_of(dict(stream.connector), {})
        source: Source = connector.open(
            given, stream.columns, dict(self._positions), clock.now_us(), self._surroundings
        )
        cursor = engine.store.cursor()
        try:
            schema = ingest.arrow_schema(stream, cursor)
            while self._may_go_on(source):
                self._wake.clear()
                if self._paused():
                    self._wait(None)
                    continue
                now = clock.now_us()
                batch = source.read(engine.limits.source_batch_rows_max, now)
                if batch is None:
                    due = source.due_us(now)
                    if due is None and not self._ahead_rows:
                        return
                    self._wait(None if due is None else (due - now) / 1e6)
                    continue
                given_columns = [c for c in stream.columns if c.name in batch.rows.column_names]
                rows = batch.rows.select([c.name for c in given_columns])
                self._submit(batch, ingest.conform(rows, given_columns, stream, schema, cursor))
        finally:
            source.close()
            cursor.close()

    def _may_go_on(self, source: Source) -> bool:
        """Tell the source what is committed; tell whether there is more to do. Raises what a write was refused with."""
        positions: dict[str, Position] = {}
        while self._committed:
            rows, partition, position = self._committed.popleft()
            self._ahead_rows -= rows
            positions[partition] = position
        if positions:
            source.committed(positions)
        if self._stopping:
            return False
        if self._refused is not None:
            raise self._refused
        return True

    def _paused(self) -> bool:
        engine = self._engine
        if self._ahead_rows >= engine.limits.source_ahead_rows_max:
            return True  # the next commit wakes it
        if engine.full:
            engine.when_room(self._wake.set)
            return True
        return False

    def _wait(self, seconds: float | None) -> None:
        self._wake.wait(WAIT_SECONDS_MAX if seconds is None else min(seconds, WAIT_SECONDS_MAX))

    def _submit(self, batch: Batch, rows: pa.Table) -> None:
        stream, partition = self._stream, batch.partition
        move = Move(stream.name, stream.id, partition, self._positions.get(partition), batch.position)
        write = Write([(stream.name, rows)], moves=(move,))
        self._ahead_rows += rows.num_rows
        self._positions[partition] = batch.position
        write.done.add_done_callback(lambda done: self._answered(done, rows.num_rows, partition, batch.position))
        self._engine.submit(write)

    def _answered(self, done: Future[int], rows: int, partition: str, position: Position) -> None:
        """Note, on the engine's thread, what became of a write."""
        error = done.exception()
        if error is None:
            self._committed.append((rows, partition, position))
        elif not self._stopping:
            self._refused = error if isinstance(error, StreamSQLError) else StreamSQLError(str(error))
        self._wake.set()
