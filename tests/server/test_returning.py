"""RETURNING: what INSERT, UPDATE, DELETE and ON CONFLICT have written, told only where it stays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg import errors
from psycopg.rows import TupleRow

from tests.running import RunningServer

Connection = psycopg.Connection[TupleRow]


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        opened.execute("DROP TABLE IF EXISTS t CASCADE; DROP STREAM IF EXISTS s CASCADE")
        opened.execute("CREATE TABLE t (id INT PRIMARY KEY, v TEXT DEFAULT 'd', n NUMERIC(6,2))")
        opened.execute("CREATE STREAM s (ts TIMESTAMP, x INT)")
        opened.execute("INSERT INTO t VALUES (1, 'one', 1.5), (2, 'two', NULL)")
        yield opened


def told(connection: Connection, statement: str, *values: Any) -> tuple[list[str], list[tuple[Any, ...]], str | None]:
    """Give the names of the columns, the rows and the tag."""
    cursor = connection.execute(statement.encode(), values or None)
    return [c.name for c in cursor.description or ()], cursor.fetchall(), cursor.statusmessage


@pytest.mark.parametrize(
    ("statement", "names", "rows", "tag"),
    [
        ("INSERT INTO t (id) VALUES (3), (4) RETURNING id, v", ["id", "v"], [(3, "d"), (4, "d")], "INSERT 0 2"),
        ("INSERT INTO t SELECT 5, 'x', 2 RETURNING *, n + 1", ["id", "v", "n", "?column?"], None, "INSERT 0 1"),
        ("INSERT INTO s VALUES ('2026-01-01', 7) RETURNING x * 2 AS twice", ["twice"], [(14,)], "INSERT 0 1"),
        ("UPDATE t SET v = v || '!' WHERE id = 1 RETURNING v, t.id", ["v", "id"], [("one!", 1)], "UPDATE 1"),
        ("UPDATE t AS a SET v = 'z' FROM t AS b WHERE a.id = b.id + 1 RETURNING a.v", ["v"], [("z",)], "UPDATE 1"),
        ("DELETE FROM t WHERE id = 2 RETURNING upper(v)", ["upper"], [("TWO",)], "DELETE 1"),
        ("DELETE FROM t WHERE id = 9 RETURNING id", ["id"], [], "DELETE 0"),
        ("INSERT INTO t VALUES (1, 'n') ON CONFLICT (id) DO UPDATE SET v = 'u' RETURNING v", ["v"], [("u",)], "INSERT 0 1"),
        ("INSERT INTO t VALUES (1, 'n') ON CONFLICT DO NOTHING RETURNING v", ["v"], [], "INSERT 0 0"),
    ],
)  # fmt: skip
def test_what_was_written_is_told(
    connection: Connection, statement: str, names: list[str], rows: list[tuple[Any, ...]] | None, tag: str
):
    found = told(connection, statement)
    assert (found[0], found[2]) == (names, tag)
    assert rows is None or found[1] == rows


def test_in_a_transaction_it_is_told_before_the_commit(connection: Connection):
    connection.execute("BEGIN")
    assert told(connection, "UPDATE t SET n = 9 WHERE id = %s RETURNING id", 1)[1] == [(1,)]
    assert told(connection, "INSERT INTO t VALUES (3, %s) RETURNING v", "three")[1] == [("three",)]
    assert sorted(told(connection, "DELETE FROM t RETURNING id")[1]) == [(1,), (2,), (3,)]
    connection.execute("ROLLBACK")
    assert told(connection, "SELECT count(*), max(n)::text FROM t")[1] == [(2, "1.50")]


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("UPDATE t SET v = 'gone' RETURNING nope", errors.UndefinedColumn),
        ("UPDATE t SET v = 'gone' RETURNING 1 / (id - id)", errors.DivisionByZero),
        ("DELETE FROM t RETURNING count(*) OVER (), nope(1)", errors.UndefinedFunction),
        ("INSERT INTO t VALUES (8, 'gone') RETURNING __seq", errors.UndefinedColumn),
        ("INSERT INTO t VALUES (8, 'gone') RETURNING id FROM t", errors.SyntaxError),
        ("INSERT INTO t VALUES (8, 'gone') RETURNING", errors.SyntaxError),
        ("UPDATE s SET x = 1 RETURNING x", errors.WrongObjectType),
    ],
)
def test_where_it_fails_nothing_is_written(connection: Connection, statement: str, error: type[psycopg.Error]):
    with pytest.raises(error):
        connection.execute(statement.encode())
    assert told(connection, "SELECT id, v FROM t ORDER BY id")[1] == [(1, "one"), (2, "two")]


def test_counters_that_many_increment_are_each_told_once(server: RunningServer, connection: Connection):
    connection.execute("UPDATE t SET n = 0")

    def increment(times: int) -> list[int]:
        with server.session() as own:
            return [told(own, "UPDATE t SET n = n + 1 WHERE id = 1 RETURNING n::int")[1][0][0] for _ in range(times)]

    with ThreadPoolExecutor(2) as threads:
        found = [n for numbers in threads.map(increment, [20, 20]) for n in numbers]
    assert sorted(found) == list(range(1, 41))


def test_a_prepared_statement_knows_its_columns(server: RunningServer, connection: Connection):
    async def run() -> list[Any]:
        client = await asyncpg.connect(server.dsn, user="tester")
        try:
            prepared = await client.prepare("INSERT INTO t (id, v) VALUES ($1, $2) RETURNING id, v || '?' AS asked")
            assert [(a.name, a.type.name) for a in prepared.get_attributes()] == [("id", "int4"), ("asked", "text")]
            first = [tuple(r) for r in await prepared.fetch(11, "a")]
            return [*first, *[tuple(r) for r in await prepared.fetch(12, "b")]]
        finally:
            await client.close()

    assert asyncio.run(run()) == [(11, "a?"), (12, "b?")]
    assert told(connection, "SELECT id FROM t WHERE id > 10 ORDER BY 1")[1] == [(11,), (12,)]
