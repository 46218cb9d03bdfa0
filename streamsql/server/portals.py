"""Prepared statements and portals of the extended protocol."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from streamsql.base.errors import ProtocolViolation, StreamSQLError
from streamsql.base.types import WireType
from streamsql.server.context import Values
from streamsql.server.results import Rows
from streamsql.sql.statements import Statement


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared statement (None: the empty query) and its parameters' types.

    `row` says that it is an INSERT of one row of nothing but parameters: such rows are gathered and read by column.
    """

    statement: Statement | None
    types: tuple[WireType, ...]
    row: bool = False


@dataclass(slots=True)
class Portal:
    """A bound statement. `values` are decoded but for a row of a prepared INSERT, which stays as it came (`raw`)."""

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

    async def close(self) -> None:
        """Let go of the rows that are left."""
        self.done = True
        if self.cursor is not None:
            cursor, self.cursor = self.cursor, None
            await cursor.close()


def expanded(formats: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Give the format code of each parameter: none means text, one means all."""
    if len(formats) == count:
        return formats
    if len(formats) <= 1:
        return (formats[0] if formats else 0,) * count
    raise ProtocolViolation(f"bind message has {len(formats)} parameter formats but {count} parameters")


class Cursor:
    """Takes rows in portions, as Execute with a row limit asks for them. `ended` once there are no more."""

    __slots__ = ("_rest", "_sent", "ended", "rows")

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.ended = False
        self._sent = 0
        self._rest: pa.RecordBatch | None = None

    async def take(self, rows_max: int | None) -> pa.RecordBatch | None:
        """Give up to `rows_max` rows. None: no more just now, or none at all (`ended`)."""
        limit = self.rows.limit
        left = None if limit is None else limit - self._sent
        if left is not None and left <= 0:
            self.ended = True
            return None
        batch, self._rest = self._rest, None
        if batch is None:
            try:
                batch = await anext(self.rows.batches)
            except StopAsyncIteration:
                self.ended = True
                return None
            except StreamSQLError as error:
                if self.rows.locate is not None:
                    self.rows.locate(error)
                raise
            if batch is None:
                return None
        count = min(n for n in (batch.num_rows, rows_max, left) if n is not None)
        if count < batch.num_rows:
            self._rest = batch.slice(count)
            batch = batch.slice(0, count)
        self._sent += count
        return batch

    async def close(self) -> None:
        """Let go of what the rows come from."""
        self.ended = True
        try:
            await self.rows.batches.aclose()
        finally:
            release, self.rows.release = self.rows.release, None
            if release is not None:
                await release()
