"""What the WHERE clauses of all queries over one stream let through, asked at once.

A query costs an epoch about a millisecond, however few its rows; a condition costs some microseconds. So where many queries
pick out different rows (an alert for each customer, say), a small epoch runs those alone that have a row to take in::

    arrived   customer 7        WHERE customer = 1, .. = 2, .. = 3, ...   ->   all but the seventh can wait

The others only see time go by.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from streamsql.engine.store import Store
from streamsql.engine.views import ContinuousQuery

# In a larger epoch what a query does for each row outweighs what it costs by itself.
FILTERED_ROWS_MAX = 4_096


class Filters:
    """Asks which queries have something to take in; remembers the statements."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._statements: dict[str, tuple[tuple[int, ...], str]] = {}

    def without_rows(self, rows: str, count: int, readers: Sequence[ContinuousQuery]) -> set[int]:
        """Give the numbers of the queries that take in none of the `count` rows in the relation `rows`.

        Which they are cannot be told where a condition fails on a row: then every query is left to find out for itself.
        """
        picky = [q for q in readers if q.plan.condition]
        if len(picky) < 2 or not 0 < count <= FILTERED_ROWS_MAX:
            return set()
        numbers = tuple(q.id for q in picky)
        known, sql = self._statements.get(rows, ((), ""))
        if known != numbers:
            sql = _statement(rows, picky)
            self._statements[rows] = (numbers, sql)
        try:
            found = self._store.rows(sql)
        except duckdb.Error:
            return set()
        return {number for number, column in zip(numbers, found.columns, strict=True) if not column[0].as_py()}


def _statement(rows: str, picky: Sequence[ContinuousQuery]) -> str:
    """One row with a column a query: whether its condition holds anywhere. Queries call the stream by different names."""
    aliases = list(dict.fromkeys(q.plan.alias for q in picky))
    columns = {q.id: f"a{aliases.index(q.plan.alias)}.c{i}" for i, q in enumerate(picky)}
    parts = []
    for number, alias in enumerate(aliases):
        tests = ", ".join(f"bool_or({q.plan.condition}) AS c{i}" for i, q in enumerate(picky) if q.plan.alias == alias)
        parts.append(f"(SELECT {tests} FROM {rows} AS {alias}) AS a{number}")
    return f"SELECT {', '.join(columns.values())} FROM {', '.join(parts)}"
