"""CREATE SCHEMA, DROP SCHEMA, ALTER SCHEMA, and what moves an object: ALTER ... SET SCHEMA and RENAME TO."""

from __future__ import annotations

from dataclasses import dataclass

from streamsql.sql.role_statements import RoleName
from streamsql.sql.statements import ObjectKind, Statement


@dataclass(frozen=True, slots=True)
class CreateSchema(Statement):
    """CREATE SCHEMA [IF NOT EXISTS] name [AUTHORIZATION role]; `name` None: the role's."""

    name: str | None
    owner: RoleName | None = None
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropSchema(Statement):
    """DROP SCHEMA [IF EXISTS] names [CASCADE | RESTRICT]."""

    schemas: tuple[str, ...]
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class AlterSchema(Statement):
    """ALTER SCHEMA name RENAME TO new name | OWNER TO role."""

    schema: str
    new_name: str | None = None
    owner: RoleName | None = None


@dataclass(frozen=True, slots=True)
class MoveObject(Statement):
    """ALTER STREAM | TABLE | MATERIALIZED VIEW [IF EXISTS] name SET SCHEMA schema | RENAME TO new name."""

    kind: ObjectKind
    name: str
    schema: str | None = None
    new_name: str | None = None
    if_exists: bool = False
    name_position: int = 0
