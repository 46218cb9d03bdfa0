"""Reads a sink's outbox (`engine.outbox`): whole epochs, oldest first, as many as go into one delivery.

What the engine has just committed is taken from memory (`engine.handed`), where all before it has been delivered.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa

from streamsql.catalog.objects import OutputColumn, Sink, quoted
from streamsql.connectors.sink import Delivery
from streamsql.engine import outbox
from streamsql.engine.handed import Handed


class Outgoing:
    """The outbox of one sink, read on a connection of its own, which sees the last commit."""

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        sink: Sink,
        columns: Sequence[OutputColumn],
        rows_max: int,
        handed: Handed,
    ) -> None:
        self._cursor = cursor
        self._rows_max = rows_max
        self._handed = handed
        names = ", ".join(f"o{i} AS {quoted(c.name)}" for i, c in enumerate(columns))
        table = outbox.table_of(sink)
        # prepared, since to plan a query costs more than to read a few rows
        cursor.execute(
            f"PREPARE last_epoch AS SELECT coalesce(max(__epoch) FILTER (WHERE before + n <= {rows_max}), min(__epoch)) "
            "FROM (SELECT __epoch, n, sum(n) OVER (ORDER BY __epoch) - n AS before FROM ("
            f"SELECT __epoch, count(*) AS n FROM {table} WHERE __epoch > $1 GROUP BY __epoch))"
        ).fetchall()
        cursor.execute(
            f"PREPARE outgoing AS SELECT {names}, __weight, __epoch, __number FROM {table} "
            "WHERE __epoch > $1 AND __epoch <= $2 ORDER BY __epoch, __number"
        ).fetchall()
        nothing: pa.Table = cursor.execute("EXECUTE outgoing(0, -1)").to_arrow_table()
        self._schema = nothing.schema

    def after(self, epoch: int, waiting: int) -> Delivery | None:
        """Give the oldest epochs after this one: as many as the limit allows, but one at least; None if there is none.

        `waiting` is about how many rows there are.
        """
        found = self._handed.after(epoch, self._rows_max)
        if found is not None and not found:
            return None
        if found is None or found[0].schema.types != self._schema.types:
            return self._read(epoch, waiting)
        return _delivery(pa.concat_tables(found).rename_columns(self._schema.names))

    def _read(self, epoch: int, waiting: int) -> Delivery | None:
        last = 2**62
        if waiting > self._rows_max:
            last = self._cursor.execute(f"EXECUTE last_epoch({epoch})").fetchall()[0][0] or 0
        rows: pa.Table = self._cursor.execute(f"EXECUTE outgoing({epoch}, {last})").to_arrow_table()
        return _delivery(rows) if rows.num_rows else None


def _delivery(rows: pa.Table) -> Delivery:
    epochs = np.asarray(rows.column("__epoch"))
    return Delivery(
        rows.drop_columns(["__weight", "__epoch", "__number"]), np.asarray(rows.column("__weight")).astype(np.int8),
        epochs, np.asarray(rows.column("__number")), int(epochs[0]), int(epochs[-1]),
    )  # fmt: skip
