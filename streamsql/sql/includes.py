"""``INCLUDE KEY AS k, TIMESTAMP AS at, HEADER 'trace' AS trace TEXT``: columns of what a message says beside its value.

What there is to include depends on the connector, and so does the type of a column that is given none (`connectors.resolved`).
"""

from __future__ import annotations

from collections.abc import Sequence

from streamsql.base.errors import DuplicateColumn
from streamsql.base.limits import exceeded
from streamsql.sql.column_types import expect_type
from streamsql.sql.names import quote_name, quote_string
from streamsql.sql.statements import ColumnDefinition
from streamsql.sql.tokens import Cursor

HEADER = "header:"


def accept_includes(cursor: Cursor, columns: Sequence[ColumnDefinition]) -> list[ColumnDefinition]:
    """Read the clause, if it comes next, that adds to these columns. Raises SQLSyntaxError, DuplicateColumn.

    A column without a type has the type "".
    """
    found: list[ColumnDefinition] = []
    if not cursor.accept("include"):
        return found
    while True:
        found.append(_expect_item(cursor, [*columns, *found]))
        if not cursor.accept(","):
            return found


def _expect_item(cursor: Cursor, taken: Sequence[ColumnDefinition]) -> ColumnDefinition:
    position = cursor.position
    word = None if cursor.sees("with") else cursor.accept_word()
    if word is None:
        raise cursor.error()
    name = word
    if word == "header":
        name = cursor.expect_string()
        word = HEADER + name
    if cursor.accept("as"):
        position = cursor.position
        name = cursor.expect_name()
    if len(name.encode("utf-8", "surrogatepass")) > cursor.limits.identifier_bytes_max:
        raise exceeded(cursor.limits, "identifier_bytes_max", f'the name "{name}"')
    if any(column.name == name for column in taken):
        raise DuplicateColumn(f'column "{name}" specified more than once', position=position + 1)
    typed = cursor.peek is not None and not cursor.sees(",") and not cursor.sees("with", "(")
    kind = expect_type(cursor) if typed else ""
    return ColumnDefinition(name, kind, include=word, position=position)


def render_includes(columns: Sequence[ColumnDefinition], types: Sequence[str]) -> str:
    """Write the clause for the columns that come from it, each with its type as it is written; "" where there are none."""
    items = []
    for column, kind in zip(columns, types, strict=True):
        if column.include:
            what = column.include.upper()
            if column.include.startswith(HEADER):
                what = f"HEADER {quote_string(column.include.removeprefix(HEADER))}"
            items.append(f"{what} AS {quote_name(column.name)}" + (f" {kind}" if kind else ""))
    return f" INCLUDE {', '.join(items)}" if items else ""
