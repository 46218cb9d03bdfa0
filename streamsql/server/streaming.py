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
from streamsql.server.reads import ReadPool, canonical_sql
from streamsql.server.results import ResultColumn


async def every(
    subscription: Subscription, wake: asyncio.Event, every_us: int | None, cancellation: Cancellation
) -> AsyncIterator[tuple[list[Change], int]]:
    """Give changes as they come, or gathered so that there are `every_us` microseconds between two deliveries.

    What was gathered is given consolidated: a value that came and went in between is not in it.
    """
    loop = asyncio.get_running_loop()
    due = 0.0
    held: list[Change] = []
    while True:
        wake.clear()
        taken, epoch = subscription.take()
        held += taken
        cancellation.check()
        if held and loop.time() >= due:
            changes, held = (consolidated(held) if every_us else held), []
            if every_us:
                due = loop.time() + every_us / 1e6
            yield changes, epoch
        elif taken or not held:
            yield [], epoch
        await cancellation.wait(wake.wait(), max(due - loop.time(), 0.0) if held else None)


def consolidated(changes: list[Change]) -> list[Change]:
    """Add the weights of equal rows up: the changes of many epochs as one. Whole results and appended rows stay as they are."""
    if len(changes) < 2 or any(c.weights is None for c in changes if not c.whole):
        return changes
    weighted = [c for c in changes if not c.whole]
    wholes = [c for c in changes if c.whole]
    if not weighted:
        return wholes
    rows = pa.concat_tables([c.rows for c in weighted])
    weights = pa.chunked_array([c.weights for c in weighted])
    with duckdb.connect() as scratch:
        scratch.register("z", rows.append_column("__weight", weights))
        summed = scratch.sql(
            "SELECT * EXCLUDE (__weight), sum(__weight)::TINYINT AS __weight FROM z GROUP BY ALL HAVING sum(__weight) <> 0 "
            "ORDER BY ALL"
        ).to_arrow_table()
    total = summed.column("__weight").combine_chunks()
    return [*wholes, Change(changes[-1].epoch, summed.drop_columns(["__weight"]), total)]


async def canonical(reads: ReadPool, rows: pa.Table, columns: list[ResultColumn]) -> list[pa.RecordBatch]:
    """Bring rows that the engine gave into canonical Arrow, as batches."""
    wanted = [canonical_arrow(c.type, c.modifier) for c in columns]
    if all(_same(f.type, w) for f, w in zip(rows.schema, wanted, strict=True)):
        return rows.to_batches()

    def cast(cursor: duckdb.DuckDBPyConnection) -> pa.Table:
        cursor.register("__rows", rows)
        try:
            with translated():
                return cursor.sql(canonical_sql("SELECT * FROM __rows", columns)).to_arrow_table()
        finally:
            cursor.unregister("__rows")

    return (await reads.run(cast)).to_batches()


def _same(one: pa.DataType, other: pa.DataType) -> bool:
    return one == other or (pa.types.is_timestamp(one) and pa.types.is_timestamp(other) and one.unit == other.unit)
