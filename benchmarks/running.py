"""What an epoch costs that has 100 rows of n keys, for window functions in append mode.

Each key has had two rows. An epoch brings a row of 100 keys, which its last row makes final. The bound is the query's own time
over all rows, which is what running it again costs.

Estimate. What is gone of the touched keys is found by a semijoin that scans the keys, 2 to 5 ns a row, and replaced by its row
numbers, which scans them once more; the functions themselves see 100 rows. Frames of rows that are kept scan those instead. So
the floor is that of some twenty statements of 0.3 to 1 ms and a commit, and at 10^6 keys the scans add as much.
"""

from __future__ import annotations

import time

import duckdb
import pyarrow as pa

from benchmarks.engine import create, open_engine
from benchmarks.figures import Figure, say
from benchmarks.servers import folder
from streamsql.engine.epoch import Engine
from streamsql.engine.writes import Write

TOUCHED = 100
KEYS = (1_000, 10_000, 100_000, 1_000_000)
EPOCHS = 20
_OVER = "OVER (PARTITION BY k ORDER BY ts"
VIEWS = {
    "running sum and count": f"SELECT ts, k, sum(x) {_OVER}) AS total, count(*) {_OVER}) AS n FROM facts",
    "running average": f"SELECT ts, k, avg(x) {_OVER}) AS mean FROM facts",
    "lag": f"SELECT ts, k, x - lag(x) {_OVER}) AS step FROM facts",
    "last minute": f"SELECT ts, k, sum(x) {_OVER} RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS lately "
    "FROM facts",
}


def run(scale: float) -> list[Figure]:
    """Measure each view with each number of keys up to a million times the scale."""
    return [
        say(_figure(name, select, keys))
        for keys in KEYS
        if keys <= max(1_000, 1_000_000 * scale)
        for name, select in VIEWS.items()
    ]


def _figure(name: str, select: str, keys: int) -> Figure:
    with folder("streamsql-bench") as base:
        engine = open_engine(base)
        create(
            engine,
            "CREATE STREAM facts (ts TIMESTAMP, k INT, x INT, WATERMARK FOR ts AS ts) WITH (retention = '1 day')",
        )
        create(engine, f"CREATE MATERIALIZED VIEW v AS {select} EMIT APPEND")
        batch = 500_000
        for start in range(0, 2 * keys, batch):
            _push(engine, _rows(f"i // {keys} AS second, i % {keys} AS k", start, min(2 * keys, start + batch)))
        bound = _whole_ms(engine, select.replace("facts", '_rows."facts"'))
        step = max(1, keys // TOUCHED)
        times = []
        for number in range(EPOCHS):
            columns = f"{100 + 10 * number} + i // {TOUCHED - 1} AS second, (i * {step} + {number}) % {keys} AS k"
            rows = _rows(columns, 0, TOUCHED)
            began = time.perf_counter()
            _push(engine, rows)
            times.append((time.perf_counter() - began) * 1e3)
        engine.stop()
    return Figure(
        "running", f"{name}, {TOUCHED} of {keys:,} keys", sorted(times)[len(times) // 2], "ms", bound, "the whole query"
    )


def _push(engine: Engine, rows: pa.Table) -> None:
    engine.submit(Write([("facts", rows)])).result()


def _rows(columns: str, start: int, end: int) -> pa.Table:
    connection = duckdb.connect()
    rows: pa.Table = connection.sql(
        f"SELECT make_timestamp(1767225600000000 + second * 1000000) AS ts, k::INT AS k, (hash(k) % 1000)::INT AS x "
        f"FROM (SELECT {columns} FROM range({start}, {end}) AS r(i))"
    ).to_arrow_table()
    connection.close()
    return rows


def _whole_ms(engine: Engine, select: str) -> float:
    cursor = engine.store.cursor()
    times = []
    for _ in range(3):
        began = time.perf_counter()
        table: pa.Table = cursor.sql(select).to_arrow_table()
        times.append((time.perf_counter() - began) * 1e3)
        assert table.num_rows
    return min(times)
