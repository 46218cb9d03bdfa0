"""CREATE TYPE, ALTER TYPE and DROP TYPE: enums and composite types.

Specification: https://www.postgresql.org/docs/15/sql-createtype.html and -altertype.html.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamsql.sql.role_statements import AlterOwnerOf
from streamsql.sql.roles import expect_role
from streamsql.sql.statements import ColumnDefinition, Statement
from streamsql.sql.table_elements import Elements, expect_column, expect_new_name
from streamsql.sql.tokens import Cursor
from streamsql.sql.unsupported import refuse


@dataclass(frozen=True, slots=True)
class CreateType(Statement):
    """CREATE TYPE name AS ENUM (labels) | AS (columns); `labels` None: a composite type."""

    name: str
    labels: tuple[str, ...] | None = None
    columns: tuple[ColumnDefinition, ...] = ()


@dataclass(frozen=True, slots=True)
class AddLabel(Statement):
    """ALTER TYPE name ADD VALUE [IF NOT EXISTS] label [BEFORE | AFTER neighbour]."""

    name: str
    label: str
    if_not_exists: bool = False
    neighbour: str | None = None
    before: bool = False


@dataclass(frozen=True, slots=True)
class MoveType(Statement):
    """ALTER TYPE name RENAME TO new name | SET SCHEMA schema."""

    name: str
    new_name: str | None = None
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class DropType(Statement):
    """DROP TYPE [IF EXISTS] names [CASCADE | RESTRICT]."""

    names: tuple[str, ...]
    if_exists: bool = False
    cascade: bool = False


def parse_create_type(cursor: Cursor) -> CreateType:
    """Read CREATE TYPE."""
    cursor.expect("create", "type")
    name = expect_new_name(cursor)
    if not cursor.accept("as"):
        refuse("a base type", "CREATE TYPE name AS ENUM (...), or AS (columns)", cursor)
    if cursor.accept("enum"):
        cursor.expect("(")
        labels = () if cursor.sees(")") else cursor.expect_listed(cursor.expect_string)
        cursor.expect(")")
        cursor.expect_end()
        return CreateType(*cursor.source, name=name, labels=labels)
    if cursor.sees("range"):
        refuse("a range type", "use two columns", cursor)
    cursor.expect("(")
    elements = Elements(name)
    while not cursor.sees(")"):
        place = cursor.peek
        expect_column(cursor, elements, is_stream=False)
        if elements.columns[-1] != _bare(elements.columns[-1]) or elements.primary_key or elements.constraints:
            raise cursor.error(place, hint="a column of a composite type has a name and a type alone")
        if not cursor.accept(","):
            break
    cursor.expect(")")
    cursor.expect_end()
    return CreateType(*cursor.source, name=name, columns=tuple(elements.columns))


def _bare(column: ColumnDefinition) -> ColumnDefinition:
    return ColumnDefinition(column.name, column.type, position=column.position, declared=column.declared)


def parse_alter_type(cursor: Cursor) -> AddLabel | AlterOwnerOf | MoveType:
    """Read ALTER TYPE."""
    cursor.expect("alter", "type")
    name = cursor.expect_object_name()
    if cursor.accept("add", "value"):
        if_not_exists = cursor.accept("if", "not", "exists")
        label = cursor.expect_string()
        where = cursor.accept_any("before", "after")
        neighbour = cursor.expect_string() if where is not None else None
        cursor.expect_end()
        return AddLabel(
            *cursor.source, name=name, label=label, if_not_exists=if_not_exists, neighbour=neighbour,
            before=where == "before",
        )  # fmt: skip
    if cursor.sees("rename", "value"):
        refuse("RENAME VALUE", "add another value, and UPDATE the rows that have the old one", cursor)
    if cursor.accept("rename", "to"):
        new_name = cursor.expect_new_name()
        cursor.expect_end()
        return MoveType(*cursor.source, name=name, new_name=new_name)
    if cursor.accept("owner", "to"):
        owner = expect_role(cursor)
        cursor.expect_end()
        return AlterOwnerOf(*cursor.source, kind="type", name=name, owner=owner)
    if cursor.accept("set", "schema"):
        schema = cursor.expect_name()
        cursor.expect_end()
        return MoveType(*cursor.source, name=name, schema=schema)
    if cursor.sees_any("add", "alter", "drop", "rename"):
        refuse("a change of a composite type", "make another type", cursor)
    return refuse("this ALTER TYPE", "use ADD VALUE, RENAME TO, OWNER TO or SET SCHEMA", cursor)


def parse_drop_type(cursor: Cursor) -> DropType:
    """Read DROP TYPE."""
    cursor.expect("drop", "type")
    if_exists = cursor.accept("if", "exists")
    names = cursor.expect_listed(cursor.expect_object_name)
    cascade = cursor.accept_cascade()
    cursor.expect_end()
    return DropType(*cursor.source, names=names, if_exists=if_exists, cascade=cascade)
