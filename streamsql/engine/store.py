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
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.base import errors
from streamsql.base.faults import reached
from streamsql.catalog.objects import (
    ENGINE_SCHEMA,
    OUTBOX_SCHEMA,
    PUBLIC_SCHEMA,
    RESULTS_SCHEMA,
    ROWS_SCHEMA,
    STATE_SCHEMA,
    SYSTEM_SCHEMA,
    OutputColumn,
    literal,
)
from streamsql.engine.answers import Answers
from streamsql.engine.translate import translate

# Where `arrow_of` has no other way; through a relation, which DuckDB recommends, a small query takes twice as long.
warnings.filterwarnings("ignore", message="Arrow output on a DB-API result makes an extra copy")

DATABASE_FILE = "state.duckdb"
UTC = "UTC"  # the time zone of the engine's own connection, and of reads that name none
SCHEMAS = (PUBLIC_SCHEMA, ROWS_SCHEMA, RESULTS_SCHEMA, STATE_SCHEMA, ENGINE_SCHEMA, OUTBOX_SCHEMA, SYSTEM_SCHEMA)


class DataDirectoryError(Exception):
    """The data directory cannot be used; the message is one line for the person who started the server."""


# Prepared statements that are kept; a view has about ten.
PREPARED_MAX = 10_000

STREAM_ROWS_MAX = 25_000

ROW_GROUP_ROWS = (
    122_880  # of DuckDB's tables; a record batch of so many is written without looking at what is beside it
)

ARROW_ROWS_MAX = 131_072  # in one record batch, as by default


class Delta:
    """What SQL reads under one name for good: the batch changes from epoch to epoch, the registration does not.

    DuckDB asks for an Arrow C stream each time the name is read. Registering anew would cost more than a small epoch, and
    make prepared statements plan again.
    """

    def __init__(self, empty: pa.Table) -> None:
        self.batch = empty
        self._rows_each = STREAM_ROWS_MAX

    @contextlib.contextmanager
    def narrowed(self, mask: npt.NDArray[np.bool_]) -> Iterator[None]:
        """Hold only the rows of the mask for a while."""
        whole = self.batch
        self.batch = whole.filter(pa.array(mask))
        try:
            yield
        finally:
            self.batch = whole

    @contextlib.contextmanager
    def in_row_groups(self) -> Iterator[None]:
        """Give large record batches for a while, as is best for writing them."""
        self._rows_each = ROW_GROUP_ROWS
        try:
            yield
        finally:
            self._rows_each = STREAM_ROWS_MAX

    def clear(self) -> None:
        """Hold no rows any more."""
        self.batch = self.batch.schema.empty_table()

    def __arrow_c_schema__(self) -> object:
        return self.batch.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        batch = self.batch
        if batch.num_rows > 2 * STREAM_ROWS_MAX:
            # DuckDB gives each record batch to one thread
            batch = pa.Table.from_batches(batch.to_batches(self._rows_each), batch.schema)
        return batch.__arrow_c_stream__(requested_schema)


def _literal(value: int | str | None) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else literal(value)


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
        self._connection.execute("SET allowed_configs = ['TimeZone']").fetchall()  # a session's, on its reads
        self._connection.execute("SET lock_configuration = true").fetchall()
        self._statements: dict[tuple[str, int], str] = {}
        self._statement_count = 0
        self._inserts: dict[tuple[str, pa.Schema], tuple[str, Delta]] = {}
        self._new_inserts: list[tuple[str, pa.Schema]] = []  # of the current transaction
        self._zone = UTC
        self.answers = Answers()  # of what is not here
        # what has made the database unusable until it is opened again, as a disk that is full does
        self.broken: str | None = None
        self.commits = 0  # counted before each begins, so that who sees none begin since has missed none
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
            self.commits += 1
            self._rows("COMMIT")
            self._new_inserts.clear()
            reached("epoch.after_commit")
        except BaseException as error:
            with contextlib.suppress(duckdb.Error):
                self._rows("ROLLBACK")
                self._back_in_utc()
            for key in self._new_inserts:  # which takes the names with it
                self._inserts.pop(key, None)
            self._new_inserts.clear()
            self._look()
            if isinstance(error, duckdb.Error):
                raise translate(error) from error
            raise

    def _look(self) -> None:
        """Find out, after a failure, whether the database can go on."""
        try:
            self._rows("SELECT 1")
        except duckdb.FatalException as error:
            self.broken = str(error)

    @contextlib.contextmanager
    def in_zone(self, zone: str) -> Iterator[None]:
        """Run the body's statements, which are not kept, in a time zone. In a transaction, which undoes it where one fails."""
        if zone != UTC:
            self._zone = zone
            set_zone(self._connection, zone)
        yield
        self._back_in_utc()

    def execute(self, sql: str, parameters: list[Any] | None = None) -> int:
        """Run a statement; give the number of rows that it changed (0 for those that change none)."""
        rows = self._rows(sql, parameters)
        return int(rows[0][0]) if rows and len(rows[0]) == 1 and isinstance(rows[0][0], int) else 0

    def _back_in_utc(self) -> None:
        if self._zone != UTC:
            set_zone(self._connection, UTC)
            self._zone = UTC

    def fetch(self, sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a query that gives few rows; give them as Python tuples."""
        return self._rows(sql, parameters)

    def has_table(self, schema: str, name: str) -> bool:
        """Tell whether there is a table of this name."""
        return bool(
            self._rows("SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?", [schema, name])
        )

    def arrow(self, sql: str) -> pa.Table:
        """Run a query; give its rows as one Arrow table."""
        return self._connection.sql(sql).to_arrow_table()

    def arrow_of(self, sql: str) -> pa.Table:
        """Run a statement once that changes rows and returns some; give these."""
        return arrow_of(self._connection, sql)

    def describe(self, sql: str) -> list[OutputColumn]:
        """Give the columns of a SELECT, with what the current transaction has defined. Raises StreamSQLError."""
        with translated():
            relation = self._connection.sql(sql)
            return [OutputColumn(n, str(t)) for n, t in zip(relation.columns, relation.types, strict=True)]

    def run(self, sql: str, *values: int | str | None, size: int = 0) -> int:
        """Run a statement that comes again every epoch; give the number of rows that it changed.

        `values` stand for ``$1``.. . The statement is prepared once, since that costs more than running it in a small
        epoch. `size` is the number of rows in the largest table that it reads: a plan made for an empty table is bad
        for a large one, so it is prepared anew each time that the size has grown eightfold.
        """
        rows = self._connection.execute(self._prepared(sql, values, size)).fetchall()
        return int(rows[0][0]) if rows and len(rows[0]) == 1 and isinstance(rows[0][0], int) else 0

    def rows(self, sql: str, *values: int | str | None, size: int = 0) -> pa.Table:
        """Run a query that comes again every epoch, as `run` does; give its rows."""
        return arrow_of(self._connection, self._prepared(sql, values, size))

    def insert(self, table: str, rows: pa.Table) -> None:
        """Append rows to a table that gets some every epoch; by position they have its columns. Within a transaction."""
        key = table, rows.schema
        if key not in self._inserts:
            self._statement_count += 1
            made = f"__rows {self._statement_count}", Delta(rows.slice(0, 0))
            self._connection.register(*made)
            self._inserts[key] = made
            self._new_inserts.append(key)
        name, delta = self._inserts[key]
        delta.batch = rows
        try:
            self.run(f'INSERT INTO {table} SELECT * FROM "{name}"')
        finally:
            delta.clear()

    def _prepared(self, sql: str, values: tuple[int | str | None, ...], size: int) -> str:
        key = (sql, size.bit_length() // 3)
        name = self._statements.get(key)
        if name is None:
            self._statement_count += 1
            name = f"s{self._statement_count}"
            self._rows(f"PREPARE {name} AS {sql}")
            self._statements[key] = name
            if len(self._statements) > PREPARED_MAX:
                oldest = next(iter(self._statements))
                self._rows(f"DEALLOCATE {self._statements.pop(oldest)}")
        if not values:
            return f"EXECUTE {name}"
        return f"EXECUTE {name}({', '.join(_literal(v) for v in values)})"

    def forget_statements(self) -> None:
        """Let go of all prepared statements: they may speak of tables that are no more."""
        for name in self._statements.values():
            self._rows(f"DEALLOCATE {name}")
        self._statements.clear()
        for name, _ in self._inserts.values():
            self._connection.unregister(name)
        self._inserts.clear()

    def register(self, name: str, rows: pa.Table | Delta) -> None:
        """Let SQL on this connection read `rows` by `name`, until the name is registered anew."""
        self._connection.register(name, rows)

    def unregister(self, name: str) -> None:
        self._connection.unregister(name)

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
        self._statements.clear()
        with contextlib.suppress(duckdb.FatalException):
            self._connection.close()


def arrow_of(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """Run one statement; give its rows as Arrow.

    DuckDB's documented ways take longer for few rows: `execute` keeps the rows, which a second statement then reads to make
    Arrow of them (0.3 ms), and a relation is bound twice. What its own relations use gives Arrow at once; where a release
    of DuckDB has it no more, `execute` gives the same.
    """
    submit = getattr(connection, "_submit", None)
    if submit is None:
        return connection.execute(sql).to_arrow_table()
    return submit(sql, None, "arrow", ARROW_ROWS_MAX).arrow_table()


def set_zone(connection: duckdb.DuckDBPyConnection, zone: str) -> None:
    """Set the time zone of a connection."""
    connection.execute(f"SET TimeZone = {literal(zone)}").fetchall()


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
