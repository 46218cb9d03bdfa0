"""Temporary tables: a session's own, in memory, seen by nobody else, gone with the session.

They stand before objects of the same name. Their rows are Arrow tables that are replaced, never changed, so that a
transaction and its savepoints only have to keep a reference; the engine and the database know nothing of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa

from streamsql.base.errors import FeatureNotSupported
from streamsql.base.limits import Limits, exceeded
from streamsql.catalog.access import TEMPORARY_IDS_FROM
from streamsql.catalog.objects import TEMPORARY_SCHEMA, Catalog, Table, quoted
from streamsql.engine.constraints import explaining, with_checks
from streamsql.engine.store import Store, translated
from streamsql.engine.table_changes import TableChange, kept_columns, remaining, typed_columns
from streamsql.server.reads import describe_on
from streamsql.sql.names import parted
from streamsql.sql.statements import CreateTable, OnCommit

# they only have to differ within a session
_numbers = itertools.count()
_NUMBERS_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class TemporaryTable:
    """A table and its committed rows, as `table_changes.kept_columns` gives them: ``__seq`` tells them apart."""

    table: Table
    rows: pa.Table
    on_commit: OnCommit = OnCommit.PRESERVE

    @property
    def read_as(self) -> str:
        """The name under which a connection reads the rows."""
        return f"__temporary_{self.table.id}"

    def register(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Let a connection read the rows."""
        cursor.register(self.read_as, self.rows)

    def there(self) -> str:
        """Give the SELECT of the rows in the table's types, with ``__seq``."""
        return f"SELECT {typed_columns(self.table)}, __seq FROM {self.read_as}"


Temporary = Mapping[str, TemporaryTable]


def created(statement: CreateTable, store: Store, limits: Limits) -> TemporaryTable:
    """Make an empty table of a CREATE TEMP TABLE."""
    number = TEMPORARY_IDS_FROM + next(_numbers) % _NUMBERS_MAX
    _, name = parted(statement.name)
    table = Table(
        number, statement.name, statement.columns, statement.text, statement.primary_key, key_name=statement.key_name,
        constraints=statement.constraints, schema=TEMPORARY_SCHEMA, label=name,
    )  # fmt: skip
    columns = ", ".join(f"CAST(NULL AS {c.type}) AS {quoted(c.name)}" for c in table.columns)
    cursor = store.cursor()
    table = with_checks(table, limits, statement, describe_on(cursor))
    if table.foreign_keys:
        raise FeatureNotSupported("a foreign key of a temporary table is not supported", hint="use CREATE TABLE")
    with translated():
        rows = cursor.sql(
            f"SELECT {kept_columns(table)} FROM (SELECT {columns}, CAST(NULL AS BIGINT) AS __seq) LIMIT 0"
        ).to_arrow_table()
    cursor.close()
    return TemporaryTable(table, rows, statement.on_commit or OnCommit.PRESERVE)


def overlaid(catalog: Catalog, temporary: Temporary) -> Catalog:
    """Give the catalog as the session sees it."""
    return replace(catalog, objects={**catalog.objects, **{name: made.table for name, made in temporary.items()}})


def merged(
    made: TemporaryTable, change: TableChange | None, written: pa.Table | None, store: Store, limits: Limits
) -> TemporaryTable:
    """Give the table with what a transaction has done to its rows. Raises UniqueViolation, ProgramLimitExceeded."""
    if change is None and written is None:
        return made
    table, cursor = made.table, store.cursor()
    names = ", ".join(quoted(c.name) for c in table.columns)
    columns = [f"{quoted(c.name)} {c.type}" for c in table.columns]
    columns += [f"UNIQUE ({', '.join(map(quoted, key.columns))})" for key in table.keys]
    try:
        made.register(cursor)
        parts = [f"SELECT {names} FROM ({made.there()})"]
        if change is not None:
            parts = remaining(change, 0, cursor, f"({made.there()})")
        if written is not None:
            cursor.register("__written", written)
            parts.append(f"SELECT {names} FROM __written")
        with explaining(table):
            cursor.execute(f"CREATE TEMP TABLE {quoted(table.name)} ({', '.join(columns)})").fetchall()
            cursor.execute(f"INSERT INTO temp.{quoted(table.name)} {' UNION ALL '.join(parts)}").fetchall()
            rows = cursor.sql(
                f"SELECT {kept_columns(table)} FROM (SELECT *, row_number() OVER () AS __seq FROM temp.{quoted(table.name)})"
            ).to_arrow_table()
    finally:
        cursor.close()
    if rows.nbytes > limits.temporary_bytes_max:
        raise exceeded(limits, "temporary_bytes_max", f'the size of temporary table "{table.bare}"')
    return replace(made, rows=rows)


def after_commit(temporary: Temporary) -> Temporary:
    """Give what is left at the end of a transaction: ON COMMIT DROP and DELETE ROWS take effect."""
    if all(made.on_commit is OnCommit.PRESERVE for made in temporary.values()):
        return temporary
    return {
        name: made if made.on_commit is OnCommit.PRESERVE else replace(made, rows=made.rows.slice(0, 0))
        for name, made in temporary.items()
        if made.on_commit is not OnCommit.DROP
    }
