"""ALTER STREAM ... ADD COLUMN: the definition of a stream that has one column more, which its connector has to agree to."""

from __future__ import annotations

import dataclasses

from streamsql.base.errors import StreamSQLError
from streamsql.base.limits import Limits, exceeded
from streamsql.catalog.objects import Catalog, Stream
from streamsql.connectors import resolved
from streamsql.engine.recovery import defined
from streamsql.sql.render import render
from streamsql.sql.statements import ColumnDefinition, CreateStream


def with_column(stream: Stream, column: ColumnDefinition, limits: Limits, catalog: Catalog) -> CreateStream:
    """Give the statement that would make the stream with the column, behind those that are not included.

    Raises StreamSQLError where the connector gives no such column, or there would be too many.
    """
    if len(stream.columns) >= limits.columns_max:
        raise exceeded(limits, "columns_max", "the number of columns")
    statement = defined(stream.text, stream.name, stream.names, limits, catalog)
    assert isinstance(statement, CreateStream)
    own = tuple(c for c in statement.columns if not c.include)
    included = tuple(c for c in statement.columns if c.include)
    grown = dataclasses.replace(statement, columns=(*own, column, *included), option_positions={})
    try:
        made = resolved(grown)
    except StreamSQLError as error:
        error.position = column.position + 1
        raise
    return dataclasses.replace(made, text=render(dataclasses.replace(made, if_not_exists=False)))
