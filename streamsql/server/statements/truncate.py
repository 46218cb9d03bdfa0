"""TRUNCATE: every row of one or several tables goes, in one epoch."""

from __future__ import annotations

from streamsql.base.errors import FeatureNotSupported
from streamsql.catalog.objects import Table
from streamsql.plan.permission import TRUNCATES
from streamsql.server.context import Context, Values
from streamsql.server.results import Done
from streamsql.server.statements import change
from streamsql.sql.statements import Truncate
from streamsql.sql.trees import position_of


async def execute(context: Context, statement: Truncate, values: Values) -> Done:
    _refuse_more_than_rows(context, statement)
    for delete in statement.deletes:
        delete.tree.meta[TRUNCATES] = True
        await change.execute(context, delete, values, held_back=len(statement.deletes) > 1)
    return Done("TRUNCATE TABLE")


def _refuse_more_than_rows(context: Context, statement: Truncate) -> None:
    """Raise where RESTART IDENTITY would set sequences back, or CASCADE empty further tables."""
    catalog = context.catalog
    found = [(d, catalog.find(d.name, position_of(d.tree.this, d))) for d in statement.deletes]
    named = {table.name for _, table in found}
    for delete, table in found:
        position = position_of(delete.tree.this, delete)
        if not isinstance(table, Table):
            continue
        if statement.restarts and any(catalog.sequence_of(table, c.name) for c in table.columns):
            raise FeatureNotSupported(
                "TRUNCATE ... RESTART IDENTITY of a table with sequences is not supported",
                hint="ALTER SEQUENCE ... RESTART sets one back",
                position=position,
            )
        others = {other.bare for other, _ in catalog.referencing(table.name) if other.name not in named}
        if statement.cascade and others:
            raise FeatureNotSupported(
                f"TRUNCATE ... CASCADE to other tables is not supported: {', '.join(sorted(others))}",
                hint="name all of them in one TRUNCATE",
                position=position,
            )
