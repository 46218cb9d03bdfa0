"""Ad-hoc reads: SELECTs on DuckDB connections of their own, in a small pool of threads.

DuckDB lets Python's lock go while it works and gives each transaction a snapshot, so a read neither waits for the engine
nor holds it up. A connection serves one read at a time and goes back to the pool when the read has come to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import duckdb
import pyarrow as pa

from streamsql.base.errors import StreamSQLError
from streamsql.base.limits import Limits
from streamsql.catalog.objects import OutputColumn
from streamsql.engine.store import UTC, Store, set_zone, translated
from streamsql.engine.translate import translate_text
from streamsql.plan.nodes import Describe
from streamsql.server.cancellation import Cancellation
from streamsql.server.results import ResultColumn

T = TypeVar("T")

# DuckDB forgets an interruption that comes before its statement begins, so it is repeated
INTERRUPT_EVERY_SECONDS = 0.02


class ReadPool:
    """Connections and threads for reads; used from the event loop's thread.

    Each read runs in a time zone, UTC where none is named.
    """

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._executor = ThreadPoolExecutor(limits.readers_max, thread_name_prefix="reader")
        self._idle: dict[str, list[duckdb.DuckDBPyConnection]] = {}  # by their time zone

    async def run(
        self,
        work: Callable[[duckdb.DuckDBPyConnection], T],
        cancellation: Cancellation | None = None,
        zone: str = UTC,
    ) -> T:
        """Run `work` on a connection in another thread; a cancellation interrupts DuckDB."""
        cursor = self._take(zone)
        try:
            made = await self._on_thread(lambda: work(cursor), cursor, cancellation)
        except BaseException:
            cursor.close()  # it may have been left with a result half read, and takes no other query then
            raise
        self._give_back(cursor, zone)
        return made

    async def run_on(
        self,
        cursor: duckdb.DuckDBPyConnection,
        work: Callable[[duckdb.DuckDBPyConnection], T],
        cancellation: Cancellation,
    ) -> T:
        """Run `work` on the caller's connection in another thread; a cancellation interrupts DuckDB."""
        return await self._on_thread(lambda: work(cursor), cursor, cancellation)

    async def compute(self, work: Callable[[], T]) -> T:
        """Run work that needs no connection in another thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def stream(
        self,
        sql: str,
        columns: Sequence[ResultColumn],
        cancellation: Cancellation,
        cursor: duckdb.DuckDBPyConnection | None = None,
        tables: Mapping[str, pa.Table] = {},
        zone: str = UTC,
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """Run a SELECT and give its rows in canonical Arrow, batch by batch, one ahead of what is asked for.

        With a `cursor`, the read is made on that connection, and closes it. `tables` are what it reads by name besides.
        """
        own = cursor is not None
        connection = cursor or self._take(zone)
        wanted = canonical_sql(sql, columns)
        may_be_canonical = not any(c.shown or (c.cast and not c.exact) for c in columns)
        rows_max = self._limits.result_batch_rows_max
        upcoming: asyncio.Task[list[pa.RecordBatch]] | None = None
        finished = False

        def first() -> tuple[pa.RecordBatchReader, list[pa.RecordBatch]]:
            for name, table in tables.items():
                connection.register(name, table)
            with translated():
                relation = connection.sql(sql if may_be_canonical else wanted)
                if may_be_canonical and not _is_canonical(relation, columns):
                    relation = connection.sql(wanted)
                reader = relation.to_arrow_reader(rows_max)
            return reader, _next(reader, rows_max)

        try:
            reader, batches = await self._on_thread(first, connection, cancellation)
            while True:
                more = len(batches) == 1
                if more:
                    work = self._on_thread(lambda: _next(reader, rows_max), connection, cancellation)
                    upcoming = asyncio.ensure_future(work)
                for batch in batches:
                    if batch is not None:
                        yield batch
                if upcoming is None:
                    break
                batches, upcoming = await upcoming, None
            finished = True
        finally:
            if upcoming is not None:
                connection.interrupt()
                with contextlib.suppress(StreamSQLError):
                    await upcoming
            if finished and not own:
                self._give_back(connection, zone)
            else:
                connection.close()

    async def _on_thread(
        self, work: Callable[[], T], cursor: duckdb.DuckDBPyConnection, cancellation: Cancellation | None
    ) -> T:
        if cancellation is not None:
            cancellation.check()  # before the connection is busy: who cancels closes it
        running = self._executor.submit(work)
        if cancellation is None:
            return await asyncio.wrap_future(running)
        with cancellation.interrupting(lambda: _interrupt(running, cursor)):
            try:
                return await asyncio.wrap_future(running)
            except asyncio.CancelledError:
                cancellation.check()  # it had not begun
                raise

    def _take(self, zone: str) -> duckdb.DuckDBPyConnection:
        idle = self._idle.get(zone)
        if idle:
            return idle.pop()
        cursor = self._store.cursor()
        if zone != UTC:
            set_zone(cursor, zone)
        return cursor

    def _give_back(self, cursor: duckdb.DuckDBPyConnection, zone: str) -> None:
        if sum(map(len, self._idle.values())) < self._limits.readers_max:
            self._idle.setdefault(zone, []).append(cursor)
        else:
            cursor.close()

    def close(self) -> None:
        """Wait for what runs, and close the connections."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        for cursors in self._idle.values():
            for cursor in cursors:
                cursor.close()


class SessionReads:
    """The reads of one session: the pool's, in the session's time zone."""

    def __init__(self, pool: ReadPool, zone: Callable[[], str]) -> None:
        self._pool = pool
        self._zone = zone

    async def run(self, work: Callable[[duckdb.DuckDBPyConnection], T], cancellation: Cancellation | None = None) -> T:
        """Do as `ReadPool.run`."""
        return await self._pool.run(work, cancellation, self._zone())

    async def run_on(
        self,
        cursor: duckdb.DuckDBPyConnection,
        work: Callable[[duckdb.DuckDBPyConnection], T],
        cancellation: Cancellation,
    ) -> T:
        """Do as `ReadPool.run_on`."""
        return await self._pool.run_on(cursor, work, cancellation)

    async def compute(self, work: Callable[[], T]) -> T:
        """Do as `ReadPool.compute`."""
        return await self._pool.compute(work)

    def stream(
        self,
        sql: str,
        columns: Sequence[ResultColumn],
        cancellation: Cancellation,
        cursor: duckdb.DuckDBPyConnection | None = None,
        tables: Mapping[str, pa.Table] = {},
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """Do as `ReadPool.stream`."""
        return self._pool.stream(sql, columns, cancellation, cursor, tables, self._zone())


def _interrupt(running: Future[T], cursor: duckdb.DuckDBPyConnection) -> None:
    if running.cancel() or running.done():
        return
    cursor.interrupt()
    asyncio.get_running_loop().call_later(INTERRUPT_EVERY_SECONDS, _interrupt, running, cursor)


def _next(reader: pa.RecordBatchReader, rows_max: int) -> list[pa.RecordBatch | None]:
    """Give the next batch; one that is not full, together with what follows it: None, which is the end."""
    batch = next_batch(reader)
    if batch is not None and batch.num_rows >= rows_max:
        return [batch]
    batches = [batch]
    while batches[-1] is not None:
        batches.append(next_batch(reader))
    return batches if len(batches) > 1 else [None, None]


def next_batch(reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
    """Give the next batch of rows, or None at the end."""
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return None
        except (pa.ArrowException, OSError) as error:
            # DuckDB's error comes through Arrow's C interface, as text
            raise translate_text(str(error)) from error
        if batch.num_rows:
            return batch


def _is_canonical(relation: duckdb.DuckDBPyRelation, columns: Sequence[ResultColumn]) -> bool:
    """Tell whether a SELECT gives its columns as the client was told, so that they need no cast (which costs a plan)."""
    return all(c.cast is None or str(found) == c.cast for c, found in zip(columns, relation.types, strict=True))


def canonical_sql(sql: str, columns: Sequence[ResultColumn]) -> str:
    """Wrap a SELECT so that each column comes in canonical Arrow."""
    if not any(c.cast or c.shown for c in columns):
        return sql
    items = []
    for index, column in enumerate(columns):
        value = f"#{index + 1}"
        if column.cast == "JSON":
            value = f"CAST(CAST({value} AS JSON) AS VARCHAR)"
        elif column.cast:
            value = f"CAST({value} AS {column.cast})"
        elif column.shown:
            value = column.shown.replace("{}", f"c{index}")
        items.append(f"{value} AS c{index}")
    if any(c.shown for c in columns):  # a subquery cannot speak of #1
        names = ", ".join(f"c{index}" for index in range(len(columns)))
        return f"SELECT {', '.join(items)} FROM ({sql}) AS shown ({names})"
    return f"SELECT {', '.join(items)} FROM ({sql})"


def describe_on(cursor: duckdb.DuckDBPyConnection) -> Describe:
    """Make the function that tells a SELECT's columns without running it."""

    def describe(sql: str) -> list[OutputColumn]:
        with translated():
            relation = cursor.sql(sql)
            return [OutputColumn(n, str(t)) for n, t in zip(relation.columns, relation.types, strict=True)]

    return describe
