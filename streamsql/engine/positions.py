"""How far a connector has read: positions that are committed together with the rows read up to them.

A connector's rows come with a `Move`: from where to where they lead, partition by partition. A move counts only where it starts
from what is committed. So rows that follow on a write that failed, or that were read for a stream that is gone, are
refused instead of leaving a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from streamsql.base.errors import NotInPrerequisiteState
from streamsql.catalog.objects import Catalog, Stream, Table
from streamsql.engine.partitions import PartitionProgress, number_of
from streamsql.engine.watermark import NEVER

# What a connector can come back to: an offset, or a text of its own. JSON keeps both.
Position = int | str
Positions = Mapping[str, Position]


@dataclass(slots=True)
class StreamProgress:
    """How far a stream or table is: rows taken in, the last arrival (wall clock), its declared watermark's time.

    `rows_rejected` counts the records that were sent for it and could not be read.

    `positions` tell, for each partition of what a connector reads, up to where it is read; `error` why it reads no more, or
    what it waits for where it is `retrying`. `finished`: the source has come to its end, and no row will ever come.
    """

    rows_in: int = 0
    last_arrival: int = NEVER
    largest: int = NEVER
    positions: Positions = field(default_factory=dict)
    error: str | None = None
    rows_rejected: int = 0
    paused: bool = False
    retrying: bool = False
    finished: bool = False
    partitions: Mapping[str, PartitionProgress] = field(default_factory=dict)
    resets: int = 0  # so often its reader has been told to begin elsewhere, since the server started
    skips: bool = False  # the next batch with records that cannot be read is taken all the same

    @property
    def reads(self) -> bool:
        """Tell whether a reader is to read."""
        return not self.paused and (self.error is None or self.retrying)


@dataclass(frozen=True, slots=True)
class Move:
    """A step of a stream's connector in one partition; `before` None where nothing had been read.

    `rows` is how many of the write's rows it leads past, in the order of its moves. `own_watermark`: the partition's event
    time goes on by itself.
    """

    stream: str
    stream_id: int
    partition: str
    before: Position | None
    after: Position
    rows: int = 0
    own_watermark: bool = False


@dataclass(frozen=True, slots=True)
class Build:
    """How far a view is built that takes in many kept rows (`engine.building`): when it began, and when this was."""

    name: str
    rows_done: int
    rows_total: int
    began_at: int
    noted_at: int


def moved(
    catalog: Catalog, streams: dict[str, StreamProgress], moves: Iterable[Move], now_us: int
) -> dict[str, StreamProgress]:
    """Give the progress of streams after moves. Raises NotInPrerequisiteState for one that does not follow."""
    streams = dict(streams)
    for move in moves:
        found, at = catalog.get(move.stream), streams.get(move.stream) or StreamProgress()
        if not isinstance(found, (Stream, Table)) or found.id != move.stream_id:
            raise NotInPrerequisiteState(f'stream "{move.stream}" is gone')
        if at.positions.get(move.partition) != move.before:
            raise NotInPrerequisiteState(f'rows for "{move.stream}" do not follow on what is committed')
        rows_in = at.rows_in + (move.rows if isinstance(found, Table) else 0)  # those of streams count as they arrive
        if move.own_watermark and move.partition not in at.partitions:
            made = PartitionProgress(number_of(move.partition, at.partitions), now_us)
            at = replace(at, partitions={**at.partitions, move.partition: made})
        streams[move.stream] = replace(
            at, rows_in=rows_in, positions={**at.positions, move.partition: move.after}, error=None, retrying=False
        )
    return streams
