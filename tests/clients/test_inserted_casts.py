"""INSERT of parameters with casts, as SQLAlchemy writes every one: what comes of them is what the casts make."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from tests.running import RunningServer

Connection = psycopg.Connection[TupleRow]


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        yield opened


CAST_ROWS: list[tuple[str, str, Any, Any]] = [  # the column's type, the cast's, what is given, and what is there then
    ("INTEGER", "INTEGER", 7, 7),
    ("INTEGER", "BIGINT", 7, 7),
    ("INTEGER", "INTEGER", Decimal("2.5"), 3),
    ("BIGINT", "INTEGER", 70000, 70000),
    ("TEXT", "VARCHAR", "a'b", "a'b"),
    ("TEXT", "VARCHAR(2)", "abc", "ab"),
    ("VARCHAR(5)", "VARCHAR", "abc", "abc"),
    ("VARCHAR(2)", "VARCHAR(3)", "ab", "ab"),
    ("TEXT", "INTEGER", "12", "12"),
    ("NUMERIC(10, 2)", "NUMERIC(10, 2)", Decimal("1.005"), Decimal("1.01")),
    ("NUMERIC(10, 3)", "NUMERIC(10, 1)", Decimal("1.25"), Decimal("1.300")),
    ("NUMERIC(10, 2)", "NUMERIC", Decimal("1.005"), Decimal("1.01")),
    ("DOUBLE PRECISION", "DOUBLE PRECISION", 0.1, 0.1),
    ("TIMESTAMP", "TIMESTAMP WITHOUT TIME ZONE", dt.datetime(2024, 2, 3, 4, 5, 6), dt.datetime(2024, 2, 3, 4, 5, 6)),
    ("DATE", "TIMESTAMP", dt.datetime(2024, 2, 3, 4, 5, 6), dt.date(2024, 2, 3)),
    ("BOOLEAN", "BOOLEAN", True, True),
    ("JSONB", "JSONB", Jsonb({"a": 1}), {"a": 1}),
    ("TEXT[]", "VARCHAR[]", ["x", None], ["x", None]),
    ("UUID", "UUID", uuid.UUID(int=5), uuid.UUID(int=5)),
]


@pytest.mark.parametrize(("column", "cast", "given", "there"), CAST_ROWS)
def test_a_cast_of_a_value_that_is_inserted_is_done(
    connection: Connection, column: str, cast: str, given: Any, there: Any
):
    connection.execute(f"CREATE TEMP TABLE cast_rows (v {column}, n INT)".encode())
    try:
        connection.cursor().executemany(
            f"INSERT INTO cast_rows VALUES (%s::{cast}, %s::INTEGER)".encode(), [(given, 1), (None, 2), (given, 40_000)]
        )
        rows = connection.execute("SELECT v, n FROM cast_rows ORDER BY n").fetchall()
        assert rows == [(there, 1), (None, 2), (there, 40_000)]
        told = connection.execute(f"INSERT INTO cast_rows VALUES (%s::{cast}, 3) RETURNING v".encode(), [given])
        assert told.fetchall() == [(there,)]
        told = connection.execute(f"INSERT INTO cast_rows VALUES (%s::{cast}, %s) RETURNING v, n".encode(), [given, 4])
        assert told.fetchall() == [(there, 4)]
    finally:
        connection.execute("DROP TABLE cast_rows")


def test_a_value_beyond_the_type_of_its_cast_is_refused(connection: Connection):
    connection.execute("CREATE TEMP TABLE cast_refused (v BIGINT)")
    with pytest.raises(errors.NumericValueOutOfRange):
        connection.execute("INSERT INTO cast_refused VALUES (%s::INTEGER)", [2**40])
    connection.execute("DROP TABLE cast_refused")
