"""TRUNCATE of tables: all their rows are deleted, and views that read them follow."""

from __future__ import annotations

from streamsql.base.errors import FeatureNotSupported, WrongObjectType
from streamsql.catalog.objects import Table, quoted
from streamsql.server.context import NO_VALUES, Context, Values
from streamsql.server.results import Done
from streamsql.server.statements import change
from streamsql.sql.parse import parse
from streamsql.sql.statements import Delete, Truncate


async def execute(context: Context, statement: Truncate, values: Values) -> Done:
    for name, position in zip(statement.names, statement.name_positions, strict=True):
        if not isinstance(context.catalog.find(name, position + 1), Table):
            raise WrongObjectType(
                f'"{name}" is not a table', hint="a stream's rows leave it by its retention", position=position + 1
            )
    if len(statement.names) > 1 and not context.transaction.explicit:
        raise FeatureNotSupported(
            "TRUNCATE of several tables needs a transaction block",
            hint="send BEGIN first, or one TRUNCATE a table",
            position=statement.position + 1,
        )
    for name in statement.names:
        delete = parse(f"DELETE FROM {quoted(name)}", context.limits)[0]
        assert isinstance(delete, Delete)
        await change.execute(context, delete, NO_VALUES)
    return Done("TRUNCATE TABLE")
