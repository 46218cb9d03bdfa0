"""An epoch of one row, with 0, 1 and 10 views, in append and in update mode.

Estimate. The floor is a transaction that writes one row and commits: 0.1 to 0.4 ms for the disk, 0.4 ms for the INSERT. An
epoch writes the progress row besides (0.5 ms). Each view takes a statement in append mode: 1.1 ms to aggregate one row and
export its states, 0.4 ms of them if the statement is prepared, and 0.3 ms to write them. In update mode a join with the state
comes on top, 1.6 ms whatever its size, which DuckDB plans anew even where it is prepared, and what the result takes.
"""

from __future__ import annotations

import time

import duckdb

from benchmarks.engine import create, open_engine
from benchmarks.events import START_US, VIEW, Shape, events, scaled
from benchmarks.figures import Figure, say
from benchmarks.servers import folder
from streamsql.engine.writes import Write

EPOCHS = 400


def run(scale: float) -> list[Figure]:
    """Measure one row at a time."""
    epochs = max(50, int(EPOCHS * min(scale, 1)))
    bound = _bound(epochs)
    figures = []
    for views, mode in ((0, "APPEND"), (1, "APPEND"), (10, "APPEND"), (1, "UPDATE"), (10, "UPDATE")):
        value = _epoch_ms(epochs, views, mode)
        name = f"{views} views" + (f", {mode.lower()}" if views else "")
        figures.append(say(Figure("epochs", name, value, "ms", bound, "one-row transaction")))
    return figures


def _bound(epochs: int) -> float:
    with folder("duckdb-bench") as base:
        connection = duckdb.connect(str(base / "bound.duckdb"))
        connection.execute("CREATE TABLE t (a INT)").fetchall()
        began = time.perf_counter()
        for number in range(epochs):
            connection.execute("INSERT INTO t VALUES (?)", [number]).fetchall()
        seconds = time.perf_counter() - began
        connection.close()
    return seconds / epochs * 1e3


def _epoch_ms(epochs: int, views: int, mode: str) -> float:
    rows = events(Shape(scaled(1_000, 1), 100, 600_000_000, START_US))
    with folder("streamsql-bench") as base:
        engine = open_engine(base)
        for number in range(views):
            create(engine, VIEW.replace("by_minute", f"view{number}").replace("APPEND", mode))
        writes = [Write([("payments", rows.slice(n % 1_000, 1))]) for n in range(epochs)]
        began = time.perf_counter()
        for write in writes:
            engine.submit(write).result()
        seconds = time.perf_counter() - began
        engine.stop()
    return seconds / epochs * 1e3
