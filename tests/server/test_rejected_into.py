"""The stream that gets what cannot be read: what it must be, who may name it, and that it stays."""

from __future__ import annotations

import psycopg
import pytest

from tests.running import RunningServer

MADE = "CREATE STREAM made (n INT) WITH (connector = 'datagen', rows = '1', rejected_into = '{}')"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("reason INT", 'column "reason" of stream "bin" cannot take rejected records'),
        ("n INT", 'stream "bin" cannot take rejected records'),
        ("reason TEXT, n INT NOT NULL", 'column "n" of stream "bin" cannot take rejected records'),
    ],
)
def test_its_columns_are_checked(server: RunningServer, columns: str, message: str):
    with server.session() as connection:
        connection.execute(f"CREATE STREAM bin ({columns})")
        try:
            with pytest.raises(psycopg.errors.InvalidParameterValue, match=message) as found:
                connection.execute(MADE.format("bin"))
            assert "rejected_at TIMESTAMP WITH TIME ZONE" in str(found.value.diag.message_hint)
            assert found.value.diag.statement_position == str(1 + MADE.index("rejected_into"))
        finally:
            connection.execute("DROP STREAM bin")


def test_it_is_a_stream_that_clients_fill(server: RunningServer):
    with server.session() as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute(MADE.format("nowhere"))
        connection.execute("CREATE TABLE kept (reason TEXT)")
        with pytest.raises(psycopg.errors.WrongObjectType):
            connection.execute(MADE.format("kept"))
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="needs a connector"):
            connection.execute("CREATE STREAM plain (n INT) WITH (rejected_into = 'kept')")
        connection.execute("DROP TABLE kept")


def test_it_stays_while_it_is_named(server: RunningServer):
    with server.session() as connection:
        connection.execute("CREATE STREAM aside (reason TEXT, note TEXT)")
        connection.execute(MADE.format("aside"))
        for ending in ("", " CASCADE"):
            with pytest.raises(psycopg.errors.DependentObjectsStillExist) as found:
                connection.execute(f"DROP STREAM aside{ending}")
            assert found.value.diag.message_detail == "stream made puts records that cannot be read into it"
        connection.execute("DROP STREAM made, aside")
