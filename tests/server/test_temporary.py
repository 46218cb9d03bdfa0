"""Temporary tables, CREATE TABLE AS and TRUNCATE: a session's own rows, in transactions too, next to streams and views."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import TupleRow

from tests.running import RunningServer

Connection = psycopg.Connection[TupleRow]


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        opened.execute("DROP TABLE IF EXISTS kept CASCADE")
        opened.execute("CREATE TABLE kept (id INT PRIMARY KEY, v TEXT)")
        opened.execute("INSERT INTO kept VALUES (1, 'x'), (2, 'y')")
        yield opened


def rows(connection: Connection, query: str, *values: Any) -> list[TupleRow]:
    return connection.execute(query.encode(), values or None).fetchall()


def test_a_temporary_table_is_used_like_any_other(connection: Connection):
    connection.execute("CREATE TEMP TABLE own (a INT PRIMARY KEY, b TEXT DEFAULT 'q', c NUMERIC(6,2), d TIMESTAMPTZ)")
    connection.execute("INSERT INTO own VALUES (1, 'one', 1.5, '2026-01-01 12:00+00'), (2, 'two', NULL, NULL)")
    connection.execute("INSERT INTO own (a) SELECT id + 2 FROM kept WHERE id = 1")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO own (a, c) VALUES (%s, %s)", [(4, "0.10"), (5, "7")])
        with cursor.copy("COPY own (a, b) FROM STDIN") as copy:
            copy.write_row((6, "copied"))
    assert rows(connection, "SELECT a, b, c::text FROM own ORDER BY a") == [
        (1, "one", "1.50"), (2, "two", None), (3, "q", None),
        (4, "q", "0.10"), (5, "q", "7.00"), (6, "copied", None),
    ]  # fmt: skip
    assert rows(connection, "SELECT k.v, o.b FROM kept AS k JOIN own AS o ON o.a = k.id ORDER BY 1") == [
        ("x", "one"),
        ("y", "two"),
    ]
    assert rows(connection, "SELECT b FROM own WHERE a = %s AND b LIKE %s", 6, "cop%") == [("copied",)]
    assert rows(connection, "SELECT count(*) FROM pg_temp.own") == [(6,)]
    assert connection.execute("UPDATE own SET b = b || %s WHERE a <= 2", ["!"]).rowcount == 2
    assert connection.execute("DELETE FROM own AS o USING kept AS k WHERE o.a = k.id + 2").rowcount == 2
    upsert = "INSERT INTO own (a, b) VALUES (1, 'again'), (9, 'new') ON CONFLICT (a) DO UPDATE SET b = EXCLUDED.b"
    assert connection.execute(upsert).rowcount == 2
    assert rows(connection, "SELECT a, b FROM own ORDER BY a") == [
        (1, "again"), (2, "two!"), (5, "q"), (6, "copied"), (9, "new"),
    ]  # fmt: skip
    with connection.cursor().copy("COPY (SELECT a FROM own ORDER BY a) TO STDOUT") as copy_out:
        assert b"".join(copy_out) == b"1\n2\n5\n6\n9\n"
    assert "ARROW" in "".join(line for (line,) in rows(connection, "EXPLAIN SELECT * FROM own"))
    names = rows(
        connection,
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'own' ORDER BY ordinal_position",
    )
    assert names == [("a",), ("b",), ("c",), ("d",)]
    connection.execute("TRUNCATE own")
    assert rows(connection, "SELECT count(*) FROM own") == [(0,)]


def test_it_is_seen_by_its_session_alone_and_ends_with_it(server: RunningServer, connection: Connection):
    connection.execute("CREATE TEMPORARY TABLE kept (only_mine INT)")
    connection.execute("INSERT INTO kept VALUES (7)")
    assert rows(connection, "SELECT * FROM kept") == [(7,)]
    with server.session() as other:
        assert rows(other, "SELECT * FROM kept ORDER BY 1") == [(1, "x"), (2, "y")]
        assert rows(other, "SELECT count(*) FROM pg_attribute WHERE attname = 'only_mine'") == [(0,)]
        other.execute("CREATE TEMP TABLE kept (k INT)")
        other.execute("DISCARD ALL")
        assert rows(other, "SELECT count(*) FROM kept") == [(2,)]
    connection.execute("DROP TABLE kept")
    assert rows(connection, "SELECT * FROM kept ORDER BY 1") == [(1, "x"), (2, "y")]


def test_transactions_and_savepoints_hold_for_it(connection: Connection):
    connection.execute("CREATE TEMP TABLE own (a INT PRIMARY KEY)")
    connection.execute("INSERT INTO own VALUES (1)")
    connection.execute("BEGIN")
    connection.execute("INSERT INTO own VALUES (2); INSERT INTO kept VALUES (3, 'z')")
    connection.execute("SAVEPOINT s; DELETE FROM own WHERE a = 1; CREATE TEMP TABLE later (x INT); DROP TABLE own")
    assert rows(connection, "SELECT count(*) FROM later") == [(0,)]
    connection.execute("ROLLBACK TO s")
    assert rows(connection, "SELECT * FROM own ORDER BY a") == [(1,), (2,)]
    connection.execute("ROLLBACK")
    assert rows(connection, "SELECT * FROM own") == [(1,)]
    connection.execute(
        "BEGIN; UPDATE own SET a = 5; INSERT INTO own VALUES (6); INSERT INTO kept VALUES (3, 'z'); COMMIT"
    )
    assert rows(connection, "SELECT * FROM own, kept WHERE id = 3 ORDER BY a") == [(5, 3, "z"), (6, 3, "z")]
    with pytest.raises(errors.UniqueViolation):
        connection.execute("INSERT INTO own VALUES (6)")
    with pytest.raises(errors.UniqueViolation):
        connection.execute("BEGIN; INSERT INTO own VALUES (7); INSERT INTO kept VALUES (1, 'twice')")
    connection.execute("ROLLBACK")
    assert rows(connection, "SELECT * FROM own ORDER BY a") == [(5,), (6,)]


def test_on_commit(connection: Connection):
    connection.execute("BEGIN")
    connection.execute("CREATE TEMP TABLE gone (x INT) ON COMMIT DROP")
    connection.execute("CREATE TEMP TABLE emptied ON COMMIT DELETE ROWS AS SELECT id FROM kept")
    connection.execute("INSERT INTO gone VALUES (1)")
    assert rows(connection, "SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM emptied)") == [(1, 2)]
    connection.execute("COMMIT")
    assert rows(connection, "SELECT count(*) FROM emptied") == [(0,)]
    with pytest.raises(errors.UndefinedTable):
        connection.execute("SELECT * FROM gone")


def test_a_table_is_made_of_a_query(tmp_path: Path):
    server = RunningServer(tmp_path)
    with server, server.session() as connection:
        connection.execute("CREATE STREAM s (ts TIMESTAMP, k TEXT, x NUMERIC(8,3))")
        connection.execute("INSERT INTO s VALUES ('2026-01-01', 'a', 1.5), ('2026-01-02', 'b', 2)")
        made = connection.execute(
            "CREATE TABLE t AS SELECT k, x, x / 2 AS half, NULL AS nothing, ARRAY[k] AS ks FROM s ORDER BY k"
        )
        assert made.statusmessage == "SELECT 2"
        connection.execute("CREATE TABLE IF NOT EXISTS t AS SELECT 1")
        connection.execute("CREATE TABLE renamed (key) AS SELECT k, x FROM s WITH NO DATA")
        wanted = rows(connection, "SELECT k, x, nothing, ks FROM t ORDER BY k")
        assert [(k, str(x), n, ks) for k, x, n, ks in wanted] == [
            ("a", "1.500", None, ["a"]),
            ("b", "2.000", None, ["b"]),
        ]
        described = (
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attnum > 0"
        )
        columns = rows(connection, f"{described} ORDER BY attnum", "t")
        assert [c for c in columns if c[0] != "half"] == [
            ("k", "text"), ("x", "numeric(8,3)"), ("nothing", "text"), ("ks", "text[]"),
        ]  # fmt: skip
        connection.execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t")
        connection.execute("DELETE FROM t WHERE k = 'a'")
        assert rows(connection, "SELECT n FROM v") == [(1,)]
        connection.execute("BEGIN; TRUNCATE t, renamed; ROLLBACK")
        assert rows(connection, "SELECT n FROM v") == [(1,)]
        connection.execute("TRUNCATE TABLE t, renamed RESTART IDENTITY CASCADE")
        assert rows(connection, "SELECT n FROM v") == [(0,)]
    with server, server.session() as connection:
        assert rows(connection, f"{described} ORDER BY attnum", "t") == columns
        assert rows(connection, "SELECT key, x FROM renamed") == []


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("CREATE TEMP TABLE own (a INT)", errors.DuplicateTable),
        ("CREATE TABLE kept AS SELECT 1 AS a", errors.DuplicateTable),
        ("CREATE TABLE k (a INT) ON COMMIT DROP", errors.InvalidTableDefinition),
        ("CREATE TABLE k AS SELECT 1 AS a, 2 AS a", errors.DuplicateColumn),
        ("CREATE TABLE k (a, b) AS SELECT 1", errors.SyntaxError),
        ("CREATE TABLE k AS SELECT nope FROM kept", errors.UndefinedColumn),
        ("CREATE TABLE k AS SELECT count(*) FROM kept EMIT UPDATE", errors.FeatureNotSupported),
        ("CREATE MATERIALIZED VIEW k AS SELECT count(*) FROM own", errors.FeatureNotSupported),
        ("SELECT count(*) FROM own EMIT UPDATE", errors.FeatureNotSupported),
        ("EXPLAIN SELECT count(*) FROM own EMIT UPDATE", errors.FeatureNotSupported),
        ("SELECT * FROM pg_temp.kept", errors.UndefinedTable),
        ("TRUNCATE nope", errors.UndefinedTable),
        ("INSERT INTO own VALUES ('x')", errors.InvalidTextRepresentation),
    ],
)
def test_what_cannot_be_is_refused_and_the_session_goes_on(
    connection: Connection, statement: str, error: type[psycopg.Error]
):
    connection.execute("CREATE TEMP TABLE own (a INT)")
    with pytest.raises(error):
        connection.execute(statement.encode())
    assert rows(connection, "SELECT count(*) FROM own") == [(0,)]


def test_a_temporary_table_does_not_grow_without_bound(tmp_path: Path):
    with RunningServer(tmp_path, ["--limit", "temporary_bytes_max=10000"]) as server, server.session() as connection:
        connection.execute("CREATE TEMP TABLE own (a BIGINT)")
        connection.execute("INSERT INTO own SELECT * FROM generate_series(1, 100)")
        with pytest.raises(errors.ProgramLimitExceeded, match="temporary_bytes_max = 10000"):
            connection.execute("INSERT INTO own SELECT * FROM generate_series(1, 1000)")
        assert rows(connection, "SELECT count(*) FROM own") == [(100,)]
