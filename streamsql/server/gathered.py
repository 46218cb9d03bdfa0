"""Rows bound to a prepared INSERT, set aside as they came until they are needed, and then read by column.

A driver's ``executemany`` is a Bind and an Execute a row. Reading each row by itself would cost more than all else, so rows
of one statement are gathered; what is wrong with one of them is found later, and is then told in that row's place.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa
from sqlglot import exp

from streamsql.base.types import NUMERIC, WireType, wire_column
from streamsql.catalog.objects import Catalog, Stream, Table
from streamsql.catalog.rights import require
from streamsql.engine.ingest import arranged, check_width, conform, target_columns
from streamsql.pgwire.values import decode_column, decode_value, parse_text
from streamsql.plan.result_types import named_type
from streamsql.server.context import Context
from streamsql.server.numbering import check_always, is_numbered, with_numbers
from streamsql.server.portals import Portal, Prepared
from streamsql.sql.changes import cells_of
from streamsql.sql.statements import ColumnDefinition, Insert

_INTEGERS = frozenset({"int2", "int4", "int8"})
# reading so few values takes less time than handing them to another thread
VALUES_READ_INLINE_MAX = 1_000


def modifier_of(duckdb_type: str) -> int:
    """Give the type modifier with which values for a column of this type are read: what it stores, not what is shown."""
    shown = wire_column(duckdb_type)
    if shown.modifier < 0 and shown.cast is not None and shown.cast.startswith("DECIMAL"):
        return wire_column(shown.cast).modifier
    return shown.modifier


def casts_change_nothing(statement: Insert, catalog: Catalog, types: tuple[WireType, ...]) -> bool:
    """Tell whether an INSERT of one row of parameters, `types` being theirs, writes the same without the casts of them.

    SQLAlchemy casts each: ``VALUES ($1::INTEGER, $2::VARCHAR)``.
    """
    assert isinstance(statement.source, exp.Values)
    assert statement.parameter_columns is not None
    cells = cells_of(statement.source)
    if not any(isinstance(cell, exp.Cast) for cell in cells):
        return True
    columns = target_columns(catalog.relation(statement.name, statement.name_position + 1), statement.columns)
    given = zip(cells, statement.parameter_columns, columns, strict=False)  # a wrong width is told when it is run
    return all(
        not isinstance(cell, exp.Cast) or _is_plain(cell.to, types[number - 1], column)
        for cell, number, column in given
    )


def _is_plain(cast: exp.DataType, parameter: WireType, column: ColumnDefinition) -> bool:
    made, shown = named_type(cast), column.wire
    if made is None or _kind(made) != _kind(shown.type):
        return False
    if made.element is None and cast.expressions:
        if made is not NUMERIC:
            return False
        precision, scale, *_ = [int(e.name) for e in cast.expressions] + [0]
        if ((precision << 16) | scale) + 4 != shown.modifier:
            return False
    return _kind(parameter) == _kind(made) or (parameter.name in _INTEGERS and made.name in _INTEGERS)


def _kind(wire_type: WireType) -> str:
    """Name a type; those of texts of any length are one."""
    return wire_type.name.replace("varchar", "text")


class GatheredRows:
    """Rows of one prepared INSERT, and the places in the output where each is said to be inserted."""

    __slots__ = ("_formats", "_named", "_statement", "_types", "places", "rows")

    def __init__(self, portal: Portal) -> None:
        statement = portal.prepared.statement
        assert isinstance(statement, Insert)
        self._named = self._statement = statement
        self._types = portal.prepared.types
        self._formats = portal.parameter_formats
        self.rows: list[tuple[bytes | None, ...]] = []
        self.places: list[int] = []

    def takes(self, prepared: Prepared, formats: tuple[int, ...]) -> bool:
        """Tell whether a row of this statement, with values in these formats, can be read together with the others."""
        return prepared.statement is self._statement and formats == self._formats and prepared.types == self._types

    async def table(self, context: Context) -> tuple[Stream | Table, pa.Table]:
        """Read the rows. Raises BadValue with the row at fault, and other StreamSQLErrors for what is wrong with all."""
        self._named = context.resolved(self._statement)
        relation, columns = self._target(context)
        if is_numbered(relation):
            columns, given = await with_numbers(context, relation, columns, self._given(columns, context.zone))
            return relation, await context.reads.run(
                lambda cursor: conform(given, columns, relation, context.known.schema(relation, cursor), cursor)
            )
        if len(self.rows) * len(self._types) <= VALUES_READ_INLINE_MAX:
            schema = context.known.schema_if_known(relation)
            if schema is not None:
                made = arranged(self._given(columns, context.zone), columns, relation, schema)
                if made is not None:
                    return relation, made
        return await context.reads.run(lambda cursor: self._table(context, cursor))

    def _table(self, context: Context, cursor: duckdb.DuckDBPyConnection) -> tuple[Stream | Table, pa.Table]:
        relation, columns = self._target(context)
        schema = context.known.schema(relation, cursor)
        return relation, conform(self._given(columns, context.zone), columns, relation, schema, cursor)

    def _target(self, context: Context) -> tuple[Stream | Table, list[ColumnDefinition]]:
        statement = self._named
        assert statement.parameter_columns is not None
        relation = context.catalog.relation(statement.name, statement.name_position + 1)
        require(context.catalog, context.asker.role, relation, "INSERT")
        columns = target_columns(relation, statement.columns)
        if not statement.columns:
            columns = columns[: len(statement.parameter_columns)]
        check_width(columns, len(statement.parameter_columns))
        if not statement.overriding:
            check_always(columns)
        return relation, columns

    def _given(self, columns: list[ColumnDefinition], zone: str) -> pa.Table:
        numbers = self._statement.parameter_columns
        assert numbers is not None
        by_parameter = list(zip(*self.rows, strict=True))
        arrays = [
            self._column(by_parameter[number - 1], number - 1, column, zone)
            for number, column in zip(numbers, columns, strict=True)
        ]
        return pa.table(arrays, names=[f"c{i}" for i in range(len(arrays))])

    def _column(self, values: tuple[bytes | None, ...], index: int, column: ColumnDefinition, zone: str) -> pa.Array:
        wire_type: WireType = self._types[index]
        if wire_type is NUMERIC:
            # read with the column's own scale, so that no digit is lost
            texts = [decode_value(value, wire_type, self._formats[index]) for value in values]
            return parse_text(pa.array(texts, pa.string()), wire_type, modifier_of(column.type))
        return decode_column(values, wire_type, self._formats[index], zone)
