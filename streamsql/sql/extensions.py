"""CREATE EXTENSION and DROP EXTENSION. There are none to be added: some names stand for functions that are there anyway."""

from __future__ import annotations

from dataclasses import dataclass

from streamsql.sql.statements import Statement
from streamsql.sql.tokens import Cursor


@dataclass(frozen=True, slots=True)
class CreateExtension(Statement):
    """CREATE EXTENSION [IF NOT EXISTS] name [WITH] [SCHEMA name] [VERSION text] [CASCADE]."""

    name: str
    name_position: int = 0


@dataclass(frozen=True, slots=True)
class DropExtension(Statement):
    """DROP EXTENSION [IF EXISTS] names [CASCADE | RESTRICT]."""

    names: tuple[str, ...]
    if_exists: bool = False


def parse_create_extension(cursor: Cursor) -> CreateExtension:
    """Read CREATE EXTENSION."""
    cursor.expect("create", "extension")
    cursor.accept("if", "not", "exists")
    position = cursor.position
    name = cursor.expect_name()
    cursor.accept("with")
    while True:
        if cursor.accept("schema"):
            cursor.expect_name()
        elif cursor.accept("version"):
            if cursor.accept_string() is None:
                cursor.expect_name()
        elif not cursor.accept("cascade"):
            break
    cursor.expect_end()
    return CreateExtension(*cursor.source, name=name, name_position=position)


def parse_drop_extension(cursor: Cursor) -> DropExtension:
    """Read DROP EXTENSION."""
    cursor.expect("drop", "extension")
    if_exists = cursor.accept("if", "exists")
    names = tuple(cursor.expect_listed(cursor.expect_name))
    cursor.accept_cascade()
    cursor.expect_end()
    return DropExtension(*cursor.source, names=names, if_exists=if_exists)
