"""DECLARE, FETCH, MOVE and CLOSE: a query's rows in portions, also of a query that never ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import duckdb

from streamsql.base.errors import FeatureNotSupported, NoActiveTransaction
from streamsql.base.types import WireType
from streamsql.server.cancellation import Cancellation
from streamsql.server.context import Context, Values
from streamsql.server.cursors import SqlCursor, Wait
from streamsql.server.results import Batches, Done, ResultColumn, Rows
from streamsql.server.statements import query, subscribe
from streamsql.sql.cursor_statements import CloseCursor, DeclareCursor, Fetch
from streamsql.sql.statements import Query


def types_of(
    context: Context, statement: DeclareCursor, declared: Sequence[WireType | None], cursor: duckdb.DuckDBPyConnection
) -> tuple[WireType, ...]:
    """Give the types of the query's parameters."""
    assert isinstance(statement.query, Query)
    return query.types_of(context, statement.query, declared, cursor)


async def declare(context: Context, statement: DeclareCursor, values: Values) -> Done:
    if not statement.hold and not context.transaction.in_block:
        raise NoActiveTransaction(
            "DECLARE CURSOR can only be used in transaction blocks",
            hint="send BEGIN first, or declare the cursor WITH HOLD",
        )
    context.cursors.check_new(statement.name)
    source = statement.query
    live = not isinstance(source, Query) or source.emit is not None
    if live and statement.scroll:
        raise FeatureNotSupported("a cursor over changes cannot be SCROLL", hint="leave SCROLL away")
    own = replace(context, cancel=Cancellation())
    if isinstance(source, Query):
        rows = await query.execute(own, source, values)
    else:
        rows = await subscribe.execute(own, source, values)
    context.cursors.add(
        SqlCursor(
            statement.name, statement.text, rows, own.cancel, statement.binary, bool(statement.scroll), statement.hold
        )
    )
    return Done("DECLARE CURSOR")


async def columns(context: Context, statement: Fetch, values: Values) -> list[ResultColumn] | None:
    found = context.cursors.get(statement.name)
    return None if found is None or statement.move else found.rows.columns


async def fetch(context: Context, statement: Fetch, values: Values) -> Rows | Done:
    found = await context.cursors.find(statement.name)
    seconds = None if statement.timeout_us is None else statement.timeout_us / 1e6
    moved = found.fetch(
        statement.direction, statement.count, context.cursors.room(found), context.limits, Wait(context.cancel, seconds)
    )
    if statement.move:
        passed = 0
        async for batch in moved:
            passed += batch.num_rows
        return Done(f"MOVE {passed}")

    first = await anext(moved, None)  # now, so that an error comes before anything is said of rows

    async def batches() -> Batches:
        if first is not None:
            yield first
        async for batch in moved:
            yield batch

    return Rows(found.rows.columns, batches(), tag="FETCH", binary=found.binary, release=moved.aclose)


async def close(context: Context, statement: CloseCursor, values: Values) -> Done:
    await context.cursors.close(statement.name)
    return Done("CLOSE CURSOR ALL" if statement.name is None else "CLOSE CURSOR")
