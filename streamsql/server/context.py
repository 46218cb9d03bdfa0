"""What a statement needs to be executed: the session and the server's parts, in one object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import duckdb

from streamsql.base.limits import Limits
from streamsql.base.types import WireType
from streamsql.catalog.objects import Catalog
from streamsql.engine.epoch import Engine
from streamsql.engine.recovery import SYSTEM_RELATIONS
from streamsql.plan.adhoc import Scope
from streamsql.plan.functions import Asker
from streamsql.server.cancellation import Cancellation
from streamsql.server.known import Known
from streamsql.server.reads import ReadPool, describe_on
from streamsql.server.transactions import SessionTransaction
from streamsql.server.variables import Variables

T = TypeVar("T")

_SYSTEM = frozenset(SYSTEM_RELATIONS)


@dataclass(frozen=True, slots=True)
class Values:
    """Bound parameters: their types, and their values in Postgres' text form (None for NULL).

    `texts` is None where the values are not known yet, as in Describe of a statement.
    """

    types: tuple[WireType, ...] = ()
    texts: tuple[str | None, ...] | None = ()


NO_VALUES = Values()


class PreparedNames(Protocol):
    """The prepared statements of a session, as DEALLOCATE sees them."""

    def __contains__(self, name: object) -> bool: ...
    def __delitem__(self, name: str) -> None: ...
    def clear(self) -> None: ...


@dataclass(slots=True)
class Context:
    """One session's view of the server."""

    engine: Engine
    reads: ReadPool
    known: Known
    asker: Asker
    transaction: SessionTransaction
    variables: Variables
    prepared: PreparedNames = field(default_factory=dict[str, object])
    cancel: Cancellation = field(default_factory=Cancellation)

    @property
    def limits(self) -> Limits:
        return self.engine.limits

    @property
    def catalog(self) -> Catalog:
        return self.engine.catalog

    def scope(self, cursor: duckdb.DuckDBPyConnection) -> Scope:
        """Say where the names of a query are looked up that this connection runs."""
        return Scope(self.catalog, describe_on(cursor), self.limits, self.asker, _SYSTEM)

    def own_cursor(self) -> tuple[duckdb.DuckDBPyConnection, Scope]:
        """Open a connection that sees the rows which the session has written and not committed; the caller closes it."""
        cursor = self.engine.store.cursor()
        stand_ins: dict[str, str] = {}
        for number, (name, rows) in enumerate(self.transaction.pending().items()):
            stand_ins[name] = f"__written_{number}"
            cursor.register(f"__rows_{number}", rows)
            cursor.execute(
                f"CREATE TEMP VIEW {stand_ins[name]} AS SELECT * FROM {self.catalog.relation(name).public_name} "
                f"UNION ALL SELECT * FROM __rows_{number}"
            ).fetchall()
        return cursor, Scope(self.catalog, describe_on(cursor), self.limits, self.asker, _SYSTEM, stand_ins)

    async def on_engine(self, run: Callable[[], T]) -> T:
        """Run a function on the engine's thread, between epochs."""
        return await asyncio.wrap_future(self.engine.call(run))
