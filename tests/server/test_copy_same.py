"""COPY TO STDOUT and FROM STDIN beside PostgreSQL 15: the same bytes out, the same rows and errors in."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.running import RunningServer

pytestmark = pytest.mark.postgres

TABLE = """CREATE TABLE copied_out (i INT, t TEXT, x FLOAT8, f REAL, b BOOLEAN, n NUMERIC(12, 3), ts TIMESTAMP, tz TIMESTAMPTZ,
    d DATE, ti TIME, iv INTERVAL, u UUID, by BYTEA, a INT[], ta TEXT[], s SMALLINT, l BIGINT)"""
ROWS = r"""INSERT INTO copied_out VALUES
    (1, 'plain', 1.5, 0.1, true, 12.345, '2024-01-01', '2024-01-01 12:00:00.5+00', '2024-02-29', '23:59:59.000001',
     '1 day 02:00', '00000000-0000-0000-0000-000000000001', '\x00ff5c', '{1,2,NULL}', '{"a b","c,d","",NULL}', -32768,
     9223372036854775807),
    (2, E'tab\there', 'NaN', 'Infinity', false, -0.001, '1970-01-01 00:00:00.000001', '1999-12-31 23:59:59.999999+00',
     '0001-01-01', '00:00:00', '-1 mons +2 days', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '', '{}', '{}', 0, 0),
    (4, E'line\nline\r\n', 1e300, 1e10, true, 0, 'infinity', '-infinity', 'infinity', '24:00:00', '00:00:00', NULL, NULL,
     NULL, NULL, 1, -1);
INSERT INTO copied_out (i, t, x, f, b, n) VALUES
    (3, E'back\\slash, "quote" \'single\'', '-Infinity', '-1e-10', NULL, NULL),
    (5, '', 0, -0.0, true, 1), (6, '\N', 1, 1, true, 1), (7, '\.', 1, 1, true, 1), (NULL, 'été |;x', NULL, NULL, NULL, NULL)"""


@pytest.fixture(scope="module")
def pair(server: RunningServer, postgres_port: int) -> Iterator[list[psycopg.Connection[TupleRow]]]:
    with (
        server.session() as ours,
        psycopg.connect(
            host="127.0.0.1", port=postgres_port, user="tester", dbname="postgres", autocommit=True
        ) as theirs,
    ):
        for connection in (ours, theirs):
            connection.execute("DROP TABLE IF EXISTS copied_out")
            connection.execute(TABLE)
            connection.execute(ROWS)
        yield [ours, theirs]
        for connection in (ours, theirs):
            connection.execute("DROP TABLE copied_out")


Outcome = tuple[object, ...]


def _out(connection: psycopg.Connection[TupleRow], statement: str) -> Outcome:
    """Give the messages of a COPY TO STDOUT, or what it failed with."""
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            pieces = [bytes(piece) for piece in copy]
        return (pieces, cursor.statusmessage)
    except psycopg.Error as error:
        return (error.sqlstate, error.diag.message_primary)


@pytest.mark.parametrize(
    "statement",
    [
        "COPY copied_out TO STDOUT",
        "COPY copied_out TO STDOUT (FORMAT csv)",
        "COPY copied_out TO STDOUT (FORMAT binary)",
        "COPY copied_out (t, i) TO STDOUT (HEADER)",
        "COPY copied_out (i, t) TO STDOUT CSV HEADER FORCE QUOTE *",
        "COPY copied_out TO STDOUT (FORMAT csv, FORCE_QUOTE (t, x, ts), NULL 'null')",
        "COPY copied_out TO STDOUT (FORMAT csv, QUOTE '''', ESCAPE '\\', DELIMITER '|')",
        "COPY copied_out TO STDOUT (DELIMITER ':', NULL '')",
        "COPY copied_out TO STDOUT (FORMAT csv, DELIMITER '-')",
        "COPY copied_out TO STDOUT (DELIMITER ' ')",
        "COPY copied_out TO STDOUT (FORMAT csv, NULL '1')",
        "COPY copied_out (t) TO STDOUT CSV",
        "COPY copied_out (t) TO STDOUT",
        'COPY (SELECT i AS "a,b", t AS "c""d", 1 AS "\\." FROM copied_out) TO STDOUT CSV HEADER',
        'COPY (SELECT i AS "a\tb" FROM copied_out) TO STDOUT (HEADER)',
        "COPY (SELECT * FROM copied_out WHERE false) TO STDOUT",
        "COPY (SELECT * FROM copied_out WHERE false) TO STDOUT (FORMAT binary)",
        "COPY (SELECT i, t FROM copied_out WHERE i < 3) TO STDOUT BINARY",
        "COPY (VALUES (1, 'a'), (2, NULL)) TO STDOUT",
        "COPY (SELECT 1/0 FROM copied_out) TO STDOUT",
        "COPY nosuch TO STDOUT",
        "COPY copied_out (nosuch) TO STDOUT",
        "COPY copied_out TO STDOUT (FORMAT csv, FORCE_NULL (i))",
        "COPY copied_out (i) TO STDOUT (FORMAT csv, FORCE_QUOTE (t))",
        "COPY copied_out TO STDOUT (FORCE_QUOTE *)",
        "COPY copied_out TO STDOUT (HEADER match)",
        "COPY copied_out TO STDOUT (FORMAT binary, HEADER)",
        "COPY copied_out TO STDOUT (FORMAT binary, NULL 'x')",
        "COPY copied_out TO STDOUT (QUOTE '''')",
    ],
)  # fmt: skip
def test_the_bytes_are_the_same(pair: list[psycopg.Connection[TupleRow]], statement: str):
    ours, theirs = (_out(connection, statement) for connection in pair)
    assert ours == theirs


def _in(connection: psycopg.Connection[TupleRow], statement: str, data: bytes) -> Outcome:
    """Give the rows that a COPY FROM STDIN makes of the data, or what it failed with."""
    connection.execute("DROP TABLE IF EXISTS copied_in")
    connection.execute("CREATE TABLE copied_in (i INT, t TEXT DEFAULT 'deft', x FLOAT8)")
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(data)
        return (cursor.statusmessage, connection.execute("SELECT * FROM copied_in ORDER BY i, t").fetchall())
    except psycopg.Error as error:
        return (error.sqlstate, error.diag.message_primary, error.diag.context)
    finally:
        connection.execute("DROP TABLE copied_in")


HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
ONE = b"\0\3\0\0\0\4\0\0\0\1\0\0\0\1a\0\0\0\x08\x3f\xf0\0\0\0\0\0\0"
TWO = b"\0\3\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
END = b"\xff\xff"


@pytest.mark.parametrize(
    ("options", "data"),
    [
        ("(FORMAT csv)", b'1,"a",1\n2,,2\n3,"",3\n'),
        ("(FORMAT csv, FORCE_NULL (t))", b'1,"a",1\n2,,2\n3,"",3\n'),
        ("(FORMAT csv, FORCE_NOT_NULL (t))", b'1,"a",1\n2,,2\n3,"",3\n'),
        ("(FORMAT csv, FORCE_NOT_NULL (t), FORCE_NULL (t), NULL 'n')", b'1,"n",1\n2,n,2\n3,"",3\n'),
        ("(FORMAT csv, FORCE_NOT_NULL (i))", b"1,a,1\n,b,2\n"),
        ("(FORMAT csv, FORCE_NULL (i, x))", b'"",a,""\n1,b,2\n'),
        ("(FORMAT csv, HEADER match)", b"i,t,x\n1,a,2\n"),
        ("(FORMAT csv, HEADER match)", b"i,x,t\n1,a,2\n"),
        ("(HEADER match)", b"i\tt\n"),
        ("WHERE i > 1 AND t <> 'c'", b"1\ta\t1\n2\tb\t2\n3\tc\t3\n"),
        ("", b"1\ta\t1\n2\tb\tx\n"),
        ("", b"1\ta\t1\n2\tb\n"),
        ("CSV", b"1,a,1\n2,b,1,1\n"),
        ("(FORMAT binary)", HEAD + ONE + TWO + END),
        ("(FORMAT binary) WHERE i = 1", HEAD + ONE + TWO + END),
        ("(FORMAT binary)", HEAD + ONE + TWO),
        ("(FORMAT binary)", HEAD + END),
        ("(FORMAT binary)", HEAD),
        ("(FORMAT binary)", b""),
        ("(FORMAT binary)", HEAD[:12]),
        ("(FORMAT binary)", HEAD[:17]),
        ("(FORMAT binary)", b"PGCOPY\n\xff\n\0" + bytes(8)),
        ("(FORMAT binary)", HEAD[:11] + b"\0\1\0\0" + bytes(4)),
        ("(FORMAT binary)", HEAD[:11] + b"\0\2\0\0" + bytes(4)),
        ("(FORMAT binary)", HEAD[:15] + b"\0\0\0\3abc" + ONE + END),
        ("(FORMAT binary)", HEAD + ONE + END + ONE),
        ("(FORMAT binary)", HEAD + ONE + b"\0\2"),
        ("(FORMAT binary)", HEAD + ONE + b"\0"),
        ("(FORMAT binary)", HEAD + ONE + TWO[:8]),
        ("(FORMAT binary)", HEAD + ONE + ONE[:-1]),
        ("(FORMAT binary)", HEAD + ONE + b"\0\3\xff\xff\xff\xfe"),
        ("(FORMAT binary)", HEAD + ONE + b"\0\3\0\0\0\3abc" + TWO[2:10] + END),
        ("(FORMAT binary)", HEAD + ONE + b"\0\3\xff\xff\xff\xff\0\0\0\1\xff\xff\xff\xff\xff" + END),
    ],
)
def test_the_rows_and_the_errors_are_the_same(pair: list[psycopg.Connection[TupleRow]], options: str, data: bytes):
    ours, theirs = (_in(connection, f"COPY copied_in FROM STDIN {options}", data) for connection in pair)
    assert ours == theirs
