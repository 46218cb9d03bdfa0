"""Columns and their types as canonical SQL."""

from __future__ import annotations

import re

from streamsql.sql.names import quote_name, quote_path
from streamsql.sql.render_trees import postgres_sql
from streamsql.sql.statements import ColumnDefinition

_OTHERS = re.compile(r'"(?:[^"]|"")*"|\b(?:FLOAT|VARCHAR)\b')
_NAMES = {"FLOAT": "REAL", "VARCHAR": "TEXT"}


def render_column(column: ColumnDefinition) -> str:
    """Write a column as CREATE TABLE has it."""
    parts = [quote_name(column.name), type_text(column)]
    numbered = column.numbered
    if numbered is not None and not numbered.is_identity:
        parts[1] = _SERIAL[column.type]
    if column.default is not None:
        parts.append(f"DEFAULT {postgres_sql(column.default)}")
    if numbered is not None and numbered.is_identity:
        parts.append(numbered.render())
    elif column.not_null and not column.primary_key and numbered is None:
        parts.append("NOT NULL")
    return " ".join(parts)


_SERIAL = {"SMALLINT": "SMALLSERIAL", "INTEGER": "SERIAL", "BIGINT": "BIGSERIAL"}


def type_text(column: ColumnDefinition) -> str:
    """Write a column's type; one that a user has made by its key."""
    told = column.declared
    if told is None:
        return plain_type(column.type)
    if told.named:
        return quote_path(told.named) + ("[]" if told.type.element is not None else "")
    return told.shown


def plain_type(duckdb_type: str) -> str:
    """Write a type of DuckDB's as PostgreSQL calls it: FLOAT is double precision there, and a VARCHAR may have a length."""
    return _OTHERS.sub(lambda found: _NAMES.get(found[0], found[0]), duckdb_type)
