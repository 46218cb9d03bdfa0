"""Common mistakes, each with the error that PostgreSQL 15 gives: SQLSTATE, message, and where in the text it is.

`mistakes.txt` holds a statement, then PostgreSQL's error, and behind `here:` this server's where it is another:

    SELECT nosuch FROM trades
        42703 @8 column "nosuch" does not exist

`python -m tests.server.test_mistakes record POSTGRES` and `accept SERVER` write it; read the difference.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.running import RunningServer
from tests.server.answers import HERE, Entry, entries
from tests.server.test_adhoc import TABLES

Connection = psycopg.Connection[TupleRow]

PATH = Path(__file__).parent / "mistakes.txt"
ENTRIES = entries(PATH)
_INDENT = "    "


def told(connection: Connection, statement: str) -> str:
    """Give the error of a statement as a line."""
    try:
        connection.execute(statement)
    except psycopg.Error as error:
        place = f" @{error.diag.statement_position}" if error.diag.statement_position else ""
        return f"{error.sqlstate}{place} {error.diag.message_primary}"
    return "no error"


@pytest.fixture(scope="module")
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        for statement in TABLES:
            opened.execute(statement)
        yield opened


@pytest.mark.parametrize("entry", [pytest.param(e, id=e.sql[:70]) for e in ENTRIES])
def test_a_mistake_is_told_as_postgres_tells_it(connection: Connection, entry: Entry):
    assert [told(connection, entry.sql)] == entry.expected


@pytest.mark.postgres
def test_the_errors_are_those_of_postgres(postgres_port: int):
    with psycopg.connect(f"postgresql://tester@127.0.0.1:{postgres_port}/postgres", autocommit=True) as postgres:
        for statement in ("CREATE SCHEMA mistaken", "SET search_path TO mistaken", *TABLES):
            postgres.execute(statement)
        assert [(e.sql, [told(postgres, e.sql)]) for e in ENTRIES] == [(e.sql, e.answer) for e in ENTRIES]
        postgres.execute("DROP SCHEMA mistaken CASCADE")


def _write(mode: str, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True, user="tester") as opened:
        for statement in ("DROP TABLE IF EXISTS trades", "DROP TABLE IF EXISTS names", *TABLES):
            opened.execute(statement)
        lines: list[str] = []
        for entry in ENTRIES:
            found = told(opened, entry.sql)
            answer = [found] if mode == "record" else entry.answer
            here = entry.here if mode == "record" else [found][found in entry.answer :]
            lines += [entry.sql, *(_INDENT + line for line in answer), *(_INDENT + HERE + line for line in here)]
        PATH.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    _write(*sys.argv[1:])
