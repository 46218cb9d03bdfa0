"""CREATE TABLE AS and TRUNCATE, as Postgres' users write them."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.running import RunningServer

Connection = psycopg.Connection[TupleRow]


@pytest.fixture(scope="module")
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        opened.execute("CREATE TABLE source (id INT, k TEXT, n NUMERIC(10,2), at TIMESTAMPTZ, a INT[])")
        opened.execute("INSERT INTO source VALUES (1, 'a', 2.5, '2024-01-01', '{1}'), (2, 'b', 3.5, '2024-01-02', NULL)")
        yield opened


def test_a_table_is_made_of_a_query_with_its_types_and_rows(connection: Connection):
    made = connection.execute("CREATE TABLE copied AS SELECT * FROM source")
    assert made.statusmessage == "SELECT 2"
    assert connection.execute("SELECT id, k, n::text, a FROM copied ORDER BY id").fetchall() == [
        (1, "a", "2.50", [1]), (2, "b", "3.50", None),
    ]  # fmt: skip
    columns = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'copied'::regclass AND attnum > 0"
    ).fetchall()
    assert columns == [
        ("id", "integer"), ("k", "text"), ("n", "numeric(10,2)"), ("at", "timestamp with time zone"), ("a", "integer[]"),
    ]  # fmt: skip


def test_columns_are_named_and_nothing_may_be_copied(connection: Connection):
    connection.execute("CREATE TABLE named (k, total) AS SELECT k, sum(id) FROM source GROUP BY k WITH NO DATA")
    cursor = connection.execute("SELECT * FROM named")
    assert [c.name for c in cursor.description or ()] == ["k", "total"]
    assert cursor.fetchall() == []
    again = connection.execute("CREATE TABLE IF NOT EXISTS named AS SELECT 1")
    assert again.statusmessage == "CREATE TABLE AS"


def test_a_table_whose_rows_fail_is_not_there(connection: Connection):
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("CREATE TABLE failed AS SELECT id / (id - 1) AS x FROM source")
    with pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT * FROM failed")
    with pytest.raises(psycopg.errors.DuplicateColumn):
        connection.execute("CREATE TABLE failed AS SELECT id, id FROM source")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        connection.execute("CREATE TABLE failed AS SELECT id FROM source EMIT UPDATE")


def test_truncate_deletes_all_rows_and_views_follow(connection: Connection):
    connection.execute("CREATE TABLE emptied AS SELECT 1 AS x")
    connection.execute("CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM emptied EMIT UPDATE")
    assert connection.execute("SELECT n FROM counted").fetchone() == (1,)
    assert connection.execute("TRUNCATE TABLE emptied").statusmessage == "TRUNCATE TABLE"
    assert connection.execute("SELECT n FROM counted").fetchone() == (0,)
    connection.execute("BEGIN; TRUNCATE source, emptied; ROLLBACK")
    assert connection.execute("SELECT count(*) FROM source").fetchone() == (2,)
    for statement, error in (
        ("TRUNCATE nowhere", psycopg.errors.UndefinedTable),
        ("TRUNCATE counted", psycopg.errors.WrongObjectType),
        ("TRUNCATE source, emptied", psycopg.errors.FeatureNotSupported),
    ):
        with pytest.raises(error):
            connection.execute(statement)
