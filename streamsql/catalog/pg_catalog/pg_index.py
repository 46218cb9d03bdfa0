"""pg_index, pg_constraint and pg_indexes: the keys of tables, and the other constraints of tables and streams."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from streamsql.catalog.objects import Catalog, Table
from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.pg_catalog.keys import all_indexes, all_keys, index_text, numbers_of, others, referenced
from streamsql.catalog.pg_catalog.pg_type import BUILT_IN
from streamsql.catalog.pg_catalog.shapes import namespace, shapes
from streamsql.catalog.relation import Row, Snapshot, table, view
from streamsql.sql.constraints import Check, ForeignKey, shown_condition


def _indexes(snapshot: Snapshot) -> Iterator[Row]:
    for key in all_indexes(snapshot.catalog):
        numbers = key.numbers
        columns = shapes(key.table)
        collations = [BUILT_IN.get(columns[n - 1].type.oid, {}).get("typcollation", 0) if n else 0 for n in numbers]
        yield {
            "indexrelid": key.index, "indrelid": oids.relation(key.table.id), "indnatts": len(numbers),
            "indnkeyatts": len(numbers), "indisunique": key.unique, "indisprimary": key.primary, "indimmediate": True,
            "indisvalid": True, "indisready": True, "indislive": True, "indkey": numbers, "indcollation": collations,
            "indclass": [0] * len(numbers), "indoption": [0] * len(numbers),
            "indexprs": None if all(numbers) else "expression",
            "indpred": None if key.made is None else key.made.text.partition(" WHERE ")[2] or None,
        }  # fmt: skip


def _constraints(snapshot: Snapshot) -> Iterator[Row]:
    catalog = snapshot.catalog
    always: dict[str, object] = {"convalidated": True, "conislocal": True}
    for key in all_keys(catalog):
        yield {
            **always, **_NO_ACTIONS, "oid": key.constraint, "conname": key.name,
            "connamespace": namespace(catalog, key.table), "contype": "p" if key.primary else "u",
            "conrelid": oids.relation(key.table.id), "conindid": key.index, "connoinherit": True, "conkey": key.numbers,
        }  # fmt: skip
    for made, constraint in others(catalog):
        row: dict[str, object] = {
            **always, **_NO_ACTIONS, "oid": oids.named(made.id, "constraint", constraint.name),
            "conname": constraint.name, "connamespace": namespace(catalog, made),
            "conrelid": oids.relation(made.id),
        }  # fmt: skip
        if isinstance(constraint, Check):
            columns = tuple(dict.fromkeys(c.name for c in constraint.expression.find_all(exp.Column, bfs=False)))
            yield {**row, "contype": "c", "conkey": numbers_of(made, columns),
                   "conbin": shown_condition(constraint.expression)}  # fmt: skip
        elif isinstance(constraint, ForeignKey) and isinstance(made, Table):
            yield {**row, **_foreign(catalog, made, constraint)}


_NO_ACTIONS = {"confupdtype": " ", "confdeltype": " ", "confmatchtype": " "}


def _foreign(catalog: Catalog, made: Table, constraint: ForeignKey) -> Row:
    there = referenced(catalog, made, constraint)
    if there is None:
        return {}
    columns = constraint.key or there.key.columns
    return {
        "contype": "f", "connoinherit": True, "conkey": numbers_of(made, constraint.columns),
        "conindid": there.index, "confrelid": oids.relation(there.table.id), "confkey": numbers_of(there.table, columns),
        "confupdtype": constraint.on_update.value, "confdeltype": constraint.on_delete.value, "confmatchtype": "s",
        "condeferrable": constraint.deferrable, "condeferred": constraint.deferred,
    }  # fmt: skip


def _shown(snapshot: Snapshot) -> Iterator[Row]:
    for key in all_indexes(snapshot.catalog):
        yield {
            "schemaname": key.table.schema, "tablename": key.table.bare, "indexname": key.name, "indexdef": index_text(key),
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
