"""What keeps rows within their relation's constraints: checks over whole batches, and errors in PostgreSQL's words.

CHECK is asked of rows before they are queued, and of a table after an UPDATE. Keys are DuckDB's own indexes, whose complaints
are put into words here; foreign keys are `engine.foreign_keys`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from streamsql.base.errors import (
    About,
    CheckViolation,
    NotNullViolation,
    SerializationFailure,
    StreamSQLError,
    UniqueViolation,
)
from streamsql.base.limits import Limits
from streamsql.catalog.objects import Stream, Table, quoted
from streamsql.engine.store import translated
from streamsql.engine.translate import translate
from streamsql.plan.checks import check_sqls, violating
from streamsql.plan.nodes import Describe
from streamsql.sql.statements import Statement

R = TypeVar("R", Stream, Table, Stream | Table)
Fetch = Callable[[str], list[tuple[Any, ...]]]

# of one value in an error's detail, as in PostgreSQL
_SHOWN_CHARACTERS_MAX = 64
_GIVEN = "__rows_to_check"


def with_checks(relation: R, limits: Limits, statement: Statement | None = None, describe: Describe | None = None) -> R:
    """Give a relation with the SQL of its CHECK constraints, which come from a statement (by default its own text)."""
    if not relation.checks:
        return relation
    found = check_sqls(relation, statement or Statement(relation.text, 0), limits, describe)
    return replace(relation, check_sql=found)


def check_columns(relation: Stream | Table, rows: pa.Table) -> None:
    """Raise SerializationFailure where rows were made for a relation that has been altered since."""
    names = [name for name in rows.column_names if not name.startswith("__")]
    if isinstance(relation, Table) and names != [c.name for c in relation.columns]:
        raise SerializationFailure(
            f'"{relation.bare}" was altered while its rows were on their way', hint="send the transaction again"
        )


def check_rows(rows: pa.Table, relation: Stream | Table, cursor: duckdb.DuckDBPyConnection) -> None:
    """Hold rows of the relation against its CHECK constraints. Raises CheckViolation."""
    if not relation.check_sql or not rows.num_rows:
        return
    with translated():
        cursor.register(_GIVEN, rows)
        try:
            check_within(lambda sql: cursor.execute(sql).fetchall(), relation, _GIVEN)
        finally:
            cursor.unregister(_GIVEN)


def check_within(fetch: Fetch, relation: Stream | Table, place: str) -> None:
    """Hold the rows that `place` names in FROM against the relation's CHECK constraints. Raises CheckViolation."""
    columns = ", ".join(f"CAST({quoted(c.name)} AS {c.type}) AS {quoted(c.name)}" for c in relation.columns)
    for name, sql in relation.check_sql.items():
        found = fetch(violating(sql, f"(SELECT {columns} FROM {place})"))
        if found:
            raise CheckViolation(
                f'new row for relation "{relation.bare}" violates check constraint "{name}"',
                detail=f"Failing row contains ({shown_row(found[0])}).",
                about=about(relation, constraint=name),
            )


def about(relation: Stream | Table, *, column: str | None = None, constraint: str | None = None) -> About:
    """Give the fields of an error about a relation."""
    return About(schema=relation.schema, table=relation.bare, column=column, constraint=constraint)


def shown_row(values: tuple[Any, ...]) -> str:
    """Write a row's values as PostgreSQL does in the detail of an error."""
    return ", ".join(map(_shown, values))


def _shown(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, list):
        return f"{{{','.join(map(_shown, value))}}}"
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}..."


def null_violation(relation: Stream | Table, column: str, row: tuple[Any, ...] | None = None) -> NotNullViolation:
    """Make the error about a NULL where there may be none."""
    return NotNullViolation(
        f'null value in column "{column}" of relation "{relation.bare}" violates not-null constraint',
        detail=None if row is None else f"Failing row contains ({shown_row(row)}).",
        about=about(relation, column=column),
    )


def key_violation(table: Table, name: str, columns: tuple[str, ...], values: tuple[object, ...]) -> UniqueViolation:
    """Make the error about a key that is there already."""
    return UniqueViolation(
        f'duplicate key value violates unique constraint "{name}"',
        detail=f"Key ({', '.join(columns)})=({', '.join(map(str, values))}) already exists.",
        about=about(table, constraint=name),
    )


@contextlib.contextmanager
def explaining(table: Stream | Table) -> Iterator[None]:
    """Raise what DuckDB says of the table's constraints as PostgreSQL says it."""
    try:
        yield
    except duckdb.Error as error:
        raise explained(translate(error), table) from error
    except StreamSQLError as error:
        found = explained(error, table)
        if found is error:
            raise
        raise found from error


_KEY = re.compile(r"Key \((.*)\) already exists\.", re.DOTALL)
_COLUMN = re.compile(r'column "([^"]+)"')


def duplicate_within(rows: pa.Table, table: Table, cursor: duckdb.DuckDBPyConnection) -> UniqueViolation | None:
    """Find a key that two of these rows have, which DuckDB does not name; makes the error about it."""
    cursor.register(_GIVEN, rows)
    try:
        for key in table.keys:
            names = ", ".join(map(quoted, key.columns))
            known = " AND ".join(f"{quoted(c)} IS NOT NULL" for c in key.columns)
            found = cursor.execute(
                f"SELECT {names} FROM {_GIVEN} WHERE {known} GROUP BY {names} HAVING count(*) > 1 LIMIT 1"
            ).fetchall()
            if found:
                return key_violation(table, key.name, key.columns, found[0])
    finally:
        cursor.unregister(_GIVEN)
    return None


def explained(error: StreamSQLError, table: Stream | Table) -> StreamSQLError:
    """Put an error about a constraint into words that say which one it is; others stay as they are."""
    if error.about is not None:
        return error
    if isinstance(error, NotNullViolation):
        column = _COLUMN.search(error.message)
        return error if column is None else null_violation(table, column[1])
    if isinstance(error, UniqueViolation) and isinstance(table, Table):
        told = _KEY.search(error.detail or "")
        for key in table.keys if told is not None else ():
            assert told is not None
            parts = ", ".join(f"{re.escape(column)}: (.*)" for column in key.columns)
            values = re.fullmatch(parts, told[1], re.DOTALL)
            if values is not None:
                return key_violation(table, key.name, key.columns, values.groups())
        if len(table.keys) == 1:
            key = table.keys[0]
            return UniqueViolation(
                f'duplicate key value violates unique constraint "{key.name}"', about=about(table, constraint=key.name)
            )
    return error
