"""A session's transaction: rows written and not yet committed.

Rows of INSERT and COPY are held back until the transaction ends and are then one `Write`: all of them become durable in
one epoch, or none. Outside BEGIN ... COMMIT a transaction ends with its statement, or with the query string it is in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from streamsql.base.errors import InvalidSavepoint
from streamsql.base.limits import exceeded
from streamsql.engine.epoch import Engine, Write
from streamsql.server.notifications import ListenTo, Notification


@dataclass(frozen=True, slots=True)
class Mark:
    """A savepoint: how much had been written and asked for, and what was set and open, when it was made."""

    name: str
    pending: int
    row_count: int
    actions: int
    variables: dict[str, str]
    cursors: frozenset[str]


class SessionTransaction:
    """Begun, failed, or neither; and what has been written in it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pending: list[tuple[str, pa.Table]] = []
        self._row_count = 0
        self._actions: list[ListenTo | Notification] = []
        self._savepoints: list[Mark] = []
        # does what LISTEN and NOTIFY asked for, once all that was written is durable
        self.after_commit: Callable[[Sequence[ListenTo | Notification]], None] = lambda _: None
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

    def act(self, action: ListenTo | Notification) -> None:
        """Do something at the commit; the same notification is sent once."""
        if not isinstance(action, Notification) or action not in self._actions:
            self._actions.append(action)

    def begin(self) -> None:
        self.explicit = True

    # ---- savepoints ----

    @property
    def has_savepoints(self) -> bool:
        return bool(self._savepoints)

    @property
    def savepoint_variables(self) -> dict[str, str] | None:
        """The session's variables as they were at the last savepoint; None without one."""
        return self._savepoints[-1].variables if self._savepoints else None

    def set_savepoint(self, name: str, variables: dict[str, str], cursors: frozenset[str]) -> None:
        """Make a savepoint; one of the same name is hidden by it."""
        if len(self._savepoints) >= self._engine.limits.savepoints_max:
            raise exceeded(self._engine.limits, "savepoints_max", "the number of savepoints")
        mark = Mark(name, len(self._pending), self._row_count, len(self._actions), variables, cursors)
        self._savepoints.append(mark)

    def release(self, name: str) -> None:
        """Forget a savepoint and those made after it. Raises InvalidSavepoint."""
        del self._savepoints[self._index_of(name) :]

    def roll_back_to(self, name: str) -> Mark:
        """Forget what was written after a savepoint, which stays. Raises InvalidSavepoint."""
        index = self._index_of(name)
        mark = self._savepoints[index]
        del self._savepoints[index + 1 :]
        del self._pending[mark.pending :]
        del self._actions[mark.actions :]
        self._row_count = mark.row_count
        self.failed = False
        return mark

    def _index_of(self, name: str) -> int:
        for index in range(len(self._savepoints) - 1, -1, -1):
            if self._savepoints[index].name == name:
                return index
        raise InvalidSavepoint(f'savepoint "{name}" does not exist')

    def fail(self) -> None:
        """Note that a statement failed: an explicit transaction then only takes ROLLBACK."""
        if self.explicit:
            self.failed = True
            if not self._savepoints:
                self._pending = []  # nothing of it can be committed any more
        else:
            self.roll_back()

    def roll_back(self) -> None:
        self._pending = []
        self._row_count = 0
        self._actions = []
        self._savepoints = []
        self.explicit = self.failed = False

    async def commit(self) -> None:
        """Make what was written durable, with all its effects; returns after the epoch's commit."""
        pending, actions = self._pending, self._actions
        self.roll_back()
        if pending:
            await self._room()
            await asyncio.wrap_future(self._engine.submit(Write(pending)))
        if actions:
            self.after_commit(actions)

    async def _room(self) -> None:
        """Wait while too much is queued for the engine: its producers, and nobody else, are held up."""
        loop = asyncio.get_running_loop()
        while self._engine.full:
            room = asyncio.Event()

            def wake(room: asyncio.Event = room) -> None:
                loop.call_soon_threadsafe(room.set)

            self._engine.when_room(wake)
            await room.wait()
