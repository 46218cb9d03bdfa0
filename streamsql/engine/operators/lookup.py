"""Joins of a flow with a table as it is when a row arrives.

::

    s JOIN t FOR SYSTEM_TIME AS OF PROCTIME() ON s.k = t.k
    t     (p, 1)                       then (p, 2) in its place
    in    s p                                               s p
    out           (p, 1)                                            (p, 2)

No state: what has been shown stays. A row meets the table's rows that arrived before it, also within one epoch; changes of rows
have epochs of their own. A view is met as it was committed: rows for it and for what it reads are never taken into one epoch
(`epoch.Engine`), unless one transaction wrote both. So what comes out does not depend on where epochs are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa

from streamsql.catalog.objects import PUBLIC_SCHEMA, ROWS_SCHEMA, quoted
from streamsql.engine.changes import Progress
from streamsql.engine.flow import AT_COLUMN, NO_TIMES, Arriving, Flow, Idle
from streamsql.engine.origins import Node, typed, with_places
from streamsql.engine.store import Delta, Store
from streamsql.plan.origins import Lookup


class LookupNode(Node):
    """Keeps one such join."""

    def __init__(self, origin: Lookup, store: Store, index: int, left: Node, query_id: int) -> None:
        super().__init__(origin, store, index)
        self.origin = origin
        self.left = left
        self.delta_name = f"__lookup {query_id} {index}"
        self.delta = Delta(pa.table({}))
        chosen = [
            f"{s[0]}.{quoted(c)} AS {quoted(o.name)}" for (s, c), o in zip(origin.chosen, origin.columns, strict=True)
        ]
        items = ", ".join([*chosen, f"l.{AT_COLUMN} AS {AT_COLUMN}"])
        table, condition, order = self._matching()
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._sql = (
            f"SELECT {items} FROM {self._left} AS l "
            f"{'LEFT ' if origin.kind == 'LEFT' else ''}JOIN {table} AS r ON {condition} ORDER BY {order}"
        )

    @property
    def _left(self) -> str:
        return typed(quoted(self.delta_name), self.origin.left.columns)

    def _matching(self) -> tuple[str, str, str]:
        """Give, as SQL, what is joined with, the condition, and the order of what comes out."""
        origin = self.origin
        if origin.of_view:
            read = [c for s, c in origin.chosen if s == "right"]
            order = ", ".join(["l.__seq", *(f"r.{quoted(c)}" for c in read)])
            return f"{PUBLIC_SCHEMA}.{quoted(origin.table)}", f"({origin.condition})", order
        condition = f"({origin.condition}) AND r.__seq < l.{AT_COLUMN}"
        return f"{ROWS_SCHEMA}.{quoted(origin.table)}", condition, "l.__seq, r.__seq"

    def open(self) -> None:
        self.delta = Delta(with_places(self.left, Flow(self.left.empty, NO_TIMES, 0)))
        self.store.register(self.delta_name, self.delta)

    def close(self) -> None:
        self.store.unregister(self.delta_name)
        if self._cursor is not None:
            self._cursor.close()

    def take(self, arriving: Arriving, inner: list[Progress]) -> Flow:
        flow, progress = self.left.take(arriving, inner), inner[self.index]
        if not flow.rows.num_rows:
            return replace(flow, rows=self.empty)
        self.delta.batch = with_places(self.left, flow)
        rows = self._joined()
        first = progress.rows_out + 1
        numbers = pa.array(np.arange(first, first + rows.num_rows, dtype=np.int64))
        inner[self.index] = replace(progress, rows_out=progress.rows_out + rows.num_rows)
        at = np.asarray(rows.column(AT_COLUMN))
        return replace(flow, rows=rows.drop_columns([AT_COLUMN]).append_column("__seq", numbers), at=at)

    def _joined(self) -> pa.Table:
        """Join; with a view as it was at the last commit, whatever this epoch does to it."""
        if not self.origin.of_view:
            return self.store.rows(self._sql)
        if self._cursor is None:
            self._cursor = self.store.cursor()
        self._cursor.register(self.delta_name, self.delta.batch)
        try:
            return self._cursor.sql(self._sql).to_arrow_table()
        finally:
            self._cursor.unregister(self.delta_name)

    def mark_if(self, idle: Idle, inner: Sequence[Progress]) -> int:
        return self.left.mark_if(idle, inner)

    def stirs(self, idle: Idle, inner: Sequence[Progress]) -> bool:
        return self.left.stirs(idle, inner)
