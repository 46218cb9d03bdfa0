"""Prepared statements and portals of the extended protocol."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from streamsql.base.errors import ProtocolViolation
from streamsql.base.types import WireType
from streamsql.server.context import Values
from streamsql.server.results import Cursor, Rows
from streamsql.sql.statements import Statement


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared statement (None: the empty query) and its parameters' types.

    `row` says that it is an INSERT of one row of nothing but parameters: such rows are gathered and read by column. `from_sql`
    is the text of its PREPARE.
    """

    statement: Statement | None
    types: tuple[WireType, ...]
    row: bool = False
    from_sql: str | None = None
    made: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))


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
