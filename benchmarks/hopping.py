"""Hopping windows of 10, 100 and 1,000 slides of a second, beside tumbling ones of a second: rows/s of the engine alone.

Estimate. A row is aggregated once, into its pane, whatever the windows are: that part is equal. What a window costs depends on
how it is put together. Each pane in each of its windows would be 1,000 combinations for one result row; from a tree over the
key's panes it is about twenty, of 0.1 µs a part. There are as many result rows as with tumbling windows, one a second and
account, so a window of 1,000 slides may cost a few times what the tumbling one costs where rows are few, and nothing that shows
where there are a hundred rows for each second and account. In update mode each row changes all windows around it, a
thousand result rows in each epoch and account, which no plan can avoid.
"""

from __future__ import annotations

import pyarrow as pa

from benchmarks.engine import create, open_engine, push
from benchmarks.events import HOUR_US, Shape, events, scaled
from benchmarks.figures import Figure, say
from benchmarks.servers import folder

ROWS = 5_000_000
QUERY = (
    "CREATE MATERIALIZED VIEW v AS SELECT window_start, account, count(*) AS n, sum(amount) AS total, max(amount) AS most "
    "FROM payments GROUP BY window(ts, '{size} seconds', '1 second'), account EMIT {mode}"
)


def run(scale: float) -> list[Figure]:
    """Measure 10 accounts over an hour: 140 rows for each second and account."""
    table = events(Shape(scaled(ROWS, scale), 10, HOUR_US))
    figures = []
    for mode in ("APPEND", "UPDATE"):
        bound = _rate(table, 1, mode)
        for slides in (10, 100, 1_000):
            name = f"{slides:,} slides a window, {mode.lower()}"
            figures.append(
                say(Figure("hopping", name, _rate(table, slides, mode), "rows/s", bound, "tumbling, one slide"))
            )
    return figures


def _rate(table: pa.Table, slides: int, mode: str) -> float:
    with folder("streamsql-bench") as base:
        engine = open_engine(base)
        create(engine, QUERY.format(size=slides, mode=mode))
        seconds = push(engine, table)
        error = engine.queries["v"].progress.error
        engine.stop()
    assert error is None, error
    return float(table.num_rows / seconds)
