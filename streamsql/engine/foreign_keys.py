"""Foreign keys: rows that speak of rows of another table, which must be there when an epoch ends.

Held at the end of the epoch, within its transaction, so that what a transaction writes in any order is held against what it
leaves. A key with a NULL in it speaks of nothing (MATCH SIMPLE). What CASCADE and SET NULL do is part of the transaction that
changes the other table (`server.written`), and held against the keys like all else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from streamsql.base.errors import (
    DatatypeMismatch,
    FeatureNotSupported,
    ForeignKeyViolation,
    InvalidForeignKey,
    UndefinedColumn,
    UndefinedObject,
    UndefinedTable,
    WrongObjectType,
)
from streamsql.base.types import type_name
from streamsql.catalog.objects import Catalog, Stream, Table, quoted
from streamsql.engine.constraints import Fetch, about
from streamsql.engine.store import Store
from streamsql.engine.table_changes import TableChange, own_rows
from streamsql.sql.constraints import ForeignKey, ReferentialAction
from streamsql.sql.names import parted

_TEXTS = ("VARCHAR",)


def key_columns(catalog: Catalog, table: Table, key: ForeignKey) -> tuple[str, ...]:
    """Name the columns of the other table that a foreign key speaks of; `table` is the one that has it."""
    if key.key:
        return key.key
    other = table if key.table == table.name else catalog.relation(key.table)
    assert isinstance(other, Table)
    return other.primary_key


def check_new(catalog: Catalog, table: Table, keys: Iterable[ForeignKey] | None = None) -> None:
    """Raise where a foreign key of a table that is made (or by default all of them) cannot be one."""
    for key in table.foreign_keys if keys is None else keys:
        other = table if key.table == table.name else catalog.get(key.table)
        if other is None:
            raise UndefinedTable(f'relation "{parted(key.table)[1]}" does not exist')
        if not isinstance(other, Table) or other.temporary:
            raise WrongObjectType(f'referenced relation "{other.bare}" is not a table')
        if table.temporary:
            raise FeatureNotSupported("a foreign key of a temporary table is not supported", hint="use CREATE TABLE")
        if table.connector or other.connector:
            raise FeatureNotSupported(
                "a foreign key of a table that a connector fills is not supported", hint="its origin sees to it"
            )
        if not key.key and not other.primary_key:
            raise UndefinedObject(f'there is no primary key for referenced table "{other.bare}"')
        _check_columns(table, other, key, key.key or other.primary_key)


def _check_columns(table: Table, other: Table, key: ForeignKey, columns: tuple[str, ...]) -> None:
    for name in columns:
        if other.column(name) is None:
            raise UndefinedColumn(f'column "{name}" referenced in foreign key constraint does not exist')
    if all(set(k.columns) != set(columns) for k in other.keys):
        raise InvalidForeignKey(
            f'there is no unique constraint matching given keys for referenced table "{other.bare}"'
        )
    if len(columns) != len(key.columns):
        raise InvalidForeignKey("number of referencing and referenced columns for foreign key disagree")
    for own, there in zip(key.columns, columns, strict=True):
        one, two = table.column(own), other.column(there)
        assert one is not None
        assert two is not None
        if (one.type in _TEXTS) != (two.type in _TEXTS) or (one.type == "UUID") != (two.type == "UUID"):
            raise DatatypeMismatch(
                f'foreign key constraint "{key.name}" cannot be implemented',
                detail=f'Key columns "{own}" and "{there}" are of incompatible types: '
                f"{type_name(one.wire.type)} and {type_name(two.wire.type)}.",
            )


def acting(catalog: Catalog, other: Table) -> list[tuple[Table, ForeignKey]]:
    """List the foreign keys that change their own rows when rows of this table go or get another key, each with its table."""
    acts = {ReferentialAction.CASCADE, ReferentialAction.SET_NULL}
    return [(table, key) for table, key in catalog.referencing(other.name) if {key.on_delete, key.on_update} & acts]


def orphans(catalog: Catalog, table: Table, key: ForeignKey, rows: str, there: str | None = None) -> str:
    """Give the SELECT of keys in `rows` (as FROM names them) that speak of nothing; `there` stands for the other table."""
    columns = key_columns(catalog, table, key)
    other = there or (table if key.table == table.name else catalog.relation(key.table)).rows_table
    same = " AND ".join(f"p.{quoted(b)} = c.{quoted(a)}" for a, b in zip(key.columns, columns, strict=True))
    given = " AND ".join(f"c.{quoted(a)} IS NOT NULL" for a in key.columns)
    names = ", ".join(f"c.{quoted(a)}" for a in key.columns)
    return f"SELECT {names} FROM {rows} AS c WHERE {given} AND NOT EXISTS (SELECT 1 FROM {other} AS p WHERE {same})"


def check_rows(fetch: Fetch, catalog: Catalog, table: Table, rows: str) -> None:
    """Hold rows of a table against its foreign keys. Raises ForeignKeyViolation."""
    for key in table.foreign_keys:
        found = fetch(f"{orphans(catalog, table, key, rows)} LIMIT 1")
        if found:
            raise missing(catalog, table, key, found[0])


def check_epoch(
    store: Store,
    catalog: Catalog,
    arrivals: Iterable[tuple[Stream | Table, pa.Table]],
    changes: Sequence[TableChange],
) -> None:
    """Hold what an epoch has brought and taken against the foreign keys of its tables. Raises ForeignKeyViolation."""
    for relation, _ in arrivals:
        if isinstance(relation, Table) and relation.foreign_keys:
            check_rows(store.fetch, catalog, relation, f'"__kept {relation.id}"')
    for number, change in enumerate(changes):
        table = catalog.relation(change.table.name)
        assert isinstance(table, Table)
        if table.foreign_keys and change.own.num_rows:
            check_rows(store.fetch, catalog, table, own_rows(number, table))
        if change.gone.num_rows:
            check_referencing(store.fetch, catalog, table)


def missing(catalog: Catalog, table: Table, key: ForeignKey, values: tuple[object, ...]) -> ForeignKeyViolation:
    """Make the error about a row that speaks of nothing."""
    other = catalog.find(key.table) if key.table != table.name else table
    return ForeignKeyViolation(
        f'insert or update on table "{table.bare}" violates foreign key constraint "{key.name}"',
        detail=f'Key ({", ".join(key.columns)})=({", ".join(map(str, values))}) is not present in table "{other.bare}".',
        about=about(table, constraint=key.name),
    )


def check_referencing(fetch: Fetch, catalog: Catalog, other: Table) -> None:
    """Hold all tables that speak of this one against it, after rows of it went. Raises ForeignKeyViolation."""
    for table, key in catalog.referencing(other.name):
        found = fetch(f"{orphans(catalog, table, key, table.rows_table)} LIMIT 1")
        if found:
            raise still_referenced(catalog, table, key, found[0])


def still_referenced(
    catalog: Catalog, table: Table, key: ForeignKey, values: tuple[object, ...]
) -> ForeignKeyViolation:
    """Make the error about a row that others speak of."""
    other = catalog.find(key.table)
    columns = ", ".join(key_columns(catalog, table, key))
    return ForeignKeyViolation(
        f'update or delete on table "{other.bare}" violates foreign key constraint "{key.name}" on table "{table.bare}"',
        detail=f'Key ({columns})=({", ".join(map(str, values))}) is still referenced from table "{table.bare}".',
        about=about(table, constraint=key.name),
    )
