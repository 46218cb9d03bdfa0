"""A session's transaction: what was written and is not committed yet.

Rows of INSERT and COPY, and what UPDATE, DELETE and ON CONFLICT make of a table's rows (`server.written`), are held back
until the transaction ends and are then one `Write`: all of it becomes durable in one epoch, or none. Outside
BEGIN ... COMMIT a transaction ends with its statement, or with the query string it is in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from collections.abc import Sequence as SequenceOf
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import pyarrow as pa

from streamsql.base.errors import InvalidSavepoint
from streamsql.base.limits import exceeded
from streamsql.catalog.objects import Sequence, Table
from streamsql.engine.epoch import Engine
from streamsql.engine.table_changes import TableChange
from streamsql.engine.writes import Write
from streamsql.server.notifications import ListenTo, Notification
from streamsql.server.temporary import Temporary, after_commit, merged
from streamsql.sql.constraints import ForeignKey


@dataclass(frozen=True, slots=True)
class Savepoint:
    """What was written when it was set: the first `count` of `pending`, and `changes`. `settings` are the
    session's, `cursors` those that were open, `actions` how many notifications waited, `deferrals` what SET
    CONSTRAINTS had said, `restarts` the sequences that were to begin anew, `made` the IDs of what CREATE had made.
    """

    name: str
    pending: list[tuple[str, pa.Table]]
    count: int
    changes: dict[str, TableChange]
    settings: dict[str, str]
    temporary: Temporary
    cursors: frozenset[str] = frozenset()
    actions: int = 0
    deferrals: dict[tuple[str, str] | None, bool] = field(default_factory=dict)
    restarts: tuple[Sequence, ...] = ()
    made: frozenset[int] = frozenset()


class SessionTransaction:
    """Begun, failed, or neither; and what has been written in it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # only ever appended to, or replaced: savepoints hold on to it
        self._pending: list[tuple[str, pa.Table]] = []
        self._changes: dict[str, TableChange] = {}  # replaced, never changed
        self._row_count = 0
        self._savepoints: list[Savepoint] = []
        # what SET CONSTRAINTS has said: whether checks are put off, of a foreign key (its table, its name) or (None) of all
        self.deferrals: dict[tuple[str, str] | None, bool] = {}  # replaced, never changed
        self._restarts: tuple[Sequence, ...] = ()  # what begins anew with the commit
        self._actions: list[ListenTo | Notification] = []
        # IDs of what its definitions have made, and of what is to be dropped again because that was rolled back
        self.made: frozenset[int] = frozenset()
        self._unmade: frozenset[int] = frozenset()
        # does what LISTEN and NOTIFY asked for, once all that was written is durable
        self.after_commit: Callable[[SequenceOf[ListenTo | Notification]], None] = lambda _: None
        # has something called if the client asks for the end while a commit waits for answers from outside
        self.withdrawing: Callable[[Callable[[], None]], AbstractContextManager[None]] = lambda _: nullcontext()
        # called when a transaction has ended, either way
        self.ended: Callable[[], None] = lambda: None
        self._temporary: Temporary = {}
        self._temporary_before: Temporary = {}  # what there was before the transaction
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
        return bool(self._pending or self._changes or self._restarts)

    def pending(self) -> dict[str, pa.Table]:
        """Give the rows written so far, by relation, so that the session's own reads can see them.

        Those of a changed table are the ones written after its change.
        """
        found: dict[str, list[pa.Table]] = {}
        for name, rows in self._pending:
            found.setdefault(name, []).append(rows)
        return {name: pa.concat_tables(tables) for name, tables in found.items()}

    def pending_of(self, relation: str) -> pa.Table | None:
        """Give those of one relation; None where there are none."""
        found = [rows for name, rows in self._pending if name == relation]
        return pa.concat_tables(found) if found else None

    @property
    def changes(self) -> dict[str, TableChange]:
        """What was changed, by table."""
        return self._changes

    @property
    def temporary(self) -> Temporary:
        """The session's temporary tables, by name, with their committed rows."""
        return self._temporary

    def set_temporary(self, tables: Temporary) -> None:
        """Replace the session's temporary tables: one was made or dropped."""
        gone = self._temporary.keys() - tables.keys()
        self._pending = [(name, rows) for name, rows in self._pending if name not in gone]
        self._changes = {name: change for name, change in self._changes.items() if name not in gone}
        self._temporary = tables
        if not self.explicit:
            self._temporary = self._temporary_before = after_commit(tables)

    @property
    def private(self) -> bool:
        """Tell whether the session sees what others do not."""
        return bool(self._pending or self._changes or self._temporary)

    def restart(self, sequences: Iterable[Sequence]) -> None:
        """Let sequences begin anew once the transaction is committed."""
        self._restarts = (*self._restarts, *sequences)

    def restarts(self, sequence: Sequence) -> bool:
        """Tell whether a sequence begins anew with the commit."""
        return any(each.id == sequence.id for each in self._restarts)

    def defers(self, table: Table, key: ForeignKey) -> bool:
        """Tell whether rows are held against a foreign key at COMMIT alone."""
        if not key.deferrable:
            return False
        return self.deferrals.get((table.name, key.name), self.deferrals.get(None, key.deferred))

    @property
    def written(self) -> list[str]:
        """Name the relations that the transaction has written or changed."""
        return sorted({name for name, _ in self._pending} | self._changes.keys())

    @property
    def has_savepoints(self) -> bool:
        """Tell whether an error now need not end the transaction."""
        return bool(self._savepoints)

    def write(self, relation: str, rows: pa.Table) -> None:
        """Hold rows back until the commit."""
        if rows.num_rows:
            self._pending.append((relation, rows))
            self._count(rows.num_rows)

    def change(self, change: TableChange) -> None:
        """Hold a table's change back until the commit; the table's rows written before are part of it."""
        name = change.table.name
        before = self._changes[name].row_count if name in self._changes else 0
        before += sum(rows.num_rows for relation, rows in self._pending if relation == name)
        self._pending = [(relation, rows) for relation, rows in self._pending if relation != name]
        self._changes = {**self._changes, name: change}
        self._count(change.row_count - before)

    def _count(self, rows: int) -> None:
        limits = self._engine.limits
        self._row_count += rows
        if self._row_count > limits.transaction_rows_max:
            raise exceeded(limits, "transaction_rows_max", "the number of rows in a transaction")

    def act(self, action: ListenTo | Notification) -> None:
        """Do something at the commit; the same notification is sent once."""
        if not isinstance(action, Notification) or action not in self._actions:
            self._actions.append(action)

    def begin(self) -> None:
        self.explicit = True

    def fail(self) -> None:
        """Note that a statement failed: an explicit transaction then only takes ROLLBACK, to a savepoint or of it all."""
        if not self.explicit:
            self.roll_back()
            return
        self.failed = True
        if not self._savepoints:
            self._forget()  # nothing of it can be committed any more
            self.ended()

    def _forget(self) -> None:
        self._pending, self._changes, self._row_count, self._restarts = [], {}, 0, ()

    def roll_back(self) -> None:
        self._end()
        self.ended()

    def take_unmade(self) -> frozenset[int]:
        """Give the IDs of what is to be dropped since the last call."""
        found, self._unmade = self._unmade, frozenset()
        return found

    def _unmake(self, kept: frozenset[int] = frozenset()) -> None:
        self._unmade |= self.made - kept
        self.made = kept

    def _end(self) -> None:
        self._forget()
        self._unmake()
        self._actions = []
        self._temporary = self._temporary_before
        self._savepoints = []
        self.deferrals = {}
        self.explicit = self.failed = False

    # ---- savepoints ----

    @property
    def last_savepoint(self) -> Savepoint | None:
        """What an error can be undone to without undoing it all."""
        return self._savepoints[-1] if self._savepoints else None

    def set_savepoint(self, name: str, settings: dict[str, str], cursors: frozenset[str]) -> None:
        """Remember what was written up to here. Of several savepoints of one name, the last one set counts."""
        limits = self._engine.limits
        if len(self._savepoints) >= limits.savepoints_max:
            raise exceeded(limits, "savepoints_max", "the number of savepoints in a transaction")
        count, actions = len(self._pending), len(self._actions)
        made = Savepoint(
            name, self._pending, count, self._changes, settings, self._temporary, cursors, actions, self.deferrals,
            self._restarts, self.made,
        )  # fmt: skip
        self._savepoints.append(made)

    def release(self, name: str) -> None:
        """Forget a savepoint, and those set after it; what was written since stays."""
        del self._savepoints[self._find(name) :]

    def roll_back_to(self, name: str) -> Savepoint:
        """Undo what was written since a savepoint, which stays; gives it, for what else is to be undone."""
        place = self._find(name)
        del self._savepoints[place + 1 :]
        found = self._savepoints[place]
        self._pending, self._changes = found.pending[: found.count], found.changes
        self._temporary, self.deferrals, self._restarts = found.temporary, found.deferrals, found.restarts
        self._row_count = sum(rows.num_rows for _, rows in self._pending)
        self._row_count += sum(change.row_count for change in self._changes.values())
        del self._actions[found.actions :]
        self._unmake(found.made)
        self.failed = False
        return found

    def _find(self, name: str) -> int:
        for place in reversed(range(len(self._savepoints))):
            if self._savepoints[place].name == name:
                return place
        raise InvalidSavepoint(f'savepoint "{name}" does not exist')

    # ---- the end ----

    async def commit(self) -> None:
        """Make what was written durable, with all its effects; returns after the epoch's commit.

        Where that fails, what was made is to be dropped (`take_unmade`).
        """
        pending, changes, temporary = self._pending, self._changes, self._temporary
        written = self.pending() if temporary else {}
        actions, restarts = self._actions, self._restarts
        self._end()
        try:
            await self._commit(pending, changes, temporary, written)
            for sequence in restarts:
                first = partial(self._engine.sequences.set, sequence, sequence.options.first, called=False)
                await asyncio.wrap_future(self._engine.call(first))
            self._unmade = frozenset()
        finally:
            self.ended()
        if actions:
            self.after_commit(actions)

    async def _commit(
        self,
        pending: list[tuple[str, pa.Table]],
        changes: dict[str, TableChange],
        temporary: Temporary,
        written: dict[str, pa.Table],
    ) -> None:
        if temporary:
            own = await self._merged(temporary, changes, written)
            pending = [(name, rows) for name, rows in pending if name not in temporary]
            changes = {name: change for name, change in changes.items() if name not in temporary}
        if pending or changes:
            await room(self._engine)
            write = Write(pending, list(changes.values()))
            with self.withdrawing(partial(self._engine.waiting.withdraw, write)):
                await asyncio.wrap_future(self._engine.submit(write))
        if temporary:
            self._temporary = self._temporary_before = after_commit(own)
        elif self._temporary_before:  # all of them were dropped
            self._temporary = self._temporary_before = {}

    async def _merged(
        self, temporary: Temporary, changes: dict[str, TableChange], written: dict[str, pa.Table]
    ) -> Temporary:
        """Put what was done to temporary tables into their rows."""
        store, limits = self._engine.store, self._engine.limits

        def work() -> Temporary:
            return {
                name: merged(made, changes.get(name), written.get(name), store, limits)
                for name, made in temporary.items()
            }

        if not (temporary.keys() & (changes.keys() | written.keys())):
            return temporary
        return await asyncio.get_running_loop().run_in_executor(None, work)


async def room(engine: Engine) -> None:
    """Wait while too much is queued for the engine: its producers, and nobody else, are held up."""
    loop = asyncio.get_running_loop()
    while engine.queue.full:
        free = asyncio.Event()

        def wake(free: asyncio.Event = free) -> None:
            loop.call_soon_threadsafe(free.set)

        engine.queue.when_room(wake)
        await free.wait()
