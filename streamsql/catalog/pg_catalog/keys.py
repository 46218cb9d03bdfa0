"""The keys and constraints of the user's tables, with their OIDs: what pg_index, pg_constraint and their kin list."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from streamsql.catalog.objects import Catalog, CatalogObject, Index, OutputColumn, Stream, Table
from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.pg_catalog.shapes import shown_name
from streamsql.catalog.relation import Snapshot
from streamsql.sql.constraints import Constraint, ForeignKey, Unique, definition
from streamsql.sql.names import quote_name
from streamsql.sql.statements import ColumnDefinition


@dataclass(frozen=True, slots=True)
class TableKey:
    """A key of a table, and its index; or an index of a relation that users have made: then `made`."""

    table: CatalogObject
    key: Unique
    primary: bool
    made: Index | None = None

    @property
    def unique(self) -> bool:
        return self.made is None or self.made.unique

    @property
    def is_constraint(self) -> bool:
        return self.made is None

    @property
    def name(self) -> str:
        return self.key.name

    @property
    def index(self) -> int:
        """The OID of the index."""
        return oids.index(self.table.id) if self.primary else oids.named(self.table.id, "index", self.name)

    @property
    def constraint(self) -> int:
        """The OID of the constraint."""
        return oids.constraint(self.table.id) if self.primary else oids.named(self.table.id, "constraint", self.name)

    @property
    def numbers(self) -> list[int]:
        return numbers_of(self.table, self.key.columns)


def numbers_of(relation: CatalogObject, names: tuple[str, ...]) -> list[int]:
    """Number columns, from 1; an expression, whose name is empty, has 0."""
    columns: list[str] = ["", *(c.name for c in list[ColumnDefinition | OutputColumn](relation.columns))]
    return [columns.index(name) for name in names]


def keys_of(table: Table, but: Collection[str] = ()) -> list[TableKey]:
    """List a table's keys, the primary one first, but for some by their names."""
    found = [TableKey(table, key, primary=bool(table.primary_key) and i == 0) for i, key in enumerate(table.keys)]
    return [key for key in found if key.name not in but]


def all_keys(catalog: Catalog) -> Iterator[TableKey]:
    """Give the keys of all tables."""
    indexes = _indexes_by_relation(catalog)
    for made in catalog:
        if isinstance(made, Table):
            yield from keys_of(made, {index.name for index in indexes.get(made.id, ())})


def all_indexes(catalog: Catalog) -> Iterator[TableKey]:
    """Give the indexes of all relations: those of keys, and those that users have made."""
    yield from all_keys(catalog)
    indexes = _indexes_by_relation(catalog)
    for made in catalog:
        for index in indexes.get(made.id, ()):
            yield TableKey(made, Unique(index.name, index.columns), primary=False, made=index)


def _indexes_by_relation(catalog: Catalog) -> dict[int, list[Index]]:
    found: dict[int, list[Index]] = {}
    for index in catalog.indexes.values():
        found.setdefault(index.relation, []).append(index)
    return found


def others(catalog: Catalog) -> Iterator[tuple[Stream | Table, Constraint]]:
    """Give the constraints that are no keys: checks and foreign keys."""
    for made in catalog:
        if isinstance(made, (Stream, Table)):
            yield from ((made, c) for c in made.constraints if not isinstance(c, Unique))


def referenced(catalog: Catalog, table: Table, key: ForeignKey) -> TableKey | None:
    """Give the key of the other table that a foreign key speaks of."""
    other = table if key.table == table.name else catalog.get(key.table)
    if not isinstance(other, Table):
        return None
    columns = set(key.key or other.primary_key)
    return next((k for k in keys_of(other) if set(k.key.columns) == columns), None)


def index_text(key: TableKey) -> str:
    """Write the statement that would make a key's index, as ``pg_get_indexdef`` does."""
    columns = ", ".join(map(quote_name, key.key.columns))
    table = f"{quote_name(key.table.schema)}.{quote_name(key.table.bare)}"
    if key.made is not None:
        return f"CREATE {'UNIQUE ' * key.unique}INDEX {quote_name(key.name)} ON {table} {key.made.text}"
    return f"CREATE UNIQUE INDEX {quote_name(key.name)} ON {table} USING btree ({columns})"


def key_text(key: TableKey) -> str:
    """Write a key as ``pg_get_constraintdef`` does."""
    return f"{'PRIMARY KEY' if key.primary else 'UNIQUE'} ({', '.join(map(quote_name, key.key.columns))})"


def constraint_text(snapshot: Snapshot, relation: Stream | Table, constraint: Constraint) -> str:
    """Write a check or a foreign key as ``pg_get_constraintdef`` does."""
    if not isinstance(constraint, ForeignKey):
        return definition(constraint)
    other = relation if constraint.table == relation.name else snapshot.catalog.find(constraint.table)
    assert isinstance(other, Table)
    names = ", ".join(map(quote_name, constraint.key or other.primary_key))
    return definition(constraint, f"{shown_name(snapshot, other)}{'' if constraint.key else f'({names})'}")
