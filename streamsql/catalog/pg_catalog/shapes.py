"""What all relations need to know of the user's objects: columns with their wire types, keys, defaults as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sqlglot import exp

from streamsql.base.types import WireColumn, WireType, shown_type
from streamsql.catalog.objects import (
    PUBLIC_SCHEMA,
    Catalog,
    CatalogObject,
    Named,
    PlainView,
    Sequence,
    Stream,
    Table,
    View,
    comment_key,
    literal,
)
from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.relation import Snapshot
from streamsql.sql.names import key_of, parted, quote_name
from streamsql.sql.render_trees import shown_sql
from streamsql.sql.sequence_names import sequence_of_default
from streamsql.sql.sequence_statements import Numbered
from streamsql.sql.statements import ColumnDefinition


# PostgreSQL's names for people; other types are called what pg_type calls them
@dataclass(frozen=True, slots=True)
class Shape:
    """A column of one of the user's objects; `number` counts from 1."""

    number: int
    name: str
    type: WireType
    modifier: int
    not_null: bool
    default: str | None
    numbered: Numbered | None = None


def shapes(made: CatalogObject, catalog: Catalog | None = None) -> list[Shape]:
    """List an object's columns."""
    if isinstance(made, (PlainView, View)):
        return [_shape(i, c.name, c.wire, False, None) for i, c in enumerate(made.columns, 1)]
    key = primary_key(made)
    if any(c.numbered is not None for c in made.columns):
        return [_numbered(catalog, made, i, c) for i, c in enumerate(made.columns, 1)]
    return [
        _shape(i, c.name, c.wire, c.not_null or c.primary_key or c.name in key, c.default)
        for i, c in enumerate(made.columns, 1)
    ]


def _numbered(catalog: Catalog | None, made: Stream | Table, number: int, column: ColumnDefinition) -> Shape:
    plain = _shape(number, column.name, column.wire, column.not_null or column.primary_key, column.default)
    sequence = None if catalog is None else catalog.sequence_of(made, column.name)
    if column.numbered is None or sequence is None:
        return plain
    if column.numbered.is_identity:
        return replace(plain, numbered=column.numbered)
    name = key_of(sequence.schema, quote_name(sequence.bare))
    return replace(plain, default=f"nextval('{name}'::regclass)", numbered=column.numbered)


def _shape(number: int, name: str, shown: WireColumn, not_null: bool, default: exp.Expr | None) -> Shape:
    return Shape(number, name, shown.type, shown.modifier, not_null, default_text(default, shown.type))


def default_sequence(catalog: Catalog, made: Stream | Table, column: ColumnDefinition) -> Sequence | None:
    """Give the sequence whose next number is a column's default; None where it is something else, or an identity."""
    if column.numbered is not None:
        return None if column.numbered.is_identity else catalog.sequence_of(made, column.name)
    name = sequence_of_default(column)
    if name is None:
        return None
    schema, bare = parted(name)
    paths = (made.schema, PUBLIC_SCHEMA) if schema is None else (schema,)
    return next((s for each in paths if (s := catalog.sequence_called(each, bare)) is not None), None)


def shown_default(snapshot: Snapshot, made: CatalogObject, shape: Shape) -> str | None:
    """Write a column's default as ``pg_get_expr`` does: names with schemas that are not in the asker's path."""
    if shape.default is None or not isinstance(made, (Stream, Table)):
        return shape.default
    column = made.columns[shape.number - 1]
    sequence = default_sequence(snapshot.catalog, made, column)
    if sequence is not None:
        return f"nextval({literal(shown_name(snapshot, sequence))}::regclass)"
    for user_type in snapshot.catalog.types.values():
        if user_type.wire.oid == shape.type.oid and shape.default.endswith(f"'::{shown_type(shape.type)}"):
            return shape.default.removesuffix(shown_type(shape.type)) + shown_name(snapshot, user_type)
    return shape.default


def other_comments(snapshot: Snapshot) -> Iterator[tuple[int, int, str]]:
    """Give the comments on schemas, sequences and types: the OIDs of what lists each and of itself, and the text."""
    catalog = snapshot.catalog
    found = [(_SCHEMAS, oids.schema(s.id), s.id) for s in catalog.schemas.values()]
    found += [(oids.CLASSES, oids.relation(s.id), s.id) for s in catalog.sequences.values()]
    found += [(_TYPES, made.wire.oid, made.id) for made in catalog.types.values()]
    for listing, oid, number in found:
        text = catalog.comments.get((comment_key(number), ""))
        if text is None and oid == oids.PUBLIC_SCHEMA:
            text = "standard public schema"
        if text is not None:
            yield listing, oid, text


def comments(catalog: Catalog, made: CatalogObject) -> Iterator[tuple[int, str]]:
    """Give the comments on an object (number 0) and its columns (from 1)."""
    for number, column in enumerate(["", *(c.name for c in made.columns)]):
        comment = catalog.comments.get((made.name, column))
        if comment is not None:
            yield number, comment


def namespace(catalog: Catalog, made: Named) -> int:
    """Give the OID of an object's schema."""
    known = catalog.schemas.get(made.schema)
    return oids.TEMPORARY_SCHEMA if known is None else oids.schema(known.id)


def shown_name(snapshot: Snapshot, made: Named, name: str | None = None) -> str:
    """Write the name of an object, or of its index, with its schema where that is not found without it."""
    bare = quote_name(made.bare if name is None else name)
    return bare if snapshot.visible(made.schema, made.bare) else f"{quote_name(made.schema)}.{bare}"


def primary_key(made: CatalogObject) -> tuple[str, ...]:
    """Name the columns of an object's primary key; none for most."""
    return made.primary_key if isinstance(made, Table) else ()


def default_text(default: exp.Expr | None, wire_type: WireType) -> str | None:
    """Write a column's default as ``pg_get_expr`` does."""
    if default is None:
        return None
    text = shown_sql(default)
    if isinstance(default, exp.Boolean):
        return text.lower()
    literal = default.this if isinstance(default, exp.Cast) else default
    if isinstance(literal, exp.Literal) and literal.is_string:
        return f"{shown_sql(literal)}::{shown_type(wire_type)}"
    return text


def dimensions(wire_type: WireType) -> int:
    return 0 if wire_type.element is None else 1


_TYPES, _SCHEMAS = 1247, 2615  # the OIDs of pg_type and pg_namespace
TEXT_OCTETS_MAX = 1 << 30
NUMBER_DIGITS = {"int2": 16, "int4": 32, "int8": 64, "float4": 24, "float8": 53}
