"""What a client waits for: a row looked up by its key in a view, a connection's first result; and what many clients cost.

PostgreSQL 15 stands beside it, with the same client and the same rows: a materialized view with a unique index, which is what
its users have for this. streamsql's view is kept up to date besides.

Estimate. A lookup is a Bind, an Execute and a Sync, read and answered by the event loop (0.15 ms) from an index in memory
(0.02 ms); the row is written value by value (0.02 ms). DuckDB, which answers the first ones and all that are no plain
lookups, needs a thread's turn (0.1 ms), to parse, bind and optimize (0.4 ms), to scan the one row group of 122,880 rows
that its statistics leave (0.1 ms) and to give Arrow (0.4 ms). PostgreSQL descends a B-tree of three pages with a plan that
is kept: 0.03 ms.

A connection is a task and its buffers: some 30 kB. Delivery to 1,000 subscribers is 1,000 small writes, 10 us each.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import time
from collections.abc import Iterator

import asyncpg
import numpy as np
import psycopg

from benchmarks.figures import Figure, say
from benchmarks.raw_client import RawClient
from benchmarks.servers import Server, postgres, streamsql

ROWS = 100_000
LOOKUPS = 3_000
CONNECTIONS_AT_ONCE = 32
CONNECTS = 100
MANY = 1_000
EPOCHS = 20
LOOKUP = "SELECT owner, total FROM balances WHERE account = $1"
ARRIVAL_SECONDS_MAX = 60.0
_DATA_ROW = b"D\x00\x00\x00"  # a short one


def run(scale: float) -> list[Figure]:
    """Measure both servers side by side, then the crowd on streamsql alone."""
    found: dict[str, dict[str, float]] = {}
    with streamsql() as ours, _beside() as theirs:
        for server in filter(None, (ours, theirs)):
            _fill(server)
            found[server.name] = _figures_of(server, scale)
    names = {
        "lookup p50": ("ms", {"value_max": 1.0}), "lookup p99": ("ms", {}),
        "lookups, 32 connections": ("requests/s", {}), "connect to first result": ("ms", {}),
    }  # fmt: skip
    bounds = found.get("PostgreSQL 15", {})
    figures = [
        say(Figure("clients", name, found["streamsql"][name], unit, bounds.get(name), "PostgreSQL 15", **targets))  # type: ignore[arg-type]
        for name, (unit, targets) in names.items()
    ]
    count = max(50, int(MANY * scale))
    with streamsql("--limit", f"connections_max={count + 20}") as server:
        return figures + _crowd(server, count)


@contextlib.contextmanager
def _beside() -> Iterator[Server | None]:
    with postgres() as server:
        yield server


def _fill(server: Server) -> None:
    rows = "SELECT i::int, 'owner ' || i, i::int % 7 FROM generate_series(1, {}) AS g(i)"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE payments (account INT, owner TEXT, amount INT)")
        query = "SELECT account, max(owner) AS owner, sum(amount) AS total FROM payments GROUP BY 1"
        view = f"CREATE MATERIALIZED VIEW balances AS {query}"
        connection.execute(view if server.name == "streamsql" else view + " WITH NO DATA")
        connection.execute("INSERT INTO payments " + rows.format(ROWS))
        if server.name != "streamsql":
            connection.execute("REFRESH MATERIALIZED VIEW balances")
            connection.execute("CREATE UNIQUE INDEX ON balances (account)")
            connection.execute("ANALYZE")


def _figures_of(server: Server, scale: float) -> dict[str, float]:
    took = asyncio.run(_lookups(server, max(200, int(LOOKUPS * scale))))
    p50, p99 = np.percentile(took, (50, 99)) * 1e3
    return {
        "lookup p50": float(p50),
        "lookup p99": float(p99),
        "lookups, 32 connections": asyncio.run(_many_lookups(server, max(50, int(LOOKUPS * scale / 10)))),
        "connect to first result": _connecting(server, max(10, int(CONNECTS * scale))),
    }


async def _lookups(server: Server, count: int) -> list[float]:
    connection = await asyncpg.connect(server.url)
    statement = await connection.prepare(LOOKUP)
    random = np.random.default_rng(5)
    found = []
    for number, account in enumerate(random.integers(1, ROWS + 1, count + 50)):
        began = time.perf_counter()
        row = await statement.fetchrow(int(account))
        if number >= 50:
            found.append(time.perf_counter() - began)
        assert row is not None
        assert row["owner"] == f"owner {account}", row
    await connection.close()
    return found


async def _many_lookups(server: Server, each: int) -> float:
    """Give the requests a second of so many connections, each of which asks as soon as it was answered."""
    connections = [await asyncpg.connect(server.url) for _ in range(CONNECTIONS_AT_ONCE)]
    statements = [await connection.prepare(LOOKUP) for connection in connections]

    async def ask(number: int) -> None:
        accounts = np.random.default_rng(number).integers(1, ROWS + 1, each)
        for account in accounts:
            await statements[number].fetchrow(int(account))

    began = time.perf_counter()
    await asyncio.gather(*map(ask, range(CONNECTIONS_AT_ONCE)))
    rate = CONNECTIONS_AT_ONCE * each / (time.perf_counter() - began)
    for connection in connections:
        await connection.close()
    return rate


def _connecting(server: Server, count: int) -> float:
    """Give the median time from connecting to the first row, in milliseconds."""
    found = []
    for _ in range(count):
        began = time.perf_counter()
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("SELECT 1").fetchone()
            found.append(time.perf_counter() - began)
    return float(np.median(found)) * 1e3


# ---- the crowd ----


def _crowd(server: Server, count: int) -> list[Figure]:
    """Measure idle connections, then as many subscribers of one view: memory, and from INSERT to the last delivery."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE STREAM events (n INT)")
        connection.execute("CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM events EMIT UPDATE")
        connection.execute("INSERT INTO events VALUES (0)")
        warm = server.rss_bytes
        clients = [RawClient(server) for _ in range(count)]
        idle = (server.rss_bytes - warm) / count
        figures = [say(Figure("clients", f"{count:,} idle connections", idle / 1024, "kB each", value_max=200.0))]
        crowd = _Crowd(clients)
        crowd.subscribe("counted")
        delays = []
        for number in range(EPOCHS):
            began = time.perf_counter()
            connection.execute("INSERT INTO events VALUES (%s)", [number])
            delays += [at - began for at in crowd.arrivals(2)]  # the old value goes, the new one comes
        following = (server.rss_bytes - warm) / count
        for client in clients:
            client.close()
    p50, p99 = np.percentile(delays, (50, 99)) * 1e3
    note = "from INSERT to the subscriber's socket; one Python thread reads them all"
    return [
        *figures,
        say(Figure("clients", f"{count:,} subscribers", following / 1024, "kB each", value_max=500.0)),
        say(Figure("clients", f"delivery to {count:,}, p50", float(p50), "ms", note=note)),
        say(Figure("clients", f"delivery to {count:,}, p99", float(p99), "ms", note=note)),
    ]


class _Crowd:
    """Subscribers, read by one thread as their sockets have something."""

    def __init__(self, clients: list[RawClient]) -> None:
        self._clients = clients
        self._selector = selectors.DefaultSelector()
        for number, client in enumerate(clients):
            client.socket.setblocking(False)
            self._selector.register(client.socket, selectors.EVENT_READ, number)

    def subscribe(self, view: str) -> None:
        """Let all of them subscribe, and wait for their snapshots of one row."""
        for client in self._clients:
            client.send_query(f"SUBSCRIBE {view}")
        self.arrivals(1)

    def arrivals(self, rows: int) -> list[float]:
        """Give the times at which each has so many more rows."""
        counts, found = [0] * len(self._clients), [0.0] * len(self._clients)
        left, deadline = len(self._clients), time.perf_counter() + ARRIVAL_SECONDS_MAX
        while left:
            if time.perf_counter() > deadline:
                raise RuntimeError(f"{left} subscribers were told nothing for {ARRIVAL_SECONDS_MAX} s")
            for key, _ in self._selector.select(1.0):
                data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]  # a socket was registered
                counts[key.data] += data.count(_DATA_ROW)
                if counts[key.data] >= rows and not found[key.data]:
                    found[key.data] = time.perf_counter()
                    left -= 1
        return found
