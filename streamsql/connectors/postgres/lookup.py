"""Lookups in a table of another PostgreSQL: the rows of many keys by one query.

    CREATE TABLE customers (id BIGINT PRIMARY KEY, name TEXT, tier TEXT)
        WITH (connector = 'postgres-lookup', host = 'db', database = 'shop', user = 'streamsql', cache_ttl = '1 minute')

    COPY (SELECT id, name, tier FROM public.customers WHERE id = ANY('{7,9}'::bigint[])) TO STDOUT

The rows come as the snapshot of change capture does, so the same value is the same by both ways. A primary key of several
columns is looked for with ``(a, b) IN (SELECT * FROM unnest(...))``. The origin is asked whether the key is unique there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import BadRecord, FeatureNotSupported, StreamSQLError
from streamsql.base.limits import Limits
from streamsql.base.types import TEXT
from streamsql.connectors.postgres import origin
from streamsql.connectors.postgres.connection import Connection
from streamsql.connectors.postgres.options import (
    CONNECTION_OPTIONS,
    Address,
    address_of,
    literal,
    quoted,
    table_name,
)
from streamsql.connectors.postgres.values import typed
from streamsql.connectors.settings import Option, integer, read_options
from streamsql.connectors.source import Given, Surroundings
from streamsql.formats.casts import shown_type
from streamsql.pgwire.copy import CopyColumn, CopyDecoder
from streamsql.pgwire.copy_options import CopyOptions
from streamsql.sql.durations import parse_duration
from streamsql.sql.statements import ColumnDefinition

NAME = "postgres-lookup"
KEYS_MAX = 10_000  # of one query
# types whose values have one text each, which PostgreSQL reads
_KEY_TYPES = ("BIGINT", "DECIMAL", "INTEGER", "SMALLINT", "UUID", "VARCHAR")
_CSV = CopyOptions(format="csv", delimiter=",", null="")

OPTIONS = {
    **CONNECTION_OPTIONS,
    "table": Option(
        table_name, None, ("table.name",),
        says="the table of the origin, `schema.table`; without a schema `public`, and if it is not given, one of the same name",
    ),
    "cache_ttl": Option(
        lambda text: parse_duration(text, zero_allowed=True), 60_000_000,
        ("lookup.cache.ttl", "lookup.partial-cache.expire-after-write"),
        says="how long a key's row, or that there is none, is believed; `'0'` asks in each epoch. Default `1 minute`",
    ),
    "cache_rows": Option(
        integer(0, 10_000_000), 100_000, ("lookup.cache.max-rows", "lookup.partial-cache.max-rows"),
        says="keys that are cached, in memory; the oldest go first. Default `100000`",
    ),
    "timeout": Option(integer(1, 3_600), 10, says="seconds that one query may take before it is asked again. Default `10`"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PostgresLookupConnector:
    """The connector ``postgres-lookup``: see above."""

    def check(self, given: Given, columns: Sequence[ColumnDefinition], key: Sequence[str]) -> None:
        read_options(given, OPTIONS, NAME)
        for column in columns:
            if column.name in key and column.type.partition("(")[0] not in _KEY_TYPES:
                raise FeatureNotSupported(
                    f'"{column.name}" cannot be looked up by: it is of type {shown_type(column.type)}',
                    hint="keys are whole and decimal numbers, text and uuid",
                    position=column.position + 1,
                )

    def open(
        self, given: Given, columns: Sequence[ColumnDefinition], key: Sequence[str], surroundings: Surroundings
    ) -> PostgresLookup:
        values = read_options(given, OPTIONS, NAME, surroundings)
        table = values["table"] or quoted(surroundings.name)
        return PostgresLookup(
            address_of(values, surroundings), table, columns, key, values["timeout"],
            cache_us=values["cache_ttl"], cache_rows=values["cache_rows"],
        )  # fmt: skip


class PostgresLookup:
    """A table, and the connection by which it is asked, as long as that holds."""

    def __init__(
        self, address: Address, table: str, columns: Sequence[ColumnDefinition], key: Sequence[str], seconds: int,
        *, cache_us: int, cache_rows: int,
    ) -> None:  # fmt: skip
        self.cache_us, self.cache_rows = cache_us, cache_rows
        self._address, self._name, self._seconds = address, table, seconds
        self._columns = columns
        self._key = [next(c for c in columns if c.name == name) for name in key]
        self._connection: Connection | None = None
        self._table = ""

    def ask(self, keys: pa.Table) -> pa.Table:
        try:
            parts = [self._rows(keys.slice(at, KEYS_MAX)) for at in range(0, keys.num_rows, KEYS_MAX)]
        except StreamSQLError:
            self.close()
            raise
        return pa.concat_tables(parts)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _open(self) -> Connection:
        if self._connection is None:
            made = Connection(self._address)
            try:
                made.give_up_after(self._seconds)
                names = [c.name for c in self._columns]
                self._table = origin.find_table(made, self._name, names, [c.name for c in self._key]).sql
                made.query(f"SET statement_timeout = {self._seconds * 1_000}")
            except StreamSQLError:
                made.close()
                raise
            self._connection = made
        return self._connection

    def _rows(self, keys: pa.Table) -> pa.Table:
        connection = self._open()
        names = ", ".join(quoted(c.name) for c in self._columns)
        copy = f"COPY (SELECT {names} FROM {self._table} WHERE {self._among(keys)}) TO STDOUT (FORMAT csv)"
        decoder = CopyDecoder([CopyColumn(c.name, TEXT) for c in self._columns], _CSV, Limits(), self._name)
        batches = [b for data in connection.copy_out(copy) for b in decoder.feed(data)]
        batches += decoder.finish()
        texts = [pa.concat_arrays([b.column(i) for b in batches] or [pa.array([], pa.string())])
                 for i in range(len(self._columns))]  # fmt: skip
        rows, _, bad = typed(texts, self._columns, np.arange(len(texts[0])))
        if bad.num_rows:
            raise BadRecord(
                f"a row of {self._name} cannot be read: {bad.column('reason')[0].as_py()}",
                hint="declare the column as it is at the origin",
            )
        return rows

    def _among(self, keys: pa.Table) -> str:
        """Give the condition that a row's key is among these, in PostgreSQL's SQL."""
        columns = [quoted(c.name) for c in self._key]
        lists = [f"{literal(_array(keys.column(c.name)))}::{shown_type(c.type)}[]" for c in self._key]
        if len(columns) == 1:
            return f"{columns[0]} = ANY({lists[0]})"
        return f"({', '.join(columns)}) IN (SELECT * FROM unnest({', '.join(lists)}))"


def _array(values: pa.ChunkedArray) -> str:
    """Write values as the text of one of PostgreSQL's arrays."""
    texts = pc.cast(values.combine_chunks(), pa.string())
    for special in ("\\", '"'):
        texts = pc.replace_substring(texts, special, f"\\{special}")
    together = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    joined = pc.binary_join(together, '","')[0].as_py()
    return f'{{"{joined}"}}'
