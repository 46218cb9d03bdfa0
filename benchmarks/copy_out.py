"""COPY TO STDOUT of 1 M rows of five columns in text, CSV and binary, beside PostgreSQL 15; and binary COPY FROM STDIN.

Estimate. Writing a row takes 0.25 us in text on one core (0.16 us for its numbers and times, 0.05 us to look for what must be
escaped, 0.1 us to join lines and messages) and 0.15 us in binary, while another thread reads the next rows from DuckDB: 3 M
rows/s in text at best. PostgreSQL forms rows one by one: 0.5 us in binary, 0.9 us in text. Reading binary rows takes 0.1 us a
row (finding where each begins, then all columns of one width at once); writing them 0.3 us more, nearly all of it compression.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable

import asyncpg

from benchmarks.events import csv_of, scaled
from benchmarks.figures import Figure, say
from benchmarks.raw_client import RawClient
from benchmarks.select import REPEATS, ROWS, TABLE, readings
from benchmarks.servers import Server, postgres, streamsql

FORMATS = ("text", "csv", "binary")


def run(scale: float) -> list[Figure]:
    """Measure each format on both servers."""
    rows = scaled(ROWS, scale)
    data = csv_of(readings(rows))
    with postgres() as server:
        bounds = _rates(server, data, rows) if server is not None else {}
    with streamsql() as server:
        rates = _rates(server, data, rows)
    return [
        say(Figure("copy_out", name, rate, "rows/s", bounds.get(name), "PostgreSQL 15", ratio_min=1))
        for name, rate in rates.items()
    ]


def _rates(server: Server, data: bytes, rows: int) -> dict[str, float]:
    asyncio.run(_copy_in(server, ["readings"], data, "csv"))
    raw = RawClient(server)
    found = {}
    for name in FORMATS:
        statement = f"COPY readings TO STDOUT (FORMAT {name})"
        found[f"out, {name}"] = rows / _best(lambda statement=statement: raw.query(statement))  # type: ignore[misc]
    raw.close()
    binary = asyncio.run(_binary(server))
    names = [f"readings_{number}" for number in range(REPEATS)]
    found["in, binary"] = rows / min(asyncio.run(_copy_in(server, names, binary, "binary")))
    return found


def _best(way: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        way()
        best = min(best, time.perf_counter() - began)
    return best


async def _copy_in(server: Server, names: list[str], data: bytes, name: str) -> list[float]:
    connection = await asyncpg.connect(server.url)
    seconds = []
    for table in names:
        await connection.execute(TABLE.replace(" readings ", f" {table} "))
        began = time.perf_counter()
        await connection.copy_to_table(table, source=io.BytesIO(data), format=name)  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - began)
    await connection.close()
    return seconds


async def _binary(server: Server) -> bytes:
    connection = await asyncpg.connect(server.url)
    copied = io.BytesIO()
    await connection.copy_from_table("readings", output=copied, format="binary")
    await connection.close()
    return copied.getvalue()
