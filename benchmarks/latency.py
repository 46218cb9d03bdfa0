"""From an INSERT being sent to its effect arriving at a SUBSCRIBE-r of an update-mode view, on connections of their own.

Estimate. An epoch of one row in update mode is 4 to 6 ms: what is kept of the row's group is read (1 ms) and merged with it
(1.5 ms), two statements replace the state (0.5 ms each); then the progress (0.5 ms) and a durable commit (0.4 to 0.8 ms).
Around it are hops through the event loop and threads, 0.1 to 0.2 ms each. A row that arrives while an epoch runs waits for
its end, so under load the median is one and a half epochs, and an epoch's length grows with the groups that it changes.

The load is COPYs from another process, twenty a second, paced by the clock, of 1,000 keys; the subscriber gets its changes too.
"""

from __future__ import annotations

import datetime
import io
import multiprocessing
import threading
import time

import numpy as np
import psycopg
import pyarrow as pa

from benchmarks.events import COLUMNS, csv_of
from benchmarks.figures import Figure, say
from benchmarks.raw_client import RawClient
from benchmarks.servers import Server, streamsql

PROBES = 500
PROBES_LOADED = 300
PAUSE_SECONDS = 0.01
LOADS = (1_000, 10_000, 100_000)
COPIES_PER_SECOND = 20
KEYS = 1_000
FIRST_MARK = 2_000_000_000  # the probes' keys: no other number in a result looks like them
ARRIVAL_SECONDS_MAX = 20.0
STREAM = f"CREATE STREAM payments ({COLUMNS}, WATERMARK FOR ts AS ts - INTERVAL '10 seconds') WITH (retention = '0')"
VIEW = (
    "CREATE MATERIALIZED VIEW now AS SELECT window_start, account, count(*) AS n, sum(amount) AS total, avg(amount) AS mean, "
    "min(amount) AS least, max(amount) AS most FROM payments GROUP BY window(ts, '1 minute'), account EMIT UPDATE"
)


def run(scale: float) -> list[Figure]:
    """Measure on an idle server, then under each load; a server of its own for each."""
    figures = []
    for load in (0, *LOADS):
        probes = max(50, int((PROBES_LOADED if load else PROBES) * scale))
        with streamsql() as server:
            found, achieved = _measure(server, load, probes)
        p50, p90, p99 = (float(v) for v in np.percentile(found, (50, 90, 99)))
        name = f"{load:,} rows/s" if load else "idle"
        note = f"p90 {p90:.1f}, max {max(found):.1f}, load achieved {achieved:,.0f} rows/s"
        figures.append(say(Figure("latency", f"{name}, p50", p50, "ms", value_max=None if load else 8, note=note)))
        figures.append(say(Figure("latency", f"{name}, p99", p99, "ms", value_max=None if load else 25)))
    return figures


class Subscriber:
    """Follows the view and notes when each probe's key first appears."""

    def __init__(self, server: Server) -> None:
        self._client = RawClient(server)
        self._client.send_query("SUBSCRIBE now")
        self.wanted = b""
        self.arrived = threading.Event()
        self.arrived_at = 0.0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        tail = b""
        for piece in self._client.pieces():
            now = time.perf_counter()
            if self.wanted and self.wanted in tail + piece:
                self.wanted = b""
                self.arrived_at = now
                self.arrived.set()
            tail = piece[-16:]

    def close(self) -> None:
        self._client.close()


def _measure(server: Server, load: int, probes: int) -> tuple[list[float], float]:
    found: list[float] = []
    with psycopg.connect(server.url, autocommit=True, prepare_threshold=0) as connection:
        connection.execute(STREAM)
        connection.execute(VIEW)
        subscriber = Subscriber(server)
        time.sleep(0.3)
        context = multiprocessing.get_context("spawn")
        stop, sent = context.Event(), context.Value("d", 0.0)
        loader = context.Process(target=_load, args=(server.url, load, stop, sent), daemon=True) if load else None
        if loader is not None:
            loader.start()
            time.sleep(3)
        warm = 10
        for number in range(probes + warm):
            mark = FIRST_MARK + number
            subscriber.arrived.clear()
            subscriber.wanted = str(mark).encode()
            now = datetime.datetime.now(tz=datetime.UTC).replace(tzinfo=None)
            began = time.perf_counter()
            connection.execute("INSERT INTO payments VALUES (%s, %s, %s)", (now, mark, 1.0))
            if not subscriber.arrived.wait(ARRIVAL_SECONDS_MAX):
                raise RuntimeError(f"no effect after {ARRIVAL_SECONDS_MAX} s")
            if number >= warm:
                found.append((subscriber.arrived_at - began) * 1e3)
            time.sleep(PAUSE_SECONDS)
        stop.set()
        if loader is not None:
            loader.join(30)
        subscriber.close()
    return found, sent.value


def _load(url: str, rate: int, stop: threading.Event, sent: object) -> None:
    """COPY so many rows a second; runs in a process of its own."""
    random = np.random.default_rng(5)
    rows = rate // COPIES_PER_SECOND
    accounts = pa.array(random.integers(0, KEYS, rows, dtype=np.int32))
    amounts = pa.array(np.round(random.random(rows) * 1_000, 2))
    count, began = 0, time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        while not stop.is_set():
            times = pa.array(time.time_ns() // 1_000 - random.integers(0, 10_000_000, rows), pa.timestamp("us"))
            data = io.BytesIO(csv_of(pa.table({"ts": times, "account": accounts, "amount": amounts})))
            with cursor.copy("COPY payments FROM STDIN (FORMAT csv)") as copy:
                copy.write(data.getvalue())
            count += 1
            sent.value = count * rows / (time.monotonic() - began)  # type: ignore[attr-defined]  # a shared number
            time.sleep(max(0.0, began + count / COPIES_PER_SECOND - time.monotonic()))
