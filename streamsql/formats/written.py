"""Columns on their way into binary records: those that a format has no word for become text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from streamsql.formats import casts
from streamsql.formats.casts import is_nested
from streamsql.formats.format import Field


class RecordWriter(Protocol):
    """Writes rows by a schema of its own."""

    schema: str

    def write(self, rows: pa.Table) -> pa.Array:
        """Give the record of each row; `rows` has a column a field, by position."""
        ...


def with_texts(rows: pa.Table, fields: Sequence[Field], as_text: Sequence[bool]) -> list[pa.Array]:
    """Give the columns of rows, by position, those of them as text that are to be; what is nested is JSON."""
    named = rows.rename_columns([f"c{i}" for i in range(len(fields))])
    asked = {
        f"c{i}": f"CAST({_shown(f'c{i}', field.type)} AS VARCHAR) AS c{i}"
        for i, field in enumerate(fields)
        if as_text[i] and field.type != "VARCHAR"
    }
    if asked:
        texts = casts.query(f"SELECT {', '.join(asked.values())} FROM __rows", {"__rows": named})
        for name, column in zip(asked, texts.columns, strict=True):
            named = named.set_column(named.column_names.index(name), name, column)
    return [column.combine_chunks() for column in named.columns]


def _shown(column: str, duckdb_type: str) -> str:
    return f"to_json({column})" if is_nested(duckdb_type) else casts.to_text(column, duckdb_type)
