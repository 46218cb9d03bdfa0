"""A day of event time through each operator whose state is bounded: rows of state, and the size of the file.

Estimate. The state of a window is a row a key and pane, from its first row until the watermark (10 s behind) reaches its end:
1,000 keys in tumbling windows of 10 minutes are 1,000 to 2,000 rows, hopping and cumulating windows of an hour by 10 minutes
6,000 to 7,000 (in append mode more, since an epoch's partial states are merged only now and then), sessions 1,000 open ones
at most, and an hour of allowed lateness keeps six closed windows, 8,000 rows. So it must level off after the first hour, and
with it the file, looked at each hour after a checkpoint: DuckDB uses freed blocks again, and does not shrink it. What a
view shows grows with its answer; these show next to nothing (HAVING), so that only state is measured. The two halves of the
day are compared.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.engine import create, open_engine
from benchmarks.events import HOUR_US, START_US, Shape, events, scaled
from benchmarks.figures import Figure, say
from benchmarks.servers import folder
from streamsql.engine.writes import Write

HOURS = 24
ROWS_PER_HOUR = 100_000
EPOCHS_PER_HOUR = 5
KEYS = 1_000

# name -> (GROUP BY's window, clauses after HAVING)
OPERATORS = {
    "tumbling, append": ("window(ts, '10 minutes')", "EMIT APPEND"),
    "tumbling, update": ("window(ts, '10 minutes')", "EMIT UPDATE"),
    "tumbling, lateness 1 h": (
        "window(ts, '10 minutes')",
        "WITH WATERMARK '10 s' ALLOWED LATENESS '1 hour' EMIT UPDATE",
    ),
    "hopping, append": ("window(ts, '1 hour', '10 minutes')", "EMIT APPEND"),
    "hopping, update": ("window(ts, '1 hour', '10 minutes')", "EMIT UPDATE"),
    "cumulating, append": ("cumulate_window(ts, '10 minutes', '1 hour')", "EMIT APPEND"),
    "cumulating, update": ("cumulate_window(ts, '10 minutes', '1 hour')", "EMIT UPDATE"),
    "session, append": ("session_window(ts, '1 minute')", "EMIT APPEND"),
    "session, update": ("session_window(ts, '1 minute')", "EMIT UPDATE"),
}


def run(scale: float) -> list[Figure]:
    """Measure every operator; `scale` makes the rows of an hour fewer, not the hours."""
    figures = []
    for name, (window, clauses) in OPERATORS.items():
        rows, sizes = _measured(window, clauses, scaled(ROWS_PER_HOUR, scale))
        half = len(rows) // 2
        steps = [rows[i * EPOCHS_PER_HOUR - 1] for i in (1, 2, 6, 12, 18, 24)]
        note = "rows after 1, 2, 6, 12, 18, 24 h: " + ", ".join(f"{n:,}" for n in steps)
        figures.append(
            say(Figure("state", f"{name}: state", max(rows[half:]), "rows", max(rows[:half]), "first 12 h", ratio_max=1.1,
                note=note))
        )  # fmt: skip
        figures.append(
            say(Figure("state", f"{name}: file", max(sizes[12:]) / 2**20, "MB", max(sizes[:12]) / 2**20,
                "first 12 h", ratio_max=1.2))
        )  # fmt: skip
    return figures


def _measured(window: str, clauses: str, hour_rows: int) -> tuple[list[int], list[int]]:
    """Give the rows of state after each epoch of the day, and the bytes on disk after each hour."""
    found: tuple[list[int], list[int]] = ([], [])
    size = max(hour_rows // EPOCHS_PER_HOUR, 1)
    with folder("streamsql-bench") as base:
        engine = open_engine(base)
        create(
            engine,
            f"CREATE MATERIALIZED VIEW v AS SELECT window_start, account, count(*) AS n, avg(amount) AS mean "
            f"FROM payments GROUP BY {window}, account HAVING max(amount) > 999.999 {clauses}",
        )
        for hour in range(HOURS):
            rows = events(Shape(hour_rows, KEYS, HOUR_US, START_US + hour * HOUR_US, seed=hour))
            for epoch in range(EPOCHS_PER_HOUR):
                engine.submit(Write([("payments", rows.slice(epoch * size, size))])).result()
                found[0].append(engine.queries["v"].progress.state_rows)
            engine.call(engine.store.checkpoint).result()
            found[1].append(_bytes(base))
        assert engine.queries["v"].progress.rows_late == 0
        engine.stop()
    return found


def _bytes(base: Path) -> int:
    return sum(path.stat().st_size for path in base.rglob("*") if path.is_file())
