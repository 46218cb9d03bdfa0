"""pg_class: every relation and index. The system's own are listed as well, by their OIDs in PostgreSQL 15."""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.catalog.objects import Catalog, CatalogObject, PlainView, Stream, Table, View
from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.pg_catalog.keys import all_indexes
from streamsql.catalog.pg_catalog.pg_roles import acl
from streamsql.catalog.pg_catalog.shapes import namespace
from streamsql.catalog.relation import PG_CATALOG, CatalogRelation, Row, Snapshot, table

_ALWAYS: dict[str, object] = {
    "relowner": oids.OWNER, "reltuples": -1.0, "relpersistence": "p", "relispopulated": True, "relreplident": "n",
}  # fmt: skip

# what all databases of a PostgreSQL server have in common, and the tablespace that it is kept in
_SHARED = frozenset({
    "pg_auth_members", "pg_authid", "pg_database", "pg_db_role_setting", "pg_parameter_acl", "pg_replication_origin",
    "pg_shdepend", "pg_shdescription", "pg_shseclabel", "pg_subscription", "pg_tablespace",
})  # fmt: skip
_GLOBAL_TABLESPACE = 1664
_KINDS: dict[type, str] = {PlainView: "v", View: "m"}
_BARRIERS = frozenset({"pg_stats", "pg_stats_ext", "pg_stats_ext_exprs"})


def _rows(snapshot: Snapshot) -> Iterator[Row]:
    for made in snapshot.catalog:
        yield {
            **_of_object(snapshot.catalog, made), "relnamespace": namespace(snapshot.catalog, made),
            "relowner": snapshot.catalog.access.owner_of(made.id), "relacl": acl(snapshot, made.id),
        }  # fmt: skip
    for key in all_indexes(snapshot.catalog):
        yield {
            **_ALWAYS,
            "relowner": snapshot.catalog.access.owner_of(key.table.id),
            "oid": key.index, "relname": key.name, "relnamespace": namespace(snapshot.catalog, key.table),
            "relkind": "i", "relam": oids.BTREE, "relnatts": len(key.key.columns), "reltuples": 0.0,
            "relfilenode": key.index,
        }  # fmt: skip
    for sequence in snapshot.catalog.sequences.values():
        oid = oids.relation(sequence.id)
        yield {
            **_ALWAYS, "oid": oid, "relname": sequence.bare, "relnamespace": namespace(snapshot.catalog, sequence),
            "relowner": snapshot.catalog.access.owner_of(sequence.id), "relkind": "S", "relnatts": 3, "reltuples": 1.0,
            "relfilenode": oid, "relacl": acl(snapshot, sequence.id),
        }  # fmt: skip
    for composite in snapshot.catalog.types.values():
        if composite.labels is None:
            yield {
                **_ALWAYS, "oid": oids.relation(composite.id), "relname": composite.bare,
                "relnamespace": namespace(snapshot.catalog, composite), "reltype": composite.wire.oid,
                "relowner": snapshot.catalog.access.owner_of(composite.id), "relkind": "c",
                "relnatts": len(composite.wire.fields),
            }  # fmt: skip
    for relation in snapshot.relations.values():
        yield _of_system(relation)


def _of_object(catalog: Catalog, made: CatalogObject) -> Row:
    oid = oids.relation(made.id)
    return {
        **_ALWAYS,
        "oid": oid, "relname": made.bare, "reltype": oids.row_type(made.id),
        "relam": 0 if isinstance(made, PlainView) else oids.HEAP, "relfilenode": 0 if isinstance(made, PlainView) else oid,
        "relhasindex": _has_index(catalog, made),
        "relkind": _KINDS.get(type(made), "r"), "relnatts": len(made.columns),
        "relhasrules": isinstance(made, (PlainView, View)), "relreplident": "n" if isinstance(made, PlainView) else "d",
        "relchecks": len(made.checks) if isinstance(made, (Stream, Table)) else 0,
        "relpersistence": "t" if isinstance(made, Table) and made.temporary else "p",
        "relhastriggers": isinstance(made, Table) and bool(made.foreign_keys or catalog.referencing(made.name)),
    }  # fmt: skip


def _has_index(catalog: Catalog, made: CatalogObject) -> bool:
    keyed = isinstance(made, Table) and bool(made.keys)
    return keyed or any(index.relation == made.id for index in catalog.indexes.values())


def _of_system(relation: CatalogRelation) -> Row:
    in_catalog = relation.schema == PG_CATALOG
    shared = in_catalog and relation.name in _SHARED
    return {
        **_ALWAYS,
        "oid": relation.oid, "relname": relation.name, "relkind": relation.kind, "relnatts": len(relation.columns),
        "relnamespace": oids.CATALOG_SCHEMA if in_catalog else oids.INFORMATION_SCHEMA,
        "relam": oids.HEAP if relation.kind == "r" else 0, "relhasrules": relation.kind == "v",
        "relisshared": shared, "reltablespace": _GLOBAL_TABLESPACE if shared else 0,
        "reloptions": ["security_barrier=true"] if relation.name in _BARRIERS else None,
    }  # fmt: skip


PG_CLASS = table(
    oids.CLASSES,
    "pg_class",
    """oid oid, relname name, relnamespace oid, reltype oid, reloftype oid, relowner oid, relam oid, relfilenode oid,
    reltablespace oid, relpages int4, reltuples float4, relallvisible int4, reltoastrelid oid, relhasindex bool,
    relisshared bool, relpersistence char, relkind char, relnatts int2, relchecks int2, relhasrules bool,
    relhastriggers bool, relhassubclass bool, relrowsecurity bool, relforcerowsecurity bool, relispopulated bool,
    relreplident char, relispartition bool, relrewrite oid, relfrozenxid xid, relminmxid xid, relacl aclitem[],
    reloptions text[], relpartbound pg_node_tree""",
    _rows,
)
