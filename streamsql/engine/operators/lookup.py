"""Joins of a flow with a table as it is when a row arrives.

::

    s JOIN t FOR SYSTEM_TIME AS OF PROCTIME() ON s.k = t.k
    t     (p, 1)                       then (p, 2) in its place
    in    s p                                               s p
    out           (p, 1)                                            (p, 2)

No state: what has been shown stays. A row meets the table's rows that arrived before it, also within one epoch; changes of rows
have epochs of their own. So what comes out does not depend on where epochs are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from streamsql.catalog.objects import ROWS_SCHEMA, quoted
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
        self._sql = (
            f"SELECT {items} FROM {typed(quoted(self.delta_name), origin.left.columns)} AS l "
            f"{'LEFT ' if origin.kind == 'LEFT' else ''}JOIN {ROWS_SCHEMA}.{quoted(origin.table)} AS r "
            f"ON ({origin.condition}) AND r.__seq < l.{AT_COLUMN} ORDER BY l.__seq, r.__seq"
        )

    def open(self) -> None:
        self.delta = Delta(with_places(self.left, Flow(self.left.empty, NO_TIMES, 0)))
        self.store.register(self.delta_name, self.delta)

    def close(self) -> None:
        self.store.unregister(self.delta_name)

    def take(self, arriving: Arriving, inner: list[Progress]) -> Flow:
        flow, progress = self.left.take(arriving, inner), inner[self.index]
        if not flow.rows.num_rows:
            return replace(flow, rows=self.empty)
        self.delta.batch = with_places(self.left, flow)
        rows = self.store.rows(self._sql)
        first = progress.rows_out + 1
        numbers = pa.array(np.arange(first, first + rows.num_rows, dtype=np.int64))
        inner[self.index] = replace(progress, rows_out=progress.rows_out + rows.num_rows)
        at = np.asarray(rows.column(AT_COLUMN))
        return replace(flow, rows=rows.drop_columns([AT_COLUMN]).append_column("__seq", numbers), at=at)

    def mark_if(self, idle: Idle, inner: Sequence[Progress]) -> int:
        return self.left.mark_if(idle, inner)

    def stirs(self, idle: Idle, inner: Sequence[Progress]) -> bool:
        return self.left.stirs(idle, inner)
