"""A table as a source's batches make it: what the engine does with them, in a dictionary."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from streamsql.base.errors import StreamSQLError, Unavailable
from streamsql.connectors.postgres.source import PostgresConnector, PostgresSource
from streamsql.connectors.source import Batch, Given, Surroundings
from streamsql.engine.kept_values import MOVED
from streamsql.engine.positions import Position
from streamsql.sql.statements import ColumnDefinition

ROWS_MAX = 65_536
SECONDS_MAX = 20.0


@dataclass
class CapturedTable:
    """Reads one table; what it is told survives `reopen`, as what is committed survives a crash."""

    options: dict[str, str]
    columns: Sequence[ColumnDefinition]
    name: str = "t"
    rows_max: int = ROWS_MAX
    snapshot_rows_max: int = 1_000_000
    rows: dict[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)
    stream: list[tuple[Any, ...]] = field(default_factory=list)
    positions: dict[str, Position] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    source: PostgresSource | None = None

    @property
    def key(self) -> list[int]:
        return [i for i, c in enumerate(self.columns) if c.primary_key]

    @property
    def has_begun(self) -> bool:
        """Tell whether the snapshot is behind it."""
        return bool(self.positions) and self.positions != {"0": "snapshot"}

    def open(self) -> PostgresSource:
        if self.source is None:
            opened = PostgresConnector().open(
                Given(self.options, {}),
                self.columns,
                self.positions,
                0,
                Surroundings(name=self.name, identity="7", snapshot_rows_max=self.snapshot_rows_max),
            )
            assert isinstance(opened, PostgresSource)
            self.source = opened
        return self.source

    def close(self) -> None:
        if self.source is not None:
            self.source.close()
            self.source = None

    def step(self, *, lose: bool = False) -> bool:
        """Read once; tell whether there was something. `lose`: it is read, and lost before it is committed."""
        batch = self.open().read(self.rows_max, 0)
        if batch is None:
            return False
        if lose:
            self.close()
            return True
        self.take(batch)
        self.positions = {batch.partition: batch.position}
        self.open().committed(self.positions)
        return True

    def take(self, batch: Batch) -> None:
        self.batches.append(batch)
        rows = list(zip(*(c.to_pylist() for c in batch.rows.columns), strict=True))
        if not self.key:
            assert batch.weights is None
            self.stream += rows
            return
        if batch.truncated:
            self.rows.clear()
        assert isinstance(batch.weights, pa.Array)
        went: tuple[Any, ...] = ()
        for place, (row, weight) in enumerate(zip(rows, batch.weights.to_pylist(), strict=True)):
            key = tuple(row[i] for i in self.key)
            if weight > 0:
                how = [int(batch.kept[c.name][place]) if c.name in batch.kept else 0 for c in self.columns]
                before = went if MOVED in how else self.rows.get(key, ())
                self.rows[key] = tuple(before[i] if how[i] else value for i, value in enumerate(row))
            else:
                went = self.rows.pop(key)

    def read_until(self, condition: Callable[[], bool], chance: random.Random | None = None) -> None:
        """Read until something is true; with a `chance`, batches are lost and the source is opened again now and then."""
        deadline = time.monotonic() + SECONDS_MAX
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            try:
                found = self.step(lose=chance is not None and chance.random() < 0.2)
            except Unavailable:  # as a reader does: the origin may not have noticed yet that the last one is gone
                self.close()
                found = False
            if not found:
                time.sleep(0.002)

    def failure(self) -> StreamSQLError:
        """Read until it fails."""
        deadline = time.monotonic() + SECONDS_MAX
        while time.monotonic() < deadline:
            try:
                if not self.step():
                    time.sleep(0.002)
            except StreamSQLError as error:
                self.close()
                return error
        raise AssertionError("it did not fail")
