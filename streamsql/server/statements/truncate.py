"""TRUNCATE: every row of one or several tables goes, in one epoch."""

from __future__ import annotations

from streamsql.plan.permission import TRUNCATES
from streamsql.server.context import Context, Values
from streamsql.server.results import Done
from streamsql.server.statements import change
from streamsql.sql.statements import Truncate


async def execute(context: Context, statement: Truncate, values: Values) -> Done:
    for delete in statement.deletes:
        delete.tree.meta[TRUNCATES] = True
        await change.execute(context, delete, values, held_back=len(statement.deletes) > 1)
    return Done("TRUNCATE TABLE")
