"""psycopg 3: COPY FROM STDIN by values and by text, given up, failed, inside a transaction."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import TupleRow

from tests.running import RunningServer

Connection = psycopg.Connection[TupleRow]


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        yield opened


def test_copy_takes_rows_of_values_and_raw_text(connection: Connection):
    connection.execute("CREATE STREAM copied (ts TIMESTAMP, n INT, t TEXT)")
    cursor = connection.cursor()
    with cursor.copy("COPY copied FROM STDIN") as copy:
        for number in range(1_000):
            copy.write_row((dt.datetime(2024, 1, 1), number, None if number % 2 else "a\tb\\c\n"))
    assert cursor.rowcount == 1_000
    with cursor.copy("COPY copied (n, t) FROM STDIN (FORMAT csv, HEADER)") as copy:
        copy.write("n,t\n1,")
        copy.write('"x\n')
        copy.write('y"\n')
    assert connection.execute("SELECT count(*), count(ts), min(t), max(t) FROM copied").fetchone() == (
        1_001, 1_000, "a\tb\\c\n", "x\ny",
    )  # fmt: skip


def test_a_copy_that_the_client_gives_up_keeps_nothing(connection: Connection):
    connection.execute("CREATE TABLE given_up (n INT)")

    def talk() -> None:
        with connection.cursor().copy("COPY given_up FROM STDIN") as copy:
            copy.write_row((1,))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        talk()
    assert connection.execute("SELECT count(*) FROM given_up").fetchone() == (0,)


def test_a_copy_that_fails_in_the_middle_keeps_nothing_and_names_the_place(connection: Connection):
    connection.execute("CREATE TABLE in_the_middle (n INT, d DATE)")

    def talk() -> None:
        with connection.cursor().copy("COPY in_the_middle FROM STDIN (FORMAT csv)") as copy:
            for number in range(300_000):
                copy.write(f"{number if number != 12_344 else 'many'},2024-01-01\n")

    with pytest.raises(errors.InvalidTextRepresentation, match="type integer") as failed:
        talk()
    assert failed.value.diag.context == 'COPY in_the_middle, line 12345, column n: "many"'
    assert connection.execute("SELECT count(*) FROM in_the_middle").fetchone() == (0,)


def test_a_copy_in_a_transaction_is_part_of_it(server: RunningServer, connection: Connection):
    connection.execute("CREATE TABLE copied_later (n INT)")
    with server.session(autocommit=False) as other:
        with other.cursor().copy("COPY copied_later FROM STDIN") as copy:
            copy.write_row((1,))
        assert other.execute("SELECT count(*) FROM copied_later").fetchone() == (1,)
        other.rollback()
    assert connection.execute("SELECT count(*) FROM copied_later").fetchone() == (0,)


def test_copy_gives_rows_one_by_one_in_each_format(connection: Connection):
    connection.execute("CREATE TABLE given (id INT, name TEXT, tags TEXT[], made TIMESTAMPTZ)")
    moment = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    rows = [(1, "tab\tand \\ and\nline", ["a", None], moment), (2, None, [], moment), (3, "", ["b,c"], moment)]
    with connection.cursor().copy("COPY given FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "text", "text[]", "timestamptz"])
        for row in rows:
            copy.write_row(row)
    for options in ("", "(FORMAT binary)"):
        with connection.cursor().copy(f"COPY given TO STDOUT {options}") as copy:
            copy.set_types(["int4", "text", "text[]", "timestamptz"])
            assert list(copy.rows()) == rows
    with connection.cursor().copy(
        "COPY (SELECT id, name FROM given WHERE id > 1 ORDER BY 1) TO STDOUT CSV HEADER"
    ) as copy:
        assert b"".join(copy) == b'id,name\n2,\n3,""\n'


def test_a_copy_of_a_subscription_goes_on_until_it_is_cancelled(server: RunningServer, connection: Connection):
    connection.execute("CREATE STREAM watched (name TEXT)")
    connection.execute(
        "CREATE MATERIALIZED VIEW by_name AS SELECT name, count(*) AS n FROM watched GROUP BY 1 EMIT UPDATE"
    )
    connection.execute("INSERT INTO watched VALUES ('a')")

    def talk() -> None:
        with connection.cursor().copy("COPY (SUBSCRIBE by_name) TO STDOUT") as copy:
            rows = copy.rows()
            seen.append(next(rows)[1:])
            server.execute("INSERT INTO watched VALUES ('b')")
            seen.append(next(rows)[1:])
            connection.cancel()
            next(rows)

    seen: list[tuple[object, ...]] = []
    with pytest.raises(errors.QueryCanceled):
        talk()
    assert seen == [("1", "a", "1"), ("1", "b", "1")]
    assert connection.execute("SELECT count(*) FROM by_name").fetchone() == (2,)


def test_a_copy_of_a_live_query_gives_rows_as_they_come(server: RunningServer, connection: Connection):
    connection.execute("CREATE STREAM coming (n INT)")
    with connection.cursor().copy("COPY (SELECT n FROM coming WHERE n > 1 EMIT APPEND LIMIT 2) TO STDOUT") as copy:
        rows = copy.rows()
        server.execute("INSERT INTO coming VALUES (1), (2)")
        assert next(rows) == ("2",)
        server.execute("INSERT INTO coming VALUES (3), (4)")
        assert list(rows) == [("3",)]


def test_rows_that_where_lets_in_are_counted(connection: Connection):
    connection.execute("CREATE TABLE let_in (n INT, t TEXT)")
    cursor = connection.cursor()
    with cursor.copy("COPY let_in (n) FROM STDIN WHERE n % 2 = 0 AND t IS NULL") as copy:
        for number in range(100):
            copy.write_row((number,))
    assert cursor.rowcount == 50
    assert connection.execute("SELECT count(*), min(n) FROM let_in").fetchone() == (50, 0)
    with pytest.raises(
        errors.DatatypeMismatch, match="argument of COPY FROM WHERE must be type boolean, not type integer"
    ):
        connection.execute("COPY let_in FROM STDIN WHERE n")
