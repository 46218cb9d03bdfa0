"""Reads relations that share an origin (`source.SharesOrigins`): one thread, one open source, one write for what belongs
together.

What the source gives at once is submitted as one write, with a move of every relation: so a transaction of the origin that
changes several of them is in one epoch. It is read as by `readers.Reader`, with these differences:

- A relation that is paused, has failed or is not there any more is left out: the source is closed, and opened for the others.
  One that comes in again, or has just begun, makes it be opened again from where the one is that is the furthest behind.
- A relation fails alone: where the source says so, at a record that cannot be read, and where a write is refused. Which of them
  it is refused for is found out by leaving out one after the other. The others go on, and what it has not taken in is read
  again when it is resumed.
- The source is told how far all relations are that its origin holds the log for, be they read now or not; and nothing while
  that of one is not known.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import structlog

from streamsql.base.errors import AdminShutdown, StreamSQLError, Unavailable
from streamsql.catalog.objects import Stream, Table
from streamsql.connectors import connector_of, given_of
from streamsql.connectors.ahead import Ahead, Part, bad_record, seen_by_reader
from streamsql.connectors.backoff import Backoff
from streamsql.connectors.forgetting import forget
from streamsql.connectors.source import Member, SharedBatch, SharedSource, SharesOrigins
from streamsql.connectors.surroundings import has_begun, positions_of, surroundings_of
from streamsql.engine import ingest, sources
from streamsql.engine.epoch import Engine
from streamsql.engine.positions import Position, Positions, StreamProgress
from streamsql.engine.writes import Write

log = structlog.get_logger()

Relations = dict[int, Stream | Table]
# What a write takes in of each relation, and the positions before it.
Parts = dict[int, tuple[Part, dict[str, Position]]]

# A reader that waits looks up at least so often; whatever changes wakes it at once.
WAIT_SECONDS_MAX = 5.0


class SharedReader(threading.Thread):
    """Reads relations that share an origin. `follow` tells it which there are; its thread ends when there are none."""

    def __init__(
        self, engine: Engine, allowed_paths: tuple[Path, ...] = (), allowed_urls: tuple[str, ...] = ()
    ) -> None:
        super().__init__(name="shared source", daemon=True)
        self._engine = engine
        self._allowed = allowed_paths, allowed_urls
        self._all: Sequence[Stream | Table] = ()
        self._begun: Relations = {}
        self._dropped: list[Stream | Table] = []
        self._woken = threading.Event()
        self._stopping = False
        self._backoff = Backoff()
        self._ahead: Ahead[Parts] = Ahead(engine, self._woken)
        self._positions: dict[int, dict[str, Position]] = {}
        self._skipped: set[int] = set()

    def reads(self, number: int) -> bool:
        """Tell whether a relation of this number is read here."""
        return number in self._begun

    def follow(self, relations: Sequence[Stream | Table], begun: set[int]) -> None:
        """Be told of all relations that share the origin, and which of them are to be read here. From one thread at a time."""
        self._all = tuple(relations)
        there = {r.id: r for r in relations if r.id in begun}
        self._dropped += [r for number, r in self._begun.items() if number not in there]
        self._begun = there
        self._woken.set()

    def stop(self) -> None:
        """Ask it to end after what it is doing."""
        self._stopping = True
        self._woken.set()

    # ---- its thread ----

    def run(self) -> None:
        with contextlib.suppress(AdminShutdown):
            while not self._stopping:
                self._woken.clear()
                self._forget_dropped()
                live = self._live()
                if not self._all:
                    break
                if live:
                    self._attempt(live)
                else:
                    self._woken.wait()

    def _forget_dropped(self) -> None:
        """Have the origin let go of what was dropped. It may take its time, which the others do not wait for."""
        while self._dropped:
            item = self._dropped.pop()

            def run(item: Stream | Table = item) -> None:
                with contextlib.suppress(AdminShutdown):
                    forget(self._engine, item, surroundings_of(self._engine, item, lambda: None, *self._allowed))

            threading.Thread(target=run, name=f"forgetting {item.name}", daemon=True).start()

    def _live(self) -> Relations:
        """Give the relations that are to be read now."""
        return {number: r for number, r in self._begun.items() if self._at(r).reads}

    def _at(self, relation: Stream | Table) -> StreamProgress:
        return self._engine.streams.get(relation.name) or StreamProgress()

    def _attempt(self, live: Relations) -> None:
        """Read until something stops it, or other relations are to be read."""
        try:
            self._read_all(live)
        except AdminShutdown:
            raise
        except Unavailable as error:
            seconds = self._backoff.failed()
            log.warning("source unavailable", stream=_names(live), error=error.message)
            self._note(live, error=error.message, retrying=True)
            self._woken.wait(seconds)
        except StreamSQLError as error:
            if self._are_still(live):
                log.error("source stopped", stream=_names(live), error=error.message)
                self._note(live, error=error.message)
        except Exception as error:  # noqa: BLE001  # a connector's own fault must not pass unnoticed in a thread
            if self._are_still(live):
                log.error("source failed", stream=_names(live), error=repr(error))
                self._note(live, error="an internal error; the server's log says more")

    def _are_still(self, live: Relations) -> bool:
        """Tell whether the same relations are to be read, after what the engine is doing, such as dropping one of them.

        Else what has gone wrong may be due to that, and would be told of the others.
        """
        if self._stopping:
            return False
        self._engine.call(lambda: None).result()
        return self._live() == live

    def _note(self, relations: Relations, *, error: str | None = None, retrying: bool = False) -> None:
        """Show how sources are doing."""
        engine = self._engine
        for number, given in relations.items():
            relation = self._begun.get(number, given)
            at = self._at(relation)
            if (at.error, at.retrying) != (error, retrying):
                engine.call(partial(sources.note, engine, relation, error, retrying=retrying)).result()

    def _fail(self, relation: Stream | Table, error: StreamSQLError) -> None:
        """Stop reading one relation, after all of what was submitted of it."""
        log.error("source stopped", stream=relation.name, error=error.message)
        self._note({relation.id: relation}, error=error.message)

    def _read_all(self, live: Relations) -> None:
        engine = self._engine
        if not self._settle(live):
            return
        streams = engine.streams
        if not all(has_begun(streams, r) for r in live.values()):
            self._are_still(live)  # one of them is being dropped
            return
        self._positions = {number: positions_of(streams, r) for number, r in live.items()}
        source = self._opened(live)
        cursor = engine.store.cursor()
        try:
            schemas = {number: ingest.arrow_schema(r, cursor) for number, r in live.items()}
            while self._may_go_on(source, live):
                self._woken.clear()
                if self._ahead.has_to_wait([*live.values()]):
                    self._wait(None)
                    continue
                if (rest := self._ahead.rest_seconds) > 0:
                    self._wait(rest)
                    continue
                now = engine.clock.now_us()
                found = source.read(engine.limits.source_batch_rows_max, now)
                self._note(live)
                if found is None:
                    self._wait((source.due_us(now) - now) / 1e6)
                else:
                    self._take(live, found, schemas, cursor)
        finally:
            source.close()
            cursor.close()

    def _opened(self, live: Relations) -> SharedSource:
        first = next(iter(live.values()))
        connector = connector_of(first.connector, {})
        assert isinstance(connector, SharesOrigins)
        members = {
            number: Member(
                given_of(relation.connector, {}, table=isinstance(relation, Table)),
                relation.columns,
                dict(self._positions[number]),
                surroundings_of(self._engine, relation, self._woken.set, *self._allowed),
            )
            for number, relation in live.items()
        }
        return connector.open_shared(members, self._woken.set)

    def _may_go_on(self, source: SharedSource, live: Relations) -> bool:
        """Tell the source what is committed; tell whether the same relations are to be read on."""
        if any(True for _ in self._ahead.committed()):
            self._backoff.succeeded()
        if (reached := self._reached()) is not None:
            source.committed(reached)
        return self._ahead.refused is None and not self._stopping and not self._dropped and self._live() == live

    def _reached(self) -> Sequence[Positions] | None:
        """Give how far all relations are that the log is held for; None if that is not known of one.

        One that begins is not told of before it is among them (`readers.SourceReaders`), so the progress is read first: what
        is let go of then is before anything that it may begin with. One that has failed before it has begun begins anew.
        """
        streams = self._engine.streams
        found = []
        for relation in self._all:
            if has_begun(streams, relation):
                found.append(positions_of(streams, relation))
            else:
                at = streams.get(relation.name) or StreamProgress()
                if at.error is None or at.retrying:
                    return None
        return found

    def _wait(self, seconds: float | None) -> None:
        self._woken.wait(WAIT_SECONDS_MAX if seconds is None else min(seconds, WAIT_SECONDS_MAX))

    # ---- writes ----

    def _take(
        self, live: Relations, found: SharedBatch, schemas: dict[int, pa.Schema], cursor: duckdb.DuckDBPyConnection
    ) -> None:
        """Submit what belongs together, but for the relations that fail at it."""
        failures, parts = dict(found.failures), Parts()
        for number, batch in found.batches.items():
            relation = live[number]
            if batch.rejected.num_rows and relation.fails and not self._skips(relation):
                failures[number] = bad_record(relation, batch)
                continue
            try:
                part = Part(self._engine, relation, [batch], schemas[number], cursor)
            except StreamSQLError as failure:
                failures[number] = failure
                continue
            parts[number] = (part, dict(self._positions[number]))
        self._submit(parts)
        for number, error in failures.items():
            self._fail(live[number], error)

    def _skips(self, relation: Stream | Table) -> bool:
        """Tell whether records that cannot be read are passed this time."""
        if relation.id in self._skipped or not self._at(relation).skips:
            return False
        self._skipped.add(relation.id)
        return True

    def _submit(self, parts: Parts) -> None:
        if parts:
            write = _write(parts)
            for number, (part, _) in parts.items():
                part.moves(self._positions[number])
            self._ahead.submit(write, write.row_count, parts)

    def _settle(self, live: Relations) -> bool:
        """Wait until all that was submitted is committed or refused; tell whether all of `live` may be read from there."""
        while self._ahead.writes and not self._stopping:
            self._wait(None)
            self._woken.clear()
        refused = self._ahead.refused
        self._ahead.begin()
        self._skipped.clear()
        if refused is None or self._stopping:
            return not self._stopping
        error, parts = refused
        if isinstance(error, (Unavailable, AdminShutdown)):
            raise error
        if all(number in live for number in parts):
            self._find_fault(parts, error)
        return False  # with what there is now

    def _find_fault(self, parts: Parts, error: StreamSQLError) -> None:
        """Find for which of its relations a write is refused, and stop that one; what is good of it is written.

        Nothing of the write is committed, and nothing after it.
        """
        if len(parts) == 1:
            self._fail(next(iter(parts.values()))[0].relation, error)
            return
        for number, (part, _) in parts.items():
            others = {n: p for n, p in parts.items() if n != number}
            if self._refusal(others) is None:
                self._fail(part.relation, error)
                return
        for number, each in parts.items():  # more than one
            if (refusal := self._refusal({number: each})) is not None:
                self._fail(each[0].relation, refusal)

    def _refusal(self, parts: Parts) -> StreamSQLError | None:
        """Write, and give what it is refused with."""
        failure = self._engine.submit(_write(parts)).exception()
        if failure is None:
            return None
        error = seen_by_reader(failure)
        if isinstance(error, (Unavailable, AdminShutdown)):
            raise error
        return error


def _write(parts: Parts) -> Write:
    """Make one write of the parts, each of which goes on from its positions."""
    return Write(
        [row for part, _ in parts.values() for row in part.streamed],
        moves=tuple(move for part, before in parts.values() for move in part.moves(dict(before))),
        receipts=tuple(receipt for part, _ in parts.values() for receipt in part.receipts),
        keyed=tuple(change for part, _ in parts.values() for change in part.keyed),
    )


def _names(relations: Relations) -> str:
    return ", ".join(relation.name for relation in relations.values())
