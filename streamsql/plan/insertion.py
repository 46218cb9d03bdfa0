"""What an INSERT writes into columns: values in the columns' types, and their defaults.

A string literal has the type of the column that it is for, as in PostgreSQL, wherever it stands in the source; so
``VALUES ('{1,2}'), (DEFAULT)`` and ``SELECT '\\xff'`` write what they would write there.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from streamsql.base.types import wire_column
from streamsql.plan.parameters import typed_literal
from streamsql.sql.statements import ColumnDefinition


def default_of(column: ColumnDefinition) -> exp.Expr:
    """Give the expression of a column's default, NULL where it has none. Raises StreamSQLError for a bad literal."""
    if column.default is None:
        return exp.null()
    return _in_type(column.default.copy(), column)


def in_types(source: exp.Expr, columns: Sequence[ColumnDefinition]) -> exp.Expr:
    """Give a copy of a source whose values have the types of the columns that they are for.

    More or fewer values than columns are left for a later check. Raises StreamSQLError for a literal that is no value.
    """
    made = source.copy()
    if isinstance(made, exp.Values):
        for row in made.expressions:
            cells = row.expressions if isinstance(row, exp.Tuple) else [row]
            for cell, column in zip(cells, columns, strict=False):
                cell.replace(exp.cast(_value(cell, column), exp.DataType.build(column.type, dialect="duckdb")))
    elif isinstance(made, exp.Select):
        for item, column in zip(made.expressions, columns, strict=False):
            literal = item.unalias().unnest()
            if isinstance(literal, exp.Literal):
                literal.replace(_in_type(literal.copy(), column))
    return made


def _value(cell: exp.Expr, column: ColumnDefinition) -> exp.Expr:
    if isinstance(cell, exp.Var) and cell.name.upper() == "DEFAULT":
        return default_of(column)
    return _in_type(cell.copy(), column)


def _in_type(value: exp.Expr, column: ColumnDefinition) -> exp.Expr:
    bare = value.unnest()
    if isinstance(bare, exp.Literal) and bare.is_string:
        return typed_literal(wire_column(column.type).type, bare.name)
    return value
