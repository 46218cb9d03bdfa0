"""What a transaction has changed in a table: the rows that it takes away, and the rows that it puts in.

A transaction's UPDATE, DELETE and ON CONFLICT are computed on rows of its own (`server.written`), and only their outcome
comes to the engine, which puts it into one epoch with all else that the transaction has written. A row that is to go must
still be there as the transaction has seen it: another transaction that has changed it in between was first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.base.errors import FeatureNotSupported, SerializationFailure, UndefinedTable, WrongObjectType
from streamsql.catalog.objects import Catalog, Stream, Table, quoted
from streamsql.engine.constraints import check_columns, explaining
from streamsql.engine.kept_values import Kept, filled
from streamsql.engine.store import Store
from streamsql.engine.views import ContinuousQuery

_GONE, _OWN = "__gone", "__own"
# what does not come back from Arrow as it was is kept as text
_AS_TEXT = ("BIT", "TIME WITH TIME ZONE", "UHUGEINT")


@dataclass(frozen=True, slots=True)
class TableChange:
    """`gone`: rows of the table as they were. `own`: rows as they shall be. Both as `kept_columns` gives them.

    ``__seq`` is a row's arrival number, NULL for one that is new.
    """

    table: Table
    gone: pa.Table
    own: pa.Table

    @property
    def row_count(self) -> int:
        """How many rows are held."""
        return int(self.gone.num_rows + self.own.num_rows)

    @property
    def byte_count(self) -> int:
        return int(self.gone.nbytes + self.own.nbytes)


@dataclass(frozen=True, slots=True)
class KeyedChange:
    """What a connector tells of a table, in order: rows in the table's Arrow schema (`engine.ingest`), and their weights.

    A row of weight +1 takes the place of the one with its key, if there is one; -1 takes it away, and needs no more than
    the key of it. `truncated`: all rows were gone before these came. `kept` tells which values are as before, and not there.
    """

    table: Table
    rows: pa.Table
    weights: npt.NDArray[np.int8]
    truncated: bool = False
    kept: Kept = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.table.primary_key
        assert len(self.weights) == self.rows.num_rows


def by_key(store: Store, catalog: Catalog, change: KeyedChange) -> TableChange:
    """Find which rows of the table a change takes away. Outside of a transaction, on the engine's thread."""
    table = change.table
    key = ", ".join(quoted(c) for c in table.primary_key)
    places = np.arange(change.rows.num_rows, dtype=np.int64)
    given = change.rows.append_column("__place", pa.array(places)).append_column("__weight", pa.array(change.weights))
    store.register("__told", given)
    try:
        last = store.arrow(f"SELECT max(__place) AS place FROM __told GROUP BY {key}").column("place").to_numpy()
        where = "" if change.truncated else f" WHERE ({key}) IN (SELECT ({key}) FROM __told)"
        there = catalog.relation(table.name)
        gone = store.arrow(f"SELECT {kept_columns(table)} FROM {there.rows_table}{where}")
    finally:
        store.unregister("__told")
    rows = change.rows
    if change.kept:
        known = gone.slice(0, 0) if change.truncated else gone
        rows = filled(rows, change.weights, change.kept, table.primary_key, known, table.bare)
    kept = np.sort(last[change.weights[last] > 0])
    own = rows.take(pa.array(kept))
    return TableChange(table, gone, own.append_column("__seq", pa.nulls(own.num_rows, pa.int64())))


def kept_columns(table: Table) -> str:
    """Give the SELECT list of a table's rows for Arrow, with ``__seq`` as the last column."""
    items = [
        f"CAST({quoted(c.name)} AS VARCHAR) AS {quoted(c.name)}" if _as_text(c.type) else quoted(c.name)
        for c in table.columns
    ]
    return ", ".join([*items, "__seq"])


def typed_columns(table: Stream | Table) -> str:
    """Give the SELECT list that brings rows of `kept_columns` back into the table's types; without ``__seq``."""
    return ", ".join(f"CAST({quoted(c.name)} AS {c.type}) AS {quoted(c.name)}" for c in table.columns)


def remaining(
    change: TableChange, number: int, cursor: duckdb.DuckDBPyConnection, there: str | None = None
) -> list[str]:
    """Give the SELECTs whose rows are the table's after a change; registers what they read, under this number.

    `there` stands in FROM for the rows before the change, by default those of the database.
    """
    table, names = change.table, ", ".join(quoted(c.name) for c in change.table.columns)
    cursor.register(f"{_GONE}_{number}", change.gone)
    cursor.register(f"{_OWN}_{number}", change.own)
    return [
        f"SELECT {names} FROM {there or table.rows_table} WHERE __seq NOT IN (SELECT __seq FROM {_GONE}_{number})",
        f"SELECT {typed_columns(table)} FROM {_OWN}_{number}",
    ]


def _as_text(duckdb_type: str) -> bool:
    return any(word in duckdb_type.upper() for word in _AS_TEXT)


def refuse_if_filled(catalog: Catalog, names: Iterable[str]) -> None:
    """Raise WrongObjectType where one of these is a table that a connector keeps as its origin is."""
    for name in names:
        table = catalog.get(name)
        if isinstance(table, Table) and table.connector:
            raise WrongObjectType(
                f'cannot change table "{table.bare}"',
                detail=f'the connector "{table.connector["connector"]}" keeps it as its origin is',
                hint="change it at its origin",
            )


def refuse_if_append_mode(queries: Iterable[ContinuousQuery], table: Table) -> None:
    """Raise FeatureNotSupported while a query reads the table that cannot take rows back."""
    readers = [q.name for q in queries if not q.plan.retracts and table.name in q.plan.followed]
    if readers:
        raise FeatureNotSupported(
            f'rows of "{table.bare}" cannot be changed while a query in append mode reads it',
            detail=f"read by: {', '.join(readers)}",
            hint="use EMIT UPDATE in that query, which can take rows back",
        )


@contextlib.contextmanager
def registered(
    store: Store, catalog: Catalog, queries: Iterable[ContinuousQuery], changes: Sequence[TableChange]
) -> Iterator[None]:
    """Let SQL read the rows of changes, for `applied`; around its transaction, which would take the names with it.

    Raises StreamSQLError where a table is no more, or is read by a query that cannot take rows back.
    """
    for number, change in enumerate(changes):
        if catalog.relation(change.table.name).id != change.table.id:
            raise UndefinedTable(f'relation "{change.table.bare}" was dropped and made anew')
        check_columns(catalog.relation(change.table.name), change.own)
        refuse_if_append_mode(queries, change.table)
        store.register(f"{_GONE}{number}", change.gone)
        store.register(f"{_OWN}{number}", change.own)
    try:
        yield
    finally:
        for number in range(len(changes)):
            store.unregister(f"{_GONE}{number}")
            store.unregister(f"{_OWN}{number}")


def applied(store: Store, changes: Sequence[TableChange], sequence: int, now_us: int) -> dict[str, int]:
    """Put changes into their tables, within the caller's transaction; new rows are numbered from `sequence`.

    Gives for each table the number of rows that went or came. Raises SerializationFailure.
    """
    counts = {}
    for number, change in enumerate(changes):
        with explaining(change.table):
            _apply(store, number, change, sequence, now_us)
        sequence += change.own.num_rows
        counts[change.table.name] = change.row_count
    return counts


def own_rows(number: int, table: Table) -> str:
    """Name, for FROM, the rows that a registered change puts into a table, in the table's types."""
    return f"(SELECT {typed_columns(table)} FROM {_OWN}{number})"


def _apply(store: Store, number: int, change: TableChange, sequence: int, now_us: int) -> None:
    table = change.table
    same = " AND ".join(
        f"t.{quoted(c.name)} IS NOT DISTINCT FROM CAST(g.{quoted(c.name)} AS {c.type})" for c in table.columns
    )
    taken = store.execute(
        f"DELETE FROM {table.rows_table} AS t USING {_GONE}{number} AS g WHERE t.__seq = g.__seq AND {same}"
    )
    if taken != change.gone.num_rows:
        raise SerializationFailure(
            "could not serialize access due to concurrent update",
            detail=f'rows of "{table.bare}" that the transaction has changed were changed by another one, which was first',
            hint="send the transaction again",
        )
    numbered = f"coalesce(__seq, {sequence - 1} + row_number() OVER ())"
    store.execute(
        f"INSERT INTO {table.rows_table} SELECT {typed_columns(table)}, {numbered}, make_timestamp({now_us}) "
        f"FROM {_OWN}{number}"
    )
