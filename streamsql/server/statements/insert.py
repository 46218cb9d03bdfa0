"""INSERT: literal rows by column, bound parameters by column, anything else by one DuckDB query."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa
from sqlglot import exp

from streamsql.base.types import WireType, wire_column
from streamsql.catalog.objects import Stream, Table, quoted
from streamsql.engine.ingest import check_width, conform, target_columns
from streamsql.engine.recovery import SYSTEM_RELATIONS
from streamsql.engine.store import translated
from streamsql.plan.adhoc import adhoc_sql
from streamsql.plan.parameters import infer_types, substituted
from streamsql.pgwire.values import BadValue, decode_column
from streamsql.server.context import Context, Values
from streamsql.server.reads import describe_on
from streamsql.server.results import Done
from streamsql.sql.statements import ColumnDefinition, Insert
from streamsql.sql.values import LiteralRows


def parameter_types(context: Context, statement: Insert, declared: Sequence[WireType | None]) -> list[WireType] | None:
    """Give the types of the parameters where they stand for whole columns; None where they must be inferred."""
    if statement.parameter_columns is None:
        return None
    relation = context.catalog.relation(statement.name, statement.name_position or None)
    columns = target_columns(relation, statement.columns, statement.name_position or None)
    check_width(columns, len(statement.parameter_columns), statement.position + 1)
    types: list[WireType] = [wire_column("VARCHAR").type] * statement.parameter_count
    for column, number in zip(columns, statement.parameter_columns, strict=True):
        given = declared[number - 1] if number <= len(declared) else None
        types[number - 1] = given or wire_column(column.type).type
    return types


async def execute(context: Context, statement: Insert, values: Values) -> Done:
    rows, relation = await context.reads.run(lambda cursor: _rows(context, statement, values, cursor), context.cancel)
    context.transaction.write(relation.name, rows)
    return Done(f"INSERT 0 {rows.num_rows}")


def _rows(
    context: Context, statement: Insert, values: Values, cursor: duckdb.DuckDBPyConnection
) -> tuple[pa.Table, Stream | Table]:
    relation = context.catalog.relation(statement.name, statement.name_position or None)
    columns = target_columns(relation, statement.columns, statement.name_position or None)
    schema = context.schema(relation, cursor)
    position = statement.position + 1
    if isinstance(statement.rows, LiteralRows):
        columns = _leading(columns, len(statement.rows.columns), statement)
        check_width(columns, len(statement.rows.columns), position)
        given = pa.table(list(statement.rows.columns), names=[f"c{i}" for i in range(len(columns))])
        return conform(given, columns, relation, schema, cursor), relation
    if statement.source is None:  # DEFAULT VALUES: one row of nothing but defaults
        return conform(pa.table({"c0": pa.nulls(1, schema.field(0).type)}), [], relation, schema, cursor), relation
    describe = describe_on(cursor)
    types = list(values.types) or infer_types(statement.source, statement.parameter_count, (), describe)
    source = substituted(statement.source, types, values.texts or None) if statement.parameter_count else statement.source
    sql = adhoc_sql(
        source, statement, context.catalog, describe, context.limits, context.user, SYSTEM_RELATIONS
    )
    width = len(source.expressions[0].expressions) if isinstance(source, exp.Values) else len(describe(sql))
    columns = _leading(columns, width, statement)
    check_width(columns, width, position)
    casts = ", ".join(f"CAST(#{i + 1} AS {c.type}) AS {quoted(c.name)}" for i, c in enumerate(columns))
    with translated():
        given = cursor.sql(f"SELECT {casts} FROM ({sql})").to_arrow_table()
    return conform(given, columns, relation, schema, cursor), relation


def _leading(columns: list[ColumnDefinition], width: int, statement: Insert) -> list[ColumnDefinition]:
    """Without a column list, fewer values than columns fill the first ones, as in Postgres."""
    return columns if statement.columns or width > len(columns) else columns[:width]


class ParameterRows:
    """Rows bound to one prepared INSERT, gathered until they are needed as columns."""

    __slots__ = ("formats", "rows", "statement", "types")

    def __init__(self, statement: Insert, types: Sequence[WireType], formats: tuple[int, ...]) -> None:
        self.statement = statement
        self.types = types
        self.formats = formats
        self.rows: list[tuple[bytes | None, ...]] = []

    def table(self, context: Context, cursor: duckdb.DuckDBPyConnection) -> tuple[pa.Table, Stream | Table]:
        """Decode the rows by column. Raises BadValue with the row at fault."""
        relation = context.catalog.relation(self.statement.name, self.statement.name_position or None)
        columns = target_columns(relation, self.statement.columns)
        numbers = self.statement.parameter_columns
        assert numbers is not None
        check_width(columns, len(numbers))
        by_parameter = list(zip(*self.rows, strict=True))
        arrays = [decode_column(by_parameter[n - 1], self.types[n - 1], self.formats[n - 1]) for n in numbers]
        given = pa.table(arrays, names=[f"c{i}" for i in range(len(arrays))])
        schema = context.schema(relation, cursor)
        return conform(given, columns, relation, schema, cursor), relation


__all__ = ["BadValue", "ParameterRows", "execute", "parameter_types"]
