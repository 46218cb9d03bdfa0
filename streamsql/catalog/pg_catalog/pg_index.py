"""pg_index, pg_constraint and pg_indexes: the primary keys of tables, the only constraints that have a name here."""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.catalog.objects import Table
from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.pg_catalog.pg_type import BUILT_IN
from streamsql.catalog.pg_catalog.shapes import key_name, key_numbers, namespace, shapes, with_keys
from streamsql.catalog.relation import Row, Snapshot, table, view
from streamsql.sql.names import quote_name


def index_text(made: Table) -> str:
    """Write the statement that would make a primary key's index, as ``pg_get_indexdef`` does."""
    columns = ", ".join(map(quote_name, made.primary_key))
    table = f"{quote_name(made.schema)}.{quote_name(made.bare)}"
    return f"CREATE UNIQUE INDEX {quote_name(key_name(made))} ON {table} USING btree ({columns})"


def constraint_text(made: Table) -> str:
    """Write a primary key as ``pg_get_constraintdef`` does."""
    return f"PRIMARY KEY ({', '.join(map(quote_name, made.primary_key))})"


def _indexes(snapshot: Snapshot) -> Iterator[Row]:
    for made in with_keys(snapshot.catalog):
        numbers = key_numbers(made)
        columns = shapes(made)
        collations = [BUILT_IN[columns[n - 1].type.oid]["typcollation"] for n in numbers]
        yield {
            "indexrelid": oids.index(made.id), "indrelid": oids.relation(made.id), "indnatts": len(numbers),
            "indnkeyatts": len(numbers), "indisunique": True, "indisprimary": True, "indimmediate": True,
            "indisvalid": True, "indisready": True, "indislive": True, "indkey": numbers, "indcollation": collations,
            "indclass": [0] * len(numbers), "indoption": [0] * len(numbers),
        }  # fmt: skip


def _constraints(snapshot: Snapshot) -> Iterator[Row]:
    for made in with_keys(snapshot.catalog):
        yield {
            "oid": oids.constraint(made.id), "conname": key_name(made), "connamespace": namespace(snapshot.catalog, made),
            "contype": "p", "convalidated": True, "conrelid": oids.relation(made.id),
            "conindid": oids.index(made.id), "confupdtype": " ", "confdeltype": " ", "confmatchtype": " ",
            "conislocal": True, "connoinherit": True, "conkey": key_numbers(made),
        }  # fmt: skip


def _shown(snapshot: Snapshot) -> Iterator[Row]:
    for made in with_keys(snapshot.catalog):
        yield {
            "schemaname": made.schema, "tablename": made.bare, "indexname": key_name(made), "indexdef": index_text(made),
        }  # fmt: skip


PG_INDEX = table(
    2610,
    "pg_index",
    """indexrelid oid, indrelid oid, indnatts int2, indnkeyatts int2, indisunique bool, indnullsnotdistinct bool,
    indisprimary bool, indisexclusion bool, indimmediate bool, indisclustered bool, indisvalid bool, indcheckxmin
    bool, indisready bool, indislive bool, indisreplident bool, indkey int2vector, indcollation oidvector,
    indclass oidvector, indoption int2vector, indexprs pg_node_tree, indpred pg_node_tree""",
    _indexes,
)
PG_CONSTRAINT = table(
    2606,
    "pg_constraint",
    """oid oid, conname name, connamespace oid, contype char, condeferrable bool, condeferred bool, convalidated
    bool, conrelid oid, contypid oid, conindid oid, conparentid oid, confrelid oid, confupdtype char, confdeltype
    char, confmatchtype char, conislocal bool, coninhcount int4, connoinherit bool, conkey int2[], confkey int2[],
    conpfeqop oid[], conppeqop oid[], conffeqop oid[], confdelsetcols int2[], conexclop oid[], conbin pg_node_tree""",
    _constraints,
)
PG_INDEXES = view(
    12043,
    "pg_indexes",
    """schemaname name, tablename name, indexname name, tablespace name, indexdef text""",
    _shown,
)
