"""CREATE, ALTER and DROP ROLE, GRANT and REVOKE, and who owns what.

A text that holds a password is cut before it becomes part of a statement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from streamsql.base.errors import InvalidGrantOperation, ReservedName, SQLSyntaxError
from streamsql.base.limits import exceeded
from streamsql.sql.role_statements import (
    DATABASE_PRIVILEGES,
    RELATION_PRIVILEGES,
    SCHEMA_PRIVILEGES,
    SEQUENCE_PRIVILEGES,
    AlterOwner,
    AlterRole,
    AlterRoleSet,
    CreateRole,
    DropRole,
    GrantPrivileges,
    GrantRoles,
    Password,
    ReassignOwned,
    RenameRole,
    RoleName,
    RoleOptions,
)
from streamsql.sql.schema_statements import MoveObject
from streamsql.sql.secrets import redacted
from streamsql.sql.session import parse_reset, parse_set
from streamsql.sql.statements import ObjectKind, Statement
from streamsql.sql.tokens import Cursor
from streamsql.sql.unsupported import refuse

ROLE_WORDS = ("role", "user", "group")
# option words -> the flag that they set
FLAGS: dict[str, tuple[str, bool]] = {
    name: flag
    for flag_name, words in (
        ("superuser", "superuser"), ("create_database", "createdb"), ("create_role", "createrole"), ("inherit", "inherit"),
        ("login", "login"), ("replication", "replication"), ("bypass_rls", "bypassrls"),
    )
    for name, flag in ((words, (flag_name, True)), (f"no{words}", (flag_name, False)))
}  # fmt: skip
FLAG_WORDS: dict[tuple[str, bool], str] = {flag: word for word, flag in FLAGS.items()}
_KEYWORD_ROLES = ("current_user", "current_role", "session_user")
_OWNED: dict[tuple[str, ...], ObjectKind] = {
    ("stream",): ObjectKind.STREAM,
    ("source",): ObjectKind.STREAM,
    ("table",): ObjectKind.TABLE,
    ("materialized", "view"): ObjectKind.VIEW,
    ("view",): ObjectKind.PLAIN_VIEW,
}
PRIVILEGES_ON = {
    "table": RELATION_PRIVILEGES, "sequence": SEQUENCE_PRIVILEGES, "schema": SCHEMA_PRIVILEGES,
    "database": DATABASE_PRIVILEGES,
}  # fmt: skip
_PRIVILEGES = frozenset().union(*PRIVILEGES_ON.values(), {"TEMP"})
_NO_SUCH_OBJECTS = (
    "sequences", "domain", "foreign", "function", "functions", "language", "large", "parameter",
    "procedure", "procedures", "routine", "routines", "tablespace", "type",
)  # fmt: skip


@dataclass(slots=True)
class _Options:
    """Options as they are read; each stands once."""

    flags: dict[str, bool] = field(default_factory=dict)
    connection_limit: int | None = None
    valid_until: str | None = None
    password: Password | None = None
    in_roles: tuple[RoleName, ...] = ()
    members: tuple[RoleName, ...] = ()
    admins: tuple[RoleName, ...] = ()

    def made(self) -> RoleOptions:
        return RoleOptions(
            tuple(self.flags.items()), self.connection_limit, self.valid_until, self.password,
            self.in_roles, self.members, self.admins,
        )  # fmt: skip


def _source(cursor: Cursor) -> tuple[str, int]:
    text, position = cursor.source
    return redacted(text), position


# ---- roles ----


def parse_create_role(cursor: Cursor) -> CreateRole:
    """Read CREATE ROLE | USER | GROUP."""
    cursor.expect("create")
    word = cursor.accept_any(*ROLE_WORDS)
    name = _expect_new_role(cursor)
    options = expect_options(cursor, new=True)
    return CreateRole(*_source(cursor), name=name, options=options, login=word == "user")


def parse_alter_role(cursor: Cursor) -> Statement:
    """Read ALTER ROLE | USER | GROUP in its forms."""
    cursor.expect("alter")
    word = cursor.accept_any(*ROLE_WORDS)
    if cursor.accept("all"):
        refuse("ALTER ROLE ALL", "name the role", cursor)
    role = expect_role(cursor)
    if cursor.accept("rename", "to"):
        new_name = _expect_new_role(cursor)
        cursor.expect_end()
        return RenameRole(*cursor.source, role=role, new_name=new_name)
    if word == "group" and cursor.sees_any("add", "drop"):
        return _parse_group_members(cursor, role)
    if cursor.sees("in", "database"):
        refuse("ALTER ROLE ... IN DATABASE", "leave it away: there is one database", cursor)
    if cursor.sees("set") or cursor.sees("reset"):
        return _parse_role_variable(cursor, role)
    return AlterRole(*_source(cursor), role=role, options=expect_options(cursor, new=False))


def _parse_role_variable(cursor: Cursor, role: RoleName) -> AlterRoleSet:
    read: Callable[[Cursor], object] = parse_reset if cursor.sees("reset") else parse_set
    inner = Cursor(cursor.text, cursor.tokens, cursor.limits, cursor.index)
    found = parse_reset(inner) if read is parse_reset else parse_set(inner)
    if found.local or found.name in ("transaction", "session_characteristics", "role", "session_authorization"):
        raise cursor.error()
    return AlterRoleSet(*cursor.source, role=role, variable=found.name, value=found.value)


def _parse_group_members(cursor: Cursor, role: RoleName) -> GrantRoles:
    revoke = cursor.accept_any("add", "drop") == "drop"
    cursor.expect("user")
    members = _expect_roles(cursor)
    cursor.expect_end()
    return GrantRoles(*cursor.source, granted=(role,), roles=members, revoke=revoke)


def parse_drop_role(cursor: Cursor) -> DropRole:
    """Read DROP ROLE | USER | GROUP."""
    cursor.expect("drop")
    cursor.accept_any(*ROLE_WORDS)
    if_exists = cursor.accept("if", "exists")
    roles = _expect_roles(cursor)
    cursor.expect_end()
    return DropRole(*cursor.source, roles=roles, if_exists=if_exists)


def expect_options(cursor: Cursor, *, new: bool) -> RoleOptions:
    cursor.accept("with")
    options = _Options()
    while cursor.peek is not None:
        start = cursor.peek
        if not _accept_option(cursor, options, new=new):
            word = cursor.accept_name()
            if word is None:
                raise cursor.error()
            raise SQLSyntaxError(f'unrecognized role option "{word}"', position=start.start + 1)
    return options.made()


def _accept_option(cursor: Cursor, options: _Options, *, new: bool) -> bool:
    token = cursor.peek
    assert token is not None
    position = token.start + 1
    word = cursor.accept_any(*FLAGS)
    if word is not None:
        name, value = FLAGS[word]
        _once(name not in options.flags, position)
        options.flags[name] = value
    elif cursor.accept("connection", "limit"):
        _once(options.connection_limit is None, position)
        options.connection_limit = _expect_integer(cursor)
    elif cursor.accept("valid", "until"):
        _once(options.valid_until is None, position)
        options.valid_until = cursor.expect_string()
    elif cursor.sees("password") or cursor.sees("encrypted", "password"):
        _once(options.password is None, position)
        cursor.accept("encrypted")
        options.password = _expect_password(cursor)
    elif cursor.sees("unencrypted"):
        refuse("UNENCRYPTED PASSWORD", "leave the word away: passwords are kept as verifiers", cursor)
    elif new:
        return _accept_membership(cursor, options)
    else:
        return False
    return True


def _once(first: bool, position: int) -> None:
    if not first:
        raise SQLSyntaxError("conflicting or redundant options", position=position)


def _accept_membership(cursor: Cursor, options: _Options) -> bool:
    if cursor.accept("in", "role") or cursor.accept("in", "group"):
        options.in_roles += _expect_roles(cursor)
    elif cursor.accept("admin"):
        options.admins += _expect_roles(cursor)
    elif cursor.accept("role") or cursor.accept("user"):
        options.members += _expect_roles(cursor)
    elif cursor.accept("sysid"):
        _expect_integer(cursor)  # PostgreSQL ignores it, too
    else:
        return False
    return True


def _expect_password(cursor: Cursor) -> Password:
    word = cursor.advance()
    if cursor.accept("null"):
        return Password(None)
    text = cursor.accept_string()
    if text is None:
        # what stands there may be the password
        raise cursor.error(word, hint="write the password as a string, in single quotes")
    return Password(text)


def _expect_integer(cursor: Cursor) -> int:
    token = cursor.peek
    number = cursor.accept_number()
    if number is None or not number.lstrip("-").isdecimal() or len(number) > 9:
        raise cursor.error(token)
    return int(number)


def _expect_new_role(cursor: Cursor) -> str:
    """Read the name of a role that is made. Raises ReservedName for names that are the system's."""
    position = cursor.position
    name = cursor.expect_name()
    if len(name.encode("utf-8", "surrogatepass")) > cursor.limits.identifier_bytes_max:
        raise exceeded(cursor.limits, "identifier_bytes_max", f'the name "{name}"')
    if name in ("public", "none"):
        raise ReservedName(f'role name "{name}" is reserved', position=position + 1)
    if name.startswith("pg_"):
        raise ReservedName(
            f'role name "{name}" is reserved',
            detail='Role names starting with "pg_" are reserved.',
            position=position + 1,
        )
    return name


def expect_role(cursor: Cursor, *, public: bool = False) -> RoleName:
    """Read the name of a role, or a keyword for one; with `public` also PUBLIC. Raises SQLSyntaxError."""
    keyword = cursor.accept_any(*_KEYWORD_ROLES)
    if keyword is not None:
        return RoleName(keyword, keyword=True)
    if public and cursor.accept("public"):
        return RoleName("public", keyword=True)
    return RoleName(cursor.expect_name())


def _expect_roles(cursor: Cursor, *, public: bool = False) -> tuple[RoleName, ...]:
    return cursor.expect_listed(lambda: expect_role(cursor, public=public))


# ---- privileges ----


def parse_grant(cursor: Cursor) -> Statement:
    """Read GRANT privileges ON objects TO roles, or GRANT roles TO roles."""
    cursor.expect("grant")
    if _is_about_objects(cursor):
        return _parse_privileges(cursor, revoke=False, with_option=False)
    granted = _expect_roles(cursor)
    cursor.expect("to")
    roles = _expect_roles(cursor)
    with_option = cursor.accept("with", "admin", "option")
    _accept_grantor(cursor)
    cursor.expect_end()
    return GrantRoles(*cursor.source, granted=granted, roles=roles, with_option=with_option)


def parse_revoke(cursor: Cursor) -> Statement:
    """Read REVOKE privileges ON objects FROM roles, or REVOKE roles FROM roles."""
    cursor.expect("revoke")
    if _is_about_objects(cursor):
        return _parse_privileges(cursor, revoke=True, with_option=cursor.accept("grant", "option", "for"))
    with_option = cursor.accept("admin", "option", "for")
    granted = _expect_roles(cursor)
    cursor.expect("from")
    roles = _expect_roles(cursor)
    _accept_grantor(cursor)
    cursor.accept_any("cascade", "restrict")
    cursor.expect_end()
    return GrantRoles(*cursor.source, granted=granted, roles=roles, revoke=True, with_option=with_option)


def _is_about_objects(cursor: Cursor) -> bool:
    return any(token.text == "on" for token in cursor.rest)


def _accept_grantor(cursor: Cursor) -> None:
    if cursor.accept("granted", "by") and not expect_role(cursor).keyword:
        refuse("GRANTED BY another role", "leave it away, or SET ROLE first", cursor)


def _parse_privileges(cursor: Cursor, *, revoke: bool, with_option: bool) -> GrantPrivileges:
    privileges = _expect_privileges(cursor)
    cursor.expect("on")
    kind, whole_schema, names = _expect_objects(cursor)
    if kind == "database":
        privileges = tuple("TEMPORARY" if p == "TEMP" else p for p in privileges)
    wrong = next((p for p in privileges if p not in PRIVILEGES_ON[kind]), None)
    if wrong is not None:
        raise InvalidGrantOperation(f"invalid privilege type {wrong} for {kind}")
    cursor.expect("from" if revoke else "to")
    cursor.accept("group")
    roles = _expect_roles(cursor, public=True)
    cascade = False
    if revoke:
        _accept_grantor(cursor)
        cascade = cursor.accept_cascade()
    else:
        with_option = cursor.accept("with", "grant", "option")
        _accept_grantor(cursor)
    cursor.expect_end()
    return GrantPrivileges(
        *cursor.source, privileges=privileges, names=names, roles=roles, kind=kind, whole_schema=whole_schema,
        revoke=revoke, with_option=with_option, cascade=cascade,
    )  # fmt: skip


def _expect_privileges(cursor: Cursor) -> tuple[str, ...]:
    if cursor.accept("all"):
        cursor.accept("privileges")
        _refuse_columns(cursor)
        return ()
    found: list[str] = []
    while True:
        token = cursor.peek
        word = cursor.accept_word()
        if word is None:
            raise cursor.error()
        if word.upper() not in _PRIVILEGES:
            raise SQLSyntaxError(
                f'unrecognized privilege type "{word}"', position=token.start + 1 if token is not None else None
            )
        _refuse_columns(cursor)
        found.append(word.upper())
        if not cursor.accept(","):
            return tuple(dict.fromkeys(found))


def _refuse_columns(cursor: Cursor) -> None:
    if cursor.sees("("):
        refuse("a privilege on columns", "make a materialized view of the columns, and GRANT SELECT on it", cursor)


def _expect_objects(cursor: Cursor) -> tuple[str, bool, tuple[str, ...]]:
    """Read what the privileges are on: of what kind, whether it is all in schemas, and the names."""
    if cursor.accept("all", "tables", "in", "schema"):
        return "table", True, _expect_schemas(cursor)
    if cursor.accept("all", "sequences", "in", "schema"):
        return "sequence", True, _expect_schemas(cursor)
    following = cursor.rest[1].text if len(cursor.rest) > 1 else ""
    if following not in (",", "to", "from", "."):
        if cursor.accept("schema"):
            return "schema", False, _expect_schemas(cursor)
        if cursor.accept("database"):
            return "database", False, _expect_schemas(cursor)
        if cursor.accept("sequence"):
            return "sequence", False, cursor.expect_listed(cursor.expect_object_name)
    unknown = any(cursor.sees(word) for word in _NO_SUCH_OBJECTS) and following not in (",", "to", "from", ".")
    if cursor.sees("all") or unknown:
        refuse("a privilege on such objects", "privileges are on streams, tables, views, sequences and schemas", cursor)
    for words in _OWNED:
        following = cursor.rest[len(words)].text if len(cursor.rest) > len(words) else ""
        if cursor.sees(*words) and following not in (",", "to", "from", "."):
            cursor.accept(*words)
            break
    names = cursor.expect_listed(cursor.expect_object_name)
    return "table", False, names


def _expect_schemas(cursor: Cursor) -> tuple[str, ...]:
    return cursor.expect_listed(cursor.expect_name)


# ---- owners ----


def parse_alter_object(cursor: Cursor) -> AlterOwner | MoveObject:
    """Read ALTER STREAM | TABLE | [MATERIALIZED] VIEW name OWNER TO | SET SCHEMA | RENAME TO; any other is refused."""
    cursor.expect("alter")
    kind = next((kind for words, kind in _OWNED.items() if cursor.accept(*words)), None)
    if kind is None:
        raise cursor.error()
    if_exists = cursor.accept("if", "exists")
    cursor.accept("only")
    position = cursor.position
    name = cursor.expect_object_name()
    if cursor.accept("set", "schema"):
        schema = cursor.expect_name()
        cursor.expect_end()
        return MoveObject(
            *cursor.source, kind=kind, name=name, schema=schema, if_exists=if_exists, name_position=position
        )
    if cursor.accept("rename", "to"):
        new_name = cursor.expect_new_name()
        cursor.expect_end()
        return MoveObject(
            *cursor.source, kind=kind, name=name, new_name=new_name, if_exists=if_exists, name_position=position
        )
    if not cursor.sees("owner", "to"):
        refuse("ALTER", "drop it first, then create it again", cursor)
    cursor.expect("owner", "to")
    owner = expect_role(cursor)
    cursor.expect_end()
    return AlterOwner(*cursor.source, kind=kind, name=name, owner=owner, name_position=position, if_exists=if_exists)


def parse_reassign(cursor: Cursor) -> ReassignOwned:
    """Read REASSIGN OWNED BY roles TO role."""
    cursor.expect("reassign", "owned", "by")
    roles = _expect_roles(cursor)
    cursor.expect("to")
    to = expect_role(cursor)
    cursor.expect_end()
    return ReassignOwned(*cursor.source, roles=roles, to=to)


def parse_drop_owned(cursor: Cursor) -> ReassignOwned:
    """Read DROP OWNED BY roles."""
    cursor.expect("drop", "owned", "by")
    roles = _expect_roles(cursor)
    cascade = cursor.accept_cascade()
    cursor.expect_end()
    return ReassignOwned(*cursor.source, roles=roles, cascade=cascade)
