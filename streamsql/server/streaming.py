"""What live results have in common: waiting for changes, holding them back (EMIT ... EVERY), canonical Arrow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import duckdb
import pyarrow as pa

from streamsql.base.types import canonical_arrow
from streamsql.engine.changes import Change
from streamsql.engine.store import translated
from streamsql.engine.subscriptions import Subscription
from streamsql.server.cancellation import Cancellation
from streamsql.server.reads import SessionReads, canonical_sql
from streamsql.server.results import ResultColumn, Wake

# while changes are held back, so many rows of them are added up, so that memory does not grow with the time
HELD_ROWS_MAX = 100_000


async def every(
    reads: SessionReads,
    subscription: Subscription,
    wake: Wake,
    every_us: int | None,
    cancellation: Cancellation,
) -> AsyncIterator[tuple[list[Change], int]]:
    """Give changes as they come, or gathered so that there are `every_us` microseconds between two deliveries.

    What was gathered is given consolidated: a value that came and went in between is not in it. With the changes comes
    the epoch that they are complete to.
    """
    loop = asyncio.get_running_loop()
    due = 0.0
    held: list[Change] = []
    held_rows = 0
    while True:
        wake.clear()
        taken, epoch = subscription.take()
        cancellation.check()
        held += taken
        held_rows += sum(c.rows.num_rows for c in taken)
        wait_seconds = due - loop.time()
        if held and wait_seconds <= 0:
            changes, held, held_rows = held, [], 0
            if every_us:
                changes = await reads.run(lambda cursor, all_of=changes: consolidated(all_of, cursor))  # type: ignore[misc]
                due = loop.time() + every_us / 1e6
            yield changes, epoch
        elif not held:
            yield [], epoch
        elif held_rows > HELD_ROWS_MAX:
            held = await reads.run(lambda cursor, all_of=held: consolidated(all_of, cursor))  # type: ignore[misc]
            held_rows = 0
        wake.waiting.set()
        try:
            await cancellation.wait(wake, max(due - loop.time(), 0.0) if held else None)
        finally:
            wake.waiting.clear()


def consolidated(changes: list[Change], cursor: duckdb.DuckDBPyConnection) -> list[Change]:
    """Add the weights of equal rows up: the changes of many epochs as one.

    Of whole results the last one counts. Rows that were appended stay as they are.
    """
    wholes = [c for c in changes if c.whole][-1:]
    appended = [c for c in changes if not c.whole and c.weights is None]
    weighted = [c for c in changes if not c.whole and c.weights is not None]
    if len(weighted) < 2:
        return [*wholes, *appended, *weighted]
    rows = pa.concat_tables([c.rows for c in weighted])
    weights = pa.chunked_array([c.weights for c in weighted])
    with translated():
        cursor.register("__changes", rows.append_column("__weight", weights))
        try:
            summed = cursor.sql(
                "SELECT * EXCLUDE (__weight), sum(__weight)::TINYINT AS __weight FROM __changes "
                "GROUP BY ALL HAVING sum(__weight) <> 0 ORDER BY ALL"
            ).to_arrow_table()
        finally:
            cursor.unregister("__changes")
    total = summed.column("__weight").combine_chunks()
    return [*wholes, *appended, Change(changes[-1].epoch, summed.drop_columns(["__weight"]), total)]


async def canonical(reads: SessionReads, rows: pa.Table, columns: list[ResultColumn]) -> list[pa.RecordBatch]:
    """Bring rows that the engine gave into canonical Arrow, as batches."""
    wanted = [canonical_arrow(c.type, c.modifier) for c in columns]
    if not all(_same(f.type, w) for f, w in zip(rows.schema, wanted, strict=True)):
        rows = await reads.run(lambda cursor: _cast(rows, columns, cursor))
    batches: list[pa.RecordBatch] = rows.to_batches()
    return batches


def _cast(rows: pa.Table, columns: list[ResultColumn], cursor: duckdb.DuckDBPyConnection) -> pa.Table:
    with translated():
        cursor.register("__shown", rows)
        try:
            return cursor.sql(canonical_sql("SELECT * FROM __shown", columns)).to_arrow_table()
        finally:
            cursor.unregister("__shown")


def _same(one: pa.DataType, other: pa.DataType) -> bool:
    if one == other or (pa.types.is_decimal(one) and pa.types.is_decimal(other)):
        return True
    return bool(pa.types.is_timestamp(one) and pa.types.is_timestamp(other) and one.unit == other.unit)
