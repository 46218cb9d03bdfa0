"""UPDATE and DELETE of a table's rows. A stream's rows are events: they do not change."""

from __future__ import annotations

import duckdb
from sqlglot import exp

from streamsql.base.errors import ActiveTransaction, WrongObjectType
from streamsql.catalog.objects import ROWS_SCHEMA, Table
from streamsql.engine import definitions
from streamsql.engine.recovery import SYSTEM_RELATIONS
from streamsql.plan.adhoc import adhoc_sql
from streamsql.plan.parameters import infer_types, substituted
from streamsql.server.context import Context, Values
from streamsql.server.reads import describe_on
from streamsql.server.results import Done
from streamsql.sql.render import duckdb_sql
from streamsql.sql.statements import Delete, Update


async def execute(context: Context, statement: Update | Delete, values: Values) -> Done:
    verb = "UPDATE" if isinstance(statement, Update) else "DELETE"
    target = context.catalog.find(statement.name, statement.position + 1)
    if not isinstance(target, Table):
        raise WrongObjectType(
            f'"{statement.name}" is not a table', hint=f"{verb} changes rows of tables; a stream's rows are events"
        )
    if context.transaction.explicit:
        raise ActiveTransaction(f"{verb} cannot run inside a transaction block", hint="send it on its own")
    sql = await context.reads.run(lambda cursor: _sql(context, statement, target, values, cursor))
    count = await context.on_engine(lambda: definitions.change_table(context.engine, target, sql))
    return Done(f"{verb} {count}")


def _sql(
    context: Context, statement: Update | Delete, target: Table, values: Values, cursor: duckdb.DuckDBPyConnection
) -> str:
    """Check the statement as a query is checked, and aim it at the table's rows instead of the view of them."""
    describe = describe_on(cursor)
    types = list(values.types) or infer_types(statement.tree, statement.parameter_count, (), describe)
    tree = substituted(statement.tree, types, values.texts if values.types else None)
    adhoc_sql(tree, statement, context.catalog, describe, context.limits, context.user, SYSTEM_RELATIONS)
    table = tree.this
    assert isinstance(table, exp.Table), tree
    table.set("db", exp.to_identifier(ROWS_SCHEMA))
    if not table.alias:
        table.set("alias", exp.TableAlias(this=exp.to_identifier(target.name, quoted=True)))
    return duckdb_sql(tree)
