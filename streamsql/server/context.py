"""What a statement needs to be executed: the session and the server's parts, in one object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

import duckdb
import pyarrow as pa

from streamsql.base.limits import Limits
from streamsql.base.types import WireType
from streamsql.catalog.objects import Catalog, quoted
from streamsql.catalog.relation import CatalogRelation, OwnObjects, Row, SessionRow, Snapshot
from streamsql.catalog.rights import may_read
from streamsql.catalog.standard import snapshot
from streamsql.engine.answers import Answer, Missing
from streamsql.engine.epoch import Engine
from streamsql.engine.recovery import SYSTEM_RELATIONS
from streamsql.engine.sizes import sizes
from streamsql.engine.store import UTC, set_zone
from streamsql.engine.table_changes import remaining
from streamsql.engine.undoing import made_between, undo
from streamsql.plan.adhoc import Scope
from streamsql.plan.functions import Asker
from streamsql.plan.naming import Lookup, path_of, resolved
from streamsql.server.cancellation import Cancellation
from streamsql.server.cursors import SqlCursors
from streamsql.server.identity import Identity
from streamsql.server.known import TEXT_CHARACTERS_MAX, Known
from streamsql.server.notifications import Listener
from streamsql.server.own_numbers import OwnNumbers
from streamsql.server.reads import SessionReads, describe_on
from streamsql.server.results import ResultColumn
from streamsql.server.temporary import Temporary, overlaid
from streamsql.server.transactions import SessionTransaction
from streamsql.server.variables import Variables
from streamsql.sql.names import parted
from streamsql.sql.statements import Insert, Statement

T = TypeVar("T")
S = TypeVar("S", bound=Statement)

_SYSTEM = frozenset(SYSTEM_RELATIONS)


@dataclass(frozen=True, slots=True)
class Values:
    """Bound parameters: their types, and their values in Postgres' text form (None for NULL).

    `texts` is None where the values are not known yet, as in Describe of a statement.
    """

    types: tuple[WireType, ...] = ()
    texts: tuple[str | None, ...] | None = ()


NO_VALUES = Values()


@dataclass(slots=True)
class Given:
    """The system's relations that a query was given to read, by the names by which it does; `lasting` as in `Bound`."""

    tables: dict[str, pa.Table] = field(default_factory=dict)
    lasting: bool = True


class PreparedNames(Protocol):
    """The prepared statements of a session, as DEALLOCATE sees them."""

    def __contains__(self, name: object) -> bool: ...
    def __delitem__(self, name: str) -> None: ...
    def clear(self) -> None: ...
    def shown(self) -> Iterable[Row]: ...
    def find(self, name: str) -> tuple[Statement, tuple[WireType, ...]] | None: ...
    async def add(self, name: str, statement: Statement, oids: tuple[int, ...], text: str) -> None: ...
    async def columns_of(self, name: str) -> list[ResultColumn] | None: ...


class NothingPrepared(dict[str, object]):
    """A session that prepares nothing."""

    def shown(self) -> Iterable[Row]:
        return ()

    def find(self, _: str) -> None:
        return None

    async def add(self, name: str, statement: Statement, oids: tuple[int, ...], text: str) -> None:
        raise NotImplementedError

    async def columns_of(self, _: str) -> None:
        return None


@dataclass(slots=True)
class Context:
    """One session's view of the server."""

    engine: Engine
    reads: SessionReads
    known: Known
    logged_in: Asker
    transaction: SessionTransaction
    variables: Variables
    sessions: Callable[[], Sequence[SessionRow]] = tuple
    prepared: PreparedNames = field(default_factory=NothingPrepared)
    cancel: Cancellation = field(default_factory=Cancellation)
    cursors: SqlCursors = field(default_factory=SqlCursors)
    listener: Listener = field(default_factory=Listener)
    overlay: tuple[Catalog, Temporary, Catalog] | None = None
    identity: Identity | None = None
    numbers: OwnNumbers = field(default_factory=OwnNumbers)
    _asker: tuple[Asker, Catalog, str, Asker] | None = None

    @property
    def asker(self) -> Asker:
        """Who asks now: whoever has logged in, or the role that has been set since; and where names are looked up for him."""
        plain = self.logged_in if self.identity is None else self.identity.asker(self.variables)
        catalog, text, known = self.engine.catalog, self.variables.get("search_path"), self._asker
        if known is None or known[0] is not plain or known[1] is not catalog or known[2] != text:
            made = replace(plain, path=path_of(text, plain.user, catalog, plain.role))
            known = self._asker = (plain, catalog, text, made)
        return known[3]

    @property
    def lookup(self) -> Lookup:
        """Where the names of a statement are looked up."""
        return Lookup(self.catalog, self.asker.path, self.asker.role)

    def key_called(self, written: str) -> str:
        """Give the key of what is called so; the name itself, where nothing is."""
        return self.lookup.key(*parted(written)) or written

    def resolved(self, statement: S) -> S:
        """Give a statement whose names are keys. For the event loop's thread."""
        if isinstance(statement, Insert) and statement.rows is not None and statement.returning is None:
            return resolved(statement, self.lookup)  # it comes once, and may be large
        asker, catalog = self.asker, self.catalog
        key = (asker.path, asker.role)
        found = self.known.named.get(statement, catalog, key)
        if found is None:
            found = resolved(statement, self.lookup)
            if len(statement.text) <= TEXT_CHARACTERS_MAX:
                self.known.named.put(statement, catalog, found, key)
        return found  # type: ignore[return-value]  # it is of the same kind

    def __post_init__(self) -> None:
        self.transaction.after_commit = self.listener.committed
        self.transaction.withdrawing = self.cancel.withdrawing
        self.transaction.ended = self._unlock
        self.listener.may_read = self._may_read

    def _unlock(self) -> None:
        self.known.advisory.release_all(self.logged_in.process_id, transaction=True)

    def _may_read(self, view: str) -> bool:
        catalog = self.engine.catalog
        made = catalog.get(view)
        return made is not None and may_read(catalog, self.asker.role, made)

    @property
    def zone(self) -> str:
        """The session's time zone."""
        return self.variables.zone

    @property
    def limits(self) -> Limits:
        return self.engine.limits

    @property
    def catalog(self) -> Catalog:
        """The catalog, with the session's temporary tables before all else."""
        catalog, temporary = self.engine.catalog, self.transaction.temporary
        if not temporary:
            return catalog
        known = self.overlay
        if known is None or known[0] is not catalog or known[1] is not temporary:
            known = self.overlay = (catalog, temporary, overlaid(catalog, temporary))
        return known[2]

    def scope(self, cursor: duckdb.DuckDBPyConnection, given: Given | None = None) -> Scope:
        """Say where the names of a query are looked up that this connection runs; `given` notes what it is given to read."""
        noted = given or Given()
        path = self.engine.store.path
        snapshot = replace(self._snapshot(), sizes=lambda: sizes(cursor, self.engine.catalog, path))

        def provide(relation: CatalogRelation | None) -> None:
            name, table = self.known.standard(relation, snapshot)
            noted.tables[name] = table
            noted.lasting = noted.lasting and (relation is None or relation.lasting)
            cursor.register(name, table)

        describe = describe_on(cursor)
        return Scope(snapshot.catalog, describe, self.limits, self.asker, _SYSTEM, snapshot, provide)

    def _snapshot(self) -> Snapshot:
        streams = self.engine.streams
        return snapshot(
            self.catalog,
            self.asker.user,
            self.asker.database,
            self.variables.settings,
            self.sessions,
            lambda name: streams[name].rows_in if name in streams else 0,
            OwnObjects(self.cursors.shown, self.prepared.shown, lambda: list(self.listener.listens_to)),
            role=self.asker.role,
            owner=self.asker.owner_shown,
            path=self.asker.path,
            last_number=lambda sequence: self.engine.sequences.place(sequence).shown(),
        )

    async def run_own(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Run `work` on a connection of `own_cursor` in a reader's thread, until the client cancels it."""
        cursor = await self.reads.compute(self.own_cursor)
        try:
            return await self.reads.run_on(cursor, work, self.cancel)
        finally:
            cursor.close()

    def plain_cursor(self) -> duckdb.DuckDBPyConnection:
        """Open a connection that sees the last commit, in the session's time zone. The caller closes it."""
        cursor = self.engine.store.cursor()
        if self.zone != UTC:
            set_zone(cursor, self.zone)
        return cursor

    def own_cursor(self) -> duckdb.DuckDBPyConnection:
        """Open a connection that sees what only the session does: what it has written and not committed, its temporary tables.

        They stand under their names, before those of the database. The caller closes the connection.
        """
        cursor = self.plain_cursor()
        pending, changes, temporary = self.transaction.pending(), self.transaction.changes, self.transaction.temporary
        for number, name in enumerate(self._own_names()):
            table, made = self.catalog.relation(name), temporary.get(name)
            there = None
            if made is not None:
                made.register(cursor)
                there = f"({made.there()})"
            if name in changes:
                parts = remaining(changes[name], number, cursor, there)
            else:
                columns = ", ".join(quoted(c.name) for c in table.columns)
                parts = [f"SELECT {columns} FROM {there or table.public_name}"]
            if name in pending:
                cursor.register(f"__rows_{number}", pending[name])
                parts.append(f"SELECT * FROM __rows_{number}")
            cursor.execute(f"CREATE TEMP VIEW {quoted(name)} AS {' UNION ALL '.join(parts)}").fetchall()
        return cursor

    def own_scope(self, cursor: duckdb.DuckDBPyConnection, given: Given | None = None) -> Scope:
        """Say where the names of a query are looked up that a connection of `own_cursor` runs."""
        return replace(self.scope(cursor, given), stand_ins={name: name for name in self._own_names()})

    def _own_names(self) -> list[str]:
        return sorted({*self.transaction.written, *self.transaction.temporary})

    async def on_engine(self, run: Callable[[], T]) -> T:
        """Run a function on the engine's thread, between epochs; what it misses of tables outside is asked for meanwhile."""
        answers: list[Answer] = []
        waiting = self.engine.waiting
        noted = partial(self._noting, run) if self.transaction.in_block else run
        while True:
            try:
                return await asyncio.wrap_future(self.engine.call(partial(waiting.run_with, answers, noted)))
            except Missing as missing:
                answers = [*answers, *await asyncio.to_thread(waiting.ask, missing.wanted)]

    def _noting(self, run: Callable[[], T]) -> T:
        """Run a function on the engine's thread, and note what it has made for ROLLBACK."""
        before = self.engine.catalog
        try:
            return run()
        finally:
            self.transaction.made |= made_between(before, self.engine.catalog)

    async def undo(self) -> list[str]:
        """Drop what was made in a transaction, or since a savepoint, and is rolled back; gives what stays, for people."""
        ids = self.transaction.take_unmade()
        return await asyncio.wrap_future(self.engine.call(partial(undo, self.engine, ids))) if ids else []
