"""The keys and constraints of the user's tables, with their OIDs: what pg_index, pg_constraint and their kin list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from streamsql.catalog.objects import Catalog, Stream, Table
from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.pg_catalog.shapes import shown_name
from streamsql.catalog.relation import Snapshot
from streamsql.sql.constraints import Constraint, ForeignKey, Unique, definition
from streamsql.sql.names import quote_name


@dataclass(frozen=True, slots=True)
class TableKey:
    """A key of a table, and its index."""

    table: Table
    key: Unique
    primary: bool

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


def numbers_of(relation: Stream | Table, names: tuple[str, ...]) -> list[int]:
    """Number columns, from 1."""
    numbers = {c.name: i for i, c in enumerate(relation.columns, 1)}
    return [numbers[name] for name in names]


def keys_of(table: Table) -> list[TableKey]:
    """List a table's keys, the primary one first."""
    return [TableKey(table, key, primary=bool(table.primary_key) and i == 0) for i, key in enumerate(table.keys)]


def all_keys(catalog: Catalog) -> Iterator[TableKey]:
    """Give the keys of all tables."""
    for made in catalog:
        if isinstance(made, Table):
            yield from keys_of(made)


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
