"""DESCRIBE name: the columns of a stream, table or view."""

from __future__ import annotations

from streamsql.catalog.objects import PlainView, Stream, View
from streamsql.engine.type_names import type_name
from streamsql.server.context import Context, Values
from streamsql.server.results import ResultColumn, Rows, static_columns, static_rows
from streamsql.sql.durations import render_duration
from streamsql.sql.render_trees import duckdb_sql
from streamsql.sql.statements import Describe

_COLUMNS = (("column", str), ("type", str), ("nullable", str), ("default", str), ("watermark", str))


async def columns(context: Context, statement: Describe, values: Values) -> list[ResultColumn]:
    return static_columns(*_COLUMNS)


async def execute(context: Context, statement: Describe, values: Values) -> Rows:
    found = context.catalog.find(statement.name, statement.name_position + 1)
    rows: list[tuple[str | None, ...]] = []
    if isinstance(found, (PlainView, View)):
        rows = [(c.name, type_name(c.type), "yes", None, None) for c in found.columns]
    else:
        watermark = found.watermark if isinstance(found, Stream) else None
        for column in found.columns:
            declared = watermark is not None and watermark.column == column.name
            rows.append(
                (
                    column.name,
                    type_name(column.type),
                    "no" if column.not_null or column.primary_key else "yes",
                    duckdb_sql(column.default) if column.default is not None else None,
                    f"{column.name} - {render_duration(watermark.delay_us)}" if declared and watermark else None,
                )
            )
    return static_rows(static_columns(*_COLUMNS), rows, "DESCRIBE")
