"""CREATE, ALTER and DROP ROLE: who there is. What PostgreSQL 15 asks for of who does it is asked for here."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import duckdb

from streamsql.base.errors import (
    DependentObjectsExist,
    DuplicateObject,
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidDatetime,
    InvalidGrantOperation,
    InvalidParameterValue,
    ObjectInUse,
    UndefinedObject,
)
from streamsql.base.limits import exceeded
from streamsql.catalog.access import OWNER, SYSTEM_ROLES, Access, Membership, Role
from streamsql.catalog.objects import Catalog
from streamsql.catalog.rights import kind
from streamsql.engine import roles
from streamsql.engine.store import translated
from streamsql.pgwire.scram import SALT_BYTES, read_verifier, verifier_of
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.server.variables import Variables
from streamsql.sql.role_statements import (
    AlterRole,
    AlterRoleSet,
    CreateRole,
    DropRole,
    GrantRoles,
    Password,
    RenameRole,
    RoleName,
    RoleOptions,
)

_FLAG_WORDS = {"superuser": "superuser", "replication": "replication", "bypass_rls": "bypassrls"}


def role_of(context: Context, access: Access, name: RoleName) -> Role:
    """Give the role that a statement names. Raises UndefinedObject."""
    asker = context.asker
    if name.keyword and name.name == "session_user":
        return access.find(_known_name(context, access, asker.session_user or asker.user))
    if name.keyword:
        role = access.roles.get(asker.role)
        if role is None:
            raise UndefinedObject(f'role "{asker.user}" does not exist')
        return role
    return access.find(_known_name(context, access, name.name))


def _known_name(context: Context, access: Access, name: str) -> str:
    """Give a role's own name: the first owner may be shown to this session by another one."""
    identity = context.identity
    if identity is not None and name == identity.name and access.named(name) is None:
        return access.name_of(identity.oid)
    return name


def _require_create_role(access: Access, oid: int) -> None:
    role = access.roles.get(oid)
    if role is None or not (role.superuser or role.create_role):
        raise InsufficientPrivilege("permission denied to create role")


def _require_superuser(access: Access, oid: int, message: str) -> None:
    if not access.is_superuser(oid):
        raise InsufficientPrivilege(message)


# ---- making and changing ----


async def create(context: Context, statement: CreateRole, values: Values) -> Done:
    options, asking = statement.options, context.asker.role
    changed = await _attributes(context, options)
    engine = context.engine

    def change(catalog: Catalog) -> Access:
        access = catalog.access
        _check_flags(access, asking, options, new=True)
        if len(access.roles) >= context.limits.roles_max:
            raise exceeded(context.limits, "roles_max", "the number of roles")
        if access.named(statement.name) is not None:
            raise DuplicateObject(f'role "{statement.name}" already exists')
        role = replace(Role(roles.new_role_oid(engine), statement.name, login=statement.login), **changed)
        access = access.with_role(role)
        for above in options.in_roles:
            access = _with_member(access, role_of(context, access, above), role, asking, admin=False)
        for names, admin in ((options.members, False), (options.admins, True)):
            for below in names:
                access = _with_member(access, role, role_of(context, access, below), asking, admin=admin)
        return access

    await context.on_engine(lambda: roles.change_access(engine, change))
    return Done("CREATE ROLE")


async def alter(context: Context, statement: AlterRole, values: Values) -> Done:
    options, asking = statement.options, context.asker.role
    changed = await _attributes(context, options)

    def change(catalog: Catalog) -> Access:
        access = catalog.access
        role = role_of(context, access, statement.role)
        only_password = options == RoleOptions(password=options.password)
        if not (only_password and role.oid == asking):
            _check_flags(access, asking, options, new=False)
            _require_alter(access, asking, role)
        _require_changeable(role, options)
        return access.with_role(replace(role, **changed))

    await context.on_engine(lambda: roles.change_access(context.engine, change))
    return Done("ALTER ROLE")


def _require_alter(access: Access, asking: int, role: Role) -> None:
    if role.superuser:
        _require_superuser(access, asking, "must be superuser to alter superuser roles or change superuser attribute")
    own = access.roles.get(asking)
    if own is None or not (own.superuser or own.create_role):
        raise InsufficientPrivilege("permission denied")


def _require_changeable(role: Role, options: RoleOptions | None = None) -> None:
    flags = dict(options.flags) if options is not None else {}
    if role.oid == OWNER and not (flags.get("superuser", True) and flags.get("login", True)):
        raise FeatureNotSupported(
            "permission denied to alter role", detail="The first owner must stay a superuser who may log in."
        )
    if role.name.startswith("pg_") and role.oid in SYSTEM_ROLES:
        raise InsufficientPrivilege(f'role name "{role.name}" is reserved', detail="It is one of the system's roles.")


def _check_flags(access: Access, asking: int, options: RoleOptions, *, new: bool) -> None:
    if access.is_superuser(asking):
        return
    for name, value in options.flags:
        if name in _FLAG_WORDS and (value or not new):
            verb = "create" if new else "alter"
            what = _FLAG_WORDS[name]
            message = f"must be superuser to {verb} {'superusers' if name == 'superuser' else f'{what} users'}"
            if not new and name == "superuser":
                message = "must be superuser to alter superuser roles or change superuser attribute"
            raise InsufficientPrivilege(message)
    if new:
        _require_create_role(access, asking)


async def _attributes(context: Context, options: RoleOptions) -> dict[str, Any]:
    """Give the fields of a role that options set. A password is made a verifier here, off the event loop's thread."""
    changed: dict[str, Any] = dict(options.flags)
    if options.connection_limit is not None:
        if options.connection_limit < -1:
            raise InvalidParameterValue(f"invalid connection limit: {options.connection_limit}")
        changed["connection_limit"] = options.connection_limit
    if options.valid_until is not None:
        text = options.valid_until
        changed["valid_until"] = await context.reads.run(lambda cursor: _instant(cursor, text))
    if options.password is not None:
        password = options.password
        changed["verifier"] = await context.reads.compute(lambda: _verifier(password))
    return changed


def _instant(cursor: duckdb.DuckDBPyConnection, text: str) -> int | None:
    """Read a time in microseconds; 'infinity' is None."""
    if text.strip().lower() == "infinity":
        return None
    try:
        with translated():
            return int(cursor.execute("SELECT epoch_us(CAST(? AS TIMESTAMPTZ))", [text]).fetchall()[0][0])
    except Exception as error:
        raise InvalidDatetime(f'invalid input syntax for type timestamp with time zone: "{text}"') from error


def _verifier(password: Password) -> str | None:
    if not password.text:
        return None  # as in PostgreSQL, an empty password is none
    found = read_verifier(password.text)
    return str(found or verifier_of(password.text, secrets.token_bytes(SALT_BYTES)))


async def rename(context: Context, statement: RenameRole, values: Values) -> Done:
    asking = context.asker.role

    def change(catalog: Catalog) -> Access:
        access = catalog.access
        role = role_of(context, access, statement.role)
        if role.oid == context.asker.role:
            raise FeatureNotSupported("session user cannot be renamed")
        _require_changeable(role)
        if role.superuser:
            _require_superuser(access, asking, "must be superuser to rename superusers")
        own = access.roles.get(asking)
        if own is None or not (own.superuser or own.create_role):
            raise InsufficientPrivilege("permission denied to rename role")
        return access.with_role(replace(role, name=statement.new_name))

    await context.on_engine(lambda: roles.change_access(context.engine, change))
    return Done("ALTER ROLE")


async def set_variable(context: Context, statement: AlterRoleSet, values: Values) -> Done:
    asking = context.asker.role
    if statement.value is not None:
        Variables("").set(statement.variable, statement.value)  # raises for what cannot be

    def change(catalog: Catalog) -> Access:
        access = catalog.access
        role = role_of(context, access, statement.role)
        if role.oid != asking:
            _require_alter(access, asking, role)
        kept = () if statement.variable == "all" else tuple(s for s in role.settings if s[0] != statement.variable)
        added = () if statement.value is None else ((statement.variable, statement.value),)
        return access.with_role(replace(role, settings=(*kept, *added)))

    await context.on_engine(lambda: roles.change_access(context.engine, change))
    return Done("ALTER ROLE")


# ---- dropping ----


async def drop(context: Context, statement: DropRole, values: Values) -> Done:
    asking = context.asker.role
    missing: list[str] = []

    def change(catalog: Catalog) -> Access:
        access = catalog.access
        own = access.roles.get(asking)
        if own is None or not (own.superuser or own.create_role):
            raise InsufficientPrivilege("permission denied to drop role")
        for name in statement.roles:
            if statement.if_exists and not name.keyword and access.named(name.name) is None:
                missing.append(name.name)
                continue
            role = role_of(context, access, name)
            if role.oid == asking:
                raise ObjectInUse("current user cannot be dropped")
            if role.superuser:
                _require_superuser(access, asking, "must be superuser to drop superusers")
            _refuse_needed(catalog, role)
            access = access.without_role(role.oid)
        return access

    await context.on_engine(lambda: roles.change_access(context.engine, change))
    return Done("DROP ROLE", [notice(f'role "{name}" does not exist, skipping') for name in missing])


def _refuse_needed(catalog: Catalog, role: Role) -> None:
    """Raise where something depends on a role: the system, an object that it owns, a privilege that it has or gave."""
    if role.oid in SYSTEM_ROLES:
        raise DependentObjectsExist(f"cannot drop role {role.name} because it is required by the database system")
    needed = list(_needing(catalog, role))
    if needed:
        raise DependentObjectsExist(
            f'role "{role.name}" cannot be dropped because some objects depend on it',
            detail="\n".join(needed),
            hint="REASSIGN OWNED BY it, then DROP OWNED BY it",
        )


def _needing(catalog: Catalog, role: Role) -> Iterable[str]:
    access = catalog.access
    for made in catalog:
        yield from _needed(access, role, made.id, f"{kind(made)} {made.bare}")
    for schema in catalog.schemas.values():
        yield from _needed(access, role, schema.id, f"schema {schema.name}")


def _needed(access: Access, role: Role, object_id: int, called: str) -> Iterable[str]:
    if access.owner_of(object_id) == role.oid:
        yield f"owner of {called}"
    elif any(role.oid in (g.grantee, g.grantor) for g in access.acl(object_id)):
        yield f"privileges for {called}"


# ---- membership ----


async def grant(context: Context, statement: GrantRoles, values: Values) -> Done:
    """GRANT role TO role, and REVOKE role FROM role."""
    asking = context.asker.role
    notices: list[dict[str, str]] = []

    def change(catalog: Catalog) -> Access:
        access = catalog.access
        for name in statement.granted:
            role = role_of(context, access, name)
            _require_admin(access, asking, role)
            for below in statement.roles:
                member = role_of(context, access, below)
                if statement.revoke:
                    access = _without_member(access, role, member, option_only=statement.with_option, notices=notices)
                else:
                    before = access
                    access = _with_member(before, role, member, asking, admin=statement.with_option)
                    if access is before:
                        notices.append(notice(f'role "{member.name}" is already a member of role "{role.name}"'))
        return access

    await context.on_engine(lambda: roles.change_access(context.engine, change))
    return Done("REVOKE ROLE" if statement.revoke else "GRANT ROLE", notices)


def _require_admin(access: Access, asking: int, role: Role) -> None:
    """Raise unless the role may let others into, and put them out of, this one."""
    own = access.roles.get(asking)
    if own is not None and own.superuser:
        return
    if role.superuser:
        raise InsufficientPrivilege("must be superuser to alter superusers")
    if own is not None and own.create_role and role.oid not in SYSTEM_ROLES:
        return
    if any(m.role == role.oid and m.admin and m.member in access.is_in(asking) for m in access.members):
        return
    raise InsufficientPrivilege(f'must have admin option on role "{role.name}"')


def _with_member(access: Access, role: Role, member: Role, grantor: int, *, admin: bool) -> Access:
    if member.oid == role.oid or member.oid in access.is_in(role.oid):
        raise InvalidGrantOperation(f'role "{role.name}" is a member of role "{member.name}"')
    if role.superuser:
        _require_superuser(access, grantor, "must be superuser to alter superusers")
    before = [m for m in access.members if (m.role, m.member) == (role.oid, member.oid)]
    if before and (before[0].admin or not admin):
        return access
    kept = tuple(m for m in access.members if m not in before)
    return replace(access, members=(*kept, Membership(role.oid, member.oid, grantor, admin)))


def _without_member(
    access: Access, role: Role, member: Role, *, option_only: bool, notices: list[dict[str, str]]
) -> Access:
    found = [m for m in access.members if (m.role, m.member) == (role.oid, member.oid)]
    if not found:
        message = f'role "{member.name}" is not a member of role "{role.name}"'
        notices.append(notice(message, severity="WARNING", sqlstate="01000"))
    kept = tuple(m for m in access.members if m not in found)
    left = tuple(replace(m, admin=False) for m in found) if option_only else ()
    return replace(access, members=(*kept, *left))
