"""SELECTs over Arrow tables, by DuckDB. Each thread has connections of its own to a database that holds nothing.

What a source asks for small batches is the same text again and again, over tables of the same columns. To read a text and to
plan it takes DuckDB up to ten milliseconds, so what comes again is prepared: it reads its tables by names that stay registered.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping

import duckdb
import pyarrow as pa

# True of what EXECUTE gives, and still far cheaper than to plan anew.
warnings.filterwarnings("ignore", message="Arrow output on a DB-API result makes an extra copy")

# Prepared SELECTs of a thread, each with a connection of its own, since names are the connection's.
PREPARED_MAX = 32
_Key = tuple[str, tuple[tuple[str, pa.Schema], ...]]

_local = threading.local()
_database: list[duckdb.DuckDBPyConnection] = []
_lock = threading.Lock()


class _Given:
    """A table that changes under a name that stays."""

    def __init__(self, empty: pa.Table) -> None:
        self.table = self.empty = empty

    def __arrow_c_schema__(self) -> object:
        return self.empty.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


class _Prepared:
    """A SELECT that is ready to run over tables of certain columns."""

    def __init__(self, sql: str, tables: Mapping[str, pa.Table]) -> None:
        self._connection = _cursor()
        self._given = {name: _Given(table.schema.empty_table()) for name, table in tables.items()}
        for name, given in self._given.items():
            self._connection.register(name, given)
        self._connection.execute(f"PREPARE s AS {sql}").fetchall()

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        for name, table in tables.items():
            self._given[name].table = table
        try:
            return self._connection.execute("EXECUTE s").to_arrow_table()
        finally:
            for given in self._given.values():
                given.table = given.empty

    def close(self) -> None:
        self._connection.close()


def _cursor() -> duckdb.DuckDBPyConnection:
    """Open a connection. It reads no files, and nothing of Python's but what is registered."""
    with _lock:
        if not _database:
            made = duckdb.connect(":memory:", config={
                "enable_external_access": False, "python_enable_replacements": False,
                "autoload_known_extensions": False, "autoinstall_known_extensions": False, "threads": 1,
            })  # fmt: skip
            made.execute("SET GLOBAL TimeZone = 'UTC'").fetchall()
            made.execute("SET lock_configuration = true").fetchall()
            _database.append(made)
        return _database[0].cursor()


def query(sql: str, tables: Mapping[str, pa.Table]) -> pa.Table:
    """Run a SELECT over Arrow tables by their names; rows keep their order. Raises duckdb.Error."""
    known: OrderedDict[_Key, _Prepared | None] | None = getattr(_local, "known", None)
    if known is None:
        known = _local.known = OrderedDict()
    key = sql, tuple((name, table.schema) for name, table in tables.items())
    if key not in known:
        known[key] = None  # prepared when it comes again
        if len(known) > PREPARED_MAX:
            _, oldest = known.popitem(last=False)
            if oldest is not None:
                oldest.close()
        return _once(sql, tables)
    known.move_to_end(key)
    prepared = known[key]
    if prepared is None:
        prepared = known[key] = _Prepared(sql, tables)
    return prepared.run(tables)


def _once(sql: str, tables: Mapping[str, pa.Table]) -> pa.Table:
    database: duckdb.DuckDBPyConnection | None = getattr(_local, "connection", None)
    if database is None:
        database = _local.connection = _cursor()
    for name, table in tables.items():
        database.register(name, table)
    try:
        return database.sql(sql).to_arrow_table()
    finally:
        for name in tables:
            database.unregister(name)
