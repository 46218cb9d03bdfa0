"""psycopg2: the simple protocol throughout, transactions by default, execute_values, copy_expert, a live query to cancel."""

from __future__ import annotations

import datetime as dt
import io
import threading
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras
import pytest

from tests.running import RunningServer, until


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Any]:
    opened = psycopg2.connect(server.dsn, user="tester")
    yield opened
    opened.close()


def rows(connection: Any, query: str, values: Any = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())


VALUES: list[tuple[str, Any]] = [
    ("boolean", True),
    ("smallint", 32767),
    ("bigint", 2**63 - 1),
    ("double precision", 1e-300),
    ("numeric(20,5)", Decimal("-123456789012345.67891")),
    ("text", "Käse 'n' \\ \"x\"\n\t☃ %"),
    ("bytea", bytes(range(256))),
    ("date", dt.date(2024, 2, 29)),
    ("time", dt.time(23, 59, 59, 999999)),
    ("timestamp", dt.datetime(1969, 12, 31, 23, 59, 59, 1)),
    ("timestamptz", dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)),
    ("interval", dt.timedelta(days=-3, seconds=7, microseconds=5)),
    ("integer[]", [1, None, -3]),
    ("text[]", ["a b", 'q"u\\o', "", None, "{,}"]),
]


@pytest.mark.parametrize(("type_name", "value"), VALUES)
def test_a_value_comes_back_as_it_was_sent(connection: Any, type_name: str, value: object):
    ((found, nothing),) = rows(connection, f"SELECT %s::{type_name}, %s::{type_name}", (value, None))
    assert (bytes(found) if isinstance(found, memoryview) else found) == value
    assert nothing is None


def test_rows_of_all_types_are_kept(connection: Any):
    psycopg2.extras.register_uuid(conn_or_curs=connection)
    columns = ", ".join(f"c{i} {name}" for i, (name, _) in enumerate(VALUES))
    values = [*(value for _, value in VALUES), uuid.UUID(int=7), psycopg2.extras.Json({"a": [1, None]})]
    with connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE kept2 ({columns}, u UUID, j JSONB)")
        cursor.execute(f"INSERT INTO kept2 VALUES ({', '.join(['%s'] * len(values))})", values)
    ((*found, u, j),) = rows(connection, "SELECT * FROM kept2")
    assert [bytes(v) if isinstance(v, memoryview) else v for v in found] == [value for _, value in VALUES]
    assert (u, j) == (uuid.UUID(int=7), {"a": [1, None]})


def test_a_with_block_is_a_transaction(connection: Any):
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE blocks (k INT PRIMARY KEY, n INT)")
        cursor.execute("INSERT INTO blocks VALUES (1, 1), (2, 2)")

    def fail() -> None:
        with connection, connection.cursor() as cursor:
            cursor.execute("UPDATE blocks SET n = 0")
            assert cursor.rowcount == 2
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM blocks WHERE k = %s", (1,))
        assert (cursor.rowcount, cursor.statusmessage) == (1, "DELETE 1")
    assert rows(connection, "SELECT * FROM blocks") == [(2, 2)]


def test_many_rows_go_in_by_the_helpers_of_the_client(connection: Any):
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bulk (n INT, t TEXT)")
        many = [(i, f"t{i}") for i in range(2_000)]
        psycopg2.extras.execute_values(cursor, "INSERT INTO bulk VALUES %s", many, page_size=500)
        psycopg2.extras.execute_batch(cursor, "INSERT INTO bulk VALUES (%s, %s)", many, page_size=500)
        cursor.executemany("INSERT INTO bulk VALUES (%s, %s)", many[:50])
    assert rows(connection, "SELECT count(*), sum(n) FROM bulk") == [(4_050, 2 * 1_999_000 + 1_225)]


def test_copy_goes_in_and_comes_out(connection: Any):
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE copied2 (n INT, t TEXT)")
        cursor.copy_from(io.StringIO("1\ta\n2\t\\N\n"), "copied2", columns=("n", "t"))
        cursor.copy_expert("COPY copied2 FROM STDIN WITH (FORMAT csv, HEADER)", io.StringIO('n,t\n3,"x,y"\n'))
        assert cursor.rowcount == 1
        text, csv = io.StringIO(), io.StringIO()
        cursor.copy_to(text, "copied2", null="NIL")
        cursor.copy_expert("COPY (SELECT * FROM copied2 WHERE n > 1 ORDER BY n) TO STDOUT WITH CSV HEADER", csv)
    assert text.getvalue() == "1\ta\n2\tNIL\n3\tx,y\n"
    assert csv.getvalue() == 'n,t\n2,\n3,"x,y"\n'


def test_errors_leave_the_connection_usable(connection: Any):
    with connection.cursor() as cursor:
        with pytest.raises(psycopg2.errors.UndefinedTable) as wrong:
            cursor.execute("SELECT * FROM nowhere2")
        assert wrong.value.pgcode == "42P01"
        assert wrong.value.diag.statement_position == "15"
        with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
            cursor.execute("SELECT 1")
        connection.rollback()
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_rows_can_be_dictionaries_and_cursors_describe_them(connection: Any):
    with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
        cursor.execute("SELECT 1 AS one, '{\"a\": 1}'::json AS doc, 1.50::numeric(5,2) AS n")
        assert dict(cursor.fetchone()) == {"one": 1, "doc": {"a": 1}, "n": Decimal("1.50")}
        assert [(c.name, c.type_code, c.precision, c.scale) for c in cursor.description] == [
            ("one", 23, None, None), ("doc", 114, None, None), ("n", 1700, 5, 2),
        ]  # fmt: skip


def test_the_session_can_be_set_up_as_the_client_does(server: RunningServer):
    opened = psycopg2.connect(server.dsn, user="tester", options="-c statement_timeout=12345 -c application_name=mine")
    opened.set_session(isolation_level="SERIALIZABLE", readonly=True)
    assert (
        rows(opened, "SELECT current_setting('application_name'), current_setting('statement_timeout')")[0][0] == "mine"
    )
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction), opened.cursor() as cursor:
        cursor.execute("CREATE TABLE never (n INT)")
    opened.rollback()
    opened.reset()
    opened.autocommit = True
    assert opened.server_version == 150000
    assert rows(opened, "SELECT 2") == [(2,)]
    opened.close()


def test_a_live_query_is_cancelled_from_another_thread(server: RunningServer):
    opened = psycopg2.connect(server.dsn, user="tester")
    opened.autocommit = True
    with opened.cursor() as cursor:
        cursor.execute("CREATE STREAM live2 (n INT)")

    def cancel() -> None:
        server.wait_for_live_queries(1)
        opened.cancel()

    threading.Thread(target=cancel).start()
    with pytest.raises(psycopg2.errors.QueryCanceled), opened.cursor() as cursor:
        cursor.execute("SELECT n FROM live2 EMIT APPEND")
    assert rows(opened, "SELECT 'usable'") == [("usable",)]
    opened.close()


def test_a_live_query_with_a_limit_is_read_whole(server: RunningServer, connection: Any):
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE STREAM limited2 (n INT)")
        cursor.execute("INSERT INTO limited2 VALUES (1), (2), (3)")
    assert rows(connection, "SELECT n FROM limited2 EMIT APPEND LIMIT 2") == [(1,), (2,)]


def test_a_named_cursor_reads_in_portions_and_goes_with_its_transaction(connection: Any):
    with connection, connection.cursor("numbers") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT i FROM generate_series(1, %s) AS g(i)", (1_050,))
        assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
        assert sum(row[0] for row in cursor) == 551_775 - 6
    assert rows(connection, "SELECT count(*) FROM pg_cursors") == [(0,)]


def test_a_client_is_woken_when_a_view_changes(server: RunningServer, connection: Any):
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE STREAM rung (n INT)")
        cursor.execute("CREATE MATERIALIZED VIEW bell AS SELECT count(*) AS n FROM rung EMIT UPDATE")
        cursor.execute("LISTEN bell")
    server.execute("INSERT INTO rung VALUES (1)")
    until(lambda: connection.poll() or connection.notifies)
    assert connection.notifies[0].channel == "bell"
