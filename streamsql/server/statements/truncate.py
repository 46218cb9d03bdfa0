"""TRUNCATE: every row of one or several tables goes, in one epoch."""

from __future__ import annotations

import dataclasses

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported
from streamsql.catalog.objects import Table
from streamsql.plan.permission import TRUNCATES
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.server.statements import change
from streamsql.sql.statements import Delete, Truncate
from streamsql.sql.trees import position_of, table_of


async def execute(context: Context, statement: Truncate, values: Values) -> Done:
    catalog = context.catalog
    named = [catalog.find(d.name, position_of(d.tree.this, d)) for d in statement.deletes]
    tables = [made for made in named if isinstance(made, Table)]
    further = _speaking(context, tables)
    if further and not statement.cascade:
        raise _referenced(context, tables, further[0])
    deletes = [*statement.deletes, *(_delete(statement.deletes[0], table) for table in further)]
    restarted = [
        sequence
        for table in (*tables, *further)
        for column in table.columns
        if statement.restarts and (sequence := catalog.sequence_of(table, column.name)) is not None
    ]
    for delete in deletes:
        delete.tree.meta[TRUNCATES] = True
        await change.execute(context, delete, values, held_back=len(deletes) > 1 or bool(restarted))
    context.transaction.restart(restarted)
    return Done("TRUNCATE TABLE", [notice(f'truncate cascades to table "{table.bare}"') for table in further])


def _speaking(context: Context, tables: list[Table]) -> list[Table]:
    """List the tables whose foreign keys speak of these, and those that speak of them in turn."""
    names = {table.name for table in tables}
    found: list[Table] = []
    for table in (looked := list(tables)):
        for other, _ in context.catalog.referencing(table.name):
            if other.name not in names:
                names.add(other.name)
                found.append(other)
                looked.append(other)  # the loop goes on with it
    return found


def _referenced(context: Context, tables: list[Table], other: Table) -> FeatureNotSupported:
    name = next(t.bare for t in tables if any(o.name == other.name for o, _ in context.catalog.referencing(t.name)))
    return FeatureNotSupported(
        "cannot truncate a table referenced in a foreign key constraint",
        detail=f'Table "{other.bare}" references "{name}".',
        hint=f'Truncate table "{other.bare}" at the same time, or use TRUNCATE ... CASCADE.',
    )


def _delete(like: Delete, table: Table) -> Delete:
    return dataclasses.replace(like, name=table.name, tree=exp.Delete(this=table_of(table.name)))
