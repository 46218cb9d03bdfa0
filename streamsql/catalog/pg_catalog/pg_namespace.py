"""pg_namespace, pg_database, pg_tablespace: the schemas, the two names of the one database, where it lies."""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.catalog.access import PUBLIC_SCHEMA
from streamsql.catalog.objects import TEMPORARY_SCHEMA
from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.pg_catalog.pg_roles import acl
from streamsql.catalog.pg_catalog.shapes import comments, other_comments
from streamsql.catalog.relation import INFORMATION_SCHEMA, PG_CATALOG, Row, Snapshot, table


def schemas(snapshot: Snapshot) -> Iterator[tuple[str, int, int]]:
    """Give each schema's name, OID and owner, in the order in which they were made."""
    access = snapshot.catalog.access
    yield PG_CATALOG, oids.CATALOG_SCHEMA, oids.OWNER
    own = snapshot.catalog.schemas.values()
    yield from ((s.name, oids.schema(s.id), access.owner_of(s.id)) for s in own if s.id == PUBLIC_SCHEMA)
    yield INFORMATION_SCHEMA, oids.INFORMATION_SCHEMA, oids.OWNER
    yield from ((s.name, oids.schema(s.id), access.owner_of(s.id)) for s in own if s.id != PUBLIC_SCHEMA)
    if snapshot.catalog.in_schema(TEMPORARY_SCHEMA):
        yield TEMPORARY_SCHEMA, oids.TEMPORARY_SCHEMA, oids.OWNER


def _schemas(snapshot: Snapshot) -> Iterator[Row]:
    for name, oid, owner in schemas(snapshot):
        known = snapshot.catalog.schemas.get(name)
        role = snapshot.role_name(owner)
        given = [f"{role}=UC/{role}", f"=U/{role}"] if known is None else acl(snapshot, known.id)
        if given == [f"{role}=UC/{role}"]:
            given = None  # the default, which PostgreSQL does not write
        yield {"oid": oid, "nspname": name, "nspowner": owner, "nspacl": given}


def _first_privileges(snapshot: Snapshot) -> Iterator[Row]:
    """Give the privileges that the system's own schemas have had from the start: what pg_dump leaves out."""
    for row in _schemas(snapshot):
        if row["oid"] in (oids.CATALOG_SCHEMA, oids.INFORMATION_SCHEMA):
            yield {"objoid": row["oid"], "classoid": PG_NAMESPACE.oid, "privtype": "i", "initprivs": row["nspacl"]}


def _databases(_: Snapshot) -> Iterator[Row]:
    for name, oid in oids.DATABASES.items():
        yield {
            "oid": oid, "datname": name, "datdba": oids.OWNER, "encoding": 6, "datlocprovider": "c",
            "datallowconn": True, "datconnlimit": -1, "dattablespace": oids.TABLESPACE, "datcollate": "C",
            "datctype": "C",
        }  # fmt: skip


def _tablespaces(_: Snapshot) -> Iterator[Row]:
    yield {"oid": oids.TABLESPACE, "spcname": "pg_default", "spcowner": oids.OWNER}
    yield {"oid": oids.TABLESPACE + 1, "spcname": "pg_global", "spcowner": oids.OWNER}


def _descriptions(snapshot: Snapshot) -> Iterator[Row]:
    for listing, oid, text in other_comments(snapshot):
        yield {"objoid": oid, "classoid": listing, "description": text}
    for made in snapshot.catalog:
        for number, text in comments(snapshot.catalog, made):
            yield {
                "objoid": oids.relation(made.id), "classoid": oids.CLASSES, "objsubid": number, "description": text,
            }  # fmt: skip


PG_DESCRIPTION = table(
    2609,
    "pg_description",
    """objoid oid, classoid oid, objsubid int4, description text""",
    _descriptions,
)
PG_INIT_PRIVS = table(
    3394,
    "pg_init_privs",
    """objoid oid, classoid oid, objsubid int4, privtype char, initprivs aclitem[]""",
    _first_privileges,
)
PG_NAMESPACE = table(
    2615,
    "pg_namespace",
    """oid oid, nspname name, nspowner oid, nspacl aclitem[]""",
    _schemas,
)
PG_DATABASE = table(
    1262,
    "pg_database",
    """oid oid, datname name, datdba oid, encoding int4, datlocprovider char, datistemplate bool, datallowconn bool,
    datconnlimit int4, datfrozenxid xid, datminmxid xid, dattablespace oid, datcollate text, datctype text,
    daticulocale text, datcollversion text, datacl aclitem[]""",
    _databases,
)
PG_TABLESPACE = table(
    1213,
    "pg_tablespace",
    """oid oid, spcname name, spcowner oid, spcacl aclitem[], spcoptions text[]""",
    _tablespaces,
)
