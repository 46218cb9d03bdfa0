"""Who there is, and what each may do: roles, memberships, owners, privileges. Immutable, as the catalog is that holds it.

A privilege belongs to an object, which is known by its id (`PUBLIC_SCHEMA` is the schema's). An object without an entry has
PostgreSQL's defaults: its owner may do everything with it, and everybody may look names up in the schema. Roles are known
by their OIDs; `OWNER` is the role that a new server has, and owns what nobody else does.

Specification: https://www.postgresql.org/docs/15/ddl-priv.html and https://www.postgresql.org/docs/15/role-membership.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from streamsql.base.errors import DuplicateObject, UndefinedObject
from streamsql.sql.role_statements import RELATION_PRIVILEGES, SCHEMA_PRIVILEGES

OWNER = 10
PUBLIC = 0  # the grantee that means everybody
DATABASE_OWNER, READ_ALL_DATA, WRITE_ALL_DATA = 6171, 6181, 6182
MONITOR, READ_ALL_SETTINGS, READ_ALL_STATS, SIGNAL_BACKEND = 3373, 3374, 3375, 4200
PUBLIC_SCHEMA = -1
# ids from here on are of temporary tables, which only the session that made them can name
TEMPORARY_IDS_FROM = 1 << 24

OWNER_NAME = "streamsql"

# PostgreSQL's letters, in the order in which it writes them
LETTERS: Mapping[str, str] = MappingProxyType(
    {
        "INSERT": "a", "SELECT": "r", "UPDATE": "w", "DELETE": "d", "TRUNCATE": "D", "REFERENCES": "x", "TRIGGER": "t",
        "USAGE": "U", "CREATE": "C",
    }
)  # fmt: skip
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Role:
    """A role. `verifier` is never the password itself; `valid_until` is microseconds of the Unix epoch, UTC."""

    oid: int
    name: str
    superuser: bool = False
    inherit: bool = True
    create_role: bool = False
    create_database: bool = False
    login: bool = False
    replication: bool = False
    bypass_rls: bool = False
    connection_limit: int = -1
    verifier: str | None = field(default=None, repr=False)
    valid_until: int | None = None
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Membership:
    """`member` is in `role`; with `admin` it may let others in."""

    role: int
    member: int
    grantor: int
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """What one role has given another on an object; `grantable` is the part that may be given on."""

    grantee: int
    grantor: int
    privileges: frozenset[str]
    grantable: frozenset[str] = NONE


def _system_roles() -> dict[int, Role]:
    names = {
        DATABASE_OWNER: "pg_database_owner", READ_ALL_DATA: "pg_read_all_data", WRITE_ALL_DATA: "pg_write_all_data",
        MONITOR: "pg_monitor", READ_ALL_SETTINGS: "pg_read_all_settings", READ_ALL_STATS: "pg_read_all_stats",
        SIGNAL_BACKEND: "pg_signal_backend",
    }  # fmt: skip
    owner = Role(OWNER, OWNER_NAME, True, True, True, True, True, True, True)
    return {OWNER: owner, **{oid: Role(oid, name) for oid, name in names.items()}}


SYSTEM_ROLES: Mapping[int, Role] = MappingProxyType(_system_roles())
# who is in what from the start
SYSTEM_MEMBERS = (Membership(READ_ALL_SETTINGS, MONITOR, OWNER), Membership(READ_ALL_STATS, MONITOR, OWNER))


@dataclass(frozen=True)
class Access:
    """All of it. `acls` has an entry only for objects whose privileges are not the default ones."""

    roles: Mapping[int, Role] = field(default_factory=lambda: SYSTEM_ROLES)
    members: tuple[Membership, ...] = SYSTEM_MEMBERS
    owners: Mapping[int, int] = field(default_factory=dict)
    acls: Mapping[int, tuple[Grant, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_known", {})  # what each role is in, found when it is first asked for

    # ---- roles ----

    def named(self, name: str) -> Role | None:
        return next((role for role in self.roles.values() if role.name == name), None)

    def find(self, name: str) -> Role:
        """Give the role of this name; raises UndefinedObject."""
        found = self.named(name)
        if found is None:
            raise UndefinedObject(f'role "{name}" does not exist')
        return found

    def with_role(self, role: Role) -> Access:
        """Give these with a role, new or changed. Raises DuplicateObject where another one has its name."""
        other = self.named(role.name)
        if other is not None and other.oid != role.oid:
            raise DuplicateObject(f'role "{role.name}" already exists')
        return replace(self, roles={**self.roles, role.oid: role})

    def without_role(self, oid: int) -> Access:
        roles = {o: r for o, r in self.roles.items() if o != oid}
        return replace(self, roles=roles, members=tuple(m for m in self.members if oid not in (m.role, m.member)))

    def name_of(self, oid: int) -> str:
        role = self.roles.get(oid)
        return str(oid) if role is None else role.name

    # ---- membership ----

    def is_superuser(self, oid: int) -> bool:
        role = self.roles.get(oid)
        return role is not None and role.superuser

    def acts_as(self, oid: int) -> frozenset[int]:
        """Give the roles whose privileges a role has without SET ROLE: its own, and what it inherits."""
        return self._reached(oid, inherited=True)

    def is_in(self, oid: int) -> frozenset[int]:
        """Give the roles that a role is in, itself included, whether or not it inherits from them."""
        return self._reached(oid, inherited=False)

    def has_rights_of(self, oid: int, other: int) -> bool:
        return self.is_superuser(oid) or other in self.acts_as(oid)

    def is_member(self, oid: int, other: int) -> bool:
        return self.is_superuser(oid) or other in self.is_in(oid)

    def _reached(self, oid: int, *, inherited: bool) -> frozenset[int]:
        known: dict[tuple[int, bool], frozenset[int]] = self.__dict__["_known"]
        found = known.get((oid, inherited))
        if found is None:
            found = known[oid, inherited] = frozenset(self._walk(oid, inherited=inherited))
        return found

    def _walk(self, oid: int, *, inherited: bool) -> set[int]:
        found = {oid} if oid in self.roles else set()
        waiting = list(found)
        while waiting:
            member = self.roles[waiting.pop()]
            if inherited and not member.inherit:
                continue
            above = {m.role for m in self.members if m.member == member.oid} - found
            found |= above
            waiting += above
        return found

    # ---- objects ----

    def owner_of(self, object_id: int) -> int:
        return self.owners.get(object_id, DATABASE_OWNER if object_id == PUBLIC_SCHEMA else OWNER)

    def acl(self, object_id: int) -> tuple[Grant, ...]:
        """Give what has been granted on an object, or the default."""
        found = self.acls.get(object_id)
        return self._default(object_id) if found is None else found

    def _default(self, object_id: int) -> tuple[Grant, ...]:
        owner = self.owner_of(object_id)
        if object_id == PUBLIC_SCHEMA:
            return (Grant(owner, owner, SCHEMA_PRIVILEGES), Grant(PUBLIC, owner, frozenset({"USAGE"})))
        return (Grant(owner, owner, RELATION_PRIVILEGES),)

    def has(self, oid: int, object_id: int, privilege: str) -> bool:
        """Tell whether a role has a privilege on an object, by itself, by what it is in, or because everybody has."""
        if self.is_superuser(oid) or object_id >= TEMPORARY_IDS_FROM:
            return True
        acting = self.acts_as(oid)
        if not acting:
            return False
        by_role = _EVERYWHERE.get(privilege)
        if by_role is not None and not acting.isdisjoint(by_role):
            return True
        return any(
            privilege in grant.privileges and (grant.grantee == PUBLIC or grant.grantee in acting)
            for grant in self.acl(object_id)
        )

    def owns(self, oid: int, object_id: int) -> bool:
        return object_id >= TEMPORARY_IDS_FROM or self.has_rights_of(oid, self.owner_of(object_id))

    def with_owner(self, object_id: int, owner: int) -> Access:
        """Give an object to a role: what the old owner had on it and gave, the new one has and has given."""
        before = self.owner_of(object_id)
        owners = {**self.owners, object_id: owner}
        acls = dict(self.acls)
        if object_id in acls:

            def moved(oid: int) -> int:
                return owner if oid == before else oid

            acls[object_id] = _merged(
                replace(g, grantee=moved(g.grantee), grantor=moved(g.grantor)) for g in acls[object_id]
            )
        return replace(self, owners=owners, acls=acls)

    def with_schema(self, schema_id: int, owner: int) -> Access:
        """Give these with a schema in which its owner alone may do anything."""
        return self.with_owner(schema_id, owner).with_acl(schema_id, [Grant(owner, owner, SCHEMA_PRIVILEGES)])

    def with_acl(self, object_id: int, grants: Iterable[Grant]) -> Access:
        return replace(self, acls={**self.acls, object_id: _merged(grants)})

    def handed_on(self, before: int, after: int) -> Access:
        """Give an object that takes the place of another its owner and privileges."""
        owners = {after if i == before else i: o for i, o in self.owners.items()}
        acls = {after if i == before else i: g for i, g in self.acls.items()}
        return replace(self, owners=owners, acls=acls)

    def without_objects(self, gone: Iterable[int]) -> Access:
        ids = set(gone)
        owners = {i: o for i, o in self.owners.items() if i not in ids}
        acls = {i: g for i, g in self.acls.items() if i not in ids}
        return replace(self, owners=owners, acls=acls)

    def granted(self) -> Iterator[tuple[int, Grant]]:
        """Give all that has been granted, with the id of the object that it is on."""
        for object_id, grants in self.acls.items():
            for grant in grants:
                yield object_id, grant


_EVERYWHERE: Mapping[str, frozenset[int]] = MappingProxyType(
    {
        "SELECT": frozenset({READ_ALL_DATA}),
        "INSERT": frozenset({WRITE_ALL_DATA}),
        "UPDATE": frozenset({WRITE_ALL_DATA}),
        "DELETE": frozenset({WRITE_ALL_DATA}),
        "USAGE": frozenset({READ_ALL_DATA, WRITE_ALL_DATA}),
    }
)


def _merged(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """Add up what the same role has given the same one; what has become empty goes."""
    found: dict[tuple[int, int], Grant] = {}
    for grant in grants:
        key = (grant.grantee, grant.grantor)
        before = found.get(key, Grant(*key, NONE))
        found[key] = Grant(*key, before.privileges | grant.privileges, before.grantable | grant.grantable)
    return tuple(g for g in found.values() if g.privileges)


def letters(privileges: Iterable[str], grantable: Iterable[str] = ()) -> str:
    """Write privileges as PostgreSQL does: ``arw*d``, a star behind what may be given on."""
    given, starred = set(privileges), set(grantable)
    return "".join(letter + ("*" if name in starred else "") for name, letter in LETTERS.items() if name in given)
