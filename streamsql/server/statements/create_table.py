"""CREATE TEMP TABLE, and CREATE TABLE ... AS query."""

from __future__ import annotations

import dataclasses

import duckdb
import pyarrow as pa

from streamsql.base.errors import DuplicateColumn, DuplicateTable, SQLSyntaxError, StreamSQLError
from streamsql.catalog.access import TEMPORARY_IDS_FROM
from streamsql.catalog.objects import Table, quoted
from streamsql.engine.ingest import arrow_schema, conform
from streamsql.plan.adhoc import adhoc_sql
from streamsql.plan.output_names import with_values_names
from streamsql.plan.places import located
from streamsql.server.context import Context, Values
from streamsql.server.results import Done
from streamsql.server.statements.create import (
    check_defaults,
    create_relation,
    exists_notice,
    storage_notices,
)
from streamsql.server.statements.insert import read_all
from streamsql.server.temporary import created
from streamsql.sql.names import parted
from streamsql.sql.render import render
from streamsql.sql.statements import ColumnDefinition, CreateTable, CreateTableAs


async def temporary(context: Context, statement: CreateTable, values: Values) -> Done:
    if not _is_new(context, statement.name, if_not_exists=statement.if_not_exists):
        return Done("CREATE TABLE", [exists_notice(statement.name)])
    await check_defaults(context, statement)
    made = await context.reads.compute(lambda: created(statement, context.engine.store, context.limits))
    context.transaction.set_temporary({**context.transaction.temporary, statement.name: made})
    return Done("CREATE TABLE", storage_notices(statement.storage))


def _is_new(context: Context, name: str, *, if_not_exists: bool) -> bool:
    if name not in context.transaction.temporary:
        return True
    if not if_not_exists:
        raise DuplicateTable(f'relation "{parted(name)[1]}" already exists')
    return False


async def of_query(context: Context, statement: CreateTableAs, values: Values) -> Done:
    if statement.on_commit is None:
        known = context.engine.catalog.called(statement.name) is not None
        if known and statement.if_not_exists:
            return Done("CREATE TABLE AS", [exists_notice(statement.name)])
        if known:
            raise DuplicateTable(f'relation "{parted(statement.name)[1]}" already exists')
    elif not _is_new(context, statement.name, if_not_exists=statement.if_not_exists):
        return Done("CREATE TABLE AS", [exists_notice(statement.name)])
    columns, rows = await context.run_own(lambda cursor: _answer(context, statement, cursor))
    made = CreateTable("", 0, name=statement.name, columns=columns, on_commit=statement.on_commit)
    made = dataclasses.replace(made, text=render(made))
    if statement.on_commit is not None:
        await temporary(context, made, values)
        if statement.name in context.transaction.temporary:
            context.transaction.write(statement.name, rows)
    else:
        table = await create_relation(context, made)
        assert table is not None
        context.transaction.write(table.name, rows)
    return Done(f"SELECT {rows.num_rows}" if statement.with_data else "CREATE TABLE AS")


def _answer(
    context: Context, statement: CreateTableAs, cursor: duckdb.DuckDBPyConnection
) -> tuple[tuple[ColumnDefinition, ...], pa.Table]:
    """Run the query; gives the columns that it makes, and its rows in their types. For a reader's thread."""
    query = statement.query
    scope = context.own_scope(cursor)
    try:
        sql = adhoc_sql(query.tree, query, scope)
        found = with_values_names(query.tree, scope.describe(sql))
        names = _names(statement, [c.name for c in found])
        columns = tuple(
            ColumnDefinition(name, "VARCHAR" if c.type == '"NULL"' else c.type)
            for name, c in zip(names, found, strict=True)
        )
        casts = ", ".join(f"CAST(#{i} AS {c.type}) AS {quoted(c.name)}" for i, c in enumerate(columns, 1))
        end = "" if statement.with_data else " LIMIT 0"
        given = read_all(f"SELECT {casts} FROM ({sql}){end}", cursor, context.limits)
    except StreamSQLError as error:
        raise located(error, query.tree, query) from error
    relation = Table(TEMPORARY_IDS_FROM, statement.name, columns, "")
    return columns, conform(given, columns, relation, arrow_schema(relation, cursor), cursor)


def _names(statement: CreateTableAs, found: list[str]) -> list[str]:
    if len(statement.column_names) > len(found):
        raise SQLSyntaxError("too many column names were specified")
    names = [*statement.column_names, *found[len(statement.column_names) :]]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DuplicateColumn(f'column "{twice}" specified more than once', hint="name the columns with AS")
    return names
