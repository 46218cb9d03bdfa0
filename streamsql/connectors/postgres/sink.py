"""A view's changes into a table of another PostgreSQL, exactly once.

    CREATE SINK totals FROM hourly WITH (connector = 'postgres', host = 'db', database = 'shop', user = 'streamsql',
        table = 'public.totals', create_table = 'true');

A delivery is one transaction there. Rows without a key, which only ever come, are copied into the table. Of rows with a key
the last change of each key is copied into a temporary table, and from there put into the place of the row with that key, or
taken away. The same transaction notes the delivery's last epoch in ``streamsql_deliveries``, a table in the same schema with
one row for each sink.

A connection may break after it has sent COMMIT, and nobody knows yet what became of that. So each transaction begins by
writing the note, and `delivered` reads it under a lock: it waits until what is under way has ended. What the note says then
stays true, since nobody who does not hold the lock writes the table. `_SETTINGS` see to it that a server does not keep
the lock for a client that is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from streamsql.base.errors import (
    FeatureNotSupported,
    NotInPrerequisiteState,
    StreamSQLError,
    UndefinedColumn,
    UndefinedTable,
    UniqueViolation,
)
from streamsql.base.types import INT2, WireType, column_elsewhere, type_name
from streamsql.catalog.objects import OutputColumn, nearest
from streamsql.connectors.postgres.connection import Connection
from streamsql.connectors.postgres.options import (
    CONNECTION_OPTIONS,
    address_of,
    literal,
    qualified,
    quoted,
    table_name,
)
from streamsql.connectors.settings import Option, boolean, read_options
from streamsql.connectors.sink import Delivery, Guarantee, Shape
from streamsql.connectors.source import Given, Surroundings
from streamsql.formats import casts
from streamsql.pgwire.copy_options import CopyOptions
from streamsql.pgwire.copy_out import CopiedColumn, CopyEncoder

NAME = "postgres"
NOTES = "streamsql_deliveries"

_CHANGES = "streamsql_changes"  # the temporary table
_WEIGHT = "streamsql_weight"
_BATCH_ROWS = 16_384
_NULLS_NOT_DISTINCT = 150_000  # the version that has it
_SETTINGS = (
    "SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'; "
    "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
)
OPTIONS = {
    **CONNECTION_OPTIONS,
    "table": Option(
        table_name, None, ("table.name",),
        says="the table that is written, `schema.table`; without a schema `public`; if not given, one named as the sink",
    ),
    "create_table": Option(boolean, False, says="`true` makes the table, if it is not there, with the view's columns"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PostgresSinkConnector:
    """The sink ``postgres``: see above."""

    def check(self, given: Given, shape: Shape) -> Guarantee:
        read_options(given, OPTIONS, NAME)
        if not shape.append_only and not shape.key:
            raise FeatureNotSupported(
                "rows of the view go again, and there is no key to find them by in the table",
                hint="add key = 'a, b' with the columns that are unique in the view",
                position=given.places.get("connector"),
            )
        if _WEIGHT in {c.name for c in shape.columns}:
            raise FeatureNotSupported(f'a column of the sink "{NAME}" may not be named "{_WEIGHT}"')
        return Guarantee.EXACTLY_ONCE

    def open(self, given: Given, shape: Shape, surroundings: Surroundings) -> PostgresSink:
        values = read_options(given, OPTIONS, NAME, surroundings)
        schema, table = qualified(values["table"]) if values["table"] else ("public", surroundings.name)
        sql = Connection(address_of(values, surroundings))
        try:
            return PostgresSink(sql, shape, schema, table, surroundings.identity, values)
        except BaseException:
            sql.close()
            raise


class PostgresSink:
    """One connection, on which the tables are there."""

    def __init__(
        self, sql: Connection, shape: Shape, schema: str, table: str, identity: str, values: dict[str, Any]
    ) -> None:
        self._sql = sql
        self._shape = shape
        self._table = f"{quoted(schema)}.{quoted(table)}"
        self._shown = f"{schema}.{table}"
        self._notes = f"{quoted(schema)}.{quoted(NOTES)}"
        self._identity = literal(identity)
        sql.query(_SETTINGS)
        self._version = int(sql.query("SHOW server_version_num")[0][0] or 0)
        self._prepare(schema, table, create=values["create_table"])
        self._types = [column_elsewhere(c.type) for c in shape.columns]
        columns = [CopiedColumn(c.name, t.type) for c, t in zip(shape.columns, self._types, strict=True)]
        self._copied = (*columns, CopiedColumn(_WEIGHT, INT2)) if shape.key else tuple(columns)
        self._matches = self._unique_on_key(schema, table) if shape.key else None

    # ---- what is there

    def _prepare(self, schema: str, table: str, *, create: bool) -> None:
        found = self._columns(schema, table)
        if not found and create:
            self._make(self._create_statement())
            found = self._columns(schema, table)
        if not found:
            raise UndefinedTable(
                f'PostgreSQL has no table "{self._shown}"',
                hint="make it, or add create_table = 'true' and it is made with the view's columns",
            )
        for column in self._shape.columns:
            if column.name not in found:
                raise UndefinedColumn(
                    f'the table "{self._shown}" of PostgreSQL has no column "{column.name}"',
                    hint=nearest(column.name, found) or f"columns that there are: {', '.join(found)}",
                )
        self._make(
            f"CREATE TABLE IF NOT EXISTS {self._notes} "
            "(sink text PRIMARY KEY, epoch bigint NOT NULL, delivered_at timestamptz NOT NULL)"
        )
        self._sql.query(f"INSERT INTO {self._notes} VALUES ({self._identity}, 0, now()) ON CONFLICT (sink) DO NOTHING")
        if self._shape.key:
            names = ", ".join(quoted(c.name) for c in self._shape.columns)
            self._sql.query(
                f"CREATE TEMPORARY TABLE {_CHANGES} ON COMMIT DELETE ROWS AS "
                f"SELECT {names}, 0::int2 AS {_WEIGHT} FROM {self._table} WITH NO DATA"
            )

    def _make(self, statement: str) -> None:
        """Make a table if it is not there. Of two who make one at a time the second fails once the first is done."""
        try:
            self._sql.query(statement)
        except UniqueViolation:
            self._sql.query(statement)

    def _columns(self, schema: str, table: str) -> list[str]:
        rows = self._sql.query(
            "SELECT attname FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n "
            f"ON n.oid = relnamespace WHERE nspname = {literal(schema)} AND relname = {literal(table)} "
            "AND attnum > 0 AND NOT attisdropped"
        )
        return [name or "" for (name,) in rows]

    def _create_statement(self) -> str:
        columns = [f"{quoted(c.name)} {_postgres_type(c)}" for c in self._shape.columns]
        if self._shape.key:
            # a key of a view may be NULL, so that it cannot be a primary key
            distinct = " NULLS NOT DISTINCT" if self._version >= _NULLS_NOT_DISTINCT else ""
            columns.append(f"UNIQUE{distinct} ({', '.join(quoted(k) for k in self._shape.key)})")
        return f"CREATE TABLE IF NOT EXISTS {self._table} ({', '.join(columns)})"

    def _unique_on_key(self, schema: str, table: str) -> bool | None:
        """Say of a unique index on just the key whether it takes two NULLs for the same; None where there is no index."""
        same = "i.indnullsnotdistinct" if self._version >= _NULLS_NOT_DISTINCT else "false"
        rows = self._sql.query(
            f"SELECT i.indexrelid, {same}, a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
            "JOIN pg_namespace n ON n.oid = c.relnamespace "
            "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey[0:i.indnkeyatts - 1]::int[]) "
            f"WHERE n.nspname = {literal(schema)} AND c.relname = {literal(table)} AND i.indisunique AND i.indimmediate "
            "AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL"
        )
        found: dict[tuple[str | None, bool], set[str | None]] = {}
        for index, nulls_same, column in rows:
            found.setdefault((index, nulls_same == "t"), set()).add(column)
        fitting = [same for (_, same), names in found.items() if names == set(self._shape.key)]
        return max(fitting) if fitting else None

    # ---- deliveries

    def delivered(self) -> int | None:
        rows = self._sql.query(f"SELECT epoch FROM {self._notes} WHERE sink = {self._identity} FOR UPDATE")
        return int(rows[0][0] or 0) if rows else 0

    def deliver(self, delivery: Delivery) -> None:
        self._sql.query("BEGIN")
        try:
            self._note(delivery)
            if self._shape.key:
                self._upsert(delivery.last_of_keys(self._shape.key))
            else:
                self._copy(self._table, delivery.rows, None)
            self._sql.query("COMMIT")
        except StreamSQLError:
            self._sql.query_if_possible("ROLLBACK")
            raise

    def _note(self, delivery: Delivery) -> None:
        """Write the note first: whoever else delivers for this sink waits, and then sees it."""
        rows = self._sql.query(
            f"UPDATE {self._notes} SET epoch = {delivery.last_epoch}, delivered_at = now() "
            f"WHERE sink = {self._identity} AND epoch < {delivery.first_epoch} RETURNING 1"
        )
        if not rows:
            raise NotInPrerequisiteState(
                f'"{NOTES}" says that epoch {delivery.first_epoch} has been delivered, or has no row for this sink',
                hint="somebody else has written it, or delivers with the same name",
            )

    def _copy(self, table: str, rows: pa.Table, weights: Sequence[int] | None) -> None:
        shown = self._canonical(rows)
        names = [quoted(c.name) for c in self._copied]
        if weights is not None:
            shown = shown.append_column(_WEIGHT, pa.array(weights, pa.int16()))

        def pieces() -> Iterator[memoryview | bytes]:
            encoder = CopyEncoder(self._copied, CopyOptions())
            for batch in shown.combine_chunks().to_batches(max_chunksize=_BATCH_ROWS):
                yield encoder.rows(batch)

        self._sql.copy_in(f"COPY {table} ({', '.join(names)}) FROM STDIN", pieces())

    def _canonical(self, rows: pa.Table) -> pa.Table:
        """Bring columns into the forms that are written (`base.types`)."""
        if not any(t.cast for t in self._types):
            return rows
        items = [
            f"CAST({quoted(c.name)} AS {t.cast}) AS {quoted(c.name)}" if t.cast else quoted(c.name)
            for c, t in zip(self._shape.columns, self._types, strict=True)
        ]
        return casts.query(f"SELECT {', '.join(items)} FROM __rows", {"__rows": rows})

    def _upsert(self, delivery: Delivery) -> None:
        self._copy(_CHANGES, delivery.rows, delivery.weights.tolist())
        key = self._shape.key
        null_in_key = any(delivery.rows.column(k).null_count for k in key)
        for_upsert = self._matches is not None and (self._matches or not null_in_key)
        names = [quoted(c.name) for c in self._shape.columns]
        same = " AND ".join(f"t.{quoted(k)} = d.{quoted(k)}" for k in key)
        # with a unique index the rows that come replace those there; without one those there go first
        gone = f" AND d.{_WEIGHT} < 0" if for_upsert else ""
        if not for_upsert or bool(np.any(delivery.weights < 0)):
            self._sql.query(f"DELETE FROM {self._table} t USING {_CHANGES} d WHERE {same}{gone}")
            if null_in_key:
                nulls = " OR ".join(f"d.{quoted(k)} IS NULL" for k in key)
                equal = " AND ".join(f"t.{quoted(k)} IS NOT DISTINCT FROM d.{quoted(k)}" for k in key)
                self._sql.query(f"DELETE FROM {self._table} t USING {_CHANGES} d WHERE ({nulls}) AND {equal}{gone}")
        listed = ", ".join(names)
        insert = f"INSERT INTO {self._table} ({listed}) SELECT {listed} FROM {_CHANGES} WHERE {_WEIGHT} > 0"
        if for_upsert:
            others = [name for name in names if name not in {quoted(k) for k in key}]
            target = ", ".join(quoted(k) for k in key)
            set_ = ", ".join(f"{name} = EXCLUDED.{name}" for name in others)
            insert += f" ON CONFLICT ({target}) DO " + (f"UPDATE SET {set_}" if others else "NOTHING")
        self._sql.query(insert)

    def close(self) -> None:
        self._sql.close()


def _postgres_type(column: OutputColumn) -> str:
    """Name the PostgreSQL type of a column of a table that is made."""
    shown = column_elsewhere(column.type)
    element: WireType = shown.type.element or shown.type
    if element.name == "numeric":
        limits = ""
        if shown.modifier >= 0:
            limits = f"({(shown.modifier - 4) >> 16},{(shown.modifier - 4) & 0xFFFF})"
        return f"numeric{limits}" + ("[]" if shown.type.element else "")
    if element.name == "json":
        return "jsonb" + ("[]" if shown.type.element else "")
    return type_name(shown.type)
