"""pg_depend and pg_rewrite: what depends on what, by which pg_dump orders what it writes; the rule that each view is.

A view depends on what it reads through its rule, as in PostgreSQL; on whole relations, not on their columns.

Specification: https://www.postgresql.org/docs/15/catalog-pg-depend.html
"""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.catalog.objects import Catalog, CatalogObject, PlainView, Stream, Table, View
from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.pg_catalog.keys import all_indexes, numbers_of, others, referenced
from streamsql.catalog.pg_catalog.shapes import default_sequence, namespace, shapes
from streamsql.catalog.relation import Row, Snapshot, table
from streamsql.sql.constraints import Check, ForeignKey

_TYPES, _SCHEMAS, _CONSTRAINTS, _DEFAULTS, _RULES = 1247, 2615, 2606, 2604, 2618
_NORMAL, _AUTO, _INTERNAL = "n", "a", "i"


def _row(of: tuple[int, int, int], on: tuple[int, int, int], kind: str) -> Row:
    """Say that one thing depends on another: each is the relation that it is listed in, its OID, and a column's number."""
    return {
        "classid": of[0], "objid": of[1], "objsubid": of[2], "refclassid": on[0], "refobjid": on[1], "refobjsubid": on[2],
        "deptype": kind,
    }  # fmt: skip


def _dependencies(snapshot: Snapshot) -> Iterator[Row]:
    catalog = snapshot.catalog
    for made in catalog:
        relation = oids.relation(made.id)
        yield _row((oids.CLASSES, relation, 0), (_SCHEMAS, namespace(catalog, made), 0), _NORMAL)
        yield _row((_TYPES, oids.row_type(made.id), 0), (oids.CLASSES, relation, 0), _INTERNAL)
        yield _row((_TYPES, oids.row_array(made.id), 0), (_TYPES, oids.row_type(made.id), 0), _INTERNAL)
        yield from _of_columns(catalog, made)
        if isinstance(made, (PlainView, View)):
            rule = (_RULES, _rule(made), 0)
            yield _row(rule, (oids.CLASSES, relation, 0), _INTERNAL)
            for source in sources_of(catalog, made):
                yield _row(rule, (oids.CLASSES, oids.relation(source.id), 0), _NORMAL)
    yield from _of_sequences(catalog)
    yield from _of_keys(catalog)
    for user_type in catalog.types.values():
        of = (_TYPES, user_type.wire.oid, 0)
        yield _row(of, (_SCHEMAS, namespace(catalog, user_type), 0), _NORMAL)
        yield _row((_TYPES, user_type.wire.array_oid, 0), of, _INTERNAL)
        if user_type.labels is None:
            yield _row((oids.CLASSES, oids.relation(user_type.id), 0), of, _INTERNAL)


def _of_columns(catalog: Catalog, made: CatalogObject) -> Iterator[Row]:
    """Give what columns and their defaults depend on: types of users, sequences."""
    relation = oids.relation(made.id)
    by_oid = {oid: t for t in catalog.types.values() for oid in (t.wire.oid, t.wire.array_oid)}
    for shape in shapes(made, catalog):
        column = (oids.CLASSES, relation, shape.number)
        user_type = by_oid.get(shape.type.oid)
        if user_type is not None:
            yield _row(column, (_TYPES, user_type.wire.oid, 0), _NORMAL)
        if shape.default is None:
            continue
        default = (_DEFAULTS, oids.default(made.id, shape.number), 0)
        yield _row(default, column, _AUTO)
        if isinstance(made, (Stream, Table)):
            sequence = default_sequence(catalog, made, made.columns[shape.number - 1])
            if sequence is not None:
                yield _row(default, (oids.CLASSES, oids.relation(sequence.id), 0), _NORMAL)


def _of_sequences(catalog: Catalog) -> Iterator[Row]:
    for sequence in catalog.sequences.values():
        of = (oids.CLASSES, oids.relation(sequence.id), 0)
        yield _row(of, (_SCHEMAS, namespace(catalog, sequence), 0), _NORMAL)
        owner = None if sequence.owned_by is None else catalog.of_id(sequence.owned_by[0])
        if sequence.owned_by is None or not isinstance(owner, (Stream, Table)):
            continue
        column = owner.column(sequence.owned_by[1])
        if column is not None:
            numbered = column.numbered is not None and column.numbered.is_identity
            (number,) = numbers_of(owner, (column.name,))
            yield _row(of, (oids.CLASSES, oids.relation(owner.id), number), _INTERNAL if numbered else _AUTO)


def _of_keys(catalog: Catalog) -> Iterator[Row]:
    """Give what indexes and constraints depend on: their columns, and the key that a foreign one speaks of."""
    for key in all_indexes(catalog):
        index = (oids.CLASSES, key.index, 0)
        of = (_CONSTRAINTS, key.constraint, 0) if key.is_constraint else index
        if key.is_constraint:
            yield _row(index, of, _INTERNAL)
        for number in key.numbers:
            yield _row(of, (oids.CLASSES, oids.relation(key.table.id), number), _AUTO)
    for made, constraint in others(catalog):
        of = (_CONSTRAINTS, oids.named(made.id, "constraint", constraint.name), 0)
        if isinstance(constraint, Check):
            yield _row(of, (oids.CLASSES, oids.relation(made.id), 0), _AUTO)
        elif isinstance(constraint, ForeignKey) and isinstance(made, Table):
            for number in numbers_of(made, constraint.columns):
                yield _row(of, (oids.CLASSES, oids.relation(made.id), number), _AUTO)
            there = referenced(catalog, made, constraint)
            if there is not None:
                yield _row(of, (oids.CLASSES, oids.relation(there.table.id), 0), _NORMAL)
                yield _row(of, (oids.CLASSES, there.index, 0), _NORMAL)


def sources_of(catalog: Catalog, made: PlainView | View) -> list[CatalogObject]:
    """List what the text of a view names: relations, and other views as such."""
    names = set(made.sources) if isinstance(made, PlainView) else set(made.names.values()) or set(made.sources)
    return [found for name in sorted(names) if (found := catalog.get(name)) is not None]


def _rule(made: PlainView | View) -> int:
    return oids.named(made.id, "rule", "_RETURN")


def _rules(snapshot: Snapshot) -> Iterator[Row]:
    for made in snapshot.catalog:
        if isinstance(made, (PlainView, View)):
            yield {
                "oid": _rule(made), "rulename": "_RETURN", "ev_class": oids.relation(made.id), "ev_type": "1",
                "ev_enabled": "O", "is_instead": True,
            }  # fmt: skip


PG_DEPEND = table(
    2608,
    "pg_depend",
    """classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, refobjsubid int4, deptype char""",
    _dependencies,
)
PG_REWRITE = table(
    2618,
    "pg_rewrite",
    """oid oid, rulename name, ev_class oid, ev_type char, ev_enabled char, is_instead bool, ev_qual pg_node_tree,
    ev_action pg_node_tree""",
    _rules,
)
