"""COPY of CSV through the wire into a stream with a view, and PostgreSQL 15 taking the same bytes.

Estimate. A row is 38 bytes. Arrow's CSV reader takes 0.09 us a row on one core, checking the bytes for what it reads
otherwise than PostgreSQL about as much again, the socket 0.05 us, and the engine 0.1 to 0.5 us (see `engine`): 2 M rows/s at
best. Decoding goes on in a thread of its own while the socket is read, but the engine begins only when the COPY has ended,
since a COPY is one transaction. PostgreSQL reads, parses and stores a row in 0.65 us on one core, and aggregates nothing.
"""

from __future__ import annotations

import asyncio
import io
import time

import asyncpg

from benchmarks.events import COLUMNS, HOUR_US, STREAM, VIEW, Shape, csv_of, events, scaled
from benchmarks.figures import Figure, say
from benchmarks.servers import Server, postgres, streamsql

ROWS = 5_000_000
PIECE_ROWS = 500_000


def run(scale: float) -> list[Figure]:
    """Measure one COPY of all rows, and COPYs of 500,000 rows."""
    rows = scaled(ROWS, scale)
    figures = []
    for keys in (1_000, 100_000):
        table = events(Shape(rows, keys, 24 * HOUR_US * rows // ROWS))
        whole = [csv_of(table)]
        pieces = [csv_of(table.slice(at, PIECE_ROWS)) for at in range(0, rows, PIECE_ROWS)]
        for name, parts in (("one COPY", whole), (f"COPYs of {PIECE_ROWS:,}", pieces)):
            bound = measure_postgres(parts)
            value, note = measure_streamsql(parts, rows)
            figure = Figure(
                "copy", f"{name}, {keys:,} keys", rows / value, "rows/s", bound and rows / bound, "PostgreSQL 15",
                value_min=500_000, ratio_min=1, note=note,
            )  # fmt: skip
            figures.append(say(figure))
    return figures


def measure_postgres(parts: list[bytes]) -> float | None:
    """Give the seconds that PostgreSQL takes for the same bytes into an unlogged table."""
    with postgres() as server:
        if server is None:
            return None
        return asyncio.run(_copy(server, [f"CREATE UNLOGGED TABLE payments ({COLUMNS})"], parts))


def measure_streamsql(parts: list[bytes], rows: int) -> tuple[float, str]:
    """Give the seconds until all rows are acknowledged, which is when they are in the view."""
    with streamsql() as server:
        seconds = asyncio.run(_copy(server, [STREAM, VIEW], parts))
        taken, out = asyncio.run(_progress(server))
        assert taken == rows, (taken, rows)
        return seconds, f"{out:,} rows out, peak {server.rss_peak_bytes >> 20:,} MB"


async def _copy(server: Server, setup: list[str], parts: list[bytes]) -> float:
    connection = await asyncpg.connect(server.url)
    for sql in setup:
        await connection.execute(sql)
    began = time.perf_counter()
    for part in parts:
        await connection.copy_to_table("payments", source=io.BytesIO(part), format="csv")
    seconds = time.perf_counter() - began
    await connection.close()
    return seconds


async def _progress(server: Server) -> tuple[int, int]:
    connection = await asyncpg.connect(server.url)
    row = await connection.fetchrow("SELECT rows_in, rows_out FROM streamsql.views")
    await connection.close()
    assert row is not None
    return row[0], row[1]
