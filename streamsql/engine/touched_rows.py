"""The rows that an epoch brings to streams and tables and takes from them, for the queries that are kept by them.

Rows that arrive are at hand. Of a statement that changes a table's rows, the new ones are what it returns, and the old ones are
read from the last commit, by their arrival numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import duckdb
import numpy as np
import pyarrow as pa

from streamsql.catalog.objects import Stream, Table, quoted
from streamsql.engine.changes import Changes
from streamsql.engine.partitions import PARTITION_COLUMN
from streamsql.engine.recomputed import RecomputedQuery
from streamsql.engine.store import Store
from streamsql.engine.table_changes import TableChange
from streamsql.engine.views import ContinuousQuery

# columns of arriving rows that are not the relation's
_OURS = ("__seq", PARTITION_COLUMN)
# no rows at all, of whatever columns
NOTHING = pa.table({})


def mark_followed(queries: Iterable[ContinuousQuery]) -> set[str]:
    """Tell those queries to give their changes that others are kept by; gives the names of all relations that some are."""
    queries = list(queries)
    in_part = [q for q in queries if isinstance(q, RecomputedQuery) and (q.recomputed.part or q.recomputed.inner)]
    names = {n for q in in_part for n in q.plan.sources}
    for query in queries:
        query.log.followed = query.name in names
    return names


def _weighed(rows: pa.Table, weight: int) -> pa.Table:
    """Put a weight in the place of the arrival number."""
    weights = pa.array(np.full(rows.num_rows, weight, dtype=np.int64))
    return rows.drop_columns([n for n in _OURS if n in rows.column_names]).append_column("__weight", weights)


def rows_of(
    arrivals: Iterable[tuple[Stream | Table, pa.Table]], changes: Sequence[TableChange], followed: set[str]
) -> Changes:
    """Give the rows that arrived, and those that transactions have taken from tables and put into them."""
    found: dict[str, list[pa.Table]] = {}
    for relation, rows in arrivals:
        if relation.name in followed:
            found.setdefault(relation.name, []).append(_weighed(rows, 1))
    for change in changes:
        if change.table.name in followed:
            found.setdefault(change.table.name, []).extend((_weighed(change.gone, -1), _weighed(change.own, 1)))
    return {name: pa.concat_tables([t.cast(tables[0].schema) for t in tables]) for name, tables in found.items()}


class Snapshot:
    """Reads rows as they were at the last commit, while the engine's transaction changes them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cursor: duckdb.DuckDBPyConnection | None = None

    def change(self, table: Table, sql: str, *, followed: bool) -> tuple[int, Changes]:
        """Run a statement that changes a table's rows; gives how many, and, if they are followed, which."""
        if not followed:
            return self._store.execute(sql), {table.name: None}
        names = ", ".join(quoted(c.name) for c in table.columns)
        returned = self._store.arrow_of(f"{sql} RETURNING {names}, __seq")
        if not returned.num_rows:
            return 0, {}
        if sql.startswith("DELETE"):
            return returned.num_rows, {table.name: _weighed(returned, -1)}
        numbers = returned.select(["__seq"])
        if self._cursor is None:
            self._cursor = self._store.cursor()
        self._cursor.register("__numbers", numbers)
        read = f"SELECT {names}, __seq FROM {table.rows_table} WHERE __seq IN (SELECT __seq FROM __numbers)"
        gone = _weighed(self._cursor.sql(read).to_arrow_table(), -1)
        return returned.num_rows, {table.name: pa.concat_tables([gone, _weighed(returned, 1).cast(gone.schema)])}
