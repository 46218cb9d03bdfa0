"""What waits for the engine: writes and calls, in the order in which they came, bounded in rows and bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from streamsql.base.errors import AdminShutdown
from streamsql.base.limits import Limits
from streamsql.engine.positions import Move
from streamsql.engine.receipts import Receipt
from streamsql.engine.table_changes import KeyedChange, TableChange


@dataclass(slots=True)
class Write:
    """Rows and changes acknowledged together: all of them are committed in one epoch. `done` gives the epoch's number.

    `keyed` is what a connector tells of tables, each of them once; a write with it has beside moves and receipts
    no more than rows of streams that get what cannot be read.
    """

    rows: list[tuple[str, pa.Table]]
    changes: list[TableChange] = field(default_factory=list)
    done: Future[int] = field(default_factory=Future)
    moves: tuple[Move, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    keyed: tuple[KeyedChange, ...] = ()

    @property
    def _tables(self) -> list[pa.Table]:
        return [*(table for _, table in self.rows), *(change.rows for change in self.keyed)]

    @property
    def row_count(self) -> int:
        return sum([*(t.num_rows for t in self._tables), *(c.row_count for c in self.changes)])

    @property
    def byte_count(self) -> int:
        return sum([*(t.nbytes for t in self._tables), *(c.byte_count for c in self.changes)])

    @property
    def relations(self) -> set[str]:
        """Name what it writes to."""
        changed = [*(c.table for c in self.changes), *(c.table for c in self.keyed)]
        return {name for name, _ in self.rows} | {table.name for table in changed}

    @property
    def changes_tables(self) -> bool:
        """Tell whether it takes rows away, so that it has an epoch of its own."""
        return bool(self.changes or self.keyed)


@dataclass(slots=True)
class Call:
    """A function to run on the engine's thread."""

    run: Callable[[], Any]
    done: Future[Any] = field(default_factory=Future)


class WriteQueue:
    """The queue. Any thread puts in, the engine's takes out."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._wake = threading.Condition()
        self._queue: deque[Write | Call] = deque()
        self._room_waiters: list[Callable[[], None]] = []
        self.rows = 0
        self.bytes = 0
        self.stopping = False
        # streams and tables whose rows may not come in one epoch; set and read by the engine's thread
        self.apart: list[tuple[set[str], set[str]]] = []

    def put(self, item: Write | Call) -> None:
        """Add to the end. Raises AdminShutdown once the server stops."""
        with self._wake:
            if self.stopping:
                raise AdminShutdown("the server is shutting down")
            self._queue.append(item)
            if isinstance(item, Write):
                self.rows += item.row_count
                self.bytes += item.byte_count
            self._wake.notify()

    def put_back(self, writes: Sequence[Write]) -> None:
        """Have writes again that were taken: they come first, in their order. Also once nothing more is taken in."""
        with self._wake:
            self._queue.extendleft(reversed(writes))
            self.rows += sum(write.row_count for write in writes)
            self.bytes += sum(write.byte_count for write in writes)
            self._wake.notify()

    def give_up(self, error: Exception) -> None:
        """Take nothing more in, and answer what is in with an error."""
        with self._wake:
            self.stopping = True
            left, self._queue = list(self._queue), deque()
            self.rows = self.bytes = 0
        for item in left:
            item.done.set_exception(error)

    def stop(self) -> None:
        """Take nothing more in; what is in is still given out."""
        with self._wake:
            self.stopping = True
            self._wake.notify()

    @property
    def full(self) -> bool:
        """Tell whether producers should wait before they put more in."""
        return self.rows >= self._limits.queue_rows_max or self.bytes >= self._limits.queue_bytes_max

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back, from any thread, once the queue is no longer full."""
        with self._wake:
            if self.full:
                self._room_waiters.append(callback)
                return
        callback()

    def take(self, seconds: float | None) -> list[Write] | Call | None:
        """Take the next call, or all writes up to it that fit in an epoch; [] where nothing came for so long.

        None: the queue has stopped, and is empty.
        """
        with self._wake:
            if not self._queue and not self.stopping:
                self._wake.wait(seconds)
            if self.stopping and not self._queue:
                return None
            return self._take()

    def _take(self) -> list[Write] | Call:
        taken: list[Write] = []
        names: set[str] = set()
        rows = 0
        while self._queue:
            first = self._queue[0]
            if isinstance(first, Call):
                if not taken:
                    self._queue.popleft()
                    return first
                break
            count = first.row_count
            apart = taken and (first.changes_tables or taken[0].changes_tables)
            if self.apart:  # a view is joined as it is when a row arrives
                names.update(name for name, _ in first.rows)
                apart = apart or (taken and any(names & left and names & right for left, right in self.apart))
            if apart or (taken and rows + count > self._limits.epoch_rows_max):
                break
            self._queue.popleft()
            taken.append(first)
            rows += count
            self.bytes -= first.byte_count
        self.rows -= rows
        if self._room_waiters and not self.full:
            waiters, self._room_waiters = self._room_waiters, []
            for callback in waiters:
                callback()
        return taken
