"""GET /subscribe/VIEW: a view's rows now, then its changes, as Server-Sent Events or over a WebSocket.

    event: change                                            WebSocket: {"event": "change", "epoch": 8, ...}
    data: {"epoch": 8, "weight": -1, "row": {...}}

    event: progress
    id: 8
    data: {"epoch": 8}

The snapshot comes as changes with weight 1. A progress event says that all changes up to its epoch have been sent; its id is
what a client that comes back sends as ``Last-Event-ID`` (browsers do by themselves), or as ``?after=``. It then gets changes of
later epochs only, as long as they are kept: the last `resume_rows_max` rows of changes, until `resume_seconds_max` after the
last client has gone or the server was stopped. Else the answer is 410, and the client begins anew without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamsql.base.errors import InvalidParameterValue, StreamSQLError, SubscriptionTooSlow
from streamsql.catalog.rights import require_read
from streamsql.engine import definitions
from streamsql.engine.subscriptions import ChangeLog
from streamsql.formats.json import objects
from streamsql.server.context import Context
from streamsql.server.http.answers import said
from streamsql.server.http.kinds import result_fields
from streamsql.server.http.parts import Parts
from streamsql.server.results import ResultColumn, Wake
from streamsql.server.streaming import canonical, every

KEEP_ALIVE_SECONDS = 15.0
# WebSocket close codes: going away, and a fault that the last message tells
_GOING_AWAY, _REFUSED = 1001, 4000
# changes of one view in one epoch that are put into one piece
_BATCH_ROWS = 4_096


class Keeping:
    """Which change logs keep what was read, for clients that come back; each until some time after the last one has gone."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._readers: dict[ChangeLog, int] = {}

    @contextlib.contextmanager
    def reading(self, log: ChangeLog) -> Any:
        """Count one reader in for a while."""
        self._readers[log] = self._readers.get(log, 0) + 1
        try:
            yield
        finally:
            self._readers[log] -= 1
            asyncio.get_running_loop().call_later(self._parts.limits.resume_seconds_max, self._forget, log)

    def _forget(self, log: ChangeLog) -> None:
        if self._readers.get(log) == 0:
            del self._readers[log]
            log.keep(0, 0)


class Following:
    """One client's subscription. `open` it, then take its events."""

    def __init__(self, context: Context, name: str, after: int | None, *, snapshot: bool) -> None:
        self._context = context
        self._name = name
        self._after = after
        self._snapshot = snapshot and after is None
        self._wake = Wake()

    async def open(self) -> ChangeLog:
        """Start reading. Raises StreamSQLError: what is no view, one that has stopped, changes that are not kept."""
        loop = asyncio.get_running_loop()
        engine, limits, role = self._context.engine, self._context.limits, self._context.asker.role

        def waken() -> None:
            loop.call_soon_threadsafe(self._wake.set)

        def begin() -> tuple[definitions.ViewSubscription, ChangeLog]:
            require_read(engine.catalog, role, engine.catalog.view(self._name))
            found = definitions.subscribe(engine, self._name, None, waken)
            log = engine.queries[self._name].log
            if self._after is not None:
                found.subscription.close()
                found.snapshot.close()
                resumed = log.resume(self._after, waken) if self._after <= engine.epoch else None
                if resumed is None:
                    raise SubscriptionTooSlow(
                        f'the changes of "{self._name}" after epoch {self._after} are not kept any more',
                        hint="subscribe without Last-Event-ID to begin with a snapshot; resume_rows_max and "
                        "resume_seconds_max bound what is kept",
                    )
                found = dataclasses.replace(found, subscription=resumed)
            found.subscription.role = role
            log.keep(limits.resume_rows_max, engine.epoch)
            return found, log

        self._found, log = await self._context.on_engine(begin)
        self.columns = [ResultColumn.of(c.name, c.type, c.made) for c in self._found.view.columns]
        self._fields = tuple(result_fields(self.columns))
        return log

    def close(self) -> None:
        """Let go of everything."""
        self._found.subscription.close()
        self._found.snapshot.close()

    async def events(self) -> AsyncIterator[tuple[str, int, list[bytes]]]:
        """Give events: the kind, the epoch, and for changes their JSON, one each."""
        context, found = self._context, self._found
        if self._snapshot:
            reading = context.reads.stream(found.snapshot_query, self.columns, context.cancel, found.snapshot)
            async with contextlib.aclosing(reading) as batches:
                async for batch in batches:
                    yield "change", found.epoch, await self._encoded(batch, found.epoch, None)
        else:
            found.snapshot.close()
        reported = found.epoch
        if self._after is None:
            yield "progress", reported, []
        else:
            reported = self._after
        query = context.engine.queries.get(self._name)
        every_us = query.plan.every_us if query is not None else None
        async for changes, epoch in every(context.reads, found.subscription, self._wake, every_us, context.cancel):
            for change in changes:
                start = 0
                for batch in await canonical(context.reads, change.rows, self.columns):
                    weights = None if change.weights is None else change.weights.slice(start, batch.num_rows)
                    start += batch.num_rows
                    yield "change", change.epoch, await self._encoded(batch, change.epoch, weights)
            if epoch > reported:
                reported = epoch
                yield "progress", epoch, []

    async def _encoded(self, batch: pa.RecordBatch, epoch: int, weights: pa.Array | None) -> list[bytes]:
        return await self._context.reads.compute(lambda: _encode(batch, epoch, weights, self._fields))


def _encode(batch: pa.RecordBatch, epoch: int, weights: pa.Array | None, fields: Any) -> list[bytes]:
    rows = objects(pa.Table.from_batches([batch]), fields)
    shown = pa.array(["1"]).take(pa.array([0] * batch.num_rows)) if weights is None else weights.cast(pa.string())
    parts = (f'{{"epoch": {epoch}, "weight": ', shown.cast(pa.large_string()), ', "row": ', rows, "}")
    made = pc.binary_join_element_wise(
        *(pa.scalar(p, pa.large_string()) if isinstance(p, str) else p for p in parts), pa.scalar("", pa.large_string())
    )
    found: list[bytes] = made.cast(pa.large_binary()).to_pylist()
    return found


def _after(connection: HTTPConnection) -> int | None:
    text = connection.headers.get("last-event-id") or connection.query_params.get("after")
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise InvalidParameterValue(f'"{text[:100]}" is not the id of an event', hint="ids are numbers of epochs")
    return int(text)


def _wants_snapshot(parameters: QueryParams) -> bool:
    text = parameters.get("snapshot", "true").lower()
    if text not in {"true", "false"}:
        raise InvalidParameterValue("snapshot must be true or false")
    return text == "true"


async def _opened(
    stack: contextlib.AsyncExitStack, connection: HTTPConnection, parts: Parts, keeping: Keeping
) -> Following:
    """Open the subscription that a request asks for; the stack closes it."""
    context = stack.enter_context(parts.context(connection.state.who))
    snapshot = _wants_snapshot(connection.query_params)
    name = context.key_called(connection.path_params["name"])
    made = Following(context, name, _after(connection), snapshot=snapshot)
    log = await made.open()
    stack.callback(made.close)
    stack.enter_context(keeping.reading(log))
    return made


async def follow(request: Request, parts: Parts, keeping: Keeping) -> Response:
    """Answer with Server-Sent Events. See https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    stack = contextlib.AsyncExitStack()
    try:
        following = await _opened(stack, request, parts, keeping)
    except BaseException:
        await stack.aclose()
        raise
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_event_stream(stack, following), media_type="text/event-stream", headers=headers)


async def _event_stream(stack: contextlib.AsyncExitStack, following: Following) -> AsyncIterator[bytes]:
    async with stack:
        events = await stack.enter_async_context(contextlib.aclosing(following.events()))  # type: ignore[type-var]
        try:
            async for found in _with_pauses(events):
                if found is None:
                    yield b": nothing new\n\n"
                    continue
                kind, epoch, changes = found
                if kind == "progress":
                    yield b'event: progress\nid: %d\ndata: {"epoch": %d}\n\n' % (epoch, epoch)
                for start in range(0, len(changes), _BATCH_ROWS):
                    yield b"".join(b"event: change\ndata: " + c + b"\n\n" for c in changes[start : start + _BATCH_ROWS])
        except StreamSQLError as error:
            yield b"event: error\ndata: " + json.dumps(said(error)["error"]).encode() + b"\n\n"


async def _with_pauses(events: Any) -> AsyncIterator[tuple[str, int, list[bytes]] | None]:
    """Give the events, and None where none has come for a while, so that a client that is gone is noticed."""
    upcoming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({upcoming}, timeout=KEEP_ALIVE_SECONDS)
            if not done:
                yield None
                continue
            found = upcoming.result()
            if found is None:
                return
            yield found
            upcoming = asyncio.ensure_future(anext(events, None))
    finally:
        upcoming.cancel()
        with contextlib.suppress(asyncio.CancelledError, StreamSQLError, StopAsyncIteration):
            await upcoming


async def follow_socket(socket: WebSocket, parts: Parts, keeping: Keeping) -> None:
    """Answer over a WebSocket: a text message an event."""
    await socket.accept()
    async with contextlib.AsyncExitStack() as stack:
        try:
            following = await _opened(stack, socket, parts, keeping)
            events = await stack.enter_async_context(contextlib.aclosing(following.events()))  # type: ignore[type-var]
            gone = asyncio.ensure_future(_gone(socket))
            stack.callback(gone.cancel)
            sending = asyncio.ensure_future(_send_events(socket, events))
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect):
                await sending
        except StreamSQLError as error:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await socket.send_text(json.dumps({"event": "error", **said(error)}))
                await socket.close(_GOING_AWAY if error.sqlstate == "57P01" else _REFUSED, error.sqlstate)


async def _gone(socket: WebSocket) -> None:
    """Return when the client has gone; what it sends means nothing."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await socket.receive_text()


async def _send_events(socket: WebSocket, events: Any) -> None:
    async for kind, epoch, changes in events:
        if kind == "progress":
            await socket.send_text(f'{{"event": "progress", "epoch": {epoch}}}')
        for change in changes:
            await socket.send_text('{"event": "change", ' + change[1:].decode())
