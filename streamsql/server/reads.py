"""Ad-hoc reads: SELECTs on DuckDB connections of their own, in a small pool of threads.

DuckDB lets Python's lock go while it works and gives each transaction a snapshot, so a read neither waits for the engine
nor holds it up. A connection serves one read at a time and goes back to the pool when the read is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import duckdb
import pyarrow as pa

from streamsql.base.limits import Limits
from streamsql.catalog.objects import OutputColumn
from streamsql.engine.store import Store, translated
from streamsql.server.cancellation import Cancellation
from streamsql.server.results import ResultColumn

T = TypeVar("T")


class ReadPool:
    """Connections and threads for reads; used from the event loop's thread."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._executor = ThreadPoolExecutor(limits.readers_max, thread_name_prefix="reader")
        self._idle: list[duckdb.DuckDBPyConnection] = []

    async def run(self, work: Callable[[duckdb.DuckDBPyConnection], T], cancellation: Cancellation | None = None) -> T:
        """Run `work` on a connection in another thread; a cancellation interrupts DuckDB."""
        cursor = self._take()
        try:
            return await self._on_thread(lambda: work(cursor), cursor, cancellation)
        finally:
            self._give_back(cursor)

    async def compute(self, work: Callable[[], T]) -> T:
        """Run work that needs no connection in another thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def stream(
        self, sql: str, columns: list[ResultColumn], cancellation: Cancellation
    ) -> AsyncIterator[pa.RecordBatch | None]:
        """Run a SELECT and give its rows in canonical Arrow, batch by batch, as they are asked for."""
        cursor = self._take()
        try:
            async for batch in self.stream_from(cursor, sql, columns, cancellation):
                yield batch
        finally:
            self._give_back(cursor)

    async def stream_from(
        self, cursor: duckdb.DuckDBPyConnection, sql: str, columns: list[ResultColumn], cancellation: Cancellation
    ) -> AsyncIterator[pa.RecordBatch | None]:
        """Do the same on a connection of the caller's, which sees the caller's snapshot."""
        cast_sql = canonical_sql(sql, columns)
        rows_max = self._limits.result_batch_rows_max

        def first() -> tuple[pa.RecordBatchReader, pa.RecordBatch | None]:
            with translated():
                reader = cursor.sql(cast_sql).to_arrow_reader(rows_max)
                return reader, next_batch(reader)

        reader, batch = await self._on_thread(first, cursor, cancellation)
        try:
            while batch is not None:
                upcoming = self._start(lambda: next_batch(reader), cursor, cancellation)
                try:
                    yield batch
                finally:
                    batch = await upcoming
        finally:
            reader.close()

    def _start(
        self, work: Callable[[], T], cursor: duckdb.DuckDBPyConnection, cancellation: Cancellation
    ) -> asyncio.Task[T]:
        return asyncio.ensure_future(self._on_thread(work, cursor, cancellation))

    async def _on_thread(
        self, work: Callable[[], T], cursor: duckdb.DuckDBPyConnection, cancellation: Cancellation | None
    ) -> T:
        loop = asyncio.get_running_loop()
        if cancellation is None:
            return await loop.run_in_executor(self._executor, work)
        with cancellation.interrupting(cursor.interrupt):
            return await loop.run_in_executor(self._executor, work)

    def _take(self) -> duckdb.DuckDBPyConnection:
        return self._idle.pop() if self._idle else self._store.cursor()

    def _give_back(self, cursor: duckdb.DuckDBPyConnection) -> None:
        if len(self._idle) < self._limits.readers_max:
            self._idle.append(cursor)
        else:
            with contextlib.suppress(duckdb.Error):
                cursor.close()

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
        for cursor in self._idle:
            cursor.close()


def next_batch(reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
    """Give the next batch of rows, or None at the end."""
    with translated():
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return None
            except (pa.ArrowInvalid, OSError) as error:
                # DuckDB's error comes through Arrow's C interface, as text
                raise duckdb.InvalidInputException(str(error)) from error
            if batch.num_rows:
                return batch


def canonical_sql(sql: str, columns: list[ResultColumn]) -> str:
    """Wrap a SELECT so that each column comes in canonical Arrow."""
    if not any(c.cast for c in columns):
        return sql
    items = [f"CAST(#{i + 1} AS {c.cast}) AS c{i}" if c.cast else f"#{i + 1} AS c{i}" for i, c in enumerate(columns)]
    items = [
        f"CAST(CAST(#{i + 1} AS JSON) AS VARCHAR) AS c{i}" if c.cast == "JSON" else item
        for i, (c, item) in enumerate(zip(columns, items, strict=True))
    ]
    return f"SELECT {', '.join(items)} FROM ({sql})"


def describe_on(cursor: duckdb.DuckDBPyConnection) -> Callable[[str], list[OutputColumn]]:
    """Make the function that tells a SELECT's columns without running it."""

    def describe(sql: str) -> list[OutputColumn]:
        with translated():
            relation = cursor.sql(sql)
            return [OutputColumn(n, str(t)) for n, t in zip(relation.columns, relation.types, strict=True)]

    return describe
