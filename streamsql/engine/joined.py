"""Batches of any size joined to batches that DuckDB writes best: each as large as a row group of its tables."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from streamsql.engine.store import ROW_GROUP_ROWS


class Joined:
    """Joins batches, which have one schema, in their order; `row_count` rows wait for more."""

    def __init__(self) -> None:
        self._waiting: list[pa.RecordBatch] = []
        self.row_count = 0

    def add(self, batches: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
        """Take batches; gives those that are complete."""
        self._waiting += batches
        self.row_count += sum(batch.num_rows for batch in batches)
        complete: list[pa.RecordBatch] = []
        while self.row_count >= ROW_GROUP_ROWS:
            table = pa.Table.from_batches(self._waiting)
            complete += _whole(table.slice(0, ROW_GROUP_ROWS))
            self._waiting = table.slice(ROW_GROUP_ROWS).to_batches()
            self.row_count -= ROW_GROUP_ROWS
        return complete

    def rest(self) -> list[pa.RecordBatch]:
        """Give what is left."""
        left, self._waiting, self.row_count = self._waiting, [], 0
        return _whole(pa.Table.from_batches(left)) if left else []


def _whole(table: pa.Table) -> list[pa.RecordBatch]:
    # Arrow's own pool gives memory back to the system at once, which clears it anew for the next batch
    batches: list[pa.RecordBatch] = table.combine_chunks(pa.system_memory_pool()).to_batches()
    return batches
