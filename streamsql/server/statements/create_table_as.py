"""CREATE TABLE ... AS query: a table of the query's columns, filled with its rows.

Like every definition it takes effect at once; the rows belong to the transaction.
"""

from __future__ import annotations

import dataclasses

from streamsql.base.errors import DuplicateColumn, SQLSyntaxError, StreamSQLError
from streamsql.engine import definitions
from streamsql.server.context import NO_VALUES, Context, Values
from streamsql.server.results import Done, ResultColumn
from streamsql.server.statements import insert, query
from streamsql.server.statements.create import block_notices, exists_notice
from streamsql.sql.render import render
from streamsql.sql.statements import ColumnDefinition, CreateTable, CreateTableAs, Drop, Insert, ObjectKind


async def execute(context: Context, statement: CreateTableAs, values: Values) -> Done:
    columns = await query.stored_columns(context, statement.query)
    made = CreateTable(
        *_source(statement),
        name=statement.name,
        columns=_definitions(statement, columns),
        if_not_exists=statement.if_not_exists,
    )
    made = dataclasses.replace(made, text=render(made))
    if not await context.on_engine(lambda: definitions.create_relation(context.engine, made)):
        return Done("CREATE TABLE AS", [exists_notice(statement.name)])
    notices = block_notices(context, "CREATE TABLE AS")
    if not statement.with_data:
        return Done("CREATE TABLE AS", notices)
    filling = Insert(*_source(statement), name=statement.name, source=statement.query.tree)
    try:
        done = await insert.execute(context, filling, NO_VALUES)
    except StreamSQLError:
        gone = Drop(*_source(statement), kind=ObjectKind.TABLE, names=(statement.name,))
        await context.on_engine(lambda: definitions.drop(context.engine, gone))
        raise
    return Done(f"SELECT {done.tag.rpartition(' ')[2]}", notices)


def _source(statement: CreateTableAs) -> tuple[str, int]:
    return statement.query.text, statement.query.position


def _definitions(statement: CreateTableAs, columns: list[ResultColumn]) -> tuple[ColumnDefinition, ...]:
    if len(statement.columns) > len(columns):
        raise SQLSyntaxError("too many column names were specified", position=statement.position + 1)
    names = [*statement.columns, *(c.name for c in columns[len(statement.columns) :])]
    for name in names:
        if names.count(name) > 1:
            raise DuplicateColumn(f'column "{name}" specified more than once', position=statement.position + 1)
    return tuple(
        ColumnDefinition(name, column.cast or "VARCHAR") for name, column in zip(names, columns, strict=True)
    )
