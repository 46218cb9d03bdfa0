"""The rows of RETURNING: its SELECT list over what a statement has written, as an ad-hoc query reads it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pyarrow as pa
from sqlglot import exp

from streamsql.base.errors import SerializationFailure
from streamsql.catalog.objects import Stream, Table
from streamsql.engine.store import translated
from streamsql.engine.table_changes import typed_columns
from streamsql.server.context import Context, Given, Values
from streamsql.server.known import Bound
from streamsql.server.reads import canonical_sql
from streamsql.server.results import Batches, ResultColumn, Rows
from streamsql.server.statements.query import bind, columns
from streamsql.server.written import Written
from streamsql.sql.statements import Delete, Insert, Query, Update

T = TypeVar("T")

# how often a statement is tried that statements without RETURNING are faster than
TRIES_MAX = 100
_WRITTEN, _TYPED = "__written_rows", "__returned"


async def returned_columns(
    context: Context, statement: Insert | Update | Delete, _: Values
) -> list[ResultColumn] | None:
    """Tell the columns of a statement's RETURNING; None where it has none."""
    if statement.returning is None:
        return None
    return await columns(context, statement.returning, Values())


async def returned(context: Context, query: Query, relation: Stream | Table, rows: pa.Table, tag: str) -> Rows:
    """Compute what RETURNING says of these rows, which have the columns of the relation. Raises StreamSQLError."""

    catalog, key = context.catalog, (context.asker.path, context.asker.role)
    known = context.known.returned.get(query, catalog, key)

    def compute() -> tuple[Bound, pa.Table]:
        with contextlib.closing(context.own_cursor() if known is None else context.plain_cursor()) as cursor:
            cursor.register(_WRITTEN, rows)
            typed = f"SELECT {typed_columns(relation)} FROM {_WRITTEN}"
            cursor.execute(f"CREATE TEMP VIEW {_TYPED} AS {typed}").fetchall()
            bound = known
            if bound is None:
                given = Given()
                scope = context.own_scope(cursor, given)
                stand_ins = {**scope.stand_ins, relation.name: _TYPED}
                bound = bind(query, (), dataclasses.replace(scope, stand_ins=stand_ins), given)
            with translated():
                return bound, cursor.sql(canonical_sql(bound.sql, bound.columns)).to_arrow_table()

    bound, table = await context.reads.compute(compute)
    if known is None and bound.lasting and not bound.tables and len(list(query.tree.find_all(exp.Table))) == 1:
        context.known.returned.put(query, catalog, bound, key)  # it reads the written rows alone
    return Rows(list(bound.columns), _batches(table, context.limits.result_batch_rows_max), tag=tag)


async def _batches(table: pa.Table, rows_max: int) -> Batches:
    for batch in table.to_batches(rows_max):
        yield batch


async def and_committed(
    context: Context, query: Query, relation: Table, verb: str, work: Callable[[], Written]
) -> Rows:
    """Do work of the session's transaction and, outside of BEGIN ... COMMIT, commit it before its rows are told."""

    async def told() -> Rows:
        done = await context.reads.compute(work)
        assert done.rows is not None
        return await returned(context, query, relation, done.rows, f"{verb} {done.count}")

    return await told() if context.transaction.explicit else await committed(context, told)


async def committed(context: Context, work: Callable[[], Awaitable[T]]) -> T:
    """Do work of the session's transaction, outside of BEGIN ... COMMIT, and commit it; give what the work gives.

    Where another transaction was first, it is done again: nobody has seen what it did.
    """
    async with context.known.one_at_a_time:
        for _ in range(TRIES_MAX - 1):
            done = await work()
            try:
                await context.transaction.commit()
            except SerializationFailure:
                continue
            return done
        done = await work()
        await context.transaction.commit()
    return done
