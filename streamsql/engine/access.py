"""Roles and privileges in the store: made durable, and read back.

``_engine.roles``       a row a role: its OID, name, and the rest as JSON; of the system's own, only those that were changed
``_engine.members``     who is in what
``_engine.owners``      the objects that are not the first owner's
``_engine.privileges``  what was granted, in PostgreSQL's letters; an object without a row has the default
``_engine.secrets``     numbers drawn once for this database

Passwords are kept as SCRAM verifiers only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from streamsql.catalog.access import LETTERS, SYSTEM_MEMBERS, SYSTEM_ROLES, Access, Grant, Membership, Role, letters
from streamsql.engine.store import Store

TABLES = (
    "CREATE TABLE IF NOT EXISTS _engine.roles (id BIGINT, name VARCHAR, attributes VARCHAR)",
    "CREATE TABLE IF NOT EXISTS _engine.members (role BIGINT, member BIGINT, grantor BIGINT, admin BOOLEAN)",
    "CREATE TABLE IF NOT EXISTS _engine.owners (object BIGINT, role BIGINT)",
    "CREATE TABLE IF NOT EXISTS _engine.privileges "
    "(object BIGINT, grantee BIGINT, grantor BIGINT, privileges VARCHAR, grantable VARCHAR)",
    "CREATE TABLE IF NOT EXISTS _engine.secrets (name VARCHAR, value BLOB)",
)
_PRIVILEGE_OF = {letter: name for name, letter in LETTERS.items()}


def read_access(store: Store) -> Access:
    """Read everything back."""
    roles = dict(SYSTEM_ROLES)
    for oid, name, text in store.fetch("SELECT id, name, attributes FROM _engine.roles ORDER BY id"):
        roles[oid] = _role(oid, name, json.loads(text))
    members = tuple(
        Membership(*row) for row in store.fetch("SELECT role, member, grantor, admin FROM _engine.members ORDER BY ALL")
    )
    owners = dict(store.fetch("SELECT object, role FROM _engine.owners"))
    acls: dict[int, tuple[Grant, ...]] = {}
    rows = store.fetch("SELECT object, grantee, grantor, privileges, grantable FROM _engine.privileges ORDER BY rowid")
    for object_id, grantee, grantor, given, grantable in rows:
        grant = Grant(grantee, grantor, _privileges(given), _privileges(grantable))
        # an object whose owner has given everything away has a row without privileges
        acls[object_id] = (*acls.get(object_id, ()), *([grant] if grant.privileges else []))
    return Access(roles, (*SYSTEM_MEMBERS, *members), owners, acls)


def _role(oid: int, name: str, attributes: dict[str, Any]) -> Role:
    settings = tuple((n, v) for n, v in attributes.pop("settings", []))
    return Role(oid, name, **attributes, settings=settings)


def _privileges(text: str) -> frozenset[str]:
    return frozenset(_PRIVILEGE_OF[letter] for letter in text)


def save_access(store: Store, access: Access) -> None:
    """Write everything, within the caller's transaction."""
    roles = [
        [r.oid, r.name, json.dumps({f.name: getattr(r, f.name) for f in fields(r) if f.name not in ("oid", "name")})]
        for r in access.roles.values()
        if SYSTEM_ROLES.get(r.oid) != r
    ]
    members = [[m.role, m.member, m.grantor, m.admin] for m in access.members if m not in SYSTEM_MEMBERS]
    privileges: list[list[Any]] = [
        [i, g.grantee, g.grantor, letters(g.privileges), letters(g.grantable)] for i, g in access.granted()
    ]
    privileges += [[i, 0, 0, "", ""] for i, grants in access.acls.items() if not grants]
    for table, rows in (
        ("roles", roles), ("members", members), ("owners", [[*item] for item in access.owners.items()]),
        ("privileges", privileges),
    ):  # fmt: skip
        store.execute(f"DELETE FROM _engine.{table}")
        for row in rows:
            store.execute(f"INSERT INTO _engine.{table} VALUES ({', '.join('?' * len(row))})", row)


def secret(store: Store, name: str, draw: Callable[[], bytes]) -> bytes:
    """Give a secret of this database; drawn when it is first asked for."""
    found = store.fetch("SELECT value FROM _engine.secrets WHERE name = ?", [name])
    if found:
        return bytes(found[0][0])
    made = draw()
    with store.transaction():
        store.execute("INSERT INTO _engine.secrets VALUES (?, ?)", [name, made])
    return made
