"""Roles: whoever asks is the one user and may do everything, since the server trusts all who may connect.

``pg_database_owner`` is the role of PostgreSQL's that owns schema public.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.relation import Row, Snapshot, table, view

_POWERS = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolcanlogin", "rolreplication", "rolbypassrls")


def _roles(snapshot: Snapshot) -> Iterator[Row]:
    powerful = dict.fromkeys(_POWERS, True)
    yield {"oid": oids.OWNER, "rolname": snapshot.user, "rolinherit": True, "rolconnlimit": -1, **powerful}
    powerless = dict.fromkeys(_POWERS, False)
    yield {
        "oid": oids.PUBLIC_OWNER,
        "rolname": "pg_database_owner",
        "rolinherit": True,
        "rolconnlimit": -1,
        **powerless,
    }


def _shown(snapshot: Snapshot) -> Iterator[Row]:
    return ({**row, "rolpassword": "********"} for row in _roles(snapshot))


def _users(snapshot: Snapshot) -> Iterator[Row]:
    yield {
        "usename": snapshot.user, "usesysid": oids.OWNER, "usecreatedb": True, "usesuper": True, "userepl": True,
        "usebypassrls": True, "passwd": "********",
    }  # fmt: skip


def _groups(_: Snapshot) -> Iterator[Row]:
    yield {"groname": "pg_database_owner", "grosysid": oids.PUBLIC_OWNER, "grolist": []}


RELATIONS = (
    table(
        1260,
        "pg_authid",
        """oid oid, rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, rolcanlogin bool,
    rolreplication bool, rolbypassrls bool, rolconnlimit int4, rolpassword text, rolvaliduntil timestamptz""",
        _roles,
    ),
    table(
        1261,
        "pg_auth_members",
        """roleid oid, member oid, grantor oid, admin_option bool""",
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
        _users,
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
    ),
)
