"""Joins of a flow with a table whose rows are not here, by its primary key, as it is when the row arrives.

::

    s LEFT JOIN t FOR SYSTEM_TIME AS OF PROCTIME() ON s.k = t.k
    in    s p           known of t: nothing           the epoch ends, p is asked for: (p, 1)
    in    s p again     known of t: (p, 1)            out  (p, 1)

What is not known ends the epoch before it commits (`engine.answers`). What has been shown stays, whatever t becomes.
"""

from __future__ import annotations

import pyarrow as pa

from streamsql.catalog.objects import quoted
from streamsql.engine.answers import UNTIL
from streamsql.engine.operators.lookup import LookupNode
from streamsql.engine.origins import Node, typed
from streamsql.engine.store import Delta, Store
from streamsql.plan.origins import Lookup


class OutsideLookupNode(LookupNode):
    """Keeps one such join."""

    def __init__(self, origin: Lookup, store: Store, index: int, left: Node, query_id: int) -> None:
        assert origin.outside is not None
        self.outside = origin.outside
        self._keys_name, self._rows_name = (f"__outside {what} {query_id} {index}" for what in ("keys", "rows"))
        super().__init__(origin, store, index, left, query_id)
        nothing = ", ".join(f"NULL::{c.type} AS {quoted(c.name)}" for c in self.outside.columns)
        self._no_rows = store.arrow(f"SELECT {nothing} LIMIT 0")
        key = ", ".join(quoted(c.name) for c in self.outside.key)
        self._no_keys = store.arrow(f"SELECT {key}, 0::BIGINT AS {UNTIL} FROM (SELECT {nothing}) LIMIT 0")
        self._keys, self._rows = Delta(self._no_keys), Delta(self._no_rows)
        pairs = list(zip(self.outside.key, self.outside.values, strict=True))
        wanted = ", ".join(f"TRY_CAST({value} AS {c.type}) AS {quoted(c.name)}" for c, value in pairs)
        there = " AND ".join(f"{quoted(c.name)} IS NOT NULL" for c, _ in pairs)
        same = " AND ".join(f"k.{quoted(c.name)} = w.{quoted(c.name)}" for c, _ in pairs)
        self._missing_sql = (
            f"SELECT * FROM (SELECT DISTINCT {wanted} FROM {self._left} AS l) AS w WHERE {there} AND NOT EXISTS "
            f"(SELECT 1 FROM {typed(quoted(self._keys_name), self.outside.key)} AS k WHERE {same} AND k.{UNTIL} > $1)"
        )

    def _matching(self) -> tuple[str, str, str]:
        rows = typed(quoted(self._rows_name), self.outside.columns)
        return rows, f"({self.origin.condition})", "l.__seq"

    def open(self) -> None:
        super().open()
        self.store.register(self._keys_name, self._keys)
        self.store.register(self._rows_name, self._rows)

    def close(self) -> None:
        super().close()
        self.store.unregister(self._keys_name)
        self.store.unregister(self._rows_name)

    def _joined(self) -> pa.Table:
        answers = self.store.answers
        keys, rows = answers.known(self.origin.table) or (self._no_keys, self._no_rows)
        self._keys.batch, self._rows.batch = keys.cast(self._no_keys.schema), rows.cast(self._no_rows.schema)
        try:
            missing = self.store.rows(self._missing_sql, answers.now_us, size=keys.num_rows)
            if missing.num_rows:
                answers.miss(self.origin.table, missing, self.left_roots)
            return self.store.rows(self._sql, size=keys.num_rows)
        finally:
            self._keys.clear()
            self._rows.clear()

    @property
    def left_roots(self) -> tuple[str, ...]:
        """What brings the rows that are joined: streams, tables, and views."""
        return self.origin.left.followed
