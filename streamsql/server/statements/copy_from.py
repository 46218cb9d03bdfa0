"""COPY relation FROM STDIN: the client's data is decoded as it comes, and written when all of it is there."""

from __future__ import annotations

from functools import partial

import pyarrow as pa

from streamsql.base.limits import exceeded
from streamsql.base.types import wire_column
from streamsql.catalog.rights import require
from streamsql.engine.ingest import conform, target_columns
from streamsql.pgwire.copy import CopyColumn, CopyDecoder, copy_options
from streamsql.plan.places import place_of_word
from streamsql.server.context import Context, Values
from streamsql.server.gathered import modifier_of
from streamsql.server.results import CopyIn
from streamsql.sql.statements import CopyFrom


async def execute(context: Context, statement: CopyFrom, values: Values) -> CopyIn:
    relation = context.catalog.relation(statement.name, statement.name_position + 1)
    require(context.catalog, context.asker.role, relation, "INSERT")
    place = partial(place_of_word, statement=statement, after=statement.name_position, limits=context.limits)
    columns = target_columns(relation, statement.columns, place)
    decoder = CopyDecoder(
        [CopyColumn(c.name, wire_column(c.type).type, modifier_of(c.type)) for c in columns],
        copy_options(statement.options),
        context.limits,
        relation.name,
    )
    return CopyIn(decoder, relation.name, tuple(c.name for c in columns))


async def take(context: Context, copy: CopyIn, data: bytes) -> None:
    """Decode a piece of the data. Raises StreamSQLError with the line and column at fault."""
    _gather(context, copy, await context.reads.compute(lambda: copy.decoder.feed(data)))


async def finish(context: Context, copy: CopyIn) -> int:
    """Decode what is left and hand all rows to the transaction; gives their number."""
    _gather(context, copy, await context.reads.compute(copy.decoder.finish))
    relation = context.catalog.relation(copy.relation)
    require(context.catalog, context.asker.role, relation, "INSERT")
    columns = target_columns(relation, copy.column_names)
    if not copy.batches:
        return 0
    given = pa.Table.from_batches(copy.batches)
    rows = await context.reads.run(
        lambda cursor: conform(given, columns, relation, context.known.schema(relation, cursor), cursor)
    )
    context.transaction.write(relation.name, rows)
    return copy.row_count


def _gather(context: Context, copy: CopyIn, batches: list[pa.RecordBatch]) -> None:
    copy.batches += batches
    copy.row_count += sum(b.num_rows for b in batches)
    if copy.row_count > context.limits.transaction_rows_max:
        raise exceeded(context.limits, "transaction_rows_max", "the number of rows of a COPY")
