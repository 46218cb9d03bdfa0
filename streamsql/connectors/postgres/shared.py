"""Several tables of an origin over one replication slot: one walsender, one thread, and transactions that come whole.

The stream begins at the place of the table that is the furthest behind, and each table's decoder leaves out what it has. What
comes between two places at which no transaction is open is a *stretch*, of all tables together; only a transaction with more
rows than may be read at a time is cut into several. After each stretch all tables are at the same place, unless one of them was
further already.

A table whose changes cannot be decoded any more fails alone; the stream goes on without it. The slot lets go of the log up to
the place of the one that is the furthest behind of all, which need not be among those that are read now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from streamsql.base.errors import StreamSQLError, Unavailable
from streamsql.connectors.postgres import origin
from streamsql.connectors.postgres.capture import (
    FEED_BYTES_MAX,
    IDLE_BYTES,
    IDLE_REPLY_SECONDS,
    IDLE_SECONDS,
    LOOK_AGAIN_US,
    PARTITION,
    Captured,
    Target,
    captured,
    nothing,
)
from streamsql.connectors.postgres.connection import Connection
from streamsql.connectors.postgres.pgoutput import ChangeDecoder, Frames, Place, Wanted, after_last_commit, read_place
from streamsql.connectors.postgres.thread import STATUS_SECONDS_MAX, OriginThread
from streamsql.connectors.source import Batch, SharedBatch
from streamsql.engine.positions import Positions
from streamsql.pgwire import client
from streamsql.pgwire.values.column import Numbers

# how often to look whether the walsender of the stream before has ended, and how many times
_FREE_SECONDS, _FREE_TRIES = 0.05, 60


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is captured of each table, and the place of each after it. `whole`: no transaction is open there.

    `failures` tell of tables that are not read any more: they have no place here.
    """

    parts: Mapping[int, Sequence[Captured]]
    places: Mapping[int, Place]
    whole: bool = True
    failures: Mapping[int, StreamSQLError] = field(default_factory=dict)

    @property
    def byte_count(self) -> int:
        return sum(c.byte_count for part in self.parts.values() for c in part)

    @property
    def row_count(self) -> int:
        return sum(c.rows.num_rows for part in self.parts.values() for c in part)


class SharedCapture(OriginThread[Stretch]):
    """Reads the changes of several tables, by number, each from its place on."""

    def __init__(self, targets: Mapping[int, Target], starts: Mapping[int, Place], wake: Callable[[], None]) -> None:
        first = next(iter(targets.values()))
        super().__init__(f"origin {first.slot}", first.address, wake)
        self._slot = first.slot
        self._targets = targets
        self._starts = starts
        self._flushed = 0  # nothing is let go of before it is known how far all are
        self._decoders: dict[int, ChangeDecoder] = {}
        self._places = dict(starts)  # after what was put last
        self._whole = True

    def flushed(self, lsn: int) -> None:
        """Be told that the log before a position is not needed any more."""
        if lsn > self._flushed:
            self._flushed = lsn
            self._stir()

    # ---- the thread

    def _read(self) -> None:
        sql = self._connect()
        origin.version_of(sql)
        origin.check_logical(sql)
        patience = origin.patience_seconds(sql)
        self._status_seconds = min(patience / 4, STATUS_SECONDS_MAX) if patience else STATUS_SECONDS_MAX
        self._find_tables(sql)
        if not self._decoders:
            return
        start = min(decoder.start for decoder in self._decoders.values())
        self._await_slot(sql, start)
        replication = self._connect(replication=True)
        sql.close()
        publications = dict.fromkeys(target.publication for target in self._targets.values())
        replication.begin_streaming(origin.start_command(self._slot, start, *publications))
        self._stream(replication)

    def _find_tables(self, sql: Connection) -> None:
        failures: dict[int, StreamSQLError] = {}
        for number, target in self._targets.items():
            try:
                table = origin.find_table(sql, target.table, target.names, target.key)
            except Unavailable:
                raise
            except StreamSQLError as error:
                failures[number] = error
            else:
                wanted = Wanted(table.oid, str(table), target.names, target.key)
                self._decoders[number] = ChangeDecoder(wanted, self._starts[number], target.record_bytes_max)
        if failures:
            self._put(Stretch({}, {}, failures=failures))

    def _await_slot(self, sql: Connection, start: Place) -> None:
        """Check the slot, once the walsender of a stream that was closed just now has ended."""
        for _ in range(_FREE_TRIES):
            try:
                origin.check_slot(sql, self._slot, start, shared=True)
                return
            except Unavailable:
                self._wait(_FREE_SECONDS)
        origin.check_slot(sql, self._slot, start, shared=True)

    def _stream(self, connection: Connection) -> None:
        said, said_at = 0, 0.0
        moved_at, pressed = time.monotonic(), False
        frames = Frames(max(target.record_bytes_max for target in self._targets.values()))

        def tell() -> None:
            nonlocal said, said_at
            said, said_at = self._flushed, time.monotonic()
            connection.send(client.standby_status(said, time.time_ns() // 1_000))

        tell()
        while True:
            wanted = self._reply_wanted()
            pressed = (pressed or wanted) and self._ahead > 0
            data = connection.receive(IDLE_REPLY_SECONDS if pressed else self._status_seconds, self._waker)
            self._calm()
            for start in range(0, len(data), FEED_BYTES_MAX):
                for stretch in self._stretches(frames, data[start : start + FEED_BYTES_MAX]):
                    self._put_stretch(stretch, tell)
                    moved_at = time.monotonic()
            if not self._decoders:
                return
            wanted, idle, ahead = self._reply_wanted(), time.monotonic() - moved_at, self._ahead
            waited_for = (pressed or wanted) and idle >= IDLE_REPLY_SECONDS
            pressed = pressed or wanted
            if ahead > 0 and self._whole and (waited_for or idle >= IDLE_SECONDS or ahead >= IDLE_BYTES):
                moved_at, pressed = time.monotonic(), False
                heard = Place(self._heard)
                self._put_stretch(Stretch({}, dict.fromkeys(self._decoders, heard)), tell)
            if self._flushed > said or wanted or time.monotonic() - said_at >= self._status_seconds:
                tell()

    @property
    def _heard(self) -> int:
        """Tell up to where there is nothing more for any of the tables than what was put."""
        return max(decoder.heard for decoder in self._decoders.values())

    @property
    def _ahead(self) -> int:
        """Tell by how many bytes of the log that is more than the place that was put last."""
        return self._heard - min(self._places[number].lsn for number in self._decoders)

    def _reply_wanted(self) -> bool:
        wanted = any(decoder.reply_wanted for decoder in self._decoders.values())
        for decoder in self._decoders.values():
            decoder.reply_wanted = False
        return wanted

    def _put_stretch(self, stretch: Stretch, meanwhile: Callable[[], None]) -> None:
        """Put what is to be taken in, with places that do not go back."""
        places = {number: max(place, self._places[number]) for number, place in stretch.places.items()}
        self._places.update(places)
        self._whole = stretch.whole
        self._put(replace(stretch, places=places), meanwhile)

    def _stretches(self, frames: Frames, data: bytes) -> Iterator[Stretch]:
        """Take bytes; give what has something for a table, or ends what was given before."""
        for block, begins in frames.feed(data):
            whole = after_last_commit(block, begins)
            for part in (begins[:whole], begins[whole:]):
                if not len(part) or not self._decoders:
                    continue
                stretch = self._stretch(block, part)
                if stretch.parts or stretch.failures or (stretch.whole and not self._whole):
                    yield stretch
                elif stretch.whole:
                    lsn = min(place.lsn for place in stretch.places.values())
                    for decoder in self._decoders.values():
                        decoder.heard = max(decoder.heard, lsn)

    def _stretch(self, block: bytes, begins: Numbers) -> Stretch:
        parts: dict[int, Sequence[Captured]] = {}
        places: dict[int, Place] = {}
        failures: dict[int, StreamSQLError] = {}
        whole = True
        for number, decoder in list(self._decoders.items()):
            try:
                pieces = decoder.block(block, begins)
                found = [captured(self._targets[number], p) for p in pieces if len(p.weights) or p.truncated]
            except StreamSQLError as error:
                failures[number] = error
            except Exception as error:  # noqa: BLE001  # our own fault must not pass unnoticed, nor stop the other tables
                failures[number] = StreamSQLError(f"an internal error: {error!r}")
            else:
                whole = decoder.is_whole
                places[number] = decoder.place
                if found:
                    parts[number] = found
        for number in failures:
            del self._decoders[number]
        return Stretch(parts, places, whole, failures)


class SharedPostgresSource:
    """A capture of several tables, cut into batches of whole transactions as far as these are small enough."""

    def __init__(self, targets: Mapping[int, Target], starts: Mapping[int, Place], wake: Callable[[], None]) -> None:
        self._targets = targets
        self._capture = SharedCapture(targets, starts, wake)
        self._places = dict(starts)
        self._held: list[Stretch] = []
        self._held_rows = 0
        self._capture.start()

    def read(self, rows_max: int, now_us: int) -> SharedBatch | None:  # the protocol's
        while self._held_rows < rows_max:
            found = self._capture.take()
            if found is None:
                break
            self._held.append(found)
            self._held_rows += found.row_count
        whole = max((i for i, stretch in enumerate(self._held, 1) if stretch.whole), default=0)
        if not whole and self._held_rows < rows_max and not self._capture.has_ended:
            return None  # the rest of the transaction is on its way
        taken, self._held = self._held[: whole or None], self._held[whole:] if whole else []
        self._held_rows = sum(stretch.row_count for stretch in self._held)
        return self._joined(taken) if taken else None

    def _joined(self, taken: Sequence[Stretch]) -> SharedBatch:
        batches = {}
        for number, target in self._targets.items():
            parts = [c for stretch in taken for c in stretch.parts.get(number, ())]
            place = next((s.places[number] for s in reversed(taken) if number in s.places), self._places[number])
            if parts or place != self._places[number]:
                batches[number] = joined(parts or [nothing(target, "")], str(place), keyed=True)
                self._places[number] = place
        return SharedBatch(batches, {number: error for s in taken for number, error in s.failures.items()})

    def due_us(self, now_us: int) -> int:
        return now_us + LOOK_AGAIN_US

    def committed(self, positions: Sequence[Positions]) -> None:
        places = [read_place(str(p.get(PARTITION))) for p in positions]
        lsns = [place.lsn for place in places if place is not None]
        if lsns and len(lsns) == len(places):
            self._capture.flushed(min(lsns))

    def close(self) -> None:
        self._capture.close()


def joined(taken: Sequence[Captured], position: str, *, keyed: bool) -> Batch:
    """Make one batch; of what comes before all rows went (TRUNCATE) only the rejected records are left."""
    rejected = pa.concat_tables([t.rejected for t in taken])
    truncated = max((i for i, t in enumerate(taken) if t.truncated), default=0)
    taken = taken[truncated:]
    weights = np.concatenate([t.weights for t in taken])
    return Batch(
        PARTITION,
        pa.concat_tables([t.rows for t in taken]),
        position,
        rejected=rejected,
        weights=pa.array(weights, pa.int8()) if keyed else None,
        truncated=taken[0].truncated,
        kept={
            name: np.concatenate([t.kept.get(name, np.zeros(t.rows.num_rows, np.int8)) for t in taken])
            for name in dict.fromkeys(name for t in taken for name in t.kept)
        },
    )
