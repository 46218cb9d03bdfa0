"""GET /query?sql=...: the rows of one statement that reads, in the content type that the client accepts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import pyarrow as pa
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from streamsql.base.errors import (
    FeatureNotSupported,
    InvalidParameterValue,
    QueryCanceled,
    ReadOnlyTransaction,
    StreamSQLError,
)
from streamsql.server.context import NO_VALUES, Context
from streamsql.server.http.kinds import Encoder, accepted, encoder_of
from streamsql.server.http.parts import Parts
from streamsql.server.results import Rows
from streamsql.server.statements import handler
from streamsql.sql import statements as s

# what reads and changes nothing
READING = (s.Describe, s.Explain, s.ExplainWhy, s.Query, s.Show, s.ShowVariable, s.Verify)


async def query(request: Request, parts: Parts) -> Response:
    """Answer a request. What is wrong before the first rows is an error answer; later the connection is broken off."""
    text = request.query_params.get("sql")
    if text is None:
        raise InvalidParameterValue("the parameter sql is missing", hint="GET /query?sql=SELECT ...")
    kind = accepted(request.headers.get("accept", ""))
    stack = contextlib.AsyncExitStack()
    context = stack.enter_context(parts.context(request.state.who))
    _end_in_time(stack, context)
    try:
        rows = await _rows(context, text)
        if rows.release is not None:
            stack.push_async_callback(rows.release)
        batches = await stack.enter_async_context(contextlib.aclosing(_batches(rows)))
        encoder = encoder_of(kind, rows.columns)
        first = await anext(batches, None)
    except BaseException:
        await stack.aclose()
        raise
    return StreamingResponse(_body(stack, context, encoder, first, batches), media_type=_shown(kind))


def _end_in_time(stack: contextlib.AsyncExitStack, context: Context) -> None:
    """Let `statement_timeout`, which a role may have, end the statement."""
    seconds = context.variables.statement_seconds_max
    if seconds is not None:
        error = QueryCanceled("canceling statement due to statement timeout")
        stack.callback(asyncio.get_running_loop().call_later(seconds, context.cancel.cancel, error).cancel)


def _shown(kind: str) -> str:
    return f"{kind}; header=present; charset=utf-8" if kind == "text/csv" else kind


async def _rows(context: Context, text: str) -> Rows:
    """Execute the statement. Raises where it does not read, or would never end."""
    found = await context.known.parse(text)
    if len(found) != 1:
        raise InvalidParameterValue(f"sql must be one statement, not {len(found)}")
    statement = found[0]
    if isinstance(statement, s.Subscribe) or (isinstance(statement, s.Query) and statement.emit is not None):
        raise FeatureNotSupported(
            "a continuous query has no end", hint="CREATE MATERIALIZED VIEW, and follow it by GET /subscribe/VIEW"
        )
    if not isinstance(statement, READING):
        raise ReadOnlyTransaction(
            "only statements that read can be sent to /query",
            hint="use a Postgres client, or POST /streams/NAME for rows",
        )
    outcome = await handler(statement).execute(context, context.resolved(statement), NO_VALUES)
    if not isinstance(outcome, Rows):
        raise FeatureNotSupported("the statement gives no rows")
    return outcome


async def _batches(rows: Rows) -> AsyncGenerator[pa.RecordBatch, None]:
    try:
        async with contextlib.aclosing(rows.batches) as batches:
            async for batch in batches:
                if batch is not None and batch.num_rows:
                    yield batch
    except StreamSQLError as error:
        raise (rows.locate(error) if rows.locate is not None else error) from error


async def _body(
    stack: contextlib.AsyncExitStack,
    context: Context,
    encoder: Encoder,
    first: pa.RecordBatch | None,
    batches: AsyncIterator[pa.RecordBatch],
) -> AsyncIterator[bytes]:
    async with stack:
        yield encoder.head()
        batch = first
        while batch is not None:
            yield await context.reads.compute(lambda rows=batch: encoder.rows(rows))  # type: ignore[misc]
            context.cancel.check()
            batch = await anext(batches, None)
        yield encoder.tail()
