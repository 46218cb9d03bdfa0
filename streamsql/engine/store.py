"""The DuckDB file: one writing connection for the engine thread, cursors of their own for readers.

Rules kept here:

- User SQL runs in the same DuckDB instance as the engine's, so the instance itself is closed: external access off,
  extensions not loaded, Python variables not looked up, configuration locked (DuckDB manual, "Securing DuckDB").
- A transaction is an epoch. `Store` begins, commits and rolls back; it knows nothing of what an epoch holds.
- Results of `execute` are always fetched: DuckDB refuses new work on a connection with an unfinished result.

The instance is one process's alone: DuckDB locks the file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from streamsql.base import errors
from streamsql.base.faults import reached
from streamsql.catalog.objects import (
    ENGINE_SCHEMA,
    PUBLIC_SCHEMA,
    RESULTS_SCHEMA,
    ROWS_SCHEMA,
    STATE_SCHEMA,
    SYSTEM_SCHEMA,
)
from streamsql.engine.translate import translate

DATABASE_FILE = "state.duckdb"
SCHEMAS = (PUBLIC_SCHEMA, ROWS_SCHEMA, RESULTS_SCHEMA, STATE_SCHEMA, ENGINE_SCHEMA, SYSTEM_SCHEMA)


class DataDirectoryError(Exception):
    """The data directory cannot be used; the message is one line for the person who started the server."""


class Store:
    """An open database. Not thread-safe but for `cursor`, which gives another thread a connection of its own."""

    def __init__(self, data_directory: Path | None, *, threads: int | None = None, memory_limit: str | None = None):
        config: dict[str, str | bool | int | float | list[str]] = {
            "enable_external_access": False,
            "python_enable_replacements": False,
            "autoload_known_extensions": False,
            "autoinstall_known_extensions": False,
            "allow_community_extensions": False,
        }
        if threads is not None:
            config["threads"] = threads
        if memory_limit is not None:
            config["memory_limit"] = memory_limit
        self.path = None if data_directory is None else _usable(data_directory) / DATABASE_FILE
        try:
            self._connection = duckdb.connect(str(self.path) if self.path else ":memory:", config=config)
        except duckdb.Error as error:
            raise DataDirectoryError(_open_failure(str(error), data_directory)) from error
        self._connection.execute("SET TimeZone = 'UTC'").fetchall()
        self._connection.execute("SET GLOBAL TimeZone = 'UTC'").fetchall()
        for schema in SCHEMAS:
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}").fetchall()
        self._connection.execute("SET lock_configuration = true").fetchall()
        self._registered: dict[str, pa.Table] = {}
        self._database = str(self._rows("SELECT current_database()")[0][0])

    def _rows(self, sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters or []).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the body in one transaction; roll back and raise what the body raised, translated if DuckDB's."""
        self._rows("BEGIN")
        try:
            yield
            reached("epoch.before_commit")
            self._rows("COMMIT")
            reached("epoch.after_commit")
        except BaseException as error:
            with contextlib.suppress(duckdb.Error):
                self._rows("ROLLBACK")
            if isinstance(error, duckdb.Error):
                raise translate(error) from error
            raise

    def execute(self, sql: str, parameters: list[Any] | None = None) -> int:
        """Run a statement; give the number of rows that it changed (0 for those that change none)."""
        rows = self._rows(sql, parameters)
        return int(rows[0][0]) if rows and len(rows[0]) == 1 and isinstance(rows[0][0], int) else 0

    def fetch(self, sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a query that gives few rows; give them as Python tuples."""
        return self._rows(sql, parameters)

    def arrow(self, sql: str) -> pa.Table:
        """Run a query; give its rows as one Arrow table."""
        return self._connection.sql(sql).to_arrow_table()

    def register(self, name: str, rows: pa.Table) -> None:
        """Let SQL on this connection read `rows` by `name`, until the name is registered anew."""
        if self._registered.get(name) is not rows:
            self._connection.register(name, rows)
            self._registered[name] = rows

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Open a connection for another thread: it sees the last commit at the start of each of its transactions."""
        cursor = self._connection.cursor()
        cursor.execute(f"USE {self._database}.{PUBLIC_SCHEMA}").fetchall()
        return cursor

    def snapshot(self, table: str) -> duckdb.DuckDBPyConnection:
        """Open a connection whose transaction sees the current commit, for a reader that comes later.

        DuckDB takes the snapshot at a transaction's first read, so one is made here.
        """
        cursor = self.cursor()
        cursor.execute("BEGIN").fetchall()
        cursor.execute(f"SELECT 1 FROM {table} LIMIT 0").fetchall()
        return cursor

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file; skipped while readers hold snapshots that it would disturb."""
        reached("checkpoint.before")
        with contextlib.suppress(duckdb.Error):
            self._rows("CHECKPOINT")
        reached("checkpoint.after")

    def close(self) -> None:
        self._connection.close()


def _usable(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataDirectoryError(f"cannot write to data directory {directory}: {error.strerror}") from error
    return directory


def _open_failure(message: str, directory: Path | None) -> str:
    first_line = message.partition("\n")[0]
    if "lock" in message.lower():
        return f"data directory {directory} is in use by another server"
    return f"cannot open the database in {directory}: {first_line}"


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise DuckDB's errors in the body as the errors that a client sees."""
    try:
        yield
    except duckdb.Error as error:
        raise translate(error) from error
    except RecursionError as error:
        raise errors.ProgramLimitExceeded("the statement is nested too deeply") from error
