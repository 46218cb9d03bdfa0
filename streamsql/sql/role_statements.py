"""Statements about roles and privileges: one frozen dataclass a statement. `sql.roles` reads them."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamsql.sql.statements import ObjectKind, Statement

RELATION_PRIVILEGES = frozenset({"INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"})
SCHEMA_PRIVILEGES = frozenset({"USAGE", "CREATE"})
SEQUENCE_PRIVILEGES = frozenset({"USAGE", "SELECT", "UPDATE"})
DATABASE_PRIVILEGES = frozenset({"CREATE", "CONNECT", "TEMPORARY"})


@dataclass(frozen=True, slots=True)
class RoleName:
    """A role as a statement names it. `keyword`: ``current_user``, ``current_role``, ``session_user`` or ``public``."""

    name: str
    keyword: bool = False


@dataclass(frozen=True, slots=True)
class Password:
    """A password, or a verifier in its place; None for ``PASSWORD NULL``. Not to be shown to anybody."""

    text: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class RoleOptions:
    """The options of CREATE ROLE and ALTER ROLE that were given; flags by their names in lower case."""

    flags: tuple[tuple[str, bool], ...] = ()
    connection_limit: int | None = None
    valid_until: str | None = None
    password: Password | None = None
    in_roles: tuple[RoleName, ...] = ()
    members: tuple[RoleName, ...] = ()
    admins: tuple[RoleName, ...] = ()


@dataclass(frozen=True, slots=True)
class CreateRole(Statement):
    """CREATE ROLE | USER | GROUP name [WITH] options. `login` is what holds where nothing is said: true for USER."""

    name: str
    options: RoleOptions
    login: bool = False


@dataclass(frozen=True, slots=True)
class AlterRole(Statement):
    """ALTER ROLE | USER name [WITH] options."""

    role: RoleName
    options: RoleOptions


@dataclass(frozen=True, slots=True)
class RenameRole(Statement):
    """ALTER ROLE | USER | GROUP name RENAME TO new name."""

    role: RoleName
    new_name: str


@dataclass(frozen=True, slots=True)
class AlterRoleSet(Statement):
    """ALTER ROLE name SET variable TO value | RESET variable | RESET ALL (variable ``all``); value None is DEFAULT."""

    role: RoleName
    variable: str
    value: str | None


@dataclass(frozen=True, slots=True)
class DropRole(Statement):
    """DROP ROLE | USER | GROUP [IF EXISTS] names."""

    roles: tuple[RoleName, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class GrantPrivileges(Statement):
    """GRANT or REVOKE privileges ON objects. No privileges: ALL. `names` are of relations, or of schemas.

    `kind` is ``table``, ``sequence``, ``schema`` or ``database``. `whole_schema` is ALL TABLES, or SEQUENCES, IN SCHEMA, whose
    `names` are schemas too. `with_option` is WITH GRANT OPTION, and of REVOKE
    GRANT OPTION FOR.
    """

    privileges: tuple[str, ...]
    names: tuple[str, ...]
    roles: tuple[RoleName, ...]
    kind: str = "table"
    whole_schema: bool = False
    revoke: bool = False
    with_option: bool = False
    cascade: bool = False

    @property
    def on_schema(self) -> bool:
        return self.kind == "schema"


@dataclass(frozen=True, slots=True)
class GrantRoles(Statement):
    """GRANT or REVOKE roles TO or FROM roles. `with_option` is WITH ADMIN OPTION, and of REVOKE ADMIN OPTION FOR."""

    granted: tuple[RoleName, ...]
    roles: tuple[RoleName, ...]
    revoke: bool = False
    with_option: bool = False


@dataclass(frozen=True, slots=True)
class AlterOwner(Statement):
    """ALTER STREAM | TABLE | MATERIALIZED VIEW name OWNER TO role."""

    kind: ObjectKind
    name: str
    owner: RoleName
    name_position: int = 0
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class AlterOwnerOf(Statement):
    """ALTER TYPE | SEQUENCE name OWNER TO role; `kind` is ``type`` or ``sequence``."""

    kind: str
    name: str
    owner: RoleName
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class ReassignOwned(Statement):
    """REASSIGN OWNED BY roles TO role; with no `to`: DROP OWNED BY roles [CASCADE]."""

    roles: tuple[RoleName, ...]
    to: RoleName | None = None
    cascade: bool = False
