"""Which objects the standard's views tell whoever asks of, and what has been granted on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from streamsql.catalog.access import LETTERS, OWNER, PUBLIC
from streamsql.catalog.objects import PlainView, Stream, Table, View
from streamsql.catalog.relation import Snapshot
from streamsql.sql.role_statements import RELATION_PRIVILEGES

# in the order in which PostgreSQL lists them
_PRIVILEGES = tuple(name for name in LETTERS if name in RELATION_PRIVILEGES)


def tables(snapshot: Snapshot) -> Iterator[Stream | Table]:
    """Give the streams and tables on which whoever asks has some privilege; the standard hides the others."""
    access = snapshot.catalog.access
    for made in snapshot.catalog:
        if isinstance(made, (Stream, Table)) and any(access.has(snapshot.role, made.id, p) for p in _PRIVILEGES):
            yield made


def views(snapshot: Snapshot) -> Iterator[PlainView]:
    """Give the views on which whoever asks has some privilege. As in PostgreSQL, materialized ones are none of them."""
    access = snapshot.catalog.access
    for made in snapshot.catalog:
        if isinstance(made, PlainView) and any(access.has(snapshot.role, made.id, p) for p in _PRIVILEGES):
            yield made


@dataclass(frozen=True, slots=True)
class Granted:
    """A privilege on a table: by whom, to whom, and whether it may be given on."""

    schema: str
    table: str
    grantor: str
    grantee: str
    privilege: str
    grantable: bool

    def row(self) -> dict[str, object]:
        return {
            "grantor": self.grantor, "grantee": self.grantee, "table_schema": self.schema, "table_name": self.table,
            "privilege_type": self.privilege, "is_grantable": "YES" if self.grantable else "NO",
        }  # fmt: skip


def granted(snapshot: Snapshot) -> Iterator[Granted]:
    """Give the privileges that whoever asks has, has given, or that everybody has."""
    access = snapshot.catalog.access
    for made in snapshot.catalog:
        if isinstance(made, View):
            continue
        owner = access.owner_of(made.id)
        for grant in access.acl(made.id):
            concerned = (grant.grantee, grant.grantor)
            if grant.grantee != PUBLIC and not any(access.has_rights_of(snapshot.role, oid) for oid in concerned):
                continue
            for privilege in _PRIVILEGES:
                if privilege in grant.privileges:
                    grantable = grant.grantee == owner or privilege in grant.grantable
                    grantor, grantee = snapshot.role_name(grant.grantor), snapshot.role_name(grant.grantee) or "PUBLIC"
                    yield Granted(made.schema, made.bare, grantor, grantee, privilege, grantable)
    if access.has_rights_of(snapshot.role, OWNER):
        for relation in snapshot.relations.values():
            for privilege in _PRIVILEGES:
                yield Granted(relation.schema, relation.name, snapshot.owner, snapshot.owner, privilege, True)
