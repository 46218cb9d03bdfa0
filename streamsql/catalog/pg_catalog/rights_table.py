"""What roles may do, as rows that functions like ``has_table_privilege`` look up. No client can name these relations.

A right is a text: what it is on (``class``, ``namespace`` or ``role``), its OID, and the privilege: ``class:16392:SELECT``.
`OWN_RIGHTS` has those of whoever asks; `ALL_RIGHTS` has everybody's, with the role's OID and a colon in front.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.relation import PG_CATALOG, CatalogRelation, Row, Snapshot, columns
from streamsql.catalog.rights import may_use
from streamsql.sql.role_statements import RELATION_PRIVILEGES, SCHEMA_PRIVILEGES, SEQUENCE_PRIVILEGES

RIGHT = "__right"
GRANTABLE = " WITH GRANT OPTION"


def _rights(snapshot: Snapshot, role: int) -> Iterator[str]:
    access = snapshot.catalog.access
    powerful = access.is_superuser(role)
    for made in snapshot.catalog:
        yield from _on(snapshot, role, "class", oids.relation(made.id), made.id, RELATION_PRIVILEGES)
    for sequence in snapshot.catalog.sequences.values():
        for privilege in SEQUENCE_PRIVILEGES:
            if may_use(access, role, sequence.id, privilege):
                yield f"class:{oids.relation(sequence.id)}:{privilege}"
    for own in snapshot.catalog.schemas.values():
        yield from _on(snapshot, role, "namespace", oids.schema(own.id), own.id, SCHEMA_PRIVILEGES)
    for relation in snapshot.relations.values():
        yield from (f"class:{relation.oid}:{p}" for p in (RELATION_PRIVILEGES if powerful else ("SELECT",)))
    for schema in (oids.CATALOG_SCHEMA, oids.INFORMATION_SCHEMA):
        yield from (f"namespace:{schema}:{p}" for p in (SCHEMA_PRIVILEGES if powerful else ("USAGE",)))
    for other in access.roles:
        if access.has_rights_of(role, other):
            yield f"role:{other}:USAGE"
        if access.is_member(role, other):
            yield f"role:{other}:MEMBER"


def _on(
    snapshot: Snapshot, role: int, kind: str, oid: int, object_id: int, privileges: frozenset[str]
) -> Iterator[str]:
    access = snapshot.catalog.access
    owns, acting = access.owns(role, object_id), access.acts_as(role)
    for privilege in privileges:
        if access.has(role, object_id, privilege):
            yield f"{kind}:{oid}:{privilege}"
        if owns or any(privilege in g.grantable and g.grantee in acting for g in access.acl(object_id)):
            yield f"{kind}:{oid}:{privilege}{GRANTABLE}"


def _own(snapshot: Snapshot) -> Iterator[Row]:
    return ({RIGHT: right} for right in _rights(snapshot, snapshot.role))


def _all(snapshot: Snapshot) -> Iterator[Row]:
    for role in snapshot.catalog.access.roles:
        yield from ({RIGHT: f"{role}:{right}"} for right in _rights(snapshot, role))


OWN_RIGHTS = CatalogRelation(PG_CATALOG, "own_rights", 0, "v", columns(f"{RIGHT} text"), _own)
ALL_RIGHTS = CatalogRelation(PG_CATALOG, "all_rights", 0, "v", columns(f"{RIGHT} text"), _all)
