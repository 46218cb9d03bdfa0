"""The names of everything that has an OID, and the texts that definitions are shown as: what functions look up.

One relation of (kind, oid, text), which SQL reads as `NAMES`. Kinds: ``class``, ``type``, ``proc``, ``namespace``, ``role``
are what ``::regclass`` and its like show; ``view``, ``index``, ``constraint`` are definitions (``index:2`` is the second
column of one); ``comment`` is one on an object, ``comment:2`` on its second column;
``arguments``, ``result`` are a function's, ``typname`` is a type's name in pg_type.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from streamsql.base.types import BY_OID, shown_type
from streamsql.catalog.objects import PlainView, View
from streamsql.catalog.pg_catalog import keys, oids
from streamsql.catalog.pg_catalog.pg_namespace import schemas
from streamsql.catalog.pg_catalog.pg_proc import functions
from streamsql.catalog.pg_catalog.pg_tables import view_text
from streamsql.catalog.pg_catalog.pg_type import BUILT_IN
from streamsql.catalog.pg_catalog.shapes import comments, other_comments, shown_name
from streamsql.catalog.relation import PG_CATALOG, READ_AS_PREFIX, Snapshot
from streamsql.sql.names import quote_name

NAMES = f"{READ_AS_PREFIX}names"
KIND, OID, NAME = "__kind", "__oid", "__name"

Entry = tuple[str, int, str]

# kinds of other names for what a kind is of: with the schema where it need not be written, as pg_type has it
ALSO_NAMED = {"class": ("classpath",), "type": ("typname", "typepath")}
HIDDEN = "hidden"  # what is not found without its schema


def names_table(snapshot: Snapshot) -> pa.Table:
    """Make the relation."""
    kinds, numbers, texts = zip(*_entries(snapshot), strict=True)
    return pa.table({KIND: pa.array(kinds), OID: pa.array(numbers, pa.int64()), NAME: pa.array(texts)})


def oid_of(snapshot: Snapshot, kind: str, name: str) -> int | None:
    """Find the OID of what is called so; the name may have its schema before it."""
    if kind == "role":
        role = snapshot.catalog.access.named(name)
        return oids.OWNER if name == snapshot.owner else None if role is None else role.oid
    wanted = {name, name.removeprefix("pg_catalog.")}
    kinds = (kind, *ALSO_NAMED.get(kind, ()))
    return next((oid for k, oid, text in _entries(snapshot) if k in kinds and text in wanted), None)


def _entries(snapshot: Snapshot) -> Iterator[Entry]:
    yield from _of_objects(snapshot)
    for relation in snapshot.relations.values():
        hidden = relation.schema != PG_CATALOG and not snapshot.visible(relation.schema, relation.name)
        yield "class", relation.oid, f"{relation.schema}.{relation.name}" if hidden else relation.name
        if hidden:
            yield HIDDEN, relation.oid, ""
        elif relation.schema != PG_CATALOG:
            yield "classpath", relation.oid, f"{relation.schema}.{relation.name}"
    yield from _of_types()
    for name, oid, _ in schemas(snapshot):
        yield "namespace", oid, quote_name(name)
    for oid in snapshot.catalog.access.roles:
        yield "role", oid, snapshot.role_name(oid)
    for row in functions():
        oid = int(str(row["oid"]))
        yield "proc", oid, str(row["proname"])
        arguments = row["proargtypes"]
        assert isinstance(arguments, list)
        yield "arguments", oid, ", ".join(map(type_shown, arguments))
        yield "result", oid, ("SETOF " if row["proretset"] else "") + type_shown(int(str(row["prorettype"])))


def _of_objects(snapshot: Snapshot) -> Iterator[Entry]:
    for made in snapshot.catalog:
        shown, path = shown_name(snapshot, made), f"{quote_name(made.schema)}.{quote_name(made.bare)}"
        yield "class", oids.relation(made.id), shown
        yield "classpath", oids.relation(made.id), path
        yield "type", oids.row_type(made.id), shown
        yield "typepath", oids.row_type(made.id), path
        yield "type", oids.row_array(made.id), f"{shown}[]"
        if not snapshot.visible(made.schema, made.bare):
            yield from ((HIDDEN, of(made.id), "") for of in (oids.relation, oids.row_type, oids.row_array, oids.index))
        for number, text in comments(snapshot.catalog, made):
            yield (f"comment:{number}" if number else "comment"), oids.relation(made.id), text
        if isinstance(made, (PlainView, View)):
            yield "view", oids.relation(made.id), view_text(made, snapshot)
    for user_type in snapshot.catalog.types.values():
        shown, oid = shown_name(snapshot, user_type), user_type.wire.oid
        yield "type", oid, shown
        yield "typepath", oid, f"{quote_name(user_type.schema)}.{quote_name(user_type.bare)}"
        yield "type", user_type.wire.array_oid, f"{shown}[]"
        if user_type.labels is None:
            yield "class", oids.relation(user_type.id), shown
        if not snapshot.visible(user_type.schema, user_type.bare):
            yield from ((HIDDEN, of, "") for of in (oid, user_type.wire.array_oid))
    for _, oid, text in other_comments(snapshot):
        yield "comment", oid, text
    for sequence in snapshot.catalog.sequences.values():
        path = f"{quote_name(sequence.schema)}.{quote_name(sequence.bare)}"
        yield "class", oids.relation(sequence.id), shown_name(snapshot, sequence)
        yield "classpath", oids.relation(sequence.id), path
        owner = next((o for o in snapshot.catalog if sequence.owned_by and o.id == sequence.owned_by[0]), None)
        if owner is not None and sequence.owned_by is not None:
            yield f"serial:{sequence.owned_by[1]}", oids.relation(owner.id), path
    for key in keys.all_indexes(snapshot.catalog):
        yield "class", key.index, shown_name(snapshot, key.table, key.name)
        yield "index", key.index, keys.index_text(key)
        if key.is_constraint:
            yield "constraint", key.constraint, keys.key_text(key)
        for place, column in enumerate(key.key.columns, 1):
            yield f"index:{place}", key.index, quote_name(column) if column else "expression"
    for relation, constraint in keys.others(snapshot.catalog):
        oid = oids.named(relation.id, "constraint", constraint.name)
        yield "constraint", oid, keys.constraint_text(snapshot, relation, constraint)


def _of_types() -> Iterator[Entry]:
    for oid, row in BUILT_IN.items():
        yield "type", oid, type_shown(oid)
        yield "typname", oid, str(row["typname"])


def type_shown(oid: int) -> str:
    """Name a built-in type as ``format_type`` does."""
    known = BY_OID.get(oid)
    if known is not None:
        return shown_type(known)
    row = BUILT_IN.get(oid)
    if row is None:
        return "???"
    name = str(row["typname"])
    return f"{type_shown(int(str(row['typelem'])))}[]" if name.startswith("_") else _QUOTED.get(name, name)


_QUOTED = {"any": '"any"'}
