"""What changes how sources are read: ALTER STREAM, and what readers note. On the engine's thread, in one transaction each."""

from __future__ import annotations

from dataclasses import replace

from streamsql.base.errors import WrongObjectType
from streamsql.catalog.objects import Stream, Table
from streamsql.engine.epoch import Engine
from streamsql.engine.positions import StreamProgress
from streamsql.sql.flow_statements import AlterFlow, FlowAction


def alter(engine: Engine, statement: AlterFlow) -> None:
    """ALTER STREAM | TABLE ... PAUSE | RESUME [SKIP]."""
    found = engine.catalog.relation(statement.name, statement.name_position + 1)
    if not found.is_read:
        raise WrongObjectType(
            f'"{found.name}" has no connector that reads rows',
            hint="rows are asked for as they are looked up" if found.connector else "clients send its rows",
            position=statement.name_position + 1,
        )
    at = engine.streams.get(found.name) or StreamProgress()
    if statement.action is FlowAction.PAUSE:
        made = replace(at, paused=True)
    else:
        skips = statement.action is FlowAction.SKIP and at.error is not None and not at.retrying
        made = replace(at, paused=False, error=None, retrying=False, skips=skips)
    _save(engine, found, made)
    engine.flows.altered = True


def note(
    engine: Engine, stream: Stream | Table, error: str | None, *, retrying: bool = False, finished: bool = False
) -> None:
    """Say how a source is doing, unless the stream is gone."""
    if engine.catalog.get(stream.name) is stream:
        at = engine.streams.get(stream.name) or StreamProgress()
        _save(engine, stream, replace(at, error=error, retrying=retrying, finished=finished))


def _save(engine: Engine, stream: Stream | Table, made: StreamProgress) -> None:
    before = engine.streams
    engine.streams = {**before, stream.name: made}
    try:
        with engine.store.transaction():
            engine.save()
    except BaseException:
        engine.streams = before
        raise
