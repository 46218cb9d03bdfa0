"""One INSERT of 20,000 literal rows, read to columns: over its bytes, and by a token a value as any other statement is.

Estimate. The fast way is a dozen numpy passes over 0.9 MB and Arrow's parsing of three columns: 20 ms. The general one makes
120,000 tokens and as many nodes of a tree, some 4 us each: 0.5 s.
"""

from __future__ import annotations

import time

from benchmarks.events import scaled
from benchmarks.figures import Figure, say
from streamsql.base.limits import Limits
from streamsql.sql.parse import parse

ROWS = 20_000
TIMES = 3


def run(scale: float) -> list[Figure]:
    """Measure both; a comment inside of VALUES makes a text one for the general parser."""
    rows = [f"('2024-01-01 00:00:00', 'S{row}', {row}.25)" for row in range(scaled(ROWS, scale))]
    text = "INSERT INTO t VALUES " + ", ".join(rows)
    general = text.replace("VALUES ", "VALUES /* */ ", 1)
    bound = len(rows) / min(_seconds(general) for _ in range(TIMES))
    value = len(rows) / min(_seconds(text) for _ in range(TIMES))
    return [say(Figure("values", "literals of one INSERT", value, "rows/s", bound, "a token a value", ratio_min=5.0))]


def _seconds(text: str) -> float:
    start = time.perf_counter()
    parse(text, Limits())
    return time.perf_counter() - start
