"""GRANT and REVOKE of privileges on streams, tables, materialized views and the schema.

As in PostgreSQL, the owner of an object, and whoever has the grant option, may give privileges on; what a superuser gives is
given in the owner's name. Revoking from one who has given on what is revoked takes CASCADE.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from streamsql.base.errors import (
    DependentObjectsExist,
    InsufficientPrivilege,
    InvalidGrantOperation,
    InvalidSchemaName,
    UndefinedDatabase,
)
from streamsql.catalog.access import (
    NONE,
    PUBLIC,
    Access,
    Grant,
)
from streamsql.catalog.objects import Catalog
from streamsql.catalog.rights import kind, with_sequence_acl
from streamsql.engine import roles
from streamsql.server.context import Context, Values
from streamsql.server.numbering import found
from streamsql.server.results import Done, notice
from streamsql.server.statements.role import role_of
from streamsql.sql.names import DATABASES
from streamsql.sql.role_statements import GrantPrivileges, RoleName
from streamsql.sql.roles import PRIVILEGES_ON


async def execute(context: Context, statement: GrantPrivileges, values: Values) -> Done:
    if statement.kind == "database":
        return _on_database(context, statement)
    notices: list[dict[str, str]] = []

    def change(catalog: Catalog) -> Access:
        access = catalog.access
        grantees = [_grantee(context, access, name) for name in statement.roles]
        for object_id, called in _objects(context, catalog, statement):
            if statement.kind == "sequence":
                access = with_sequence_acl(access, object_id)
            access = _changed(access, context.asker.role, object_id, called, grantees, statement, notices)
        return access

    await context.on_engine(lambda: roles.change_access(context.engine, change))
    return Done("REVOKE" if statement.revoke else "GRANT", notices)


def _grantee(context: Context, access: Access, name: RoleName) -> int:
    return PUBLIC if name.keyword and name.name == "public" else role_of(context, access, name).oid


def _on_database(context: Context, statement: GrantPrivileges) -> Done:
    """Say that privileges on the database change nothing: who may log in may connect, and superusers make schemas."""
    access, what = context.catalog.access, "REVOKE" if statement.revoke else "GRANT"
    for name in statement.names:
        if name not in DATABASES:
            raise UndefinedDatabase(f'database "{name}" does not exist')
    for role in statement.roles:
        _grantee(context, access, role)
    verb = "could be revoked" if statement.revoke else "were granted"
    reason = "privileges on a database are not kept here: who may log in may connect, and superusers make schemas"
    return Done(
        what,
        [
            notice(f'no privileges {verb} for "{name}"', severity="WARNING", sqlstate="01006" if statement.revoke else "01007",
                   detail=reason)
            for name in statement.names
        ],
    )  # fmt: skip


def _objects(context: Context, catalog: Catalog, statement: GrantPrivileges) -> Iterator[tuple[int, str]]:
    """Give the ids of the objects, and what people call them."""
    if statement.on_schema or statement.whole_schema:
        for name in statement.names:
            if name not in catalog.schemas:
                raise InvalidSchemaName(f'schema "{name}" does not exist')
        if statement.on_schema:
            yield from ((catalog.schemas[name].id, f"schema {name}") for name in statement.names)
            return
        if statement.kind == "sequence":
            yield from ((s.id, f"sequence {s.bare}") for s in catalog.sequences.values() if s.schema in statement.names)
            return
        made = [item for name in statement.names for item in catalog.in_schema(name)]
    elif statement.kind == "sequence":
        yield from ((s.id, f"sequence {s.bare}") for s in (found(context, name, None) for name in statement.names))
        return
    else:
        made = [catalog.find(name) for name in statement.names]
    yield from ((item.id, f"{kind(item)} {item.bare}") for item in made)


def _changed(
    access: Access,
    asking: int,
    object_id: int,
    called: str,
    grantees: list[int],
    statement: GrantPrivileges,
    notices: list[dict[str, str]],
) -> Access:
    everything = PRIVILEGES_ON[statement.kind]
    wanted = frozenset(statement.privileges) or everything
    grantor, may = _grantor(access, asking, object_id, everything)
    if not may and not any(access.has(asking, object_id, p) for p in everything):
        raise InsufficientPrivilege(f"permission denied for {called}")
    given = wanted & may
    if given != wanted and not (given and not statement.privileges):
        verb = "could be revoked" if statement.revoke else "were granted"
        text = f'{"not all" if given else "no"} privileges {verb} for "{called.rpartition(" ")[2]}"'
        notices.append(notice(text, severity="WARNING", sqlstate="01006" if statement.revoke else "01007"))
    if not given:
        return access
    if statement.revoke:
        return _revoked(access, object_id, grantor, grantees, given, statement)
    if statement.with_option and PUBLIC in grantees:
        raise InvalidGrantOperation("grant options can only be granted to roles")
    grantable = given if statement.with_option else NONE
    return access.with_acl(
        object_id, (*access.acl(object_id), *(Grant(grantee, grantor, given, grantable) for grantee in grantees))
    )


def _grantor(access: Access, asking: int, object_id: int, everything: frozenset[str]) -> tuple[int, frozenset[str]]:
    """Find in whose name a role gives, and what it may give: the owner's, or that of a role with the grant option."""
    if access.owns(asking, object_id):
        return access.owner_of(object_id), everything
    acting = access.acts_as(asking)
    by_role: dict[int, frozenset[str]] = {}
    for grant in access.acl(object_id):
        if grant.grantee in acting:
            by_role[grant.grantee] = by_role.get(grant.grantee, NONE) | grant.grantable
    best = max(by_role, key=lambda oid: len(by_role[oid]), default=asking)
    return best, by_role.get(best, NONE)


def _revoked(
    access: Access,
    object_id: int,
    grantor: int,
    grantees: list[int],
    privileges: frozenset[str],
    statement: GrantPrivileges,
) -> Access:
    grants = list(access.acl(object_id))
    waiting = [(grantee, grantor, privileges, statement.with_option) for grantee in grantees]
    while waiting:
        grantee, giver, gone, option_only = waiting.pop()
        for place, grant in enumerate(grants):
            if (grant.grantee, grant.grantor) != (grantee, giver):
                continue
            kept = grant.privileges if option_only else grant.privileges - gone
            grants[place] = replace(grant, privileges=kept, grantable=grant.grantable - gone)
        still = frozenset().union(*(g.grantable for g in grants if g.grantee == grantee))
        lost = gone - still
        if grantee == access.owner_of(object_id):
            lost = NONE  # an owner may always give on
        for grant in grants:
            given_on = grant.privileges & lost
            if grant.grantor == grantee and given_on:
                if not statement.cascade:
                    raise DependentObjectsExist("dependent privileges exist", hint="use CASCADE to revoke them too")
                waiting.append((grant.grantee, grantee, given_on, False))
    return access.with_acl(object_id, grants)
