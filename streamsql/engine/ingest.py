"""Rows from clients as batches in exactly the columns and Arrow types of their relation.

Everything that can be wrong with a row is found here, before it is queued, so that an epoch never fails for one: types that
do not fit, missing columns without a default, NULL where NOT NULL is declared. Runs on a reader's connection, or without
one where nothing has to be computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import DuplicateColumn, SQLSyntaxError, UndefinedColumn
from streamsql.catalog.objects import Stream, Table, nearest, quoted
from streamsql.engine.constraints import check_rows, null_violation
from streamsql.engine.fitting import fitted
from streamsql.engine.store import translated
from streamsql.plan.expressions import default_sql
from streamsql.sql.sequence_names import sequence_of_default
from streamsql.sql.statements import ColumnDefinition


def target_columns(
    relation: Stream | Table, names: Sequence[str], place: Callable[[str], int | None] = lambda _: None
) -> list[ColumnDefinition]:
    """Give the columns that an INSERT or COPY names, all of them where it names none.

    `place` tells where in the client's text a name stands, for an error about it.
    """
    if not names:
        return list(relation.columns)
    found: list[ColumnDefinition] = []
    for name in names:
        column = relation.column(name)
        if column is None:
            raise UndefinedColumn(
                f'column "{name}" of relation "{relation.bare}" does not exist',
                hint=nearest(name, [c.name for c in relation.columns]),
                position=place(name),
            )
        if column in found:
            raise DuplicateColumn(f'column "{name}" specified more than once', position=place(name))
        found.append(column)
    return found


def check_width(columns: Sequence[ColumnDefinition], given: int, position: int | None = None) -> None:
    """Raise where an INSERT gives more or fewer values than it has target columns."""
    if given > len(columns):
        raise SQLSyntaxError("INSERT has more expressions than target columns", position=position)
    if given < len(columns):
        raise SQLSyntaxError("INSERT has more target columns than expressions", position=position)


def arrow_schema(relation: Stream | Table, cursor: duckdb.DuckDBPyConnection) -> pa.Schema:
    """Give the Arrow schema of the relation's rows, as DuckDB itself would export them; text for types that Arrow loses."""
    columns = ", ".join(f"CAST(NULL AS {carried_as(c.type)}) AS {quoted(c.name)}" for c in relation.columns)
    with translated():
        return cursor.sql(f"SELECT {columns} LIMIT 0").to_arrow_table().schema


# DuckDB's types whose values change on the way through Arrow and back
LOST_IN_ARROW = ("BIT", "TIME WITH TIME ZONE", "UHUGEINT")


def carried_as(duckdb_type: str) -> str:
    """Name the type in which a column's values go through Arrow: DuckDB reads text back as any type."""
    base = duckdb_type.partition("[")[0]
    return "VARCHAR" + duckdb_type.removeprefix(base) if base in LOST_IN_ARROW else duckdb_type


def arranged(
    rows: pa.Table,
    columns: Sequence[ColumnDefinition],
    relation: Stream | Table,
    schema: pa.Schema,
    came: npt.NDArray[np.bool_] | None = None,
) -> pa.Table | None:
    """Bring rows, one column for each of `columns`, into the relation's shape where Arrow alone can do it, else None.

    Raises NotNullViolation.
    """
    if relation.check_sql:
        return None
    given = {c.name: rows.column(i) for i, c in enumerate(columns)}
    arrays: list[pa.ChunkedArray | pa.Array] = []
    for column in relation.columns:
        wanted = schema.field(column.name).type
        if column.name in given:
            array = _widened(given[column.name], wanted)
            if array.type != wanted:
                return None
            arrays.append(array)
        elif column.default is None:
            arrays.append(pa.nulls(rows.num_rows, wanted))
        else:
            return None
    return _checked(pa.Table.from_arrays(arrays, schema=schema), relation, came)


def conform(
    rows: pa.Table,
    columns: Sequence[ColumnDefinition],
    relation: Stream | Table,
    schema: pa.Schema,
    cursor: duckdb.DuckDBPyConnection,
    *,
    came: npt.NDArray[np.bool_] | None = None,
) -> pa.Table:
    """Bring rows, one column for each of `columns`, into the relation's shape.

    Columns that are missing take their default, or NULL. `came` tells rows that come from those that go, of which the key
    is enough; None where all come. Raises StreamSQLError for values that do not fit.
    """
    made = arranged(rows, columns, relation, schema, came)
    if made is None:
        made = _checked(_cast(rows.rename_columns([c.name for c in columns]), relation, cursor), relation, came)
    check_rows(made if came is None else made.filter(pa.array(came)), relation, cursor)
    return made


def completed(rows: pa.Table, relation: Stream | Table, cursor: duckdb.DuckDBPyConnection) -> pa.Table:
    """Give rows that were brought into shape before their relation had all of its columns, with these."""
    if rows.num_columns == len(relation.columns):
        return rows
    given = [c for c in relation.columns if c.name in rows.column_names]
    return conform(rows, given, relation, arrow_schema(relation, cursor), cursor)


def with_defaults(rows: pa.Table, relation: Stream | Table, cursor: duckdb.DuckDBPyConnection) -> pa.Table:
    """Put defaults in for what is NULL: of a format's record, a column that is not there and one that is null are the same."""
    there = set(rows.column_names)
    defaults = [
        c
        for c in relation.columns
        if c.default is not None
        and sequence_of_default(c) is None
        and c.name in there
        and rows.column(c.name).null_count
    ]
    if not defaults:
        return rows
    items = ", ".join(
        f"coalesce(CAST({quoted(c.name)} AS {c.type}), {default_sql(c)}) AS {quoted(c.name)}" for c in defaults
    )
    with translated():
        cursor.register("__given", rows)
        try:
            return cursor.sql(f"SELECT * REPLACE ({items}) FROM __given").to_arrow_table()
        finally:
            cursor.unregister("__given")


def default_rows(count: int, relation: Stream | Table, cursor: duckdb.DuckDBPyConnection) -> pa.Table:
    """Make rows of nothing but defaults."""
    made = _checked(_cast(pa.table({"__row": pa.nulls(count, pa.int8())}), relation, cursor), relation)
    check_rows(made, relation, cursor)
    return made


def _checked(rows: pa.Table, relation: Stream | Table, came: npt.NDArray[np.bool_] | None = None) -> pa.Table:
    for place, column in enumerate(relation.columns):
        values = rows.column(place)
        if column.declared is not None:
            made = fitted(values, column.declared)
            rows = rows if made is values else rows.set_column(place, rows.schema.field(place), made)
        if not (column.not_null or column.primary_key) or not values.null_count:
            continue
        if came is None or column.primary_key or values.filter(pa.array(came)).null_count:
            first = rows.slice(pc.index(values.is_null(), True).as_py(), 1).to_pylist()[0]
            raise null_violation(relation, column.name, tuple(first.values()))
    return rows


def _widened(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    """Cast narrow numbers to wide ones without asking DuckDB: drivers send an int as the narrowest type that holds it."""
    have = column.type
    if have == wanted:
        return column
    integers = pa.types.is_integer(have) and (pa.types.is_integer(wanted) or pa.types.is_floating(wanted))
    if integers or pa.types.is_null(have) or (pa.types.is_float32(have) and pa.types.is_float64(wanted)):
        try:
            return column.cast(wanted)
        except pa.ArrowInvalid:  # too large: DuckDB finds the value and words the error
            return column
    return column


def _cast(rows: pa.Table, relation: Stream | Table, cursor: duckdb.DuckDBPyConnection) -> pa.Table:
    items = []
    for column in relation.columns:
        if column.name in rows.column_names:
            source = f"r.{quoted(column.name)}"
            if pa.types.is_string(rows.schema.field(column.name).type) and column.type.startswith(("STRUCT", "MAP")):
                source = f"CAST({source} AS JSON)"
        else:
            source = default_sql(column)
        value = f"CAST({source} AS {column.type})"
        carried = carried_as(column.type)
        items.append(f"{value if carried == column.type else f'CAST({value} AS {carried})'} AS {quoted(column.name)}")
    with translated():
        cursor.register("__given", rows)
        try:
            return cursor.sql(f"SELECT {', '.join(items)} FROM __given AS r").to_arrow_table()
        finally:
            cursor.unregister("__given")
