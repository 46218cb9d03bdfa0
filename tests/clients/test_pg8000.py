"""pg8000: pure Python, every statement by the extended protocol, in text; the native interface and DB-API."""

from __future__ import annotations

import datetime as dt
import io
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pg8000.dbapi
import pg8000.native
import pytest

from tests.running import RunningServer


@pytest.fixture
def connection(server: RunningServer) -> Iterator[pg8000.native.Connection]:
    opened = pg8000.native.Connection("tester", host="127.0.0.1", port=server.port, database="streamsql")
    yield opened
    opened.close()


VALUES: list[tuple[str, Any]] = [
    ("boolean", True),
    ("integer", -(2**31)),
    ("bigint", 2**63 - 1),
    ("double precision", float("inf")),
    ("numeric(20,5)", Decimal("-123456789012345.67891")),
    ("text", "Käse 'n' \\ ☃"),
    ("bytea", bytes(range(256))),
    ("date", dt.date(2024, 2, 29)),
    ("time", dt.time(23, 59, 59, 999999)),
    ("timestamp", dt.datetime(2024, 2, 29, 1, 2, 3, 4)),
    ("timestamptz", dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)),
    ("uuid", uuid.UUID(int=7)),
    ("integer[]", [1, None, -3]),
    ("text[]", ["a b", None, "{,}"]),
    ("jsonb", {"a": [1, None]}),
]


@pytest.mark.parametrize(("type_name", "value"), VALUES)
def test_a_value_comes_back_as_it_was_sent(connection: Any, type_name: str, value: object):
    assert connection.run(f"SELECT CAST(:v AS {type_name}), CAST(:n AS {type_name})", v=value, n=None) == [
        [value, None]
    ]


def test_rows_are_written_read_and_described(connection: Any):
    connection.run("CREATE TABLE native (id INT PRIMARY KEY, name TEXT, price NUMERIC(10,2), tags TEXT[])")
    connection.run("INSERT INTO native VALUES (:i, :n, :p, :t)", i=1, n="a", p=Decimal("1.50"), t=["x"])
    assert connection.row_count == 1
    assert connection.run("SELECT * FROM native") == [[1, "a", Decimal("1.50"), ["x"]]]
    assert [(c["name"], c["type_oid"]) for c in connection.columns] == [
        ("id", 23), ("name", 25), ("price", 1700), ("tags", 1009),
    ]  # fmt: skip
    assert connection.run("UPDATE native SET name = :n WHERE id = :i", n="b", i=1) is None or connection.row_count == 1
    assert connection.run("SELECT name FROM native") == [["b"]]


def test_a_prepared_statement_runs_many_times(connection: Any):
    statement = connection.prepare("SELECT CAST(:v AS int) + 1")
    assert [statement.run(v=number) for number in range(10)] == [[[number + 1]] for number in range(10)]
    statement.close()


def test_transactions_commit_roll_back_and_go_on_after_an_error(connection: Any):
    connection.run("CREATE TABLE native_tx (n INT)")
    connection.run("START TRANSACTION")
    connection.run("INSERT INTO native_tx VALUES (1)")
    connection.run("COMMIT")
    connection.run("START TRANSACTION")
    connection.run("DELETE FROM native_tx")
    with pytest.raises(pg8000.native.DatabaseError) as wrong:
        connection.run("SELECT nosuch FROM native_tx")
    assert wrong.value.args[0]["C"] == "42703"
    connection.run("ROLLBACK")
    assert connection.run("SELECT n FROM native_tx") == [[1]]


def test_copy_goes_in_and_comes_out(connection: Any):
    connection.run("CREATE TABLE native_copy (n INT, t TEXT)")
    connection.run("COPY native_copy FROM STDIN", stream=io.BytesIO(b"1\ta\n2\t\\N\n"))
    assert connection.row_count == 2
    out = io.BytesIO()
    connection.run("COPY (SELECT * FROM native_copy ORDER BY n) TO STDOUT WITH (FORMAT csv)", stream=out)
    assert out.getvalue() == b"1,a\n2,\n"


def test_the_database_interface_of_python_works(server: RunningServer):
    with pg8000.dbapi.connect("tester", host="127.0.0.1", port=server.port, database="streamsql") as opened:
        cursor = opened.cursor()
        cursor.execute("CREATE TABLE dbapi (n INT PRIMARY KEY, t TEXT)")
        cursor.executemany("INSERT INTO dbapi VALUES (%s, %s)", [(i, f"t{i}") for i in range(20)])
        opened.commit()
        cursor.execute("UPDATE dbapi SET t = %s WHERE n < %s", ("x", 5))
        assert cursor.rowcount == 5
        opened.rollback()
        cursor.execute("SELECT count(*) FROM dbapi WHERE t = 'x'")
        assert cursor.fetchone() == [0]
        cursor.execute("SELECT n FROM dbapi ORDER BY n")
        assert list(cursor.fetchmany(3)) == [[0], [1], [2]]


def test_a_live_query_with_a_limit_is_read_as_rows_come(server: RunningServer, connection: Any):
    connection.run("CREATE STREAM native_live (n INT)")
    seen: list[list[int]] = []

    def follow() -> None:
        with pg8000.dbapi.connect("tester", host="127.0.0.1", port=server.port, database="streamsql") as follower:
            follower.autocommit = True
            cursor = follower.cursor()
            cursor.execute("SELECT n FROM native_live EMIT APPEND LIMIT 3")
            seen.extend(cursor.fetchall())

    thread = threading.Thread(target=follow)
    thread.start()
    server.wait_for_live_queries(1)
    for number in range(4):
        connection.run("INSERT INTO native_live VALUES (:n)", n=number)
    thread.join(30)
    assert seen == [[0], [1], [2]]
    server.wait_for_live_queries(0)


def test_a_live_query_is_cancelled_from_another_session(server: RunningServer, connection: Any):
    """pg8000 itself has no cancel, and reads a result to its end."""
    connection.run("CREATE STREAM native_cancelled (n INT)")
    number = connection.run("SELECT pg_backend_pid()")[0][0]
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(connection.run, "SELECT n FROM native_cancelled EMIT APPEND")
        server.wait_for_live_queries(1)
        assert server.execute(f"SELECT pg_cancel_backend({number}) AS done") == [(True,)]
        with pytest.raises(pg8000.native.DatabaseError) as cancelled:
            ended.result(30)
    assert cancelled.value.args[0]["C"] == "57014"
    assert connection.run("SELECT 1") == [[1]]
