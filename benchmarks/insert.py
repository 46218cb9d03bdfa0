"""Single rows: asyncpg's executemany, and psycopg's autocommitted INSERTs from 1 to 32 clients.

Estimate. executemany sends a Bind and an Execute a row, in one transaction: the server reads two messages, keeps the values
as they came and turns them into columns in the end, about 5 us a row in Python; asyncpg itself takes 4 us. PostgreSQL runs its
executor a row, 6 us.

An autocommitted INSERT waits for a commit on disk: an epoch of one row with a view is 2 to 3 ms (see `epochs`), of which 0.1
to 0.4 ms are the disk's; so one client reaches 300 a second, where PostgreSQL touches one page and waits for the disk alone.
More clients share an epoch: the rate grows until the 0.2 to 0.4 ms of Python a statement (client and server share two cores)
are the bound, at 3,000 a second or so.
"""

from __future__ import annotations

import asyncio
import datetime
import threading
import time

import asyncpg
import psycopg

from benchmarks.events import COLUMNS, START_US, STREAM, VIEW, Shape, events, scaled
from benchmarks.figures import Figure, say
from benchmarks.servers import Server, postgres, streamsql

ROWS = 200_000
SECONDS = 4.0
CLIENTS = (1, 2, 4, 8, 16, 32)
INSERT = "INSERT INTO payments VALUES ($1, $2, $3)"


def run(scale: float) -> list[Figure]:
    """Measure both ways, PostgreSQL first."""
    rows, seconds = scaled(ROWS, scale), max(0.5, SECONDS * min(scale, 1.0))
    with postgres() as server:
        bound_many: float | None = None
        bound_rates: list[float] = []
        if server is not None:
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute(f"CREATE TABLE payments ({COLUMNS})")
            bound_many = asyncio.run(_executemany(server, rows))
            bound_rates = [_autocommit(server, n, seconds) for n in CLIENTS]
    figures = []
    with streamsql() as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(STREAM)
            connection.execute(VIEW)
        value = asyncio.run(_executemany(server, rows))
        figures.append(
            say(Figure("insert", "executemany", value, "rows/s", bound_many, "PostgreSQL 15", value_min=50_000))
        )
        for index, clients in enumerate(CLIENTS):
            figure = Figure(
                "insert", f"autocommit, {clients} clients", _autocommit(server, clients, seconds), "rows/s",
                bound_rates[index] if bound_rates else None, "PostgreSQL 15", value_min=300 if clients == 1 else None,
            )  # fmt: skip
            figures.append(say(figure))
    return figures


async def _executemany(server: Server, rows: int) -> float:
    table = events(Shape(rows, 1_000, 60_000_000))
    values = list(zip(*(table.column(i).to_pylist() for i in range(3)), strict=True))
    connection = await asyncpg.connect(server.url)
    began = time.perf_counter()
    await connection.executemany(INSERT, values)
    seconds = time.perf_counter() - began
    await connection.close()
    return rows / seconds


def _autocommit(server: Server, clients: int, seconds: float) -> float:
    """Give the INSERTs a second of so many clients, each with a connection and a thread of its own."""
    counts = [0] * clients
    ready = threading.Barrier(clients + 1)
    ended = threading.Event()
    at = datetime.datetime.fromtimestamp(START_US / 1e6 + 120, tz=datetime.UTC).replace(tzinfo=None)

    def insert(index: int) -> None:
        with psycopg.connect(server.url, autocommit=True, prepare_threshold=0) as connection:
            cursor = connection.cursor()
            cursor.execute("INSERT INTO payments VALUES (%s, %s, %s)", (at, index, 1.0))
            ready.wait()
            while not ended.is_set():
                cursor.execute("INSERT INTO payments VALUES (%s, %s, %s)", (at, index, 1.0))
                counts[index] += 1

    threads = [threading.Thread(target=insert, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    time.sleep(seconds)
    done = sum(counts)
    taken = time.perf_counter() - began
    ended.set()
    for thread in threads:
        thread.join()
    return done / taken
