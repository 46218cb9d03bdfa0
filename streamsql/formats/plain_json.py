"""Rows as JSON objects where Arrow alone can write them: DuckDB takes two milliseconds for a query, however few the rows are.

Written here are integers, truth values, and text of which nothing has to be escaped, NULL among them, as `formats.json.objects`
would write them. Rows with anything else are left to it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from streamsql.formats.format import Field

_TEXT = pa.large_string()
_NULL = pa.scalar("null", _TEXT)
# all but the printable characters of ASCII that stand for themselves between quotes
_OTHER = r"[^ !#-\[\]-~]"


def plain_objects(table: pa.Table, fields: Sequence[Field]) -> pa.Array | None:
    """Write each row as a JSON object; `table` has a column a field, by position. None where it is not for here."""
    parts: list[pa.Array | pa.Scalar] = []
    between = "{"
    for field, column in zip(fields, table.columns, strict=True):
        written = _values(column, field.type)
        if written is None:
            return None
        parts += [pa.scalar(between + json.dumps(field.name) + ":", _TEXT), written]
        between = ","
    parts += [pa.scalar("}", _TEXT), pa.scalar("", _TEXT)]
    return pc.binary_join_element_wise(*parts)


def _values(column: pa.ChunkedArray, duckdb_type: str) -> pa.Array | None:
    kind = column.type
    values = column.combine_chunks()
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return pc.fill_null(values.cast(_TEXT), _NULL)
    if duckdb_type != "VARCHAR" or not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    if pc.any(pc.match_substring_regex(values, _OTHER)).as_py():
        return None
    quote = pa.scalar('"', _TEXT)
    quoted = pc.binary_join_element_wise(quote, values.cast(_TEXT), quote, pa.scalar("", _TEXT))
    return pc.fill_null(quoted, _NULL)
