"""REFRESH MATERIALIZED VIEW, which tools such as dbt send: the view is up to date, so there is nothing to do."""

from __future__ import annotations

from streamsql.server.context import Context, Values
from streamsql.server.results import Done
from streamsql.sql.statements import Refresh


async def execute(context: Context, statement: Refresh, values: Values) -> Done:
    context.catalog.view(statement.name, statement.name_position + 1)
    return Done("REFRESH MATERIALIZED VIEW")
