"""A connector whose batches are a list that a test makes, for streams and tables; it can fail, and its rows can be bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from streamsql.base.errors import StreamSQLError
from streamsql.connectors.source import Batch, Given, Surroundings
from streamsql.engine.positions import Positions
from streamsql.formats.format import rejected
from streamsql.sql.statements import ColumnDefinition


def batch(
    rows: Sequence[dict[str, Any]],
    weights: Sequence[int] | None = None,
    *,
    bad: Sequence[str] = (),
    truncated: bool = False,
) -> Batch:
    """Make a batch; its place in the list becomes its position."""
    table = pa.Table.from_pylist(list(rows)) if rows else pa.table({})
    reasons = rejected(list(range(len(bad))), ["invalid JSON"] * len(bad), [text.encode() for text in bad])
    given = None if weights is None else pa.array(np.array(weights, np.int8))
    return Batch("", table, 0, reasons, given, truncated=truncated)


@dataclass
class Told:
    """``connector = 'told'``. The position is how many batches have been read, for each partition."""

    batches: dict[str, list[Batch]] = field(default_factory=dict)
    failures: list[StreamSQLError] = field(default_factory=list)
    opened_at: list[dict[str, Any]] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)

    def columns(self, given: Given, declared: Sequence[ColumnDefinition]) -> tuple[ColumnDefinition, ...]:
        return tuple(declared)

    def open(
        self,
        given: Given,
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        now_us: int,
        surroundings: Surroundings,
    ) -> Reading:
        self.opened_at.append(dict(positions))
        return Reading(self, dict(positions))


@dataclass
class Reading:
    """One opening of it."""

    origin: Told
    at: dict[str, Any]

    def read(self, rows_max: int, now_us: int) -> Batch | None:
        if self.origin.failures:
            raise self.origin.failures.pop(0)
        for partition, batches in self.origin.batches.items():
            place = self.at.get(partition, 0)
            if place < len(batches):
                found = batches[place]
                self.at[partition] = place + 1
                return Batch(partition, found.rows, place + 1, found.rejected, found.weights, truncated=found.truncated)
        return None

    def due_us(self, now_us: int) -> int | None:
        return now_us + 10_000

    def committed(self, positions: Positions) -> None:
        self.origin.told.update(positions)

    def close(self) -> None:
        pass
