"""ALTER TABLE: columns and constraints."""

from __future__ import annotations

import dataclasses
from functools import partial

import duckdb

from streamsql.base.errors import FeatureNotSupported, ObjectInUse, StreamSQLError, UndefinedTable, WrongObjectType
from streamsql.catalog.objects import CatalogObject, Table, nearest
from streamsql.catalog.rights import kind, require_owner
from streamsql.engine import altering
from streamsql.plan.expressions import check_default
from streamsql.plan.naming import Lookup
from streamsql.plan.places import located
from streamsql.server.context import Context, Values
from streamsql.server.numbering import found
from streamsql.server.results import Done, notice
from streamsql.server.statements.create import block_notices, storage_notices
from streamsql.server.statements.drop import cascade_notices
from streamsql.sql.altering import Action, AddColumn, AddConstraint, AlterTable, SetDefault, SetStorage
from streamsql.sql.constraints import Constraint, ForeignKey
from streamsql.sql.names import Key, parted
from streamsql.sql.sequence_names import sequence_of_default
from streamsql.sql.statements import ColumnDefinition


async def execute(context: Context, statement: AlterTable, values: Values) -> Done:
    engine, role, position = context.engine, context.asker.role, statement.name_position + 1
    schema, name = parted(statement.name)
    key = context.lookup.key(schema, name)
    if key is None:
        if statement.if_exists:
            return Done("ALTER TABLE", [notice(f'relation "{name}" does not exist, skipping')])
        known = [made.bare for made in context.catalog]
        raise UndefinedTable(f'relation "{name}" does not exist', hint=nearest(name, known), position=position)
    number = _check(context, context.catalog.objects[key], position).id
    ignored = [name for action in statement.actions if isinstance(action, SetStorage) for name in action.names]
    actions = [action for action in statement.actions if not isinstance(action, SetStorage)]
    await _check_defaults(context, statement, key)
    lookup = context.lookup
    resolved = AlterTable(
        statement.text, statement.position, statement.name, statement.name_position,
        tuple(_with_keys(action, lookup, statement.name, key) for action in actions), statement.if_exists,
    )  # fmt: skip

    def change() -> tuple[list[str], list[CatalogObject]]:
        table = _check(context, engine.catalog.find(key), position)
        require_owner(engine.catalog, role, table)
        return altering.alter(engine, table, resolved) if resolved.actions else ([], [])

    told, gone = await context.on_engine(change)
    notices = [notice(text) for text in told] + cascade_notices(gone) + storage_notices(ignored)
    return Done("ALTER TABLE", notices + block_notices(context, "ALTER TABLE", number))


def _check(context: Context, made: CatalogObject, position: int) -> Table:
    """Give a table whose columns may be changed. Raises StreamSQLError for anything else."""
    if not isinstance(made, Table):
        raise WrongObjectType(f'"{made.bare}" is not a table', hint=f"it is a {kind(made)}", position=position)
    if made.temporary:
        raise FeatureNotSupported(
            "ALTER of a temporary table is not supported", hint="make another one", position=position
        )
    if made.connector:
        raise WrongObjectType(
            f'cannot alter table "{made.bare}"', detail=f'the connector "{made.connector["connector"]}" keeps it',
            hint="drop it and create it", position=position,
        )  # fmt: skip
    if made.name in context.transaction.written:
        raise ObjectInUse(
            f'cannot ALTER TABLE "{made.bare}" because this transaction has written to it', hint="COMMIT first",
            position=position,
        )  # fmt: skip
    return made


async def _check_defaults(context: Context, statement: AlterTable, key: str) -> None:
    table = context.catalog.relation(key)
    columns: list[ColumnDefinition] = []
    for action in statement.actions:
        if isinstance(action, AddColumn) and action.column.default is not None:
            columns.append(action.column)
        known = table.column(action.name) if isinstance(action, SetDefault) else None
        if isinstance(action, SetDefault) and action.default is not None and known is not None:
            columns.append(ColumnDefinition(known.name, known.type, default=action.default, declared=known.declared))
    for column in columns:
        name = sequence_of_default(column)
        if name is not None:
            found(context, name, None)
            continue
        try:
            await context.reads.run(partial(_check_default, context, statement, column))
        except StreamSQLError as error:
            assert column.default is not None
            raise located(error, column.default, statement) from error


def _check_default(
    context: Context, statement: AlterTable, column: ColumnDefinition, cursor: duckdb.DuckDBPyConnection
) -> None:
    check_default(column, statement, context.scope(cursor))


def _with_keys(action: Action, lookup: Lookup, name: str, key: str) -> Action:
    """Give an action whose foreign keys name tables by their keys."""

    def looked_up(constraint: Constraint) -> Constraint:
        if not isinstance(constraint, ForeignKey):
            return constraint
        there = key if constraint.table == name else lookup.key(*parted(constraint.table))
        if there is None:
            raise UndefinedTable(f'relation "{parted(constraint.table)[1]}" does not exist')
        return dataclasses.replace(constraint, table=Key(there))

    if isinstance(action, AddColumn):
        constraints = tuple(map(looked_up, action.constraints))
        return AddColumn(action.column, constraints, action.primary_key, action.if_not_exists)
    if isinstance(action, AddConstraint) and action.constraint is not None:
        return AddConstraint(looked_up(action.constraint))
    return action
