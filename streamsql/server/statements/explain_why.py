"""EXPLAIN WHY view: the windows that are open, and what would close them."""

from __future__ import annotations

import asyncio

import pyarrow as pa

from streamsql.base.errors import WrongObjectType
from streamsql.catalog.objects import View
from streamsql.catalog.rights import require_read
from streamsql.engine.stalls import stalls
from streamsql.engine.why import COLUMNS, why
from streamsql.server.context import Context, Values
from streamsql.server.results import Batches, ResultColumn, Rows
from streamsql.server.streaming import canonical
from streamsql.sql.statements import ExplainWhy


async def columns(context: Context, statement: ExplainWhy, values: Values) -> list[ResultColumn]:
    return [ResultColumn.of(name, type_) for name, type_ in COLUMNS.items()]


async def execute(context: Context, statement: ExplainWhy, values: Values) -> Rows:
    engine = context.engine

    def ask() -> pa.Table:
        view = context.catalog.find(statement.name, statement.name_position + 1)
        if not isinstance(view, View):
            raise WrongObjectType(
                f'"{view.bare}" is not a materialized view',
                hint="EXPLAIN WHY tells what holds the windows of a view open",
                position=statement.name_position + 1,
            )
        require_read(context.catalog, context.asker.role, view)
        stalled = stalls((q.name, q.plan.sources, q.progress.error) for q in engine.queries.values()).get(view.name)
        return why(engine.queries[view.name], engine.store, context.limits.why_rows_max, engine.streams, stalled)

    table = await asyncio.wrap_future(engine.call(ask))
    found = await columns(context, statement, values)

    async def batches() -> Batches:
        for batch in await canonical(context.reads, table, found):
            yield batch

    return Rows(found, batches(), "EXPLAIN")
