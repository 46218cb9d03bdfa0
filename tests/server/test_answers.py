"""SQL as BI tools and ORMs write it: values and types are those that PostgreSQL 15 gave, or what stands behind `here:`."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.running import RunningServer
from tests.server.answers import Connection, Entry, agree, all_entries, ask

ENTRIES = list(all_entries())
EXPRESSIONS_MIN = 800  # the files are there, and are read


@pytest.fixture(scope="module")
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        yield opened


def test_there_are_as_many_expressions_as_there_ought_to_be():
    assert len(ENTRIES) > EXPRESSIONS_MIN
    assert all(entry.answer for _, entry in ENTRIES)


@pytest.mark.parametrize("entry", [pytest.param(e, id=f"{name}: {e.sql}"[:80]) for name, e in ENTRIES])
def test_an_expression_gives_what_postgres_gives(connection: Connection, entry: Entry):
    assert agree(entry.expected, found := ask(connection, entry.query)), (entry.expected, found)


@pytest.mark.postgres
def test_the_answers_are_those_of_postgres(postgres_port: int):
    dsn = f"postgresql://tester@127.0.0.1:{postgres_port}/postgres"
    with psycopg.connect(dsn, autocommit=True) as postgres:
        wrong = [entry.sql for _, entry in ENTRIES if not agree(entry.answer, ask(postgres, entry.query))]
    assert wrong == []
