"""Cursors that SQL declares: their rows, where they stand, and what becomes of them when a transaction ends.

A cursor reads its query as its rows are fetched, on a connection of its own, so that a large result takes no memory. What can
be read again is kept: all rows of a SCROLL cursor, the rows that are left of one WITH HOLD when its transaction commits; both
up to `cursor_bytes_max` in a session. A cursor over changes goes on with its subscription for as long as it is open; what
waits for it is bounded as for any subscriber, and one that is fetched too rarely is told so.

A position counts rows from 1: at 0 a cursor stands before the first row, at `last + 1` behind the last. See
https://www.postgresql.org/docs/15/sql-fetch.html and `PortalRunFetch` in PostgreSQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import InitVar, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from streamsql.base.errors import DuplicateCursor, InvalidCursorName, NotInPrerequisiteState
from streamsql.base.limits import Limits, exceeded
from streamsql.server.cancellation import Cancellation
from streamsql.server.results import Cursor, Rows
from streamsql.sql.cursor_statements import Direction

Batches = AsyncGenerator[pa.RecordBatch, None]


@dataclass(slots=True)
class SqlCursor:
    """A declared cursor. `cancel` ends its reading; it is the cursor's own, since that outlives the statements of a session."""

    name: str
    statement: str
    rows: Rows
    cancel: Cancellation
    binary: bool = False
    scroll: bool = False
    hold: bool = False
    formats: list[int] | None = None  # of a portal that SQL fetches from: what its Bind asked for
    source: InitVar[Cursor | None] = None
    made: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    held: bool = False  # the transaction that made it has committed
    position: int = 0
    kept_bytes: int = 0
    _source: Cursor = field(init=False)
    _kept: list[pa.RecordBatch] = field(default_factory=list)
    _before_kept: int = 0  # rows that were read and not kept
    _kept_rows: int = 0
    _rest: pa.RecordBatch | None = None  # of a live query's rows: what has come and was not asked for
    _pending: asyncio.Task[pa.RecordBatch | None] | None = None

    def __post_init__(self, source: Cursor | None) -> None:
        self._source = source or Cursor(self.rows)

    def formats_of(self) -> list[int]:
        """Give the format code of each column, for who executes it as a portal."""
        return self.formats or [int(self.binary)] * len(self.rows.columns)

    async def close(self) -> None:
        """Let go of what the rows come from."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await pending
        self._kept, self.kept_bytes = [], 0
        await self._source.close()

    @property
    def _read(self) -> int:
        """How many rows have come from the query."""
        return self._before_kept + self._kept_rows

    @property
    def _keeps(self) -> bool:
        return self.scroll or (self.held and not self.rows.live)

    # ---- fetching ----

    async def fetch(self, direction: Direction, count: int | None, room: int, limits: Limits, wait: Wait) -> Batches:
        """Move and give the rows passed over, or for ABSOLUTE and RELATIVE the row arrived at.

        `room` is how many bytes this cursor may keep. Raises NotInPrerequisiteState where it cannot go back.
        """
        match direction:
            case Direction.FORWARD:
                async for batch in self._forward(count, room, limits, wait):
                    yield batch
            case Direction.BACKWARD:
                for batch in self._backward(count):
                    yield batch
            case Direction.ABSOLUTE | Direction.RELATIVE:
                assert count is not None
                async for batch in self._one(direction, count, room, limits, wait):
                    yield batch

    async def _forward(self, count: int | None, room: int, limits: Limits, wait: Wait) -> Batches:
        left = count
        while left is None or left > 0:
            batch = await self._next(left, room, limits, wait)
            if batch is None:
                break
            self.position += batch.num_rows
            left = None if left is None else left - batch.num_rows
            wait.seen = True
            yield batch
        if (left is None or left > 0) and self._source.ended and self.position == self._read:
            self.position += 1  # behind the last row

    async def _next(self, count: int | None, room: int, limits: Limits, wait: Wait) -> pa.RecordBatch | None:
        """Give up to `count` of the rows behind the position; None where there are none (now)."""
        if self.position < self._read:
            return self._slice(self.position, count)
        if (self._source.ended and self._rest is None) or self.position > self._read:
            return None
        batch = await self._take(count, wait)
        if batch is None:
            return None
        if self._keeps:
            self._keep(batch, room, limits)
        else:
            self._before_kept += batch.num_rows
        return batch

    def _keep(self, batch: pa.RecordBatch, room: int, limits: Limits) -> None:
        self._kept.append(batch)
        self._kept_rows += batch.num_rows
        self.kept_bytes += batch.nbytes
        if self.kept_bytes > room:
            raise exceeded(limits, "cursor_bytes_max", "what the cursors of this session keep")

    def _slice(self, start: int, count: int | None) -> pa.RecordBatch:
        """Give kept rows from a position on, as many as lie in one batch and are wanted."""
        at = start - self._before_kept
        assert at >= 0
        for batch in self._kept:
            if at < batch.num_rows:
                return batch.slice(at, count)
            at -= batch.num_rows
        raise AssertionError("a position beyond the rows that are kept")

    def _backward(self, count: int | None) -> Iterator[pa.RecordBatch]:
        self._check_scroll()
        last = self.position - 1  # the first row to be given
        left = last if count is None else min(count, last)
        beyond = count is None or count > last
        while left > 0:
            at, index = last - 1 - self._before_kept, 0
            while at >= self._kept[index].num_rows:
                at -= self._kept[index].num_rows
                index += 1
            taken = min(left, at + 1)
            yield self._kept[index].take(pa.array(np.arange(at, at - taken, -1)))
            last -= taken
            left -= taken
        self.position = 0 if beyond else last + 1

    async def _one(self, direction: Direction, count: int, room: int, limits: Limits, wait: Wait) -> Batches:
        """Go to a row and give it, if it is there."""
        if direction is Direction.ABSOLUTE and count < 0:
            self._check_scroll()
            async for _ in self._forward(None, room, limits, wait):
                pass
            target = self._read + 1 + count
        else:
            target = count if direction is Direction.ABSOLUTE else self.position + count
        target = max(target, 0)
        if target <= self.position and not (target == self.position == 0):
            self._check_scroll()
        if target > self.position:
            async for _ in self._forward(target - 1 - self.position, room, limits, wait):
                pass
            if self.position == target - 1:
                async for batch in self._forward(1, room, limits, wait):
                    yield batch
            return
        self.position = target
        if 0 < target <= self._read:
            yield self._slice(target - 1, 1)

    def _check_scroll(self) -> None:
        if not self.scroll:
            raise NotInPrerequisiteState(
                "cursor can only scan forward", hint="Declare it with SCROLL option to enable backward scan."
            )

    async def keep_rest(self, room: int, limits: Limits) -> None:
        """Read what is left, since the transaction whose snapshot it is ends. A cursor over changes goes on instead."""
        wait = Wait(self.cancel)
        while not self.rows.live and not self._source.ended:
            batch = await self._take(None, wait)
            if batch is not None:
                self._keep(batch, room, limits)
        self.held = True

    # ---- what comes from the query ----

    async def _take(self, count: int | None, wait: Wait) -> pa.RecordBatch | None:
        if not self.rows.live:
            with wait.cancellation.interrupting(self.cancel.cancel):
                while True:
                    batch = await self._source.take(count)
                    if batch is not None or self._source.ended:
                        return batch
        batch, self._rest = self._rest, None
        while batch is None:
            if self._pending is None:  # it goes on over several FETCHes, so it is not for one's count
                self._pending = asyncio.ensure_future(self._source.take(None))
            if not await wait.for_rows(self._pending, self.rows):
                return None
            pending, self._pending = self._pending, None
            batch = await pending
            if self._source.ended:
                break
        if batch is not None and count is not None and count < batch.num_rows:
            batch, self._rest = batch.slice(0, count), batch.slice(count)
        return batch


class Wait:
    """How long one FETCH waits: a live cursor for its first rows up to a moment, and for what is being read already."""

    def __init__(self, cancellation: Cancellation, seconds: float | None = None) -> None:
        self.cancellation = cancellation
        self.seen = False
        self._until = None if seconds is None else asyncio.get_running_loop().time() + seconds

    async def for_rows(self, pending: asyncio.Future[pa.RecordBatch | None], rows: Rows) -> bool:
        """Say whether there is an answer; False where the query waits for changes itself and the time is over."""
        wake = rows.wake
        assert wake is not None
        canceled = asyncio.Event()
        loop = asyncio.get_running_loop()
        with self.cancellation.interrupting(canceled.set):
            while not pending.done():
                self.cancellation.check()
                idle = wake.waiting.is_set() and not wake.is_set()
                seconds = None
                if idle:
                    seconds = 0.0 if self._until is None or self.seen else self._until - loop.time()
                    if seconds <= 0:
                        return False
                waiters: list[asyncio.Future[object]] = [asyncio.ensure_future(canceled.wait())]
                if not idle:
                    waiters.append(asyncio.ensure_future(wake.waiting.wait()))
                watched: list[asyncio.Future[Any]] = [pending, *waiters]
                await asyncio.wait(watched, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                for waiter in waiters:
                    waiter.cancel()
        return True


async def _none(_: str) -> None:
    return None


class SqlCursors:
    """The cursors of one session, by name."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._open: dict[str, SqlCursor] = {}
        # gives the protocol's portal of a name as a cursor: their names are the same ones
        self.adopt: Callable[[str], Awaitable[SqlCursor | None]] = _none

    def __contains__(self, name: object) -> bool:
        return name in self._open

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[SqlCursor]:
        return iter(list(self._open.values()))

    def get(self, name: str) -> SqlCursor | None:
        """Give a cursor, or None."""
        return self._open.get(name)

    async def find(self, name: str) -> SqlCursor:
        """Give a cursor, or a portal as one; raises InvalidCursorName."""
        found = self._open.get(name)
        if found is None:
            found = await self.adopt(name)
            if found is not None:
                self._open[name] = found
        if found is None:
            raise InvalidCursorName(f'cursor "{name}" does not exist')
        return found

    def check_new(self, name: str) -> None:
        """Raise where no cursor of this name can be opened."""
        if name in self._open:
            raise DuplicateCursor(f'cursor "{name}" already exists')
        if len(self._open) >= self._limits.portals_max:
            raise exceeded(self._limits, "portals_max", "the number of cursors")

    def add(self, cursor: SqlCursor) -> None:
        self._open[cursor.name] = cursor

    def shown(self) -> list[dict[str, object]]:
        """Give the rows of ``pg_cursors``. For any thread."""
        return [
            {
                "name": c.name, "statement": c.statement, "is_holdable": c.hold, "is_binary": c.binary,
                "is_scrollable": c.scroll, "creation_time": c.made,
            }
            for c in self
        ]  # fmt: skip

    def room(self, cursor: SqlCursor) -> int:
        """How many bytes a cursor may keep, beside what the others do."""
        return self._limits.cursor_bytes_max - sum(c.kept_bytes for c in self._open.values() if c is not cursor)

    async def close(self, name: str | None) -> None:
        """Close one cursor, or all. Raises InvalidCursorName."""
        closed = list(self._open.values()) if name is None else [await self.find(name)]
        for cursor in closed:
            self._open.pop(cursor.name, None)
            await cursor.close()

    async def hold(self) -> None:
        """Read what is left of the cursors WITH HOLD, before their transaction commits."""
        for cursor in self:
            if cursor.hold and not cursor.held:
                await cursor.keep_rest(self.room(cursor), self._limits)

    async def end(self) -> None:
        """Close what does not outlive a transaction: that ended, or is rolled back."""
        for cursor in self:
            if not cursor.held:
                await self.close(cursor.name)

    async def close_since(self, names: frozenset[str]) -> None:
        """Close what was opened since there were these cursors, as ROLLBACK TO SAVEPOINT does."""
        for cursor in self:
            if cursor.name not in names:
                await self.close(cursor.name)
