"""Rows from clients as batches in exactly the columns and Arrow types of their relation.

Everything that can be wrong with a row is found here, before it is queued, so that an epoch never fails for one: types that
do not fit, missing columns without a default, NULL where NOT NULL is declared. Runs on a reader's connection.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from streamsql.base.errors import DuplicateColumn, NotNullViolation, SQLSyntaxError, UndefinedColumn
from streamsql.catalog.objects import Stream, Table, quoted
from streamsql.engine.store import translated
from streamsql.sql.render import duckdb_sql
from streamsql.sql.statements import ColumnDefinition


def target_columns(
    relation: Stream | Table, names: Sequence[str], position: int | None = None
) -> list[ColumnDefinition]:
    """Give the columns that an INSERT or COPY names, all of them where it names none."""
    if not names:
        return list(relation.columns)
    found = []
    for name in names:
        column = relation.column(name)
        if column is None:
            raise UndefinedColumn(
                f'column "{name}" of relation "{relation.name}" does not exist',
                hint=f"columns that there are: {', '.join(c.name for c in relation.columns)}",
                position=position,
            )
        if column in found:
            raise DuplicateColumn(f'column "{name}" specified more than once', position=position)
        found.append(column)
    return found


def check_width(columns: Sequence[ColumnDefinition], given: int, position: int | None = None) -> None:
    """Raise where an INSERT gives more or fewer values than it has target columns."""
    if given > len(columns):
        raise SQLSyntaxError("INSERT has more expressions than target columns", position=position)
    if given < len(columns):
        raise SQLSyntaxError("INSERT has more target columns than expressions", position=position)


def arrow_schema(relation: Stream | Table, cursor: duckdb.DuckDBPyConnection) -> pa.Schema:
    """Give the Arrow schema of the relation's rows, as DuckDB itself would export them."""
    with translated():
        return cursor.sql(f"SELECT * FROM {relation.public_name} LIMIT 0").to_arrow_table().schema


def conform(
    rows: pa.Table,
    columns: Sequence[ColumnDefinition],
    relation: Stream | Table,
    schema: pa.Schema,
    cursor: duckdb.DuckDBPyConnection,
) -> pa.Table:
    """Bring rows, one column for each of `columns`, into the relation's shape.

    Columns that are missing take their default, or NULL. Raises StreamSQLError for values that do not fit.
    """
    given = {c.name: rows.column(i) for i, c in enumerate(columns)}
    fits = all(c.name in given and given[c.name].type == schema.field(c.name).type for c in relation.columns)
    if fits:
        made = pa.Table.from_arrays([given[c.name] for c in relation.columns], schema=schema)
    else:
        made = _cast(rows.rename_columns([c.name for c in columns]), relation, cursor)
    for column in relation.columns:
        if (column.not_null or column.primary_key) and made.column(column.name).null_count:
            raise NotNullViolation(
                f'null value in column "{column.name}" of relation "{relation.name}" violates not-null constraint'
            )
    return made


def _cast(rows: pa.Table, relation: Stream | Table, cursor: duckdb.DuckDBPyConnection) -> pa.Table:
    items = []
    for column in relation.columns:
        if column.name in rows.column_names:
            source = f"r.{quoted(column.name)}"
            if pa.types.is_string(rows.schema.field(column.name).type) and column.type.startswith(("STRUCT", "MAP")):
                source = f"CAST({source} AS JSON)"
        else:
            source = duckdb_sql(column.default) if column.default is not None else "NULL"
        items.append(f"CAST({source} AS {column.type}) AS {quoted(column.name)}")
    with translated():
        cursor.register("__given", rows)
        try:
            return cursor.sql(f"SELECT {', '.join(items)} FROM __given AS r").to_arrow_table()
        finally:
            cursor.unregister("__given")
