"""Prepared statements and portals of the extended protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pyarrow as pa

from streamsql.base.errors import ProtocolViolation
from streamsql.base.types import WireType
from streamsql.server.context import Values
from streamsql.server.results import ResultColumn, Rows
from streamsql.sql.statements import Statement


@dataclass(slots=True)
class Prepared:
    """A prepared statement (None: the empty query), its parameters' types, its columns once they were asked for."""

    statement: Statement | None
    types: list[WireType]
    columns: list[ResultColumn] | None = None
    described: bool = False


@dataclass(slots=True)
class Portal:
    """A bound statement. `values` are decoded but for rows of a prepared INSERT, which stay as they came (`raw`)."""

    prepared: Prepared
    raw: tuple[bytes | None, ...]
    parameter_formats: tuple[int, ...]
    result_formats: tuple[int, ...]
    values: Values
    rows: Rows | None = None
    cursor: Cursor | None = None
    done: bool = False

    def formats(self, count: int) -> list[int]:
        """Give the format code of each result column: none means text, one means all."""
        given = self.result_formats
        if len(given) <= 1:
            return [given[0] if given else 0] * count
        if len(given) != count:
            raise ProtocolViolation(f"bind message has {len(given)} result formats but query has {count} columns")
        return list(given)


def expanded(formats: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Give the format code of each parameter: none means text, one means all."""
    if len(formats) <= 1:
        return (formats[0] if formats else 0,) * count
    if len(formats) != count:
        raise ProtocolViolation(f"bind message has {len(formats)} parameter formats but {count} parameters")
    return formats


@dataclass(slots=True)
class Cursor:
    """Takes rows from batches in portions, as Execute with a row limit asks for them."""

    source: AsyncIterator[pa.RecordBatch | None]
    left: int | None
    sent: int = 0
    _rest: pa.RecordBatch | None = None
    ended: bool = field(default=False)

    async def take(self, rows_max: int | None) -> pa.RecordBatch | None:
        """Give up to `rows_max` rows. None: no more just now, or none at all (`ended`)."""
        if self.left is not None and self.sent >= self.left:
            self.ended = True
            return None
        batch = self._rest
        self._rest = None
        if batch is None:
            try:
                batch = await anext(self.source)
            except StopAsyncIteration:
                self.ended = True
                return None
            if batch is None:
                return None
        bounds = [b for b in (rows_max, None if self.left is None else self.left - self.sent) if b is not None]
        count = min([batch.num_rows, *bounds])
        if count < batch.num_rows:
            self._rest = batch.slice(count)
            batch = batch.slice(0, count)
        self.sent += batch.num_rows
        return batch

    async def close(self) -> None:
        self.ended = True
        closing = getattr(self.source, "aclose", None)
        if closing is not None:
            await closing()
