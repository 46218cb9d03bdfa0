"""INSERT ... ON CONFLICT with parameters and with an alias: types and rows as PostgreSQL 15 tells them."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.pq import ExecStatus
from psycopg.rows import TupleRow

from tests.running import RunningServer

Connection = psycopg.Connection[TupleRow]
INT4, TEXT, DATE = 23, 25, 1082


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        opened.execute("DROP TABLE IF EXISTS t CASCADE")
        opened.execute("CREATE TABLE t (id INT PRIMARY KEY DEFAULT 9, x TEXT, n INT DEFAULT 10, d DATE)")
        opened.execute("INSERT INTO t VALUES (1, 'x', 12), (9, 'y', 1)")
        yield opened


@pytest.mark.parametrize(
    ("statement", "values", "types", "rows"),
    [
        (
            "INSERT INTO t VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET x = $3, n = t.n + $4 RETURNING *",
            ["1", "x", "y", "2"],
            [INT4, TEXT, TEXT, INT4],
            [("1", "y", "14", None)],
        ),
        (
            "INSERT INTO t VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET x = $3, n = t.n + $4 RETURNING *",
            ["2", "x", "y", "2"],
            [INT4, TEXT, TEXT, INT4],
            [("2", "x", "10", None)],
        ),
        (
            "INSERT INTO t AS o VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET x = o.x || $2, n = excluded.n + $3 "
            "WHERE o.n > $4 RETURNING o.*, o.id",
            ["1", "a", "5", "1"],
            [INT4, TEXT, INT4, INT4],
            [("1", "xa", "15", None, "1")],
        ),
        (
            "INSERT INTO t AS o VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET x = $2 WHERE o.n > $3 RETURNING id",
            ["1", "a", "12"],
            [INT4, TEXT, INT4],
            [],
        ),
        (
            "INSERT INTO t (id, x) SELECT 1, $1 ON CONFLICT (id) DO UPDATE SET d = $2 RETURNING *",
            ["u", "2020-01-01"],
            [TEXT, DATE],
            [("1", "x", "12", "2020-01-01")],
        ),
        (
            "INSERT INTO t DEFAULT VALUES ON CONFLICT (id) DO UPDATE SET n = $1 RETURNING *",
            ["78"],
            [INT4],
            [("9", "y", "78", None)],
        ),
    ],
)
@pytest.mark.parametrize("explicit", [False, True])
def test_parameters_have_the_types_of_their_columns(
    connection: Connection, statement: str, values: list[str], types: list[int], rows: list[object], *, explicit: bool
):
    if explicit:
        connection.execute("BEGIN")
    client = connection.pgconn
    client.prepare(b"", statement.encode())
    told = client.describe_prepared(b"")
    assert [told.param_type(number) for number in range(told.nparams)] == types
    result = client.exec_prepared(b"", [value.encode() for value in values])
    assert result.status == ExecStatus.TUPLES_OK, result.error_message
    cells = [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]
    assert [tuple(cell and cell.decode() for cell in row) for row in cells] == rows


@pytest.mark.parametrize(
    ("statement", "values", "state", "message"),
    [
        (
            "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET n = $2",
            ["1", "1"],
            "42P18",
            "could not determine data type of parameter $1",
        ),
        (
            "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET n = $1",
            ["abc"],
            "22P02",
            'invalid input syntax for type integer: "abc"',
        ),
        (
            "INSERT INTO t AS o VALUES (1) ON CONFLICT (id) DO UPDATE SET n = t.n",
            [],
            "42P01",
            'invalid reference to FROM-clause entry for table "t"',
        ),
    ],
)
def test_faults_are_told(connection: Connection, statement: str, values: list[str], state: str, message: str):
    with pytest.raises(psycopg.Error) as raised:
        psycopg.RawCursor(connection).execute(statement.encode(), values)
    assert (raised.value.sqlstate, raised.value.diag.message_primary) == (state, message)


def test_many_rows_are_counted_up(connection: Connection):
    cursor = psycopg.RawCursor(connection)
    upsert = b"INSERT INTO t (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = t.n + $2"
    cursor.executemany(upsert, [(1, 1), (1, 2), (3, 3), (3, 4)])
    assert connection.execute("SELECT id, n FROM t ORDER BY id").fetchall() == [(1, 15), (3, 7), (9, 1)]
