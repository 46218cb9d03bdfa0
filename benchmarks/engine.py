"""The engine alone: Arrow in, one-minute windows in append mode, state on disk, no socket.

Estimate, on one thread. One GROUP BY over all 5 M rows runs at 13 to 16 M rows/s where they make 1.4 M groups, at 5 M where
they make 4.9 M, and at 55 M where they make 60,000. Cut into pieces of 100,000 rows the same GROUP BY takes, a piece, 5 ms
(6 to 8 of 100,000 rows' share of the whole), 13 ms (20) and 3 ms (2; setting up the hash tables is the rest): the engine's
ceiling. A second thread halves the whole, but takes only a tenth off a piece. Besides the grouping the engine does

- what it cannot leave out: a durable commit an epoch, for a view with each result row in the write-ahead log (60 bytes; 9 ms
  for 28,000 rows); a running maximum of event times (10 ns a row); and sums that come out the same however rows are cut (2 ms);
- what the cutting costs: groups of windows that lie across an epoch's end go through the state table; six statements an epoch
  at 0.1 to 1 ms each.

So 100,000 rows over 24 h and 1,000 keys take 12 ms live, where the bound takes 6 to 8: a ratio of 0.5 to 0.6; with 100,000 keys
the pieces' smaller hash tables make up for all else. As a view they take 20 ms and 38. Over 1 h and 1,000 keys an epoch's
fixed costs stand against 2 ms. Committing one epoch while a second connection groups the next was tried on the bare statements:
13.7 ms instead of 15.5 an epoch, since the commit itself then takes 8.4 ms instead of 6.3. A piece of 100,000 rows is one task
for DuckDB, so that two threads, which halve the bound, leave the pieces as they are: with 1,000 keys their grouping alone is
then four fifths of the bound's share.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import duckdb
import pyarrow as pa

from benchmarks.events import HOUR_US, QUERY, STREAM, VIEW, Shape, events, scaled
from benchmarks.figures import Figure, say
from benchmarks.servers import folder
from streamsql.base.clock import SystemClock
from streamsql.base.limits import Limits
from streamsql.engine import definitions, view_definitions
from streamsql.engine.epoch import Engine
from streamsql.engine.live import start_live_query, stop_live_query
from streamsql.engine.store import Store
from streamsql.engine.writes import Write
from streamsql.sql.parse import parse
from streamsql.sql.statements import CreateMaterializedView, CreateStream, CreateTable, Query

EPOCH_ROWS = 100_000
ROWS = 5_000_000
GROUP_BY = (
    "SELECT epoch_us(ts) // 60000000 AS w, account, count(*) AS n, sum(amount) AS total, avg(amount) AS mean, "
    "min(amount) AS least, max(amount) AS most FROM payments GROUP BY w, account"
)


def run(scale: float) -> list[Figure]:
    """Measure the view and the live query over 24 h and 1 h, with 1,000 and 100,000 keys."""
    figures = []
    for hours in (24, 1):
        for keys in (1_000, 100_000):
            rows = scaled(ROWS, scale)
            # fewer rows span less time, so that as many fall into a window as at full scale
            shape = Shape(rows, keys, hours * HOUR_US * rows // ROWS)
            for threads in (1, max(2, os.cpu_count() or 1)):
                figures += _figures(shape, f"{hours} h, {keys:,} keys, {threads} threads", threads)
    return figures


def _figures(shape: Shape, name: str, threads: int) -> list[Figure]:
    table = events(shape)
    to_arrow, to_disk, groups = bound_rates(table, threads)
    found = []
    for kind, measure in (("view", view_rate), ("live", live_rate)):
        rate, rows_out, note = measure(table, threads)
        assert rows_out <= groups, (rows_out, groups)
        figure = Figure(
            "engine", f"{name}, {kind}", rate, "rows/s", to_arrow, "GROUP BY to Arrow", ratio_min=0.6,
            note=f"{groups:,} groups, {rows_out:,} out; bound into a table {to_disk:,.0f}; {note}",
        )  # fmt: skip
        found.append(say(figure))
    return found


def bound_rates(table: pa.Table, threads: int) -> tuple[float, float, int]:
    """Give the rows/s of one GROUP BY, into Arrow and into a table on disk, and the number of groups."""
    with folder("duckdb-bench") as base:
        connection = duckdb.connect(str(base / "bound.duckdb"), config={"threads": threads})
        connection.register("payments", table)
        best, groups = float("inf"), 0
        for _ in range(2):
            began = time.perf_counter()
            groups = connection.sql(GROUP_BY).to_arrow_table().num_rows
            best = min(best, time.perf_counter() - began)
        began = time.perf_counter()
        connection.execute(f"CREATE TABLE result AS {GROUP_BY}").fetchall()
        disk = time.perf_counter() - began
        connection.close()
    return table.num_rows / best, table.num_rows / disk, groups


def open_engine(base: Path, threads: int | None = None) -> Engine:
    """Start an engine on a folder, with epochs of at most EPOCH_ROWS."""
    limits = Limits(epoch_rows_max=EPOCH_ROWS)
    engine = Engine(Store(base / "data", threads=threads), limits, SystemClock())
    engine.start()
    create(engine, STREAM)
    return engine


def create(engine: Engine, sql: str) -> None:
    """Run a CREATE on the engine's thread."""
    statement = parse(sql, engine.limits)[0]
    if isinstance(statement, CreateMaterializedView):
        view = statement
        engine.call(lambda: view_definitions.create_view(engine, view)).result()
    else:
        assert isinstance(statement, (CreateStream, CreateTable))
        relation = statement
        engine.call(lambda: definitions.create_relation(engine, relation)).result()


def push(engine: Engine, table: pa.Table) -> float:
    """Take all rows in, in epochs of EPOCH_ROWS; gives the seconds until the last one is durable."""
    writes = [Write([("payments", table.slice(at, EPOCH_ROWS))]) for at in range(0, table.num_rows, EPOCH_ROWS)]
    began = time.perf_counter()
    for write in writes:
        engine.submit(write)
    writes[-1].done.result()
    seconds = time.perf_counter() - began
    for write in writes:
        write.done.result()
    return seconds


def view_rate(table: pa.Table, threads: int) -> tuple[float, int, str]:
    """Give the rows/s into a materialized view, the rows that it holds, and a note."""
    with folder("streamsql-bench") as base:
        engine = open_engine(base, threads)
        create(engine, VIEW)
        seconds = push(engine, table)
        progress = engine.queries["by_minute"].progress
        assert progress.rows_late == 0
        began = time.perf_counter()
        engine.stop()
        note = f"state {progress.state_rows:,} rows, stop {time.perf_counter() - began:.2f} s"
    return table.num_rows / seconds, progress.rows_out, note


def live_rate(table: pa.Table, threads: int) -> tuple[float, int, str]:
    """Give the rows/s into a live query that one subscriber reads, the rows that it got, and a note."""
    with folder("streamsql-bench") as base:
        engine = open_engine(base, threads)
        statement = parse(QUERY, engine.limits)[0]
        assert isinstance(statement, Query)
        awake, ended = threading.Event(), threading.Event()
        live = engine.call(lambda: start_live_query(engine, statement, awake.set)).result()
        taken = 0

        def read() -> None:
            nonlocal taken
            while not ended.is_set():
                awake.wait()
                awake.clear()
                taken += sum(c.rows.num_rows for c in live.subscription.take()[0])

        reader = threading.Thread(target=read)
        reader.start()
        seconds = push(engine, table)
        ended.set()
        awake.set()
        reader.join()
        taken += sum(c.rows.num_rows for c in live.subscription.take()[0])
        engine.call(lambda: stop_live_query(engine, live)).result()
        engine.stop()
    return table.num_rows / seconds, taken, "one subscriber"
