"""psqlODBC under unixODBC: isql, and pyodbc as Excel, Tableau and Power BI would use the driver."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pyodbc
import pytest

from tests.running import RunningServer

pytestmark = pytest.mark.programs

DRIVER = "PostgreSQL Unicode"


def text_of(server: RunningServer, **options: object) -> str:
    more = "".join(f";{name}={value}" for name, value in options.items())
    return f"Driver={DRIVER};Server=127.0.0.1;Port={server.port};Database=streamsql;UID=tester{more}"


def connect(server: RunningServer, *, autocommit: bool = False, **options: object) -> Any:
    if DRIVER not in pyodbc.drivers():
        pytest.skip("psqlODBC is not installed")
    return pyodbc.connect(text_of(server, **options), autocommit=autocommit)


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Any]:
    opened = connect(server)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def shop(server: RunningServer) -> None:
    server.execute(
        "CREATE TABLE shop (id INT PRIMARY KEY, name TEXT NOT NULL, price NUMERIC(10,2), at TIMESTAMP, d DATE, t TIME, "
        "f DOUBLE PRECISION, l BIGINT, raw BYTEA)",
        "CREATE STREAM visits (who TEXT)",
        "CREATE MATERIALIZED VIEW visitors AS SELECT who, count(*) AS n FROM visits GROUP BY who EMIT UPDATE",
    )


def test_the_catalog_functions_tell_of_relations_columns_and_keys(connection: Any, shop: None):
    cursor = connection.cursor()
    found = {(row.table_name, row.table_type) for row in cursor.tables()}
    assert {("shop", "TABLE"), ("visits", "TABLE"), ("visitors", "MATVIEW")} <= found
    assert [(row.column_name, row.type_name, row.nullable) for row in cursor.columns(table="shop")] == [
        ("id", "int4", 0), ("name", "text", 0), ("price", "numeric", 1), ("at", "timestamp", 1), ("d", "date", 1),
        ("t", "time", 1), ("f", "float8", 1), ("l", "int8", 1), ("raw", "bytea", 1),
    ]  # fmt: skip
    assert [(row.column_name, row.pk_name) for row in cursor.primaryKeys(table="shop")] == [("id", "shop_pkey")]
    assert list(cursor.foreignKeys("shop")) == []
    assert [row.column_name for row in cursor.statistics("shop") if row.column_name] == ["id"]
    assert len(list(cursor.getTypeInfo())) > 10
    assert len(list(cursor.procedures())) > 100
    assert connection.getinfo(pyodbc.SQL_DBMS_NAME) == "PostgreSQL"


VALUES: list[Any] = [
    "Käse ☃", Decimal("-1.50"), dt.datetime(2024, 2, 29, 12, 30, 15, 123456), dt.date(1969, 12, 31), dt.time(23, 59, 59),
    0.25, 2**63 - 1, bytes(range(256)),
]  # fmt: skip


def test_parameters_of_many_types_come_back(connection: Any, shop: None):
    cursor = connection.cursor()
    marks = ", ".join("?" * (len(VALUES) + 1))
    assert cursor.execute(f"INSERT INTO shop VALUES ({marks})", 1, *VALUES).rowcount == 1
    cursor.execute(f"INSERT INTO shop VALUES ({marks})", 2, "none", *[None] * (len(VALUES) - 1))
    connection.commit()
    assert [list(row) for row in cursor.execute("SELECT * FROM shop WHERE id IN (?, ?) ORDER BY id", 1, 2)] == [
        [1, *VALUES], [2, "none", *[None] * (len(VALUES) - 1)],
    ]  # fmt: skip
    cursor.execute("DELETE FROM shop")
    connection.commit()


def test_many_rows_go_in_and_transactions_end_as_they_should(connection: Any, shop: None):
    cursor = connection.cursor()
    cursor.fast_executemany = True
    cursor.executemany("INSERT INTO shop (id, name) VALUES (?, ?)", [(i, f"n{i}") for i in range(500)])
    connection.commit()
    assert cursor.execute("UPDATE shop SET name = ? WHERE id < ?", "x", 10).rowcount == 10
    connection.rollback()
    assert cursor.execute("SELECT count(*) FROM shop WHERE name = 'x'").fetchval() == 0
    assert cursor.execute("DELETE FROM shop").rowcount == 500
    connection.commit()


def test_an_error_in_a_transaction_does_not_end_it(connection: Any, shop: None):
    """The driver sets a savepoint before each statement, and goes back to it."""
    cursor = connection.cursor()
    cursor.execute("INSERT INTO shop (id, name) VALUES (?, ?)", 1, "kept")
    with pytest.raises(pyodbc.ProgrammingError) as wrong:
        cursor.execute("SELECT nosuch FROM shop")
    assert wrong.value.args[0] == "42703"
    with pytest.raises(pyodbc.Error, match="duplicate key"):
        cursor.execute("INSERT INTO shop (id, name) VALUES (?, ?)", 1, "again")
    connection.commit()
    assert [tuple(row) for row in cursor.execute("SELECT id, name FROM shop")] == [(1, "kept")]
    cursor.execute("DELETE FROM shop")
    connection.commit()


@pytest.mark.parametrize("server_side", [0, 1])
def test_prepared_statements_run_many_times(server: RunningServer, server_side: int):
    opened = connect(server, UseServerSidePrepare=server_side)
    cursor = opened.cursor()
    assert [cursor.execute("SELECT ? + 1", number).fetchval() for number in range(20)] == list(range(1, 21))
    opened.close()


def test_a_live_query_with_a_limit_is_read(server: RunningServer, shop: None):
    opened = connect(server, autocommit=True)
    cursor = opened.cursor()
    cursor.execute("INSERT INTO visits VALUES ('ann'), ('bob'), ('ann')")
    assert [tuple(row) for row in cursor.execute("SELECT who FROM visits EMIT APPEND LIMIT 3")] == [
        ("ann",),
        ("bob",),
        ("ann",),
    ]
    assert [tuple(row) for row in cursor.execute("SELECT * FROM visitors ORDER BY who")] == [("ann", 2), ("bob", 1)]
    opened.close()


def test_isql_runs_a_script(server: RunningServer):
    isql = shutil.which("isql")
    if isql is None:
        pytest.skip("isql is not installed")
    done = subprocess.run(
        [isql, "-k", text_of(server), "-b", "-v", "-d,"],
        input="SELECT 1 AS one, 'two' AS two\nSELECT nosuch\nSELECT 3 AS three\n",
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "1,two" in said
    assert '[42703]ERROR: column "nosuch" does not exist' in said
    assert "\n3" in said


def test_a_live_query_is_cancelled_from_another_session(server: RunningServer, shop: None):
    """The driver reads all of a result before it gives a row, so another session has to end an endless one."""
    opened = connect(server, autocommit=True)
    cursor = opened.cursor()
    number = cursor.execute("SELECT pg_backend_pid()").fetchval()
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(cursor.execute, "SELECT who FROM visits EMIT APPEND")
        server.wait_for_live_queries(1)
        assert server.execute(f"SELECT pg_cancel_backend({number})") == [(True,)]
        with pytest.raises(pyodbc.Error) as cancelled:
            ended.result(30)
    assert cancelled.value.args[0] in ("57014", "HY008")
    assert cursor.execute("SELECT 1").fetchval() == 1
    opened.close()
