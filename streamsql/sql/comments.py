"""COMMENT ON STREAM | TABLE | [MATERIALIZED] VIEW | COLUMN ... IS 'text' | NULL."""

from __future__ import annotations

from streamsql.base.errors import FeatureNotSupported, SQLSyntaxError
from streamsql.sql.definitions import OBJECT_WORDS
from streamsql.sql.statements import Comment, ObjectKind
from streamsql.sql.tokens import Cursor


def parse_comment(cursor: Cursor) -> Comment:
    """Read COMMENT ON."""
    cursor.expect("comment", "on")
    if cursor.accept("column"):
        return _column(cursor)
    kind = next((kind for words, kind in OBJECT_WORDS.items() if cursor.accept(*words)), None)
    if kind is None:
        raise FeatureNotSupported(
            "comments are kept for streams, tables, materialized views and their columns alone",
            position=cursor.position + 1,
        )
    position = cursor.position
    return _finish(cursor, kind, cursor.expect_object_name(), position, None)


def _column(cursor: Cursor) -> Comment:
    """Read ``[[database.]schema.]relation.column``: the last name is the column's."""
    position = cursor.position
    parts = [cursor.expect_name()]
    while cursor.accept("."):
        parts.append(cursor.expect_name())
    if not 1 < len(parts) < 5:
        raise SQLSyntaxError("improper column name", hint="write relation.column", position=position + 1)
    return _finish(cursor, None, cursor.object_name(parts[:-1], position), position, parts[-1])


def _finish(cursor: Cursor, kind: ObjectKind | None, name: str, position: int, column: str | None) -> Comment:
    cursor.expect("is")
    text = None if cursor.accept("null") else cursor.expect_string()
    cursor.expect_end()
    return Comment(*cursor.source, kind=kind, name=name, name_position=position, column=column, comment=text)
