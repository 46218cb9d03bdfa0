"""The capture of one table: the origin is prepared, the snapshot read and then the changes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from streamsql.base.errors import ProgramLimitExceeded
from streamsql.base.limits import Limits
from streamsql.base.types import TEXT
from streamsql.connectors.postgres import origin
from streamsql.connectors.postgres.connection import Connection
from streamsql.connectors.postgres.options import Address, literal, quoted
from streamsql.connectors.postgres.pgoutput import ChangeDecoder, Piece, Place, Wanted, read_place
from streamsql.connectors.postgres.thread import STATUS_SECONDS_MAX, OriginThread
from streamsql.connectors.postgres.values import typed
from streamsql.connectors.source import Companion
from streamsql.engine.kept_values import Kept
from streamsql.engine.positions import Position
from streamsql.formats.format import NOTHING_REJECTED
from streamsql.pgwire import client
from streamsql.pgwire.copy import CopyColumn, CopyDecoder
from streamsql.pgwire.copy_options import CopyOptions
from streamsql.pgwire.values.column import Numbers
from streamsql.sql.statements import ColumnDefinition

SNAPSHOT = "snapshot"
PARTITION = "0"
# how long to go without a look where nobody wakes the reader
LOOK_AGAIN_US = 5_000_000

FEED_BYTES_MAX = 1 << 20
# A position that moves without rows costs an epoch: not more often than this, unless the server waits for it.
IDLE_SECONDS, IDLE_REPLY_SECONDS, IDLE_BYTES = 10.0, 0.5, 16 << 20
_LOCK_SECONDS = 0.1
_locks: dict[tuple[object, ...], threading.Lock] = {}
_locks_lock = threading.Lock()
_CSV = CopyOptions(format="csv", delimiter=",", null="")


@dataclass(frozen=True, slots=True)
class Target:
    """What is read, and how."""

    address: Address
    table: str
    columns: tuple[ColumnDefinition, ...]
    slot: str
    publication: str
    own_publication: bool
    snapshot: bool
    record_bytes_max: int
    snapshot_rows_max: int
    wake: Callable[[], None]
    # of a table that is read together with others over one slot: what knows of them
    shared: SharedSlot | None = None

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns if c.primary_key)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)


@dataclass(frozen=True, slots=True)
class SharedSlot:
    """A slot that several relations are read over: which it is, and where the others are."""

    origin: tuple[object, ...]
    temporary: str  # the name of the slot of a relation that begins
    companions: Callable[[], Sequence[Companion]]

    @contextlib.contextmanager
    def held(self, wait: Callable[[float], None]) -> Iterator[None]:
        """Let nobody else of this process make it, or drop it; `wait` is called with seconds while another one does."""
        with _locks_lock:
            lock = _locks.setdefault(self.origin, threading.Lock())
        while not lock.acquire(blocking=False):
            wait(_LOCK_SECONDS)
        try:
            yield
        finally:
            lock.release()

    def positions_of_others(self) -> list[Position | None]:
        """Give the position of each other relation; None for one that has not begun to make the slot."""
        return [companion.positions.get(PARTITION) for companion in self.companions()]


@dataclass(frozen=True, slots=True)
class Captured:
    """Rows in their order, and the position after them. `whole`: no transaction is open there.

    `lsns` and `numbers` are the place after each row; without them the position is the same after each. So are
    `rejected_lsns` and `rejected_numbers` of the rejected records.
    """

    rows: pa.Table
    weights: Numbers
    position: str
    whole: bool = True
    truncated: bool = False
    rejected: pa.Table = field(default_factory=lambda: NOTHING_REJECTED)
    lsns: Numbers | None = None
    numbers: Numbers | None = None
    rejected_lsns: Numbers | None = None
    rejected_numbers: Numbers | None = None
    cuttable: bool = True
    kept: Kept = field(default_factory=dict)

    @property
    def byte_count(self) -> int:
        return int(self.rows.nbytes)

    def cut(self, at: int) -> tuple[Captured | None, Captured | None]:
        """Part it at row `at` or before: after a transaction if it can be, and never between the two rows of one change.

        Rejected records are where their place is: what comes again after a cut must not come twice. Without places they stay
        with the first part.
        """
        if not self.cuttable:
            return self, None
        if self.lsns is None or self.numbers is None:
            first = replace(self, rows=self.rows.slice(0, at), weights=self.weights[:at])
            kept = {n: k[at:] for n, k in self.kept.items()}
            rest = replace(
                self, rows=self.rows.slice(at), weights=self.weights[at:], rejected=NOTHING_REJECTED, kept=kept
            )
            return first, replace(rest, truncated=False)
        other = np.diff(self.lsns) != 0
        good = np.flatnonzero(other) + 1
        if not len(good) or good[0] > at:
            good = np.append(np.flatnonzero(other | (np.diff(self.numbers) != 0)) + 1, self.rows.num_rows)
        at = int(good[max(int(np.searchsorted(good, at, side="right")) - 1, 0)])
        if at == self.rows.num_rows:
            return self, None
        place = Place(int(self.lsns[at - 1]), int(self.numbers[at - 1]))
        rejected = 0
        if self.rejected_lsns is not None and self.rejected_numbers is not None:
            before = self.rejected_lsns < place.lsn
            before |= (self.rejected_lsns == place.lsn) & (self.rejected_numbers <= place.number)
            rejected = int(np.count_nonzero(before))
        first, rest = (
            self._slice(0, at, 0, rejected),
            self._slice(at, self.rows.num_rows, rejected, self.rejected.num_rows),
        )
        return replace(first, position=str(place), whole=False), replace(rest, truncated=False)

    def _slice(self, start: int, stop: int, first: int, last: int) -> Captured:
        """Give some of the rows, and some of the rejected records."""

        def part(places: Numbers | None, begin: int, end: int) -> Numbers | None:
            return None if places is None else places[begin:end]

        return replace(
            self, rows=self.rows.slice(start, stop - start), weights=self.weights[start:stop],
            rejected=self.rejected.slice(first, last - first), kept={n: k[start:stop] for n, k in self.kept.items()},
            lsns=part(self.lsns, start, stop), numbers=part(self.numbers, start, stop),
            rejected_lsns=part(self.rejected_lsns, first, last),
            rejected_numbers=part(self.rejected_numbers, first, last),
        )  # fmt: skip


class Capture(OriginThread[Captured]):
    """One capture, from a place or, without one, from the beginning.

    `begun` says that a position was committed before, so that a slot that is there is ours.
    """

    def __init__(self, target: Target, *, begun: bool, start: Place | None) -> None:
        super().__init__(f"origin {target.table}", target.address, target.wake)
        self._target = target
        self._begun = threading.Event()
        if begun:
            self._begun.set()
        self._start = start
        self._flushed = start.lsn if start is not None else 0

    # ---- for the reader

    def committed(self, position: str) -> None:
        """Be told that all up to a position is durable."""
        self._begun.set()
        place = read_place(position)
        if place is not None:
            self._flushed = max(self._flushed, place.lsn)
        self._stir()

    def _read(self) -> None:
        target = self._target
        sql = self._connect()
        version = origin.version_of(sql)
        origin.check_logical(sql)
        patience = origin.patience_seconds(sql)
        self._status_seconds = min(patience / 4, STATUS_SECONDS_MAX) if patience else STATUS_SECONDS_MAX
        table = origin.find_table(sql, target.table, target.names, target.key)
        if self._start is None:
            place = self._begin(sql, table, version)
            if target.shared is not None:
                return
        else:
            place = self._start
            origin.check_slot(sql, target.slot, place)
        replication = self._connections[-1] if self._start is None else self._connect(replication=True)
        sql.close()
        wanted = Wanted(table.oid, str(table), target.names, target.key)
        replication.begin_streaming(origin.start_command(target.slot, place, target.publication))
        self._stream(replication, ChangeDecoder(wanted, place, target.record_bytes_max))

    # ---- the snapshot

    def _begin(self, sql: Connection, table: origin.OriginTable, version: int) -> Place:
        """Make the slot, and give the rows that were there before it; give where it begins."""
        target = self._target
        replication = self._connect(replication=True)
        if target.shared is not None:
            with target.shared.held(self._wait):
                self._join(target.shared, sql, replication, table, version)
            place, snapshot = origin.create_slot(replication, sql, target.shared.temporary, ours=True, temporary=True)
        else:
            ours = self._begun.is_set()
            if not ours and origin.has_slot(sql, target.slot):
                raise origin.slot_is_there(target.slot)
            self._note_beginning()
            origin.ensure_publication(sql, target.publication, table, version, inserts_only=not target.key)
            place, snapshot = origin.create_slot(replication, sql, target.slot, ours=ours)
        if target.snapshot:
            sql.query(
                "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; "
                f"SET TRANSACTION SNAPSHOT {literal(snapshot)}"
            )
            names = ", ".join(quoted(name) for name in target.names)
            batches = self._batches(sql, f"COPY (SELECT {names} FROM {table.sql}) TO STDOUT (FORMAT csv)")
            if target.key:
                self._put(replace(self._nothing(SNAPSHOT), truncated=True))
                for found in batches:
                    self._put(found)
            else:
                self._put_at_once(list(self._bounded(batches)), place)
            sql.query("COMMIT")
        self._put(self._nothing(str(place)))
        self._flushed = place.lsn
        return place

    def _note_beginning(self) -> None:
        """Have it committed that from here on a slot of that name is ours, and is made anew after a crash."""
        if not self._begun.is_set():
            self._put(self._nothing(SNAPSHOT))
            while not self._begun.is_set():
                self._wait(self._status_seconds)

    def _join(
        self, shared: SharedSlot, sql: Connection, replication: Connection, table: origin.OriginTable, version: int
    ) -> None:
        """See that the slot is there, which may have been made for another one, and publishes the table."""
        target, others = self._target, shared.positions_of_others()
        read = [str(p) for p in others if p is not None and p != SNAPSHOT]
        there = origin.has_slot(sql, target.slot)
        if not there and read:
            raise origin.slot_is_gone(target.slot, min(read), shared=True)
        if there and not self._begun.is_set() and all(p is None for p in others):
            raise origin.slot_is_there(target.slot)
        self._note_beginning()
        origin.ensure_publication(
            sql, target.publication, table, version, inserts_only=False, add=target.own_publication
        )
        if not there:
            origin.create_slot(replication, sql, target.slot, ours=False)

    def _nothing(self, position: str) -> Captured:
        return nothing(self._target, position)

    def _batches(self, sql: Connection, copy: str) -> Iterator[Captured]:
        target = self._target
        decoder = CopyDecoder([CopyColumn(n, TEXT) for n in target.names], _CSV, Limits(), target.table)
        rows_before = 0

        def read(batches: Sequence[pa.RecordBatch]) -> Iterator[Captured]:
            nonlocal rows_before
            for batch in batches:
                numbers = np.arange(rows_before, rows_before + batch.num_rows)
                rows, _, rejected = typed(batch.columns, target.columns, numbers)
                rows_before += batch.num_rows
                yield Captured(rows, np.ones(rows.num_rows, np.int8), SNAPSHOT, rejected=rejected)

        for data in sql.copy_out(copy):
            yield from read(decoder.feed(data))
            self._calm()
        yield from read(decoder.finish())

    def _bounded(self, batches: Iterator[Captured]) -> Iterator[Captured]:
        rows = 0
        for found in batches:
            rows += found.rows.num_rows
            if rows > self._target.snapshot_rows_max:
                raise ProgramLimitExceeded(
                    f'the rows of "{self._target.table}" exceed snapshot_rows_max = {self._target.snapshot_rows_max}',
                    hint="a stream takes them at once: begin without them (snapshot = 'never'), make it a table with a "
                    "primary key, or start the server with --limit snapshot_rows_max=N",
                )
            yield found

    def _put_at_once(self, parts: Sequence[Captured], place: Place) -> None:
        if parts:
            rows = pa.concat_tables([p.rows for p in parts])
            rejected = pa.concat_tables([p.rejected for p in parts])
            weights = np.ones(rows.num_rows, np.int8)
            self._put(Captured(rows, weights, str(place), rejected=rejected, cuttable=False))

    # ---- changes

    def _stream(self, connection: Connection, decoder: ChangeDecoder) -> None:
        said, said_at = 0, 0.0
        last, moved_at, pressed = decoder.start, time.monotonic(), False

        def tell() -> None:
            nonlocal said, said_at
            said, said_at = self._flushed, time.monotonic()
            connection.send(client.standby_status(said, time.time_ns() // 1_000))

        tell()
        while True:
            pressed = (pressed or decoder.reply_wanted) and decoder.heard > last.lsn
            decoder.reply_wanted = False
            data = connection.receive(IDLE_REPLY_SECONDS if pressed else self._status_seconds, self._waker)
            self._calm()
            for start in range(0, len(data), FEED_BYTES_MAX):
                for piece in decoder.feed(data[start : start + FEED_BYTES_MAX]):
                    # a commit that comes alone ends what was put before it
                    if len(piece.weights) or piece.truncated or (last.number and not piece.place.number):
                        self._put(self._captured(piece), tell)
                        last, moved_at = piece.place, time.monotonic()
                    elif piece.place > last and not piece.place.number:
                        decoder.heard = max(decoder.heard, piece.place.lsn)
            ahead, idle = decoder.heard - last.lsn, time.monotonic() - moved_at
            waited_for = (pressed or decoder.reply_wanted) and idle >= IDLE_REPLY_SECONDS
            if ahead > 0 and not last.number and (waited_for or idle >= IDLE_SECONDS or ahead >= IDLE_BYTES):
                last, moved_at = Place(decoder.heard), time.monotonic()
                pressed = False
                self._put(self._nothing(str(last)), tell)
            if self._flushed > said or decoder.reply_wanted or time.monotonic() - said_at >= self._status_seconds:
                tell()

    def _captured(self, piece: Piece) -> Captured:
        return captured(self._target, piece)


def nothing(target: Target, position: str) -> Captured:
    """Give what moves a position, and has no rows."""
    empty = [pa.array([], pa.string()) for _ in target.columns]
    rows, _, _ = typed(empty, target.columns, np.zeros(0, np.int64))
    return Captured(rows, np.zeros(0, np.int8), position)


def captured(target: Target, piece: Piece) -> Captured:
    """Read what was decoded as the target's columns are declared."""
    rows, stay, rejected = typed(piece.columns, target.columns, piece.lsns)
    weights, lsns, numbers = piece.weights, piece.lsns, piece.numbers
    kept: Kept = {target.names[i]: how for i, how in piece.kept.items()}
    places: tuple[Numbers | None, Numbers | None] = None, None
    if stay is not None:
        places = lsns[~stay], numbers[~stay]
        weights, lsns, numbers = weights[stay], lsns[stay], numbers[stay]
        kept = {name: how[stay] for name, how in kept.items()}
    return Captured(
        rows,
        weights,
        str(piece.place),
        not piece.place.number,
        piece.truncated,
        rejected,
        lsns,
        numbers,
        *places,
        kept=kept,
    )
