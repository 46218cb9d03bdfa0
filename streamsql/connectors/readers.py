"""Reads the sources of streams and tables that have a connector: one thread each, from CREATE to DROP, from start to stop.

A reader asks its source for batches, submits those that are there together with the positions that they lead to, and goes on
without waiting for the commit, until `source_ahead_rows_max` rows or a few writes are on their way, or the engine's queue is
full: then it pauses. So where the engine is behind, the next write has more rows. One that keeps up rests for as long as its
last write took. What is committed is told to the source.

What cannot be reached now is opened again from what is committed, later and later. A reader whose write is refused stops: what
it reads after that would leave a gap (`engine.positions`); so does one whose source fails, and one of a stream with
``on_error = 'fail'`` at a record that cannot be read. All of it is logged and shown in ``streamsql.sources``. A reader that has
stopped tries again after ALTER ... RESUME, and at the next start.

Relations that share an origin (`source.SharesOrigins`) have a reader each until they have begun, and one for all of them
from then on (`shared_readers`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path

import structlog

from streamsql.base.errors import AdminShutdown, StreamSQLError, Unavailable
from streamsql.catalog.objects import Stream, Table
from streamsql.connectors import connector_of, given_of
from streamsql.connectors.ahead import Ahead, Part, bad_record
from streamsql.connectors.backoff import Backoff
from streamsql.connectors.forgetting import forget, forget_left_behind
from streamsql.connectors.shared_readers import SharedReader
from streamsql.connectors.source import Batch, Source
from streamsql.connectors.surroundings import has_begun, shared_origin, surroundings_of
from streamsql.engine import ingest, sources
from streamsql.engine.epoch import Engine
from streamsql.engine.positions import Position, StreamProgress
from streamsql.engine.writes import Write

log = structlog.get_logger()

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
        self._shared: dict[Hashable, SharedReader] = {}
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
            readers: list[Reader | SharedReader] = [*self._readers.values(), *self._shared.values()]
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
            for number in self._follow_shared(wanted):
                del wanted[number]
            for number, stream in wanted.items():
                there = self._readers.get(number)
                if there is None or there.ended_before_reset:
                    hand_over = None if shared_origin(stream) is None else self._take_over
                    self._readers[number] = Reader(self._engine, stream, *self._allowed, hand_over)
                    self._readers[number].start()
                else:
                    there.follow(stream)

    def _follow_shared(self, wanted: dict[int, Stream | Table]) -> set[int]:
        """Tell readers of several relations about all that share their origins; give the numbers of those that they read.

        They hear of a new one before it begins to be read.
        """
        by_origin: dict[Hashable, list[Stream | Table]] = {}
        for relation in wanted.values():
            if (origin := shared_origin(relation)) is not None:
                by_origin.setdefault(origin, []).append(relation)
        for gone in [origin for origin in self._shared if origin not in by_origin]:
            self._shared.pop(gone).follow([], set())
        read: set[int] = set()
        for shared, relations in by_origin.items():
            begun = {r.id for r in relations if r.id not in self._readers and has_begun(self._engine.streams, r)}
            there = self._shared.get(shared)
            if there is not None:
                begun |= {r.id for r in relations if there.reads(r.id)}
                there.follow(relations, begun)
            elif begun:
                self._shared[shared] = SharedReader(self._engine, *self._allowed)
                self._shared[shared].follow(relations, begun)
                self._shared[shared].start()
            read |= begun
        return read

    def _take_over(self, reader: Reader) -> None:
        """Read on, together with others, what a reader has begun. On its thread."""
        with self._lock:
            if self._readers.get(reader.relation.id) is not reader:
                return  # it was dropped
            del self._readers[reader.relation.id]
        self._follow()


class Reader(threading.Thread):
    """Reads one stream's or table's source. Its thread ends by itself where the source does, once all is committed."""

    def __init__(
        self,
        engine: Engine,
        stream: Stream | Table,
        allowed_paths: tuple[Path, ...] = (),
        allowed_urls: tuple[str, ...] = (),
        hand_over: Callable[[Reader], None] | None = None,
    ) -> None:
        super().__init__(name=f"source {stream.name}", daemon=True)
        self._engine = engine
        self._hand_over = hand_over
        self._stream = stream
        self._fails = stream.fails
        self._positions: dict[str, Position] = dict(self._at.positions)
        self._resets = 0
        self._ended = False
        self._ending = threading.Lock()
        self._woken = threading.Event()
        self._surroundings = surroundings_of(engine, stream, self._woken.set, allowed_paths, allowed_urls)
        self._stopping = self._dropped = False
        self._backoff = Backoff()
        self._failure: StreamSQLError | None = None  # what came after batches that are to be submitted first
        self._held: Batch | None = None  # what was read and could not be in one write with what came before
        self._skipped = False
        self._ahead: Ahead[dict[str, Position]] = Ahead(engine, self._woken)

    @property
    def relation(self) -> Stream | Table:
        """Tell what it reads."""
        return self._stream

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
                surroundings = replace(self._surroundings, begun=bool(self._positions))
                forget(self._engine, self._stream, surroundings)

    def _read_on(self) -> None:
        self._note()
        while not self._stopping:
            self._woken.clear()
            if not self._at.reads:
                self._woken.wait()
            elif self._attempt():
                if self._hand_over is not None:
                    self._hand_over(self)
                    break
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
                if self._ahead.has_to_wait([stream]):
                    self._wait(None)
                    continue
                if (rest := self._ahead.rest_seconds) > 0:
                    self._wait(rest)
                    continue
                now = clock.now_us()
                batches = self._next_batches(source, now)
                self._note()
                if not batches:
                    due = source.due_us(now)
                    if due is None and not self._ahead.writes:
                        return True
                    self._wait(None if due is None else (due - now) / 1e6)
                    continue
                self._submit(batches, Part(engine, self._stream, batches, schema, cursor))
            return False
        finally:
            source.close()
            cursor.close()

    def _settle(self) -> None:
        """Wait until all that was submitted is committed or refused: only then is it known from where to go on."""
        while self._ahead.writes and not self._stopping:
            self._wait(None)
            self._woken.clear()
        self._ahead.begin()
        self._failure, self._held, self._skipped = None, None, False

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
        raise bad_record(self._stream, batch)

    def _may_go_on(self, source: Source) -> bool:
        """Tell the source what is committed; tell whether there is more to do. Raises what a write was refused with."""
        positions: dict[str, Position] = {}
        for reached in self._ahead.committed():
            positions.update(reached)
        if positions:
            source.committed(positions)
            self._backoff.succeeded()
        if self._at.resets != self._resets:
            return False  # what was on its way is refused, and reading begins elsewhere
        if self._ahead.refused is not None and not self._stopping:
            raise self._ahead.refused[0]
        return not self._stopping and self._at.reads

    def _wait(self, seconds: float | None) -> None:
        self._woken.wait(WAIT_SECONDS_MAX if seconds is None else min(seconds, WAIT_SECONDS_MAX))

    def _submit(self, batches: list[Batch], part: Part) -> None:
        """Submit batches as one write."""
        write = Write(part.streamed, moves=part.moves(self._positions), receipts=part.receipts, keyed=part.keyed)
        reached = {batch.partition: batch.position for batch in batches}
        self._ahead.submit(write, part.rows.num_rows, reached, rests=self._held is None)


def _goes_with(first: Batch, other: Batch) -> bool:
    """Tell whether two batches can be one write, one after the other."""
    return (
        not other.truncated
        and (first.weights is None) == (other.weights is None)
        and first.defaults == other.defaults
        and first.rows.schema.equals(other.rows.schema)
    )
