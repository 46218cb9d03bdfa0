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


@pytest.mark.parametrize(
    "statement", ["COPY {} FROM STDIN (FORMAT binary)", "COPY {} TO STDOUT", "COPY (SELECT 1) TO STDOUT"]
)
def test_other_ways_of_copy_are_refused_by_name(connection: Connection, statement: str):
    connection.execute("CREATE TABLE IF NOT EXISTS other_ways (n INT)")
    with (
        pytest.raises(errors.FeatureNotSupported) as refused,
        connection.cursor().copy(statement.format("other_ways")) as copy,
    ):
        copy.write(b"")
    assert refused.value.diag.message_hint
    assert connection.execute("SELECT 1").fetchone() == (1,)
