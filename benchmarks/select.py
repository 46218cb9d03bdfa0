"""SELECT * of 1 M rows of five columns, in text and in binary, beside PostgreSQL 15.

Estimate. The answer is 75 MB in text. DuckDB reads the rows and casts them to text in 0.15 s on two cores, Arrow joins lengths
and values into messages in 0.4 s on one, and the socket takes 0.05 s: one core's 0.5 s, 2 M rows/s, where casting one batch and
joining another overlap. PostgreSQL forms rows one by one: 0.4 us a row in binary, 0.7 us in text.

`raw` counts bytes and does nothing else; `psycopg` and `asyncpg` make Python objects, which takes longer than either server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import asyncpg
import numpy as np
import psycopg
import pyarrow as pa

from benchmarks.events import START_US, csv_of, scaled
from benchmarks.figures import Figure, say
from benchmarks.raw_client import RawClient
from benchmarks.servers import Server, postgres, streamsql

ROWS = 1_000_000
REPEATS = 3
TABLE = "CREATE TABLE readings (id BIGINT, at TIMESTAMP, name TEXT, value DOUBLE PRECISION, quality INT)"
QUERY = "SELECT * FROM readings"


def run(scale: float) -> list[Figure]:
    """Measure each way of reading on both servers."""
    rows = scaled(ROWS, scale)
    data = csv_of(readings(rows))
    with postgres() as server:
        bounds = _rates(server, data, rows) if server is not None else {}
    with streamsql() as server:
        rates = _rates(server, data, rows)
    return [
        say(Figure(
            "select", name, rate, "rows/s", bounds.get(name), "PostgreSQL 15",
            ratio_min=1 if name.startswith("raw") else None,
        ))
        for name, rate in rates.items()
    ]  # fmt: skip


def readings(rows: int) -> pa.Table:
    """Make rows of a table of sensors."""
    random = np.random.default_rng(3)
    names = pa.array([f"sensor-{n:05d}" for n in range(10_000)])
    return pa.table(
        {
            "id": pa.array(np.arange(rows, dtype=np.int64)),
            "at": pa.array(START_US + np.arange(rows) * 86_400 + random.integers(0, 86_400, rows), pa.timestamp("us")),
            "name": names.take(pa.array(random.integers(0, 10_000, rows))),
            "value": pa.array(random.random(rows) * 1_000),
            "quality": pa.array(random.integers(0, 100, rows, dtype=np.int32)),
        }
    )


def _rates(server: Server, data: bytes, rows: int) -> dict[str, float]:
    asyncio.run(_load(server, data))
    raw = RawClient(server)
    ways: dict[str, Callable[[], object]] = {
        "raw text": lambda: raw.query(QUERY),
        "raw binary": lambda: raw.query_binary(QUERY),
        "psycopg text": lambda: _psycopg(server, binary=False),
        "psycopg binary": lambda: _psycopg(server, binary=True),
        "asyncpg (binary)": lambda: asyncio.run(_asyncpg(server)),
    }
    found = {}
    for name, way in ways.items():
        best = float("inf")
        for _ in range(REPEATS):
            began = time.perf_counter()
            way()
            best = min(best, time.perf_counter() - began)
        found[name] = rows / best
    raw.close()
    return found


async def _load(server: Server, data: bytes) -> None:
    import io

    connection = await asyncpg.connect(server.url)
    await connection.execute(TABLE)
    await connection.copy_to_table("readings", source=io.BytesIO(data), format="csv")
    await connection.close()


def _psycopg(server: Server, *, binary: bool) -> int:
    with psycopg.connect(server.url, autocommit=True) as connection:
        return len(connection.cursor(binary=binary).execute(QUERY).fetchall())


async def _asyncpg(server: Server) -> int:
    connection = await asyncpg.connect(server.url)
    try:
        return len(await connection.fetch(QUERY))
    finally:
        await connection.close()
