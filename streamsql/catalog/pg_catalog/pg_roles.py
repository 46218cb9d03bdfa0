"""Roles, who is in what, and how privileges are written (`aclitem`).

The first owner is shown by the name that whoever asks has logged in with, where that is another name for it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from streamsql.catalog.access import PUBLIC_SCHEMA, Role, letters
from streamsql.catalog.relation import Row, Snapshot, table, view

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def acl(snapshot: Snapshot, object_id: int) -> list[str] | None:
    """Write the privileges on an object; None where they are the default ones, as PostgreSQL has it."""
    access = snapshot.catalog.access
    if object_id not in access.acls and object_id != PUBLIC_SCHEMA:
        return None
    return [
        f"{_acl_name(snapshot, g.grantee)}={letters(g.privileges, g.grantable)}/{_acl_name(snapshot, g.grantor)}"
        for g in access.acl(object_id)
    ]


def _acl_name(snapshot: Snapshot, oid: int) -> str:
    name = snapshot.role_name(oid)
    return name if name.replace("_", "").isalnum() or not name else '"' + name.replace('"', '""') + '"'


def roles(snapshot: Snapshot) -> list[Role]:
    return sorted(snapshot.catalog.access.roles.values(), key=lambda role: role.oid)


def _valid_until(role: Role) -> dt.datetime | None:
    return None if role.valid_until is None else _EPOCH + dt.timedelta(microseconds=role.valid_until)


def _settings(role: Role) -> list[str] | None:
    return [f"{name}={value}" for name, value in role.settings] or None


def _rows(snapshot: Snapshot) -> Iterator[Row]:
    for role in roles(snapshot):
        yield {
            "oid": role.oid, "rolname": snapshot.role_name(role.oid), "rolsuper": role.superuser,
            "rolinherit": role.inherit, "rolcreaterole": role.create_role, "rolcreatedb": role.create_database,
            "rolcanlogin": role.login, "rolreplication": role.replication, "rolbypassrls": role.bypass_rls,
            "rolconnlimit": role.connection_limit, "rolpassword": role.verifier, "rolvaliduntil": _valid_until(role),
            "rolconfig": _settings(role),
        }  # fmt: skip


def _shown(snapshot: Snapshot) -> Iterator[Row]:
    return ({**row, "rolpassword": "********"} for row in _rows(snapshot))


def _shadow(snapshot: Snapshot) -> Iterator[Row]:
    for role in roles(snapshot):
        if role.login:
            yield {
                "usename": snapshot.role_name(role.oid), "usesysid": role.oid, "usecreatedb": role.create_database,
                "usesuper": role.superuser, "userepl": role.replication, "usebypassrls": role.bypass_rls,
                "passwd": role.verifier, "valuntil": _valid_until(role), "useconfig": _settings(role),
            }  # fmt: skip


def _users(snapshot: Snapshot) -> Iterator[Row]:
    return ({**row, "passwd": "********"} for row in _shadow(snapshot))


def _groups(snapshot: Snapshot) -> Iterator[Row]:
    members = snapshot.catalog.access.members
    for role in roles(snapshot):
        if not role.login:
            yield {
                "groname": role.name, "grosysid": role.oid, "grolist": [m.member for m in members if m.role == role.oid],
            }  # fmt: skip


def _members(snapshot: Snapshot) -> Iterator[Row]:
    for found in snapshot.catalog.access.members:
        yield {"roleid": found.role, "member": found.member, "grantor": found.grantor, "admin_option": found.admin}


def _role_settings(snapshot: Snapshot) -> Iterator[Row]:
    for role in roles(snapshot):
        if role.settings:
            yield {"setdatabase": 0, "setrole": role.oid, "setconfig": _settings(role)}


RELATIONS = (
    table(
        1260,
        "pg_authid",
        """oid oid, rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, rolcanlogin bool,
    rolreplication bool, rolbypassrls bool, rolconnlimit int4, rolpassword text, rolvaliduntil timestamptz""",
        _rows,
    ),
    table(
        1261,
        "pg_auth_members",
        """roleid oid, member oid, grantor oid, admin_option bool""",
        _members,
    ),
    view(
        12000,
        "pg_roles",
        """rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, rolcanlogin bool,
    rolreplication bool, rolconnlimit int4, rolpassword text, rolvaliduntil timestamptz, rolbypassrls bool,
    rolconfig text[], oid oid""",
        _shown,
    ),
    view(
        12014,
        "pg_user",
        """usename name, usesysid oid, usecreatedb bool, usesuper bool, userepl bool, usebypassrls bool, passwd text,
    valuntil timestamptz, useconfig text[]""",
        _users,
    ),
    view(
        12005,
        "pg_shadow",
        """usename name, usesysid oid, usecreatedb bool, usesuper bool, userepl bool, usebypassrls bool, passwd text,
    valuntil timestamptz, useconfig text[]""",
        _shadow,
    ),
    view(
        12010,
        "pg_group",
        """groname name, grosysid oid, grolist oid[]""",
        _groups,
    ),
    table(
        2964,
        "pg_db_role_setting",
        """setdatabase oid, setrole oid, setconfig text[]""",
        _role_settings,
    ),
)
