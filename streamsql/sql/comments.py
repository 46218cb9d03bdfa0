"""COMMENT ON STREAM | TABLE | [MATERIALIZED] VIEW | COLUMN | SCHEMA | SEQUENCE | TYPE ... IS 'text' | NULL."""

from __future__ import annotations

from dataclasses import dataclass

from streamsql.base.errors import FeatureNotSupported, SQLSyntaxError
from streamsql.sql.definitions import OBJECT_WORDS
from streamsql.sql.statements import Comment, ObjectKind, Statement
from streamsql.sql.tokens import Cursor


@dataclass(frozen=True, slots=True)
class CommentOn(Statement):
    """COMMENT ON SCHEMA | SEQUENCE | TYPE name IS 'text' | NULL; `kind` is that word in lower case."""

    kind: str
    name: str
    comment: str | None


def _expect_text(cursor: Cursor) -> str | None:
    cursor.expect("is")
    text = None if cursor.accept("null") else cursor.expect_string()
    cursor.expect_end()
    return text


def parse_comment(cursor: Cursor) -> Comment | CommentOn:
    """Read COMMENT ON."""
    cursor.expect("comment", "on")
    if cursor.accept("column"):
        return _column(cursor)
    other = next((word for word in ("schema", "sequence", "type") if cursor.accept(word)), None)
    if other is not None:
        name = cursor.expect_name() if other == "schema" else cursor.expect_object_name()
        return CommentOn(*cursor.source, kind=other, name=name, comment=_expect_text(cursor))
    kind = next((kind for words, kind in OBJECT_WORDS.items() if cursor.accept(*words)), None)
    if kind is None:
        raise FeatureNotSupported(
            "comments are kept for streams, tables, views, their columns, schemas, sequences and types alone",
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
    text = _expect_text(cursor)
    return Comment(*cursor.source, kind=kind, name=name, name_position=position, column=column, comment=text)
