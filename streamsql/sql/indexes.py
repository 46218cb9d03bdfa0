"""CREATE INDEX, DROP INDEX and ALTER INDEX ... RENAME TO.

Specification: https://www.postgresql.org/docs/15/sql-createindex.html.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamsql.sql.names import quote_name
from streamsql.sql.statements import Statement
from streamsql.sql.tokens import Cursor, nesting
from streamsql.sql.unsupported import refuse

METHODS = ("btree", "hash", "gin", "gist", "spgist", "brin")


@dataclass(frozen=True, slots=True)
class CreateIndex(Statement):
    """CREATE [UNIQUE] INDEX [CONCURRENTLY] [[IF NOT EXISTS] name] ON table [USING method] (columns) [INCLUDE ..] [WHERE ..].

    `columns` has None for an expression; `tail` is what stands behind the table's name.
    """

    index: str | None
    relation: str
    columns: tuple[str | None, ...]
    tail: str
    unique: bool = False
    partial: bool = False
    if_not_exists: bool = False
    relation_position: int = 0


@dataclass(frozen=True, slots=True)
class DropIndex(Statement):
    """DROP INDEX [CONCURRENTLY] [IF EXISTS] names [CASCADE | RESTRICT]."""

    names: tuple[str, ...]
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class RenameIndex(Statement):
    """ALTER INDEX [IF EXISTS] name RENAME TO new name."""

    index: str
    new_name: str
    if_exists: bool = False


def parse_create_index(cursor: Cursor) -> CreateIndex:
    """Read CREATE [UNIQUE] INDEX."""
    cursor.expect("create")
    unique = cursor.accept("unique")
    cursor.expect("index")
    _ = cursor.accept("concurrently")
    if_not_exists = cursor.accept("if", "not", "exists")
    index = None if cursor.sees("on") else cursor.expect_new_name()
    cursor.expect("on")
    _ = cursor.accept("only")
    position = cursor.position
    relation = cursor.expect_object_name()
    method = "btree"
    if cursor.accept("using"):
        found = cursor.accept_any(*METHODS)
        if found is None:
            refuse("this kind of index", f"use one of {', '.join(METHODS)}", cursor)
        method = found or method
    cursor.expect("(")
    items = [_expect_item(cursor)]
    while cursor.accept(","):
        items.append(_expect_item(cursor))
    cursor.expect(")")
    text = f"USING {method} ({', '.join(shown for _, shown in items)})"
    if cursor.accept("include"):
        text += f" INCLUDE ({', '.join(map(quote_name, cursor.expect_names()))})"
    if cursor.accept("nulls", "distinct"):
        pass
    elif cursor.sees("nulls", "not", "distinct"):
        refuse("NULLS NOT DISTINCT", "leave it away: NULL is like no other", cursor)
    if cursor.accept("with"):
        _skip_parentheses(cursor)
    partial = cursor.accept("where")
    if partial:
        start = cursor.position
        while cursor.peek is not None:
            cursor.advance()
        text += f" WHERE {cursor.text[start : cursor.end].strip()}"
    cursor.expect_end()
    return CreateIndex(
        *cursor.source, index=index, relation=relation, columns=tuple(name for name, _ in items), tail=text,
        unique=unique, partial=partial, if_not_exists=if_not_exists, relation_position=position,
    )  # fmt: skip


def _expect_item(cursor: Cursor) -> tuple[str | None, str]:
    """Read a column or an expression, with how it is sorted; give the column's name and the text."""
    start, depth, first = cursor.position, 0, cursor.peek
    name = None if cursor.sees("(") else cursor.accept_name()
    if name is not None and cursor.sees("("):  # a call
        name = None
    while (token := cursor.peek) is not None and (depth or token.text not in (",", ")")):
        depth += nesting(token)
        cursor.advance()
    if first is None or cursor.peek is first:
        raise cursor.error()
    end = cursor.tokens[cursor.index - 1].end + 1
    shown = " ".join(cursor.text[start:end].split())
    if name is None:
        return None, shown
    rest = cursor.text[first.end + 1 : end].strip()
    return name, quote_name(name) + (f" {rest}" if rest else "")


def _skip_parentheses(cursor: Cursor) -> None:
    cursor.expect("(")
    depth = 1
    while depth:
        if cursor.peek is None:
            raise cursor.error()
        depth += nesting(cursor.advance())


def parse_drop_index(cursor: Cursor) -> DropIndex:
    """Read DROP INDEX."""
    cursor.expect("drop", "index")
    _ = cursor.accept("concurrently")
    if_exists = cursor.accept("if", "exists")
    names = cursor.expect_listed(cursor.expect_object_name)
    cascade = cursor.accept_cascade()
    cursor.expect_end()
    return DropIndex(*cursor.source, names=names, if_exists=if_exists, cascade=cascade)


def parse_alter_index(cursor: Cursor) -> RenameIndex:
    """Read ALTER INDEX ... RENAME TO."""
    cursor.expect("alter", "index")
    if_exists = cursor.accept("if", "exists")
    index = cursor.expect_object_name()
    if not cursor.accept("rename", "to"):
        refuse("ALTER INDEX other than RENAME TO", "drop it, and create it again", cursor)
    new_name = cursor.expect_new_name()
    cursor.expect_end()
    return RenameIndex(*cursor.source, index=index, new_name=new_name, if_exists=if_exists)
