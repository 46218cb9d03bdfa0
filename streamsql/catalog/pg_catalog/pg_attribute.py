"""pg_attribute and pg_attrdef: the columns of every relation and index, and their defaults."""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.base.types import BOOL, INT8, TEXT, WireType
from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.pg_catalog.keys import all_indexes
from streamsql.catalog.pg_catalog.pg_type import BUILT_IN
from streamsql.catalog.pg_catalog.shapes import Shape, dimensions, shapes, shown_default
from streamsql.catalog.relation import Row, Snapshot, table


def _attributes(snapshot: Snapshot) -> Iterator[Row]:
    for made in snapshot.catalog:
        for shape in shapes(made, snapshot.catalog):
            yield _of_shape(oids.relation(made.id), shape.number, shape)
    for key in all_indexes(snapshot.catalog):
        columns = shapes(key.table)
        for place, number in enumerate(key.numbers, 1):
            if not number:
                yield _attribute(key.index, place, "expr", TEXT)
                continue
            shape = columns[number - 1]
            yield {**_of_shape(key.index, place, shape), "attnotnull": False, "atthasdef": False, "attidentity": ""}
    for sequence in snapshot.catalog.sequences.values():
        for number, (name, wire_type) in enumerate((("last_value", INT8), ("log_cnt", INT8), ("is_called", BOOL)), 1):
            yield {**_attribute(oids.relation(sequence.id), number, name, wire_type), "attnotnull": True}
    for made_type in snapshot.catalog.types.values():
        for number, field in enumerate(made_type.wire.fields, 1):
            described = _attribute(oids.relation(made_type.id), number, field.name, field.type)
            yield {**described, "atttypmod": field.modifier}
    for relation in snapshot.relations.values():
        for number, column in enumerate(relation.columns, 1):
            yield {
                **_attribute(relation.oid, number, column.name, column.type),
                "attnotnull": relation.kind == "r" and column.name in _NEVER_NULL,
            }


def _of_shape(relation: int, number: int, shape: Shape) -> Row:
    return {
        **_attribute(relation, number, shape.name, shape.type),
        "atttypmod": shape.modifier,
        "attnotnull": shape.not_null,
        "atthasdef": shape.default is not None,
        "attidentity": "" if shape.numbered is None else shape.numbered.numbering.value,
    }


def _attribute(relation: int, number: int, name: str, wire_type: WireType) -> dict[str, object]:
    built_in = BUILT_IN.get(wire_type.oid) or _BY_KIND["a" if wire_type.element else "c" if wire_type.fields else "e"]
    return {
        "attrelid": relation, "attname": name, "atttypid": wire_type.oid, "attstattarget": -1,
        "attlen": built_in["typlen"], "attnum": number, "attndims": dimensions(wire_type), "attcacheoff": -1,
        "atttypmod": -1, "attbyval": built_in["typbyval"], "attalign": built_in["typalign"],
        "attstorage": built_in["typstorage"], "attislocal": True, "attcollation": built_in["typcollation"],
    }  # fmt: skip


# what pg_attribute has of types that users have made: arrays, composite types, enums
_BY_KIND: dict[str, dict[str, object]] = {
    "a": {"typlen": -1, "typbyval": False, "typalign": "i", "typstorage": "x", "typcollation": 0},
    "c": {"typlen": -1, "typbyval": False, "typalign": "d", "typstorage": "x", "typcollation": 0},
    "e": {"typlen": 4, "typbyval": True, "typalign": "i", "typstorage": "p", "typcollation": 0},
}


def _defaults(snapshot: Snapshot) -> Iterator[Row]:
    for made in snapshot.catalog:
        for shape in shapes(made, snapshot.catalog):
            if shape.default is not None:
                yield {
                    "oid": oids.default(made.id, shape.number), "adrelid": oids.relation(made.id),
                    "adnum": shape.number, "adbin": shown_default(snapshot, made, shape),
                }  # fmt: skip


# of the system's tables
_NEVER_NULL = frozenset({"oid", "relname", "nspname", "typname", "attname", "attrelid", "proname", "datname"})

# a node tree is the expression's text here, so that pg_get_expr has nothing to do
PG_ATTRDEF = table(
    2604,
    "pg_attrdef",
    """oid oid, adrelid oid, adnum int2, adbin pg_node_tree""",
    _defaults,
)
PG_ATTRIBUTE = table(
    1249,
    "pg_attribute",
    """attrelid oid, attname name, atttypid oid, attstattarget int4, attlen int2, attnum int2, attndims int4,
    attcacheoff int4, atttypmod int4, attbyval bool, attalign char, attstorage char, attcompression char,
    attnotnull bool, atthasdef bool, atthasmissing bool, attidentity char, attgenerated char, attisdropped bool,
    attislocal bool, attinhcount int4, attcollation oid, attacl aclitem[], attoptions text[], attfdwoptions
    text[], attmissingval anyarray""",
    _attributes,
)
