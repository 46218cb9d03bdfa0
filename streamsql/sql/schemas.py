"""CREATE SCHEMA, DROP SCHEMA and ALTER SCHEMA."""

from __future__ import annotations

from streamsql.base.errors import ReservedName
from streamsql.sql.names import OWN_SCHEMA
from streamsql.sql.roles import expect_role
from streamsql.sql.schema_statements import AlterSchema, CreateSchema, DropSchema
from streamsql.sql.tokens import Cursor
from streamsql.sql.unsupported import refuse


def parse_create_schema(cursor: Cursor) -> CreateSchema:
    """Read CREATE SCHEMA [IF NOT EXISTS] name [AUTHORIZATION role], or AUTHORIZATION role alone."""
    cursor.expect("create", "schema")
    if_not_exists = cursor.accept("if", "not", "exists")
    name = None if cursor.sees("authorization") else _expect_new_name(cursor)
    owner = expect_role(cursor) if cursor.accept("authorization") else None
    if cursor.sees_any("create", "grant"):
        refuse("a statement inside CREATE SCHEMA", "send it by itself, after CREATE SCHEMA", cursor)
    cursor.expect_end()
    return CreateSchema(*cursor.source, name=name, owner=owner, if_not_exists=if_not_exists)


def _expect_new_name(cursor: Cursor) -> str:
    position = cursor.position
    name = cursor.expect_new_name()
    check_schema_name(name, position + 1)
    return name


def check_schema_name(name: str, position: int | None = None) -> None:
    """Raise ReservedName where no schema of a user's can be called so."""
    if name.startswith("pg_"):
        raise ReservedName(
            f'unacceptable schema name "{name}"',
            detail='The prefix "pg_" is reserved for system schemas.',
            position=position,
        )
    if name == OWN_SCHEMA:
        raise ReservedName(
            f'unacceptable schema name "{name}"',
            detail="The server's own tables are in the schema of this name.",
            position=position,
        )


def parse_drop_schema(cursor: Cursor) -> DropSchema:
    """Read DROP SCHEMA [IF EXISTS] names [CASCADE | RESTRICT]."""
    cursor.expect("drop", "schema")
    if_exists = cursor.accept("if", "exists")
    names = cursor.expect_listed(cursor.expect_name)
    cascade = cursor.accept_cascade()
    cursor.expect_end()
    return DropSchema(*cursor.source, schemas=names, if_exists=if_exists, cascade=cascade)


def parse_alter_schema(cursor: Cursor) -> AlterSchema:
    """Read ALTER SCHEMA name RENAME TO new name | OWNER TO role."""
    cursor.expect("alter", "schema")
    name = cursor.expect_name()
    if cursor.accept("rename", "to"):
        new_name = _expect_new_name(cursor)
        cursor.expect_end()
        return AlterSchema(*cursor.source, schema=name, new_name=new_name)
    cursor.expect("owner", "to")
    owner = expect_role(cursor)
    cursor.expect_end()
    return AlterSchema(*cursor.source, schema=name, owner=owner)
