"""Statements about roles and privileges back to text; see `sql.render`. A password is written out: not for a log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamsql.sql.names import quote_name, quote_path, quote_string
from streamsql.sql.role_statements import (
    AlterOwner,
    AlterOwnerOf,
    AlterRole,
    AlterRoleSet,
    CreateRole,
    DropRole,
    GrantPrivileges,
    GrantRoles,
    ReassignOwned,
    RenameRole,
    RoleName,
    RoleOptions,
)
from streamsql.sql.roles import FLAG_WORDS
from streamsql.sql.schema_statements import AlterSchema, CreateSchema, DropSchema, MoveObject
from streamsql.sql.statements import Statement


def _role(role: RoleName) -> str:
    if role.keyword:
        return role.name.upper()
    return f'"{role.name}"' if role.name == "public" else quote_name(role.name)


def _roles(roles: tuple[RoleName, ...]) -> str:
    return ", ".join(map(_role, roles))


def _options(options: RoleOptions) -> str:
    parts = [FLAG_WORDS[flag].upper() for flag in options.flags]
    if options.connection_limit is not None:
        parts.append(f"CONNECTION LIMIT {options.connection_limit}")
    if options.password is not None:
        text = options.password.text
        parts.append(f"PASSWORD {'NULL' if text is None else quote_string(text)}")
    if options.valid_until is not None:
        parts.append(f"VALID UNTIL {quote_string(options.valid_until)}")
    for words, roles in (("IN ROLE", options.in_roles), ("ROLE", options.members), ("ADMIN", options.admins)):
        if roles:
            parts.append(f"{words} {_roles(roles)}")
    return "".join(f" {part}" for part in parts)


def _alter_role_set(statement: AlterRoleSet) -> str:
    head = f"ALTER ROLE {_role(statement.role)}"
    name = ".".join(map(quote_name, statement.variable.split(".")))
    if statement.value is None:
        return f"{head} RESET {'ALL' if statement.variable == 'all' else name}"
    return f"{head} SET {name} TO {quote_string(statement.value)}"


def _privileges(statement: GrantPrivileges) -> str:
    schemas = statement.kind in ("schema", "database") or statement.whole_schema
    names = ", ".join(map(quote_name if schemas else quote_path, statement.names))
    kind = "" if statement.kind == "table" else f"{statement.kind.upper()} "
    if statement.whole_schema:
        kind = f"ALL {statement.kind.upper()}S IN SCHEMA "
    what = f"{', '.join(statement.privileges) or 'ALL'} ON {kind}{names}"
    if statement.revoke:
        option = "GRANT OPTION FOR " if statement.with_option else ""
        cascade = " CASCADE" if statement.cascade else ""
        return f"REVOKE {option}{what} FROM {_roles(statement.roles)}{cascade}"
    return f"GRANT {what} TO {_roles(statement.roles)}{' WITH GRANT OPTION' if statement.with_option else ''}"


def _membership(statement: GrantRoles) -> str:
    if statement.revoke:
        option = "ADMIN OPTION FOR " if statement.with_option else ""
        return f"REVOKE {option}{_roles(statement.granted)} FROM {_roles(statement.roles)}"
    option = " WITH ADMIN OPTION" if statement.with_option else ""
    return f"GRANT {_roles(statement.granted)} TO {_roles(statement.roles)}{option}"


def _reassign(statement: ReassignOwned) -> str:
    if statement.to is None:
        return f"DROP OWNED BY {_roles(statement.roles)}{' CASCADE' if statement.cascade else ''}"
    return f"REASSIGN OWNED BY {_roles(statement.roles)} TO {_role(statement.to)}"


def _alter(statement: AlterOwner | MoveObject) -> str:
    return f"ALTER {statement.kind.value} {'IF EXISTS ' if statement.if_exists else ''}{quote_path(statement.name)}"


def _move(statement: MoveObject) -> str:
    if statement.schema is not None:
        return f"{_alter(statement)} SET SCHEMA {quote_name(statement.schema)}"
    return f"{_alter(statement)} RENAME TO {quote_name(statement.new_name or '')}"


def _alter_schema(statement: AlterSchema) -> str:
    head = f"ALTER SCHEMA {quote_name(statement.schema)}"
    if statement.new_name is not None:
        return f"{head} RENAME TO {quote_name(statement.new_name)}"
    assert statement.owner is not None
    return f"{head} OWNER TO {_role(statement.owner)}"


def _create_schema(statement: CreateSchema) -> str:
    head = f"CREATE SCHEMA{' IF NOT EXISTS' if statement.if_not_exists else ''}"
    name = "" if statement.name is None else f" {quote_name(statement.name)}"
    return head + name + ("" if statement.owner is None else f" AUTHORIZATION {_role(statement.owner)}")


def _drop_schema(statement: DropSchema) -> str:
    names = ", ".join(map(quote_name, statement.schemas))
    return f"DROP SCHEMA {'IF EXISTS ' if statement.if_exists else ''}{names}{' CASCADE' if statement.cascade else ''}"


ROLE_RENDERERS: dict[type[Statement], Callable[[Any], str]] = {
    AlterOwner: lambda s: f"{_alter(s)} OWNER TO {_role(s.owner)}",
    AlterRole: lambda s: f"ALTER ROLE {_role(s.role)}{_options(s.options)}",
    AlterRoleSet: _alter_role_set,
    AlterSchema: _alter_schema,
    CreateRole: lambda s: f"CREATE {'USER' if s.login else 'ROLE'} {quote_name(s.name)}{_options(s.options)}",
    CreateSchema: _create_schema,
    DropSchema: _drop_schema,
    DropRole: lambda s: f"DROP ROLE {'IF EXISTS ' if s.if_exists else ''}{_roles(s.roles)}",
    AlterOwnerOf: lambda s: (
        f"ALTER {s.kind.upper()} {'IF EXISTS ' * s.if_exists}{quote_path(s.name)} OWNER TO {_role(s.owner)}"
    ),
    GrantPrivileges: _privileges,
    GrantRoles: _membership,
    MoveObject: _move,
    ReassignOwned: _reassign,
    RenameRole: lambda s: f"ALTER ROLE {_role(s.role)} RENAME TO {quote_name(s.new_name)}",
}
