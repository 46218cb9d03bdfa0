"""What passes between the parts of the engine: rows that arrived, changes that a query made, and how far a query is."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamsql.engine.watermark import NEVER


@dataclass(frozen=True, slots=True)
class Change:
    """What one epoch changed in a query's result: a Z-set.

    `rows` has the query's output columns, named ``o0``.. . `weights` (int8, one a row) holds +1 for a row that came and -1 for
    one that went; None means that every row came. `whole` marks the entire result, as EMIT COMPLETE shows it. Where there
    is an `order`, the rows are yet to be sorted by its columns: a large epoch leaves that to those who read.
    """

    epoch: int
    rows: pa.Table
    weights: pa.Array | None = None
    whole: bool = False
    order: pa.Table | None = None

    def __post_init__(self) -> None:
        assert self.weights is None or len(self.weights) == self.rows.num_rows

    def sorted(self) -> Change:
        """Give the same change with its rows in order."""
        if self.order is None:
            return self
        keys = [(name, "ascending") for name in self.order.column_names]
        return replace(self, rows=self.rows.take(pc.sort_indices(self.order, sort_keys=keys)), order=None)


# The rows that an epoch brought to relations and took from them, by name: their columns, in order, and ``__weight``
# (BIGINT). None: they changed, and nobody knows by what.
Changes = dict[str, pa.Table | None]


def weighted_rows(changes: list[Change]) -> pa.Table:
    """Give the rows of changes with ``__weight`` (BIGINT) as the last column, as `Changes` has them."""
    found = [
        c.rows.append_column(
            "__weight", pa.repeat(1, c.rows.num_rows) if c.weights is None else c.weights.cast(pa.int64())
        )
        for c in changes
        if not c.whole
    ]
    return pa.concat_tables(found) if found else pa.table({})


def sorts(data_type: pa.DataType) -> bool:
    """Tell whether Arrow sorts values of this type, and as DuckDB does."""
    kinds = pa.types
    tests = (kinds.is_integer, kinds.is_floating, kinds.is_string, kinds.is_timestamp, kinds.is_date, kinds.is_decimal)
    return any(test(data_type) for test in tests)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a continuous query is. Committed with every epoch; times are microseconds since the Unix epoch.

    seen         the largest event time of any row (NEVER: none yet)
    largest      the same, or later where an idle timeout has moved time on
    closed_to    windows that end at or before it are closed
    pane_low     no pane in the state starts before it        } only a guide for what can be skipped:
    pane_high    no pane in the state starts after it         } the state itself tells the truth
    idle_moves   how often an idle timeout has moved it on
    moved_at     the wall clock of the last epoch that moved `largest`
    seen_rows    distinct values that groups have had, where they are counted
    compacted    rows in the state after it was last compacted
    forget_low   no key that is remembered is forgotten before the watermark is past it; a guide as well
    computed_at  the wall clock of the epoch that a query which asks the time was last run for
    partitions   (number, largest event time) of the partitions that hold `largest` back (`engine.partitions`)
    partitions_seen  so many partitions have been known to it
    inner        how far the nodes of the query's origin are, each after its inputs
    """

    rows_in: int = 0
    rows_out: int = 0
    rows_late: int = 0
    seen: int = NEVER
    largest: int = NEVER
    closed_to: int = NEVER
    pane_low: int = -NEVER
    pane_high: int = NEVER
    state_rows: int = 0
    seen_rows: int = 0
    compacted: int = 0
    forget_low: int = -NEVER
    moved_at: int = NEVER
    idle_moves: int = 0
    last_epoch: int = 0
    computed_at: int = NEVER
    error: str | None = None
    partitions: tuple[tuple[int, int], ...] = ()
    partitions_seen: int = 0
    inner: tuple[Progress, ...] = ()

    @property
    def rows_kept(self) -> int:
        """How many rows of state there are, also in what is inside of the query."""
        return self.state_rows + self.seen_rows + sum(progress.rows_kept for progress in self.inner)

    def as_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__}
        if self.inner:
            values["inner"] = [progress.as_json() for progress in self.inner]
        return values

    @staticmethod
    def from_json(values: dict[str, Any]) -> Progress:
        known = {f.name for f in fields(Progress)}
        inner = tuple(Progress.from_json(v) for v in values.get("inner", ()))
        partitions = tuple((number, largest) for number, largest in values.get("partitions", ()))
        made = {k: v for k, v in values.items() if k in known}
        return Progress(**{**made, "partitions": partitions, "inner": inner})
