"""COPY relation FROM STDIN: the client's data is decoded as it comes, and written when all of it is there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import duckdb
import pyarrow as pa
from sqlglot import exp

from streamsql.base.errors import DatatypeMismatch, StreamSQLError
from streamsql.base.limits import exceeded
from streamsql.catalog.rights import require
from streamsql.engine.ingest import conform, target_columns
from streamsql.engine.store import translated
from streamsql.engine.type_names import type_name
from streamsql.pgwire.copy import CopyColumn, CopyDecoder
from streamsql.pgwire.copy_binary import BinaryCopyDecoder
from streamsql.pgwire.copy_options import check_listed, copy_options
from streamsql.plan.adhoc import adhoc_query
from streamsql.plan.permission import TARGET
from streamsql.plan.places import located, place_of_word
from streamsql.server import written
from streamsql.server.context import Context, Values
from streamsql.server.gathered import modifier_of
from streamsql.server.numbering import is_numbered, with_numbers
from streamsql.server.results import CopyIn
from streamsql.sql.statements import CopyFrom

# what WHERE reads: the rows that have arrived
_COPIED = "__copied"


async def execute(context: Context, statement: CopyFrom, values: Values) -> CopyIn:
    relation = context.catalog.relation(statement.name, statement.name_position + 1)
    require(context.catalog, context.asker.role, relation, "INSERT")
    place = partial(place_of_word, statement=statement, after=statement.name_position, limits=context.limits)
    columns = target_columns(relation, statement.columns, place)
    options = copy_options(statement.options)
    check_listed(options, [c.name for c in columns])
    filled = [CopyColumn(c.name, c.wire.type, modifier_of(c.type), context.zone) for c in columns]
    decoder: CopyDecoder | BinaryCopyDecoder
    if options.format == "binary":
        decoder = BinaryCopyDecoder(filled, context.limits, relation.bare)
    else:
        decoder = CopyDecoder(filled, options, context.limits, relation.bare)
    where = None if statement.where is None else await context.reads.run(lambda c: _condition(context, statement, c))
    return CopyIn(decoder, relation.name, tuple(c.name for c in columns), options.format == "binary", where)


def _condition(context: Context, statement: CopyFrom, cursor: duckdb.DuckDBPyConnection) -> str:
    """Give the SELECT, over `_COPIED`, of the rows that WHERE lets in. Raises what is wrong with the condition."""
    assert statement.where is not None
    relation = context.catalog.relation(statement.name)
    name = exp.Table(this=exp.to_identifier(relation.name, quoted=True))
    name.set("alias", exp.TableAlias(this=exp.to_identifier(relation.bare, quoted=True)))
    name.meta[TARGET] = True  # the rows that arrive are read, and none of the relation's
    tree = exp.select("*").from_(name).where(statement.where)
    scope = replace(context.scope(cursor), stand_ins={relation.name: _COPIED})
    cursor.register(_COPIED, context.known.schema(relation, cursor).empty_table())
    try:
        condition = adhoc_query(exp.select(statement.where).from_(name), statement, scope).sql
        found = scope.describe(condition)[0].type
        if found != "BOOLEAN":
            raise DatatypeMismatch(f"argument of COPY FROM WHERE must be type boolean, not type {type_name(found)}")
        made = adhoc_query(tree, statement, scope).sql
    except StreamSQLError as error:
        raise located(error, tree, statement) from error
    finally:
        cursor.unregister(_COPIED)
    return made


async def take(context: Context, copy: CopyIn, data: bytes) -> None:
    """Take a piece of the data, which is decoded when there is enough of it, while more comes.

    Raises StreamSQLError with the line and column at fault, of this piece or of one before.
    """
    copy.pieces.append(data)
    copy.byte_count += len(data)
    if copy.byte_count >= copy.decoder.batch_bytes:
        await _decoded(context, copy)
        pieces, copy.pieces, copy.byte_count = copy.pieces, [], 0
        copy.decoding = asyncio.ensure_future(
            context.reads.compute(lambda: copy.joined.add(copy.decoder.feed(b"".join(pieces))))
        )
        copy.decoding.add_done_callback(_retrieved)


async def finish(context: Context, copy: CopyIn) -> int:
    """Decode what is left and hand all rows to the transaction; gives their number."""
    await _decoded(context, copy)
    rest = b"".join(copy.pieces)
    _gather(context, copy, await context.reads.compute(lambda: _last(copy, rest)))
    relation = context.catalog.relation(copy.relation)
    require(context.catalog, context.asker.role, relation, "INSERT")
    columns = target_columns(relation, copy.column_names)
    if not copy.batches:
        return 0
    given = pa.Table.from_batches(copy.batches)
    if is_numbered(relation):
        columns, given = await with_numbers(context, relation, columns, given)
    rows = await context.reads.run(
        lambda cursor: conform(given, columns, relation, context.known.schema(relation, cursor), cursor)
    )
    if copy.where is not None:
        where = copy.where
        rows = await context.reads.run(lambda cursor: _let_in(rows, where, cursor), context.cancel)
    await written.write(context, relation, rows)
    return int(rows.num_rows)


def _last(copy: CopyIn, data: bytes) -> list[pa.RecordBatch]:
    return copy.joined.add([*copy.decoder.feed(data), *copy.decoder.finish()]) + copy.joined.rest()


def _let_in(rows: pa.Table, where: str, cursor: duckdb.DuckDBPyConnection) -> pa.Table:
    with translated():
        cursor.register(_COPIED, rows)
        try:
            return cursor.sql(where).to_arrow_table().cast(rows.schema)
        finally:
            cursor.unregister(_COPIED)


async def _decoded(context: Context, copy: CopyIn) -> None:
    """Wait for what is being decoded. Raises what is wrong with it."""
    if copy.decoding is not None:
        _gather(context, copy, await copy.decoding)
        copy.decoding = None


def _retrieved(decoding: asyncio.Future[list[pa.RecordBatch]]) -> None:
    """Look at what came of it, also where the COPY ended otherwise and nobody does."""
    if not decoding.cancelled():
        decoding.exception()


def _gather(context: Context, copy: CopyIn, batches: list[pa.RecordBatch]) -> None:
    copy.batches += batches
    copy.row_count += sum(b.num_rows for b in batches)
    if copy.row_count > context.limits.transaction_rows_max:
        raise exceeded(context.limits, "transaction_rows_max", "the number of rows of a COPY")
