"""How far the time of streams is: of each as a whole and, where its source has them, of its partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa

from streamsql.catalog.objects import Catalog, Stream, Table
from streamsql.engine.ingest import completed
from streamsql.engine.partitions import (
    PartitionProgress,
    TimeMove,
    numbers_of,
    tag,
    with_tags,
)
from streamsql.engine.positions import StreamProgress
from streamsql.engine.retention import CHECK_US_MIN
from streamsql.engine.views import ContinuousQuery
from streamsql.engine.watermark import NEVER, event_times
from streamsql.engine.writes import Write

IDLE_TICK_US_MAX = 1_000_000


def tagged(
    write: Write,
    catalog: Catalog,
    before: Mapping[str, StreamProgress],
    after: Mapping[str, StreamProgress],
    cursor: duckdb.DuckDBPyConnection,
) -> list[tuple[str, pa.Table]]:
    """Give a write's rows, with all columns; those of a stream with a connector carry the number of their partition.

    `before` and `after` are how far streams are without the write's moves and with them.
    """
    return [
        (name, _tagged(write, name, completed(rows, catalog.relation(name), cursor), catalog, before, after))
        for name, rows in write.rows
    ]


def _tagged(
    write: Write, name: str, rows: pa.Table, catalog: Catalog, before: Mapping[str, StreamProgress],
    after: Mapping[str, StreamProgress],
) -> pa.Table:  # fmt: skip
    relation = catalog.get(name)
    if not isinstance(relation, Stream) or not relation.connector:
        return rows
    known = (before.get(name) or StreamProgress()).partitions
    count, tags, lengths = len(known), [], []
    for move in write.moves:
        if move.stream != name:
            continue
        number = after[name].partitions[move.partition].number if move.own_watermark else 0
        count = max(count, number)  # as they get their numbers one after the other
        tags.append(tag(number, count))
        lengths.append(move.rows)
    if not tags:
        return with_tags(rows, np.full(rows.num_rows, tag(0, count)))
    assert sum(lengths) == rows.num_rows, (write.moves, rows.num_rows)
    return with_tags(rows, np.repeat(tags, lengths))


def arrived(relation: Stream | Table, rows: pa.Table, before: StreamProgress, now_us: int) -> StreamProgress:
    """Give how far a relation is after rows that arrived."""
    made = replace(before, rows_in=before.rows_in + rows.num_rows, last_arrival=now_us)
    if not isinstance(relation, Stream) or relation.watermark is None:
        return made
    assert relation.watermark.column is not None
    times, _ = event_times(rows.column(relation.watermark.column))
    if not before.partitions:
        return replace(made, largest=max(before.largest, int(times.max(initial=NEVER))))
    partitions = dict(before.partitions)
    numbers = numbers_of(rows)
    for name, at in before.partitions.items():
        own = times[numbers == at.number]
        if own.size:
            partitions[name] = replace(at, last_arrival=now_us, largest=max(at.largest, int(own.max())))
    counted = [p.largest for p in partitions.values() if not _is_idle(p, relation, now_us)]
    return replace(made, partitions=partitions, largest=max(before.largest, min(counted, default=NEVER)))


def _is_idle(at: PartitionProgress, stream: Stream, now_us: int) -> bool:
    return stream.idle_timeout_us is not None and now_us - at.last_arrival >= stream.idle_timeout_us


def idle(catalog: Catalog, streams: Mapping[str, StreamProgress], now_us: int) -> dict[str, TimeMove]:
    """Tell in which streams time goes on without rows, and how."""
    found: dict[str, TimeMove] = {}
    for stream in catalog:
        if not isinstance(stream, Stream) or stream.idle_timeout_us is None:
            continue
        at = streams.get(stream.name)
        if at is None or at.last_arrival == NEVER:
            continue
        if now_us - at.last_arrival >= stream.idle_timeout_us:
            found[stream.name] = TimeMove(elapsed_us=now_us - at.last_arrival)
            continue
        numbers = frozenset(p.number for p in at.partitions.values() if _is_idle(p, stream, now_us))
        if numbers:
            found[stream.name] = TimeMove(partitions=numbers)
    return found


def largest_of(
    streams: Mapping[str, StreamProgress], moved: Mapping[str, TimeMove] | None = None
) -> Callable[[str], int]:
    """Give what tells the largest event time of a stream, where time has gone on for those in `moved`."""

    def largest(name: str) -> int:
        at, move = streams.get(name) or StreamProgress(), (moved or {}).get(name)
        if at.largest == NEVER or move is None:
            return at.largest
        return at.largest + (move.elapsed_us or 0)

    return largest


def seconds_between_ticks(catalog: Catalog, queries: Iterable[ContinuousQuery]) -> float | None:
    """How long the engine may sleep: for ever, unless some stream's time moves on by itself, or a query's result does."""
    timeouts = [o.idle_timeout_us for o in catalog if isinstance(o, Stream) and o.idle_timeout_us]
    retentions = [o.retention_us for o in catalog if isinstance(o, Stream) and o.retention_us]
    if any(q.plan.recomputed is not None and q.plan.recomputed.by_clock for q in queries):
        timeouts.append(2 * IDLE_TICK_US_MAX)
    if timeouts:
        return min(*timeouts, IDLE_TICK_US_MAX) / 2e6
    if retentions:
        return max(CHECK_US_MIN, min(retentions) // 100) / 1e6
    return None
