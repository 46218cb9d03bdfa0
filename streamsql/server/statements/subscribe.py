"""SUBSCRIBE view: its rows now, then every change to it, each with its epoch and weight.

    epoch | weight | <the view's columns>
    7     |      1 | ...                    the snapshot, or a row that came
    8     |     -1 | ...                    a row that went

With PROGRESS a column ``progressed`` follows the weight; a row in which it is true says that all changes up to its epoch
have been sent, and its other columns are NULL.
"""

from __future__ import annotations

import contextlib

import numpy as np
import pyarrow as pa

from streamsql.base.types import BOOL, INT2, INT8, canonical_arrow
from streamsql.catalog.rights import require_read
from streamsql.engine import definitions
from streamsql.engine.changes import Change
from streamsql.engine.definitions import ViewSubscription
from streamsql.server.context import Context, Values
from streamsql.server.known import SHARED_ROWS_MAX
from streamsql.server.results import Batches, ResultColumn, Rows, Wake
from streamsql.server.streaming import canonical, every
from streamsql.sql.statements import Subscribe


async def columns(context: Context, statement: Subscribe, values: Values) -> list[ResultColumn]:
    view = context.catalog.view(statement.name, statement.name_position + 1)
    require_read(context.catalog, context.asker.role, view)
    head = [ResultColumn("epoch", INT8), ResultColumn("weight", INT2)]
    if statement.progress:
        head.append(ResultColumn("progressed", BOOL))
    return head + [ResultColumn.of(c.name, c.type, c.made) for c in view.columns]


async def execute(context: Context, statement: Subscribe, values: Values) -> Rows:
    found = await columns(context, statement, values)
    wake = Wake()
    waken = context.known.bell.for_event(wake)
    engine, role = context.engine, context.asker.role

    def follow() -> ViewSubscription:
        position = statement.name_position + 1
        require_read(engine.catalog, role, engine.catalog.view(statement.name, position))
        made = definitions.subscribe(engine, statement.name, position, waken)
        made.subscription.role = role
        return made

    following = await context.on_engine(follow)

    async def release() -> None:
        following.subscription.close()
        following.snapshot.close()

    batches = _batches(context, statement, following, wake, found)
    return Rows(found, batches, tag="SUBSCRIBE", live=True, wake=wake, release=release, shared=True)


async def _batches(
    context: Context,
    statement: Subscribe,
    following: ViewSubscription,
    wake: Wake,
    found: list[ResultColumn],
) -> Batches:
    shown = found[3:] if statement.progress else found[2:]
    shape = context.known.frames.shape((statement.progress, tuple(shown)))
    if statement.snapshot:
        reading = context.reads.stream(following.snapshot_query, shown, context.cancel, following.snapshot)
        async with contextlib.aclosing(reading) as rows:
            async for batch in rows:
                yield _framed(batch, following.epoch, None, statement.progress)
    else:
        following.snapshot.close()
    if statement.progress:
        yield _progress(following.epoch, shown)
    yield None
    reported = following.epoch
    query = context.engine.queries.get(statement.name)
    every_us = query.plan.every_us if query is not None else None
    async for changes, epoch in every(context.reads, following.subscription, wake, every_us, context.cancel):
        for change in changes:
            for batch in await _shared_frames(context, change, shown, shape, progress=statement.progress):
                yield batch
        if statement.progress and epoch > reported:
            reported = epoch
            yield _progress(epoch, shown)
        yield None


async def _shared_frames(
    context: Context, change: Change, shown: list[ResultColumn], shape: int, *, progress: bool
) -> list[pa.RecordBatch]:
    """Frame a change once for all who subscribe to it."""
    if change.rows.num_rows > SHARED_ROWS_MAX:
        return await _framed_change(context, change, shown, progress)
    shared = context.known.frames
    found = shared.get(change, shape)
    if found is None:
        found = await _framed_change(context, change, shown, progress)
        shared.put(change, found, shape)
    return found


async def _framed_change(
    context: Context, change: Change, shown: list[ResultColumn], progress: bool
) -> list[pa.RecordBatch]:
    framed, start = [], 0
    for batch in await canonical(context.reads, change.rows, shown):
        weights = None if change.weights is None else change.weights.slice(start, batch.num_rows)
        framed.append(_framed(batch, change.epoch, weights, progress))
        start += batch.num_rows
    return framed


def _framed(batch: pa.RecordBatch, epoch: int, weights: pa.Array | None, progress: bool) -> pa.RecordBatch:
    count = batch.num_rows
    ones = np.ones(count, dtype=np.int16)
    head: list[pa.Array] = [
        pa.array(np.full(count, epoch, dtype=np.int64)),
        pa.array(ones) if weights is None else weights.cast(pa.int16()),
    ]
    if progress:
        head.append(pa.array(np.zeros(count, dtype=np.bool_)))
    arrays = [*head, *batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=[f"c{i}" for i in range(len(arrays))])


def _progress(epoch: int, shown: list[ResultColumn]) -> pa.RecordBatch:
    arrays = [
        pa.array([epoch], pa.int64()),
        pa.array([None], pa.int16()),
        pa.array([True]),
        *(pa.nulls(1, canonical_arrow(c.type, c.modifier)) for c in shown),
    ]
    return pa.RecordBatch.from_arrays(arrays, names=[f"c{i}" for i in range(len(arrays))])
