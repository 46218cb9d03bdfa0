"""The database's name, its schemas, and the roles of whoever asks."""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.catalog.pg_catalog.pg_namespace import schemas
from streamsql.catalog.relation import Row, Snapshot, standard


def _name(snapshot: Snapshot) -> Iterator[Row]:
    yield {"catalog_name": snapshot.database}


def _schemata(snapshot: Snapshot) -> Iterator[Row]:
    access = snapshot.catalog.access
    for name, _, owner in schemas(snapshot):
        if not access.has_rights_of(snapshot.role, owner):
            continue  # as in PostgreSQL: a schema is told of to its owner
        yield {
            "catalog_name": snapshot.database, "schema_name": name,
            "schema_owner": snapshot.role_name(owner),
        }  # fmt: skip


def _enabled(snapshot: Snapshot) -> Iterator[Row]:
    access = snapshot.catalog.access
    for oid in access.roles:
        if access.has_rights_of(snapshot.role, oid):
            yield {"role_name": snapshot.role_name(oid)}


def _applicable(snapshot: Snapshot) -> Iterator[Row]:
    access = snapshot.catalog.access
    for found in access.members:
        if access.has_rights_of(snapshot.role, found.member):
            yield {
                "grantee": snapshot.role_name(found.member), "role_name": snapshot.role_name(found.role),
                "is_grantable": "YES" if found.admin else "NO",
            }  # fmt: skip


def _administrable(snapshot: Snapshot) -> Iterator[Row]:
    return (row for row in _applicable(snapshot) if row["is_grantable"] == "YES")


def _character_sets(snapshot: Snapshot) -> Iterator[Row]:
    yield {
        "character_set_name": "UTF8", "character_repertoire": "UCS", "form_of_use": "UTF8",
        "default_collate_catalog": snapshot.database, "default_collate_schema": "pg_catalog",
    }  # fmt: skip


RELATIONS = (
    standard(
        13227,
        "information_schema_catalog_name",
        """catalog_name name""",
        _name,
    ),
    standard(
        13382,
        "schemata",
        """catalog_name name, schema_name name, schema_owner name, default_character_set_catalog name,
    default_character_set_schema name, default_character_set_name name, sql_path varchar""",
        _schemata,
    ),
    standard(
        13325,
        "enabled_roles",
        """role_name name""",
        _enabled,
    ),
    standard(
        13236,
        "applicable_roles",
        """grantee name, role_name name, is_grantable varchar""",
        _applicable,
    ),
    standard(
        13241,
        "administrable_role_authorizations",
        """grantee name, role_name name, is_grantable varchar""",
        _administrable,
    ),
    standard(
        13250,
        "character_sets",
        """character_set_catalog name, character_set_schema name, character_set_name name, character_repertoire name,
    form_of_use name, default_collate_catalog name, default_collate_schema name, default_collate_name name""",
        _character_sets,
    ),
)
