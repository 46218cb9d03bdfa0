"""The protocol of what rows are read from: generators, topics, files.

A `Connector` knows a kind of source: the columns that it gives by itself, what its options mean, and how to open one. A
`Source` is one of them, open for one stream. It is used by one thread (`readers.Reader`), which asks for batches:

    source = connector.open(options, columns, positions, now_us)     from where the last committed epoch left off
    batch = source.read(rows_max, now_us)                            rows of one partition, and the position after them
    source.committed(positions)                                      durable: only now may the origin be told
    source.close()

The rules: reading again from a position gives the same rows. Nothing is acknowledged to the origin before `committed`.
`read` does not wait for rows to come: it gives None, and `due_us` says when to ask again. To pause a source is not to
ask it; it must bear that for as long as it takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from streamsql.engine.positions import Position, Positions
from streamsql.sql.statements import ColumnDefinition


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one partition in their order, with columns named as in the stream; `position` is where to go on after them."""

    partition: str
    rows: pa.Table
    position: Position


@dataclass(frozen=True, slots=True)
class Given:
    """The options of a connector as they were written, without its name, and where each stands in the statement."""

    values: Mapping[str, str]
    places: Mapping[str, int]


class Source(Protocol):
    """An open source of one stream's rows."""

    def read(self, rows_max: int, now_us: int) -> Batch | None:
        """Give at most so many rows; None where there are none now. Raises StreamSQLError where the source fails."""
        ...

    def due_us(self, now_us: int) -> int | None:
        """Say, after `read` gave None, at what time to ask again; None where no row will ever come."""
        ...

    def committed(self, positions: Positions) -> None:
        """Be told that rows up to here are durable with all their effects."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class Connector(Protocol):
    """A kind of source."""

    def columns(self, given: Given, declared: Sequence[ColumnDefinition]) -> tuple[ColumnDefinition, ...]:
        """Check the options, and give the columns that rows can have, of which some may be `declared`.

        Raises StreamSQLError with a position.
        """
        ...

    def open(self, given: Given, columns: Sequence[ColumnDefinition], positions: Positions, now_us: int) -> Source:
        """Open a source for some of its columns, to go on from these positions (none: from the start)."""
        ...
