"""The protocol of what rows are read from: generators, topics, files.

A `Connector` knows a kind of source: the columns that it gives by itself, what its options mean, and how to open one. A
`Source` is one of them, open for one stream. It is used by one thread (`readers.Reader`), which asks for batches:

    source = connector.open(options, columns, positions, now_us)     from where the last committed epoch left off
    batch = source.read(rows_max, now_us)                            rows of one partition, and the position after them
    source.committed(positions)                                      durable: only now may the origin be told
    source.close()

The rules: reading again from a position gives the same rows. Nothing is acknowledged to the origin before `committed`.
`read` does not wait for rows to come: it gives None, and `due_us` says when to ask again (a source that is told of new
rows by a thread of its own may `wake` the reader sooner). To pause a source is not to ask it; it must bear that for as
long as it takes.

What goes wrong: `Unavailable` says that the origin cannot be reached now. The reader opens the source again from what is
committed, later and later, for as long as it takes. Any other StreamSQLError stops the stream visibly, until ALTER STREAM
... RESUME. A record that cannot be read is neither: it stands in `Batch.rejected`, and the reader does with it what the
stream's ``on_error`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from streamsql.base.errors import StreamSQLError
from streamsql.engine.kept_values import Kept
from streamsql.engine.positions import Position, Positions
from streamsql.formats.format import NOTHING_REJECTED
from streamsql.sql.statements import ColumnDefinition


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one partition in their order, with columns named as in the stream; `position` is where to go on after them.

    `rejected` are records that could not be read (`formats.format.REJECTED_SCHEMA`). `weights` (int8, one a row) are for a
    table: +1 for a row that came, or that took the place of the one with its key; -1 for one that went, of which the key
    is enough. A batch without rows moves the position alone.
    """

    partition: str
    rows: pa.Table
    position: Position
    rejected: pa.Table = field(default_factory=lambda: NOTHING_REJECTED)
    weights: pa.Array | None = None
    # the partition's event time goes on by itself: the stream's watermark is the least of those of its partitions. A source
    # that has several gives a batch without rows for each before it gives rows, so that none is late for being read later
    own_watermark: bool = False
    # of a format's record, a column that is not there and one that is null are the same: it takes its default
    defaults: bool = False
    # values of a table's rows that are not there, since they are as before (`engine.kept_values`): a number a row, by column
    kept: Kept = field(default_factory=dict)
    # rows of a table are all gone before these come (TRUNCATE at the origin, or a new snapshot)
    truncated: bool = False
    # parts of the partition that are read to their end, each with a text of its own, in place of what the position would else
    # have to hold for ever: they are kept in a table, and found again by `Surroundings.notes`
    finished: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Given:
    """The options of a connector as they were written, without its name, and where each stands in the statement.

    One that was written as ``secret 'env:NAME'`` is a `sql.secrets.SecretReference`; `settings.read_options` takes care of
    it.
    """

    values: Mapping[str, str]
    places: Mapping[str, int]
    # for a table, whose rows are replaced by their key, and not for a stream
    table: bool = False


class Notes(Protocol):
    """What a stream's source has said in `Batch.finished`, as far as it is committed."""

    def get(self, name: str) -> str | None:
        """Give what was said last of a name."""
        ...

    def all(self) -> Iterable[tuple[str, str]]:
        """Give all names, each with what was said last."""
        ...


class NoNotes:
    """No notes."""

    def get(self, name: str) -> str | None:
        return None

    def all(self) -> Iterable[tuple[str, str]]:
        return ()


@dataclass(frozen=True, slots=True)
class Companion:
    """Another stream or table that shares an origin: its options and name, and how far it is read."""

    given: Given
    name: str
    positions: Positions


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the server lets a connector use: folders below which files may be read and written, and a way to wake its
    thread."""

    allowed_paths: tuple[Path, ...] = ()
    wake: Callable[[], None] = field(default=lambda: None)
    # the name of the stream, table or sink; and what no other object of this or any other server ever has, for group ids,
    # slots, transactional ids, and the notes that a sink keeps on the other side: letters, digits and hyphens
    name: str = ""
    identity: str = ""
    record_bytes_max: int = 64 << 20
    # addresses of object stores, as s3://bucket/prefix, below which files may be read and written
    allowed_urls: tuple[str, ...] = ()
    notes: Notes = field(default_factory=NoNotes)
    # rows that a source may have to give in one batch, since they are there together or not at all
    snapshot_rows_max: int = 10_000_000
    # the others that share its origin (`SharesOrigins`), as they are at the time of the call
    companions: Callable[[], Sequence[Companion]] = tuple
    # whether it has, or may have, begun to read: else its origin keeps nothing for it (`LeavesTraces`)
    begun: bool = True


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


@dataclass(frozen=True, slots=True)
class Metadata:
    """What ``INCLUDE`` can name of a message: the DuckDB type of its column, and others that may be written instead.

    What is `bytes` can be read as any type: as they are (BLOB), or as a value of that type written as text.
    """

    type: str
    others: tuple[str, ...] = ()
    bytes: bool = False


@runtime_checkable
class GivesMetadata(Protocol):
    """A connector whose messages say more than their value, by the word that names it; ``header`` is one header by name."""

    metadata: Mapping[str, Metadata]


@runtime_checkable
class LeavesTraces(Protocol):
    """A connector for whose streams and tables the origin keeps something: a place in its log, a subscription."""

    def forget(self, given: Given, columns: Sequence[ColumnDefinition], surroundings: Surroundings) -> None:
        """Have the origin let go of it: the stream or table is dropped, its source closed. Raises StreamSQLError."""
        ...


@runtime_checkable
class Infers(Protocol):
    """A connector that can look at what is to be read, for ``SCHEMA INFERRED``."""

    def infer(self, given: Given, surroundings: Surroundings) -> tuple[ColumnDefinition, ...]:
        """Tell the columns that a sample seems to have. Raises StreamSQLError where there is none, or it has none."""
        ...


@runtime_checkable
class Resets(Protocol):
    """A connector that finds the positions of ALTER STREAM ... RESET TO."""

    def positions_at(
        self,
        given: Given,
        columns: Sequence[ColumnDefinition],
        target: str,
        value: str | None,
        surroundings: Surroundings,
    ) -> Positions:
        """Give the positions for a target (`sql.flow_statements.ResetStream`). Raises StreamSQLError where there are none."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """One of the relations that are read together, and from where it is to go on."""

    given: Given
    columns: Sequence[ColumnDefinition]
    positions: Positions
    surroundings: Surroundings


@dataclass(frozen=True, slots=True)
class SharedBatch:
    """What belongs in one epoch: a batch for each relation that goes on, by its number.

    `failures` tell of relations that cannot go on after this; what they are given by then still counts.
    """

    batches: Mapping[int, Batch]
    failures: Mapping[int, StreamSQLError] = field(default_factory=dict)


class SharedSource(Protocol):
    """An open source of several relations, which is used as a `Source` is."""

    def read(self, rows_max: int, now_us: int) -> SharedBatch | None:
        """Give about so many rows; None where there are none now. Raises StreamSQLError where it fails for all of them."""
        ...

    def due_us(self, now_us: int) -> int:
        """Say, after `read` gave None, at what time to ask again."""
        ...

    def committed(self, positions: Sequence[Positions]) -> None:
        """Be told how far everything is that the origin holds its log for, relations that are not read now with it."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


@runtime_checkable
class SharesOrigins(Protocol):
    """A connector with relations that are read together, so that what belongs together at the origin comes in one epoch.

    Each begins alone: `Connector.open` gives a source that ends when the relation `has_begun`, and others read on with it.
    """

    def shared_origin(self, given: Given) -> tuple[object, ...] | None:
        """Give what is the same for all that are read together; None for a relation that is read alone."""
        ...

    def has_begun(self, positions: Positions) -> bool:
        """Tell whether a relation that is this far is read together with the others from here on."""
        ...

    def open_shared(self, members: Mapping[int, Member], wake: Callable[[], None]) -> SharedSource:
        """Open a source of relations that have begun, by their numbers."""
        ...


class Connector(Protocol):
    """A kind of source. One whose streams may have columns by ``INCLUDE`` is `GivesMetadata` as well."""

    def columns(self, given: Given, declared: Sequence[ColumnDefinition]) -> tuple[ColumnDefinition, ...]:
        """Check the options, and give the columns that rows can have, of which some may be `declared`; not included ones.

        Raises StreamSQLError with a position.
        """
        ...

    def open(
        self,
        given: Given,
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        now_us: int,
        surroundings: Surroundings,
    ) -> Source:
        """Open a source for some of its columns, to go on from these positions (none: from the start).

        Raises Unavailable where the origin cannot be reached now, another StreamSQLError where it never will be.
        """
        ...
