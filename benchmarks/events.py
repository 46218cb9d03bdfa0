"""The events that are measured with: event time up to 10 s out of order, an integer key, an amount.

The same seed gives the same events, so every run and every server takes the same bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyarrow import csv

START_US = 1_767_225_600_000_000  # 2026-01-01 00:00 UTC
DISORDER_US = 10_000_000
HOUR_US = 3_600_000_000

COLUMNS = "ts TIMESTAMP, account INT, amount DOUBLE PRECISION"
STREAM = f"CREATE STREAM payments ({COLUMNS}, WATERMARK FOR ts AS ts - INTERVAL '10 seconds') WITH (retention = '0')"
QUERY = (
    "SELECT window_start, account, count(*), sum(amount), avg(amount), min(amount), max(amount) "
    "FROM payments GROUP BY window(ts, '1 minute'), account EMIT APPEND"
)
VIEW = (
    "CREATE MATERIALIZED VIEW by_minute AS SELECT window_start, account, count(*) AS n, sum(amount) AS total, "
    "avg(amount) AS mean, min(amount) AS least, max(amount) AS most "
    "FROM payments GROUP BY window(ts, '1 minute'), account EMIT APPEND"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a set of events looks like: rows, keys, and the event time that they span from `start_us` on."""

    rows: int
    keys: int
    span_us: int
    start_us: int = START_US
    seed: int = 1


def events(shape: Shape) -> pa.Table:
    """Make events in the order of arrival."""
    random = np.random.default_rng(shape.seed)
    arrived = shape.start_us + np.arange(shape.rows, dtype=np.int64) * shape.span_us // shape.rows
    times = arrived - random.integers(0, DISORDER_US, shape.rows)
    return pa.table(
        {
            "ts": pa.array(times, pa.timestamp("us")),
            "account": pa.array(random.integers(0, shape.keys, shape.rows, dtype=np.int32)),
            "amount": pa.array(np.round(random.random(shape.rows) * 1_000, 2)),
        }
    )


def csv_of(rows: pa.Table) -> bytes:
    """Write rows as CSV, as COPY takes it."""
    out = io.BytesIO()
    csv.write_csv(rows, out, csv.WriteOptions(include_header=False, quoting_style="none"))
    return out.getvalue()


def scaled(rows: int, scale: float) -> int:
    """Scale a number of rows down, to whole thousands."""
    return max(1_000, int(rows * scale) // 1_000 * 1_000)
