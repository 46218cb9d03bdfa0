"""COPY relation FROM STDIN: the client's data is decoded as it comes, and written when all of it is there."""

from __future__ import annotations

import pyarrow as pa

from streamsql.base.types import wire_column
from streamsql.engine.ingest import conform, target_columns
from streamsql.pgwire.copy import CopyColumn, CopyDecoder, copy_options
from streamsql.server.context import Context, Values
from streamsql.server.results import CopyIn
from streamsql.sql.statements import CopyFrom


async def execute(context: Context, statement: CopyFrom, values: Values) -> CopyIn:
    relation = context.catalog.relation(statement.name, statement.name_position or None)
    columns = target_columns(relation, statement.columns, statement.name_position or None)
    options = copy_options(statement.options)
    shown = [wire_column(c.type) for c in columns]
    decoder = CopyDecoder(
        [CopyColumn(c.name, w.type, w.modifier) for c, w in zip(columns, shown, strict=True)],
        options,
        context.limits,
        relation.name,
    )
    return CopyIn(decoder, relation.name, tuple(c.name for c in columns))


async def write(context: Context, copy: CopyIn) -> int:
    """Hand the decoded rows to the transaction; gives their number."""
    if not copy.batches:
        return 0
    relation = context.catalog.relation(copy.relation)
    columns = target_columns(relation, copy.column_names)
    given = pa.Table.from_batches(copy.batches)
    rows = await context.reads.run(
        lambda cursor: conform(given, columns, relation, context.schema(relation, cursor), cursor)
    )
    context.transaction.write(relation.name, rows)
    return rows.num_rows
