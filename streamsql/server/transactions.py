"""A session's transaction: rows written and not yet committed.

Rows of INSERT and COPY are held back until the transaction ends and are then one `Write`: all of them become durable in
one epoch, or none. Outside BEGIN ... COMMIT a transaction ends with its statement, or with the query string it is in.
"""

from __future__ import annotations

import asyncio
from typing import Literal

import pyarrow as pa

from streamsql.base.limits import exceeded
from streamsql.engine.epoch import Engine, Write


class SessionTransaction:
    """Begun, failed, or neither; and what has been written in it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pending: list[tuple[str, pa.Table]] = []
        self._row_count = 0
        self.explicit = False
        self.failed = False
        self.implicit = False  # a query string of several statements is being executed: it is one transaction

    @property
    def status(self) -> Literal["I", "T", "E"]:
        """The status byte of ReadyForQuery."""
        if not self.explicit:
            return "I"
        return "E" if self.failed else "T"

    @property
    def in_block(self) -> bool:
        """Tell whether more than one statement is in the transaction."""
        return self.explicit or self.implicit

    @property
    def dirty(self) -> bool:
        return bool(self._pending)

    def pending(self) -> dict[str, pa.Table]:
        """Give the rows written so far, by relation, so that the session's own reads can see them."""
        found: dict[str, list[pa.Table]] = {}
        for name, rows in self._pending:
            found.setdefault(name, []).append(rows)
        return {name: pa.concat_tables(tables) for name, tables in found.items()}

    def write(self, relation: str, rows: pa.Table) -> None:
        """Hold rows back until the commit."""
        limits = self._engine.limits
        self._row_count += rows.num_rows
        if self._row_count > limits.transaction_rows_max:
            raise exceeded(limits, "transaction_rows_max", "the number of rows in a transaction")
        if rows.num_rows:
            self._pending.append((relation, rows))

    def begin(self) -> None:
        self.explicit = True

    def fail(self) -> None:
        """Note that a statement failed: an explicit transaction then only takes ROLLBACK."""
        if self.explicit:
            self.failed = True
            self._pending = []  # nothing of it can be committed any more
        else:
            self.roll_back()

    def roll_back(self) -> None:
        self._pending = []
        self._row_count = 0
        self.explicit = self.failed = False

    async def commit(self) -> None:
        """Make what was written durable, with all its effects; returns after the epoch's commit."""
        pending = self._pending
        self.roll_back()
        if not pending:
            return
        await self._room()
        await asyncio.wrap_future(self._engine.submit(Write(pending)))

    async def _room(self) -> None:
        """Wait while too much is queued for the engine: its producers, and nobody else, are held up."""
        loop = asyncio.get_running_loop()
        while self._engine.full:
            room = asyncio.Event()

            def wake(room: asyncio.Event = room) -> None:
                loop.call_soon_threadsafe(room.set)

            self._engine.when_room(wake)
            await room.wait()
