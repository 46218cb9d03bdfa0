"""PREPARE, EXECUTE and DEALLOCATE: a statement under a name, shared with the statements of the extended protocol."""

from __future__ import annotations

from sqlglot import exp

from streamsql.base.errors import InvalidStatementName, SQLSyntaxError
from streamsql.base.types import BY_NAME, DUCKDB_NAME, TEXT, WireType, wire_column
from streamsql.pgwire.values import codec_of
from streamsql.pgwire.values.column import strings_of
from streamsql.server.context import NO_VALUES, Context, Values
from streamsql.server.results import Done, ResultColumn
from streamsql.server.statements import query
from streamsql.sql.prepared import CATALOG_TYPES
from streamsql.sql.statements import Deallocate, ExecutePrepared, Prepare, Query, Statement


async def prepare(context: Context, statement: Prepare, values: Values) -> Done:
    oids = tuple(_type_of(name).oid for name in statement.types)
    await context.prepared.add(statement.name, statement.statement, oids, statement.text)
    return Done("PREPARE")


def _type_of(name: str) -> WireType:
    return BY_NAME[name] if name in CATALOG_TYPES else wire_column(name).type


async def resolve(context: Context, statement: ExecutePrepared) -> tuple[Statement, Values]:
    """Give what EXECUTE stands for: the prepared statement, and the values as it takes them.

    Raises InvalidStatementName, SQLSyntaxError for a wrong number of values, and what is wrong with a value.
    """
    found = context.prepared.find(statement.name)
    if found is None:
        raise InvalidStatementName(f'prepared statement "{statement.name}" does not exist')
    prepared, types = found
    if len(types) != len(statement.values):
        raise SQLSyntaxError(
            f'wrong number of parameters for prepared statement "{statement.name}"',
            detail=f"Expected {len(types)} parameters but got {len(statement.values)}.",
        )
    if not types:
        return prepared, NO_VALUES
    return prepared, Values(types, await _texts(context, statement, types))


async def _texts(context: Context, statement: ExecutePrepared, types: tuple[WireType, ...]) -> tuple[str | None, ...]:
    """Evaluate the values, cast to their parameters' types, and write them as text."""
    items = [_cast(value, wire_type) for value, wire_type in zip(statement.values, types, strict=True)]
    asked = Query(statement.text, statement.position, tree=exp.select(*items))
    rows = await query.execute(context, asked, NO_VALUES)
    batch = await anext(rows.batches)
    await rows.batches.aclose()
    assert batch is not None
    texts: list[str | None] = []
    for array, column in zip(batch.columns, rows.columns, strict=True):
        texts.append(strings_of(codec_of(column.type).to_text(array), array)[0].as_py())
    return tuple(texts)


def _cast(value: exp.Expr, wire_type: WireType) -> exp.Expr:
    """Cast a value as an assignment does, except to what is read from text anyway."""
    scalar = wire_type.element or wire_type
    if scalar is TEXT or scalar.name not in DUCKDB_NAME:
        return value.copy()
    name = scalar.name + ("[]" if wire_type.element is not None else "")
    return exp.cast(value.copy(), name, dialect="postgres")


async def columns(context: Context, statement: ExecutePrepared, values: Values) -> list[ResultColumn] | None:
    return await context.prepared.columns_of(statement.name)


async def deallocate(context: Context, statement: Deallocate, values: Values) -> Done:
    if statement.name is None:
        context.prepared.clear()
        return Done("DEALLOCATE ALL")
    if statement.name not in context.prepared:
        raise InvalidStatementName(f'prepared statement "{statement.name}" does not exist')
    del context.prepared[statement.name]
    return Done("DEALLOCATE")
