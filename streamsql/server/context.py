"""What a statement needs to be executed: the session and the server's parts, in one object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

import duckdb
import pyarrow as pa

from streamsql.base.limits import Limits
from streamsql.base.types import WireType
from streamsql.catalog.objects import Catalog, Stream, Table
from streamsql.engine.epoch import Engine
from streamsql.engine.ingest import arrow_schema
from streamsql.server.cancellation import Cancellation
from streamsql.server.reads import ReadPool
from streamsql.server.transactions import SessionTransaction
from streamsql.server.variables import Variables

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Values:
    """Bound parameters: their types, and their values in Postgres' text form (None for NULL)."""

    types: tuple[WireType, ...] = ()
    texts: tuple[str | None, ...] = ()


NO_VALUES = Values()


@dataclass(slots=True)
class Context:
    """One session's view of the server."""

    engine: Engine
    reads: ReadPool
    limits: Limits
    user: str
    transaction: SessionTransaction
    variables: Variables
    statements: dict[str, object] = field(default_factory=dict)
    schemas: dict[int, pa.Schema] = field(default_factory=dict)
    cancel: Cancellation = field(default_factory=Cancellation)

    @property
    def catalog(self) -> Catalog:
        return self.engine.catalog

    def schema(self, relation: Stream | Table, cursor: duckdb.DuckDBPyConnection) -> pa.Schema:
        """Give the Arrow schema of a relation's rows; looked up once."""
        known = self.schemas.get(relation.id)
        if known is None:
            known = self.schemas[relation.id] = arrow_schema(relation, cursor)
        return known

    async def on_engine(self, run: Callable[[], T]) -> T:
        """Run a function on the engine's thread, between epochs."""
        future: Future[T] = self.engine.call(run)
        return await asyncio.wrap_future(future)
