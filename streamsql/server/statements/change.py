"""UPDATE and DELETE of a table's rows. A stream's rows are events: they do not change."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
from sqlglot import exp

from streamsql.base.errors import StreamSQLError, WrongObjectType
from streamsql.base.types import WireType
from streamsql.catalog.objects import Table
from streamsql.engine import definitions, foreign_keys
from streamsql.plan.adhoc import Scope, change_sql, change_tree, known_types
from streamsql.plan.parameters import infer_types, substituted
from streamsql.plan.places import located
from streamsql.server import written
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, Rows
from streamsql.server.returning import and_committed, committed
from streamsql.sql.statements import Delete, Update
from streamsql.sql.trees import position_of


def types_of(
    context: Context, statement: Update | Delete, declared: Sequence[WireType | None], cursor: duckdb.DuckDBPyConnection
) -> tuple[WireType, ...]:
    """Give the types of the parameters."""
    scope = context.scope(cursor)
    known = known_types(statement, scope)
    return tuple(infer_types(statement.tree, statement.parameter_count, declared, scope.describe, known=known))


async def execute(
    context: Context, statement: Update | Delete, values: Values, *, held_back: bool = False
) -> Done | Rows:
    """Change rows; `held_back` until the transaction ends, as inside BEGIN ... COMMIT."""
    verb = "UPDATE" if isinstance(statement, Update) else "DELETE"
    position = position_of(statement.tree.this, statement)
    target = context.catalog.find(statement.name, position)
    if not isinstance(target, Table):
        raise WrongObjectType(
            f'"{target.bare}" is not a table',
            hint=f"{verb} changes rows of tables; a stream's rows are events",
            position=position,
        )
    returning, zone = statement.returning, context.zone
    try:
        if returning is not None:
            return await and_committed(
                context, returning, target, verb, lambda: _in_transaction(context, statement, target, values)
            )
        if context.transaction.explicit or target.temporary or held_back:
            done = await context.reads.compute(lambda: _in_transaction(context, statement, target, values))
            return Done(f"{verb} {done.count}")
        if _moves_keys(context, statement, target):
            done = await committed(
                context, lambda: context.reads.compute(lambda: _in_transaction(context, statement, target, values))
            )
            return Done(f"{verb} {done.count}")
        sql = await context.reads.run(lambda cursor: _sql(context, statement, target, values, cursor))
        count = await context.on_engine(lambda: definitions.change_table(context.engine, target, sql, zone))
        return Done(f"{verb} {count}")
    except StreamSQLError as error:
        raise located(error, statement.tree, statement) from error


def _moves_keys(context: Context, statement: Update | Delete, target: Table) -> bool:
    """Tell whether a foreign key may change rows of other tables when this statement has been run."""
    acting = foreign_keys.acting(context.catalog, target)
    if not acting or isinstance(statement, Delete):
        return bool(acting)
    assigned = {c.name for item in statement.tree.expressions for c in item.this.find_all(exp.Column, exp.Identifier)}
    return any(assigned & {*foreign_keys.key_columns(context.catalog, child, key)} for child, key in acting)


def _sql(
    context: Context, statement: Update | Delete, target: Table, values: Values, cursor: duckdb.DuckDBPyConnection
) -> str:
    scope = context.scope(cursor)
    return change_sql(_with_values(statement, values, scope), statement, target, scope)


def _in_transaction(context: Context, statement: Update | Delete, target: Table, values: Values) -> written.Written:
    return written.change(
        context,
        target,
        lambda scope: change_tree(_with_values(statement, values, scope), statement, target, scope),
        returning=statement.returning is not None,
    )


def _with_values(statement: Update | Delete, values: Values, scope: Scope) -> exp.Expr:
    if not statement.parameter_count:
        return statement.tree
    types = values.types or tuple(
        infer_types(statement.tree, statement.parameter_count, (), scope.describe, known=known_types(statement, scope))
    )
    return substituted(statement.tree, types, values.texts or None)
