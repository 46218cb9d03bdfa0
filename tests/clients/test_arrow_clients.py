"""Clients that read and write columns: ADBC's PostgreSQL driver (binary COPY both ways), polars and pandas."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
import polars as pl
import psycopg
import pyarrow as pa
import pytest
import sqlalchemy as sa

from tests.running import RunningServer

SCHEMA = pa.schema(
    {
        "id": pa.int32(), "l": pa.int64(), "s": pa.int16(), "f": pa.float64(), "r": pa.float32(), "b": pa.bool_(),
        "t": pa.string(), "raw": pa.binary(), "d": pa.date32(), "at": pa.timestamp("us"), "tags": pa.list_(pa.string()),
    }
)  # fmt: skip
ROWS = pa.table(
    {
        "id": [1, 2], "l": [2**63 - 1, None], "s": [-(2**15), None], "f": [0.25, None], "r": [-1.5, None], "b": [True, None],
        "t": ["Käse ☃", None], "raw": [b"\0\xff", None], "d": [dt.date(1969, 12, 31), None],
        "at": [dt.datetime(2024, 2, 29, 12, 30, 15, 123456), None], "tags": [["a", None, "b,c"], None],
    },
    SCHEMA,
)  # fmt: skip


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Any]:
    with adbc.connect(server.dsn) as opened:
        yield opened


@pytest.fixture(scope="module")
def kept(server: RunningServer) -> None:
    server.execute(
        "CREATE TABLE kept (id INT PRIMARY KEY, l BIGINT, s SMALLINT, f DOUBLE PRECISION, r REAL, b BOOLEAN, t TEXT, "
        "raw BYTEA, d DATE, at TIMESTAMP, tags TEXT[])",
        "CREATE MATERIALIZED VIEW kinds AS SELECT b, count(*) AS n FROM kept GROUP BY b EMIT UPDATE",
    )


def fetched(connection: Any, query: str, values: Any = None) -> pa.Table:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetch_arrow_table()


def plain(table: pa.Table) -> list[dict[str, Any]]:
    return table.to_pylist()  # type: ignore[no-any-return]  # pyarrow has no types


def test_rows_go_in_and_come_out_as_columns(connection: Any, kept: None):
    with connection.cursor() as cursor:
        assert cursor.adbc_ingest("kept", ROWS, mode="append") in (2, -1)
        connection.commit()
    found = fetched(connection, "SELECT * FROM kept ORDER BY id")
    assert found.schema.types == SCHEMA.types
    assert plain(found) == plain(ROWS)
    assert plain(fetched(connection, "SELECT * FROM kinds ORDER BY b")) == [{"b": True, "n": 1}, {"b": None, "n": 1}]


def test_a_table_is_made_from_columns(connection: Any):
    rows = pa.table({"a": pa.array(range(50_000), pa.int64()), "t": pa.array([f"t{i}" for i in range(50_000)])})
    with connection.cursor() as cursor:
        cursor.adbc_ingest("made_by_adbc", rows, mode="create")
    connection.commit()
    assert plain(fetched(connection, "SELECT count(*) AS n, sum(a)::bigint AS s FROM made_by_adbc")) == [
        {"n": 50_000, "s": 1_249_975_000}
    ]


def test_parameters_are_bound_and_errors_leave_the_connection_usable(connection: Any):
    assert plain(fetched(connection, "SELECT $1::bigint + 1 AS n", (41,))) == [{"n": 42}]
    with pytest.raises(adbc.ProgrammingError, match='relation "nowhere" does not exist'):
        fetched(connection, "SELECT * FROM nowhere")
    connection.rollback()
    assert plain(fetched(connection, "SELECT 1 AS n")) == [{"n": 1}]


def test_the_catalog_is_browsed(connection: Any, kept: None):
    found = plain(connection.adbc_get_objects(depth="columns", catalog_filter="streamsql").read_all())
    tables = [table for schema in found[0]["catalog_db_schemas"] for table in schema["db_schema_tables"]]
    assert {("kept", "table"), ("kinds", "materialized view")} <= {(t["table_name"], t["table_type"]) for t in tables}
    assert connection.adbc_get_table_schema("kept").names == SCHEMA.names
    assert connection.adbc_get_info()["vendor_name"] == "PostgreSQL"


def test_polars_reads_by_its_own_ways(server: RunningServer, kept: None):
    query = "SELECT i::int AS i, 't' || i AS t, i::numeric(10,2) AS n FROM generate_series(1, 1000) AS g(i)"
    with server.session() as connection:
        frame = pl.read_database(query, connection)
    assert frame.shape == (1000, 3)
    assert frame["i"].sum() == 500_500
    by_adbc = pl.read_database_uri(
        "SELECT i::int AS i, 't' || i AS t FROM generate_series(1, 1000) AS g(i)", server.dsn, engine="adbc"
    )
    assert by_adbc.schema == {"i": pl.Int32, "t": pl.String}
    assert by_adbc["t"][-1] == "t1000"
    by_adbc.write_database("made_by_polars", server.dsn, engine="adbc")
    assert server.execute("SELECT count(*), sum(i) FROM made_by_polars") == [(1000, 500_500)]


def test_polars_reads_a_live_query_in_batches(server: RunningServer):
    server.execute(
        "CREATE STREAM ticks (n INT)", "INSERT INTO ticks SELECT i::int FROM generate_series(1, 100) AS g(i)"
    )
    with server.session() as connection:
        frame = pl.read_database("SELECT n FROM ticks WHERE n > 50 EMIT APPEND LIMIT 10", connection)
    assert frame["n"].to_list() == list(range(51, 61))


def test_pandas_reads_and_writes_tables(server: RunningServer):
    engine = sa.create_engine(server.dsn.replace("postgresql", "postgresql+psycopg"))
    frame = pd.DataFrame({
        "a": [1, 2], "t": ["x", None], "at": pd.to_datetime(["2024-01-01", "2024-01-02"]), "n": [Decimal("1.50"), None],
    })  # fmt: skip
    assert frame.to_sql("frame", engine, index=False, if_exists="replace", dtype={"n": sa.Numeric(10, 2)}) in (2, -1)
    assert frame.to_sql("frame", engine, index=False, if_exists="append", method="multi") in (2, -1)
    found = pd.read_sql_table("frame", engine)
    assert found.shape == (4, 4)
    assert str(found["at"].dtype).startswith("datetime64")
    assert pd.read_sql("SELECT sum(a) AS s FROM frame WHERE a > %(least)s", engine, params={"least": 1})["s"][0] == 4
    parts = list(pd.read_sql("SELECT i FROM generate_series(1, 25) AS g(i)", engine, chunksize=10))
    assert [len(part) for part in parts] == [10, 10, 5]
    engine.dispose()


def test_a_live_query_is_cancelled(server: RunningServer):
    """ADBC's own cancel from another thread; for polars, which hides its connection, another session cancels."""
    server.execute("CREATE STREAM endless (n INT)")
    with adbc.connect(server.dsn, autocommit=True) as opened, opened.cursor() as cursor, ThreadPoolExecutor(1) as pool:
        cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
        ended = pool.submit(lambda: cursor.execute("SELECT n FROM endless EMIT APPEND"))
        server.wait_for_live_queries(1)
        cursor.adbc_cancel()
        with pytest.raises(adbc.Error, match="canceling statement due to user request"):
            ended.result(30)
    with server.session() as connection, ThreadPoolExecutor(1) as pool:
        ended = pool.submit(pl.read_database, "SELECT n FROM endless EMIT APPEND", connection)
        server.wait_for_live_queries(1)
        number = connection.info.backend_pid
        assert server.execute(f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = {number}") == [(True,)]
        with pytest.raises(psycopg.errors.QueryCanceled):
            ended.result(30)
