"""Sources and sinks driven by hand, as the reader and the deliverer do it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from streamsql.base.limits import Limits
from streamsql.catalog.objects import OutputColumn
from streamsql.connectors.sink import Delivery, Shape, Sink, SinkConnector
from streamsql.connectors.source import Batch, Connector, Given, Source, Surroundings
from streamsql.engine.positions import Position
from streamsql.sql.parse import parse
from streamsql.sql.statements import ColumnDefinition, CreateStream
from tests.running import until

COLUMNS = (OutputColumn("k", "VARCHAR"), OutputColumn("n", "BIGINT"))


def given(**options: Any) -> Given:
    return Given({name: str(value) for name, value in options.items()}, {})


def columns(text: str) -> tuple[ColumnDefinition, ...]:
    """Give the columns of a stream as they are declared; those of INCLUDE need their types."""
    (statement,) = parse(f"CREATE STREAM s {text} WITH (connector = 'any')", Limits())
    assert isinstance(statement, CreateStream)
    return statement.columns


def opened(
    connector: Connector,
    options: Given,
    declared: Sequence[ColumnDefinition],
    positions: Mapping[str, Position] | None = None,
    folder: Path | None = None,
) -> Source:
    connector.columns(options, [c for c in declared if not c.include])
    surroundings = Surroundings(() if folder is None else (folder,), name="s", identity="test-1")
    return connector.open(options, declared, positions or {}, 0, surroundings)


def batches(source: Source, count: int, rows_max: int = 1_000) -> list[Batch]:
    """Read until so many rows and rejected records have come."""
    found: list[Batch] = []

    def enough() -> bool:
        batch = source.read(rows_max, 0)
        if batch is not None:
            found.append(batch)
        return bool(sum(b.rows.num_rows + b.rejected.num_rows for b in found) >= count)

    until(enough, 30)
    return found


def values(found: Iterable[Batch]) -> list[tuple[Any, ...]]:
    return [row for b in found for row in zip(*(c.to_pylist() for c in b.rows.columns), strict=True)]


def shape(*, append_only: bool = True, key: tuple[str, ...] = ()) -> Shape:
    return Shape(COLUMNS, append_only, key)


def opened_sink(
    connector: SinkConnector, options: Given, of: Shape, identity: str = "test-1", folder: Path | None = None
) -> Sink:
    connector.check(options, of)
    allowed = () if folder is None else (folder,)
    return connector.open(options, of, Surroundings(allowed, name="alerts", identity=identity))


def delivery(*changes: tuple[int, int, str | None, int | None]) -> Delivery:
    """Make a delivery of (epoch, weight, k, n)."""
    epochs = np.array([c[0] for c in changes], np.int64)
    numbers = np.array([i - int(np.searchsorted(epochs, e)) for i, e in enumerate(epochs)], np.int64)
    rows = pa.table({"k": pa.array([c[2] for c in changes]), "n": pa.array([c[3] for c in changes], pa.int64())})
    weights = np.array([c[1] for c in changes], np.int8)
    return Delivery(rows, weights, epochs, numbers, int(epochs[0]), int(epochs[-1]))
