"""What has been found out about statements, for when a client sends them again.

Drivers send the same text with each execution (psycopg parses it anew each time), so a text is parsed once, and the SQL and
columns of a query are looked up by its statement for as long as the catalog stays the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import duckdb
import pyarrow as pa

from streamsql.base.errors import SQLSyntaxError, StreamSQLError
from streamsql.base.limits import Limits
from streamsql.base.types import WireType
from streamsql.catalog.objects import Catalog, Stream, Table
from streamsql.catalog.pg_catalog.names import NAMES, names_table
from streamsql.catalog.relation import CatalogRelation, Snapshot
from streamsql.engine.ingest import arrow_schema
from streamsql.plan.point_lookup import PointLookup
from streamsql.server.advisory import AdvisoryLocks
from streamsql.server.cancellation import Cancellation
from streamsql.server.lookups import Lookups
from streamsql.server.reads import ReadPool
from streamsql.server.results import ResultColumn
from streamsql.server.templates import Templates
from streamsql.sql.parse import parse
from streamsql.sql.secrets import holds_secret
from streamsql.sql.statements import ColumnDefinition, Statement

T = TypeVar("T")

TEXTS_MAX = 1_024
TEXT_CHARACTERS_MAX = 10_000
FINDINGS_MAX = 2_048
# changes, and batches of them, that are kept for the next subscriber; small ones only, so they are few bytes
SHARED_MAX = 64
SHARED_ROWS_MAX = 1_000
SHAPES_MAX = 10_000
# catalogs, users and databases whose system relations are kept
SNAPSHOTS_MAX = 32
# so many subscribers of a view are told at once of a change; between them others have their turn, such as who made the change
RUNG_AT_ONCE_MAX = 32
# a text of this length takes milliseconds to parse, which other sessions should not wait for
PARSED_INLINE_CHARACTERS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Bound:
    """An ad-hoc query as DuckDB runs it, and its columns. Parameters are marks in the SQL (see `statements.query`).

    `tables` are the system's relations that it reads, by the names by which it does. `lasting` says that it is the same
    whenever it is bound, as long as the catalog is. `lookup` says that it looks rows up by a key.
    """

    sql: str
    columns: tuple[ResultColumn, ...]
    tables: Mapping[str, pa.Table]
    lasting: bool = True
    lookup: PointLookup | None = None


class Shared(Generic[T]):
    """What was made of objects that several sessions are given, told apart by identity; the last few of them."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[int, int], tuple[object, T]] = OrderedDict()
        self._shapes: dict[Hashable, int] = {}
        self._first_shape = 0

    def shape(self, key: Hashable) -> int:
        """Number what things are made by, so that it is not hashed again with each of them."""
        if len(self._shapes) > SHAPES_MAX:
            self._made.clear()
            self._shapes.clear()
            self._first_shape += SHAPES_MAX + 1
        return self._shapes.setdefault(key, self._first_shape + len(self._shapes))

    def get(self, source: object, key: int) -> T | None:
        found = self._made.get((id(source), key))
        return None if found is None else found[1]

    def put(self, source: object, made: T, key: int) -> None:
        self._made[id(source), key] = (source, made)  # which keeps its identity from being given to another
        if len(self._made) > SHARED_MAX:
            self._made.popitem(last=False)


@dataclass(slots=True)
class _Finding(Generic[T]):
    statement: Statement  # kept, so that its identity is not given to another one
    catalog: Catalog
    value: T


class Findings(Generic[T]):
    """What was found about statements under one catalog. Statements are told apart by identity."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[int, Hashable], _Finding[T]] = OrderedDict()

    def get(self, statement: Statement, catalog: Catalog, key: Hashable = None) -> T | None:
        finding = self._found.get((id(statement), key))
        if finding is None or finding.catalog is not catalog:
            return None
        return finding.value

    def put(self, statement: Statement, catalog: Catalog, value: T, key: Hashable = None) -> None:
        self._found[id(statement), key] = _Finding(statement, catalog, value)
        if len(self._found) > FINDINGS_MAX:
            self._found.popitem(last=False)


def _parsed_in_secret(text: str, limits: Limits) -> list[Statement]:
    """Parse a text that may hold a password: neither it nor what is wrong with it is repeated to anybody."""
    try:
        return parse(text, limits)
    except StreamSQLError as error:
        if '"' not in error.message and "'" not in error.message:
            raise  # it repeats nothing
        raise SQLSyntaxError(
            "syntax error in a statement with a password", hint=error.hint, position=error.position
        ) from None


class Bell:
    """Sets events from other threads: those of one moment together, since each call into the event loop costs a system call."""

    def __init__(self) -> None:
        self._due: deque[asyncio.Event] = deque()
        self._rung = False

    def for_event(self, event: asyncio.Event) -> Callable[[], None]:
        """Give what sets an event of this event loop. For any thread."""
        loop = asyncio.get_running_loop()

        def ring() -> None:
            self._due.append(event)
            if not self._rung:
                self._rung = True
                loop.call_soon_threadsafe(self._set)

        return ring

    def _set(self) -> None:
        self._rung = False  # before the events are taken: who rings from now on is heard again
        for _ in range(min(len(self._due), RUNG_AT_ONCE_MAX)):
            self._due.popleft().set()
        if self._due:
            self._rung = True
            asyncio.get_running_loop().call_soon(self._set)


class Known:
    """What all sessions know; used from the event loop's thread."""

    def __init__(self, limits: Limits, reads: ReadPool) -> None:
        self._limits = limits
        self._reads = reads
        self._texts: OrderedDict[str, list[Statement]] = OrderedDict()
        # with the columns that they are of, which may become more
        self._schemas: dict[int, tuple[Sequence[ColumnDefinition], pa.Schema]] = {}
        self._standard: OrderedDict[tuple[Hashable, ...], tuple[Catalog, dict[str, pa.Table]]] = OrderedDict()
        self.one_at_a_time = asyncio.Lock()  # for statements that would only make each other start again
        # of each session, by its process id: the role that logged in, and what cancels what it runs
        self.cancellations: dict[int, tuple[int, Cancellation]] = {}
        self.advisory = AdvisoryLocks(limits)
        self.types: Findings[tuple[WireType, ...]] = Findings()
        self.queries: Findings[Bound] = Findings()
        self.returned: Findings[Bound] = Findings()
        self.named: Findings[Statement] = Findings()
        self.lookups = Lookups(reads)
        self.bell = Bell()
        self.templates = Templates()
        self.frames: Shared[list[pa.RecordBatch]] = Shared()
        self.encoded: Shared[memoryview] = Shared()

    async def parse(self, text: str) -> list[Statement]:
        """Give the statements of a query string; the same ones for the same text."""
        found = self._texts.get(text)
        if found is not None:
            return found
        if holds_secret(text):
            return _parsed_in_secret(text, self._limits)
        if len(text) > PARSED_INLINE_CHARACTERS_MAX:
            return await self._reads.compute(lambda: parse(text, self._limits))
        found = parse(text, self._limits)
        if len(text) <= TEXT_CHARACTERS_MAX:
            self._texts[text] = found
            if len(self._texts) > TEXTS_MAX:
                self._texts.popitem(last=False)
        return found

    def standard(self, relation: CatalogRelation | None, snapshot: Snapshot) -> tuple[str, pa.Table]:
        """Give a relation of the standard schemas (None: the names of what has an OID), and what SQL reads it as.

        Lasting ones are made once for each catalog, user and database. For any thread.
        """
        key = (id(snapshot.catalog), snapshot.user, snapshot.database, snapshot.role, snapshot.owner, snapshot.path)
        _, tables = self._standard.setdefault(key, (snapshot.catalog, {}))
        if len(self._standard) > SNAPSHOTS_MAX:
            with contextlib.suppress(KeyError):  # another thread was faster
                self._standard.popitem(last=False)
        name = NAMES if relation is None else relation.read_as
        if relation is not None and not relation.lasting:
            return name, relation.table(snapshot)
        found = tables.get(name)
        if found is None:
            found = tables[name] = names_table(snapshot) if relation is None else relation.table(snapshot)
        return name, found

    def schema(self, relation: Stream | Table, cursor: duckdb.DuckDBPyConnection) -> pa.Schema:
        """Give the Arrow schema of a relation's rows; looked up once. For any thread."""
        if isinstance(relation, Table) and relation.temporary:  # there is no end of them
            return arrow_schema(relation, cursor)
        known = self.schema_if_known(relation)
        if known is None:
            known = arrow_schema(relation, cursor)
            self._schemas[relation.id] = relation.columns, known
        return known

    def schema_if_known(self, relation: Stream | Table) -> pa.Schema | None:
        """Give the Arrow schema of a relation's rows if it was looked up before."""
        columns, known = self._schemas.get(relation.id, ((), None))
        return known if columns is relation.columns else None

    def close(self) -> None:
        """Let go of what is kept in memory, wait for the reads that run, and close their connections."""
        self.lookups.close()
        self._reads.close()
