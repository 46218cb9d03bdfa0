"""Resident size after 5 M and after 50 M rows of the same keys, and the data directory's size over time.

Estimate. What must be kept is the state of the open windows, 1,000 keys of some 100 bytes for each, and the view's rows. The
view shows the groups that had a rare amount, one in a hundred, so that its rows do not count: a view that shows all grows with
its answer, by 170 bytes a row. Everything else is working memory: the rows of one COPY (100,000 of 20 bytes, several times over
as bytes, Arrow and DuckDB's vectors). So the resident size should stay where it is after the first COPYs. The data directory
swings by the write-ahead log, up to 16 MB between two checkpoints, so its largest sizes in the two halves of the run are
compared; DuckDB frees blocks within its file, and does not shrink it.
"""

from __future__ import annotations

import asyncio
import io

import asyncpg

from benchmarks.events import HOUR_US, START_US, STREAM, VIEW, Shape, csv_of, events, scaled
from benchmarks.figures import Figure, say
from benchmarks.servers import Server, streamsql

ROWS = 50_000_000
COPY_ROWS = 100_000
RARE_VIEW = VIEW.replace("EMIT APPEND", "HAVING max(amount) > 999.985 EMIT APPEND")
KEYS = 1_000


def run(scale: float) -> list[Figure]:
    """Measure after a tenth of the rows and after all of them."""
    rows = max(scaled(ROWS, scale), 10 * COPY_ROWS)
    copies = rows // COPY_ROWS
    with streamsql() as server:
        sizes = asyncio.run(_sizes(server, copies))
    early = max(copies // 10, 1)
    mega = [(rss / 2**20, disk / 2**20) for rss, disk in sizes]
    steps = sorted({0, early - 1, copies // 4, copies // 2, copies * 3 // 4, copies - 1})
    over_time = ", ".join(f"{(i + 1) * COPY_ROWS / 1e6:g} M: {mega[i][0]:,.0f}/{mega[i][1]:,.0f}" for i in steps)
    half = copies // 2
    largest_before, largest = max(disk for _, disk in mega[:half]), max(disk for _, disk in mega[half:])
    name, at = f"RSS after {rows / 1e6:g} M rows", f"after {early * COPY_ROWS / 1e6:g} M"
    note = f"RSS/disk in MB: {over_time}"
    return [
        say(Figure("memory", name, mega[-1][0], "MB", mega[early - 1][0], at, ratio_max=1.2, note=note)),
        say(Figure("memory", "data directory at most", largest, "MB", largest_before, "first half", ratio_max=1.2)),
    ]


async def _sizes(server: Server, copies: int) -> list[tuple[int, int]]:
    connection = await asyncpg.connect(server.url)
    await connection.execute(STREAM)
    await connection.execute(RARE_VIEW)
    span = HOUR_US * COPY_ROWS // ROWS
    found = []
    for number in range(copies):
        shape = Shape(COPY_ROWS, KEYS, span, START_US + number * span, seed=number % 7)
        await connection.copy_to_table("payments", source=io.BytesIO(csv_of(events(shape))), format="csv")
        found.append((server.rss_bytes, server.folder_bytes))
    late = await connection.fetchval("SELECT rows_late FROM streamsql.views")
    assert late == 0, late
    await connection.close()
    return found
