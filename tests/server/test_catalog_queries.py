"""What BI tools and psql ask the catalog, answered like PostgreSQL 15 answers for the same objects: names, types, rows.

`bi_queries.json` has the queries that six tools send, `driver_queries.json` those of drivers and of SQLAlchemy. Where a
query names an object by its OID or name, ours is put in; where the two servers differ for a good reason (OIDs, the system's
own objects), the rows are compared without that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.running import RunningServer

Connection = psycopg.Connection[TupleRow]

ASKED: dict[str, list[str]] = {
    tool: queries
    for name in ("bi_queries.json", "driver_queries.json")
    for tool, queries in json.loads(Path(__file__).with_name(name).read_text("utf-8")).items()
}
QUERIES = [
    pytest.param(query, id=f"{tool}-{number}")
    for tool, queries in ASKED.items()
    for number, query in enumerate(queries)
]

OBJECTS = (
    "CREATE TABLE games (id INT PRIMARY KEY, name TEXT NOT NULL, price NUMERIC(10,2), started TIMESTAMP,"
    " ok BOOLEAN DEFAULT true, tags TEXT[], note TEXT DEFAULT 'x', at TIMESTAMPTZ, d DATE, f DOUBLE PRECISION, b BYTEA,"
    " j JSON, u UUID, i INTERVAL, n2 SMALLINT, n8 BIGINT DEFAULT 7)",
    "CREATE TABLE clubs (country TEXT, city TEXT, members INT, PRIMARY KEY (country, city))",
    "CREATE TABLE customer (id INT, name TEXT)",
    "CREATE TABLE tt (a INT)",
)
OURS = (
    "CREATE STREAM events (ts TIMESTAMP, k TEXT, x INT)",
    "CREATE MATERIALIZED VIEW per_key AS SELECT k, count(*) AS n FROM events GROUP BY k EMIT UPDATE",
)


@pytest.fixture(scope="module")
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        for statement in (*OBJECTS, *OURS):
            opened.execute(statement)
        yield opened


@pytest.fixture(scope="module")
def postgres(postgres_port: int) -> Iterator[Connection]:
    dsn = f"postgresql://tester@127.0.0.1:{postgres_port}/postgres"
    with psycopg.connect(dsn, autocommit=True) as opened:
        opened.execute("CREATE DATABASE catalog")
    with psycopg.connect(dsn.replace("/postgres", "/catalog"), autocommit=True) as opened:
        for statement in (*OBJECTS, *(s.replace("STREAM", "TABLE").replace(" EMIT UPDATE", "") for s in OURS)):
            opened.execute(statement)
        yield opened


def answer(connection: Connection, query: str) -> tuple[list[tuple[str, int]], list[tuple[Any, ...]]]:
    """Give the names and type OIDs of the columns, and the rows, of a query put to one of the two servers."""
    cursor = connection.execute(as_asked(connection, query).encode())
    columns = [(column.name, column.type_code) for column in cursor.description or ()]
    return columns, cursor.fetchall() if cursor.description is not None else []


def as_asked(connection: Connection, query: str) -> str:
    """Put in the OIDs of our objects for those of the tool's."""
    asked: dict[str, str] = {}
    for number, name in (("16384", "games"), ("16417", "clubs"), ("indrelid=1", "clubs"), ("conrelid=1", "clubs")):
        if number in query:
            found = connection.execute("SELECT oid FROM pg_class WHERE relname = %s", [name]).fetchone()
            assert found is not None
            asked[number] = number.replace("1", str(found[0])) if "=" in number else str(found[0])
    if asked:  # all at once: one of our OIDs may be another one of the tool's
        query = re.sub(rf"({'|'.join(asked)})\b", lambda found: asked[found[1]], query)
    return query


# Columns whose values are numbers or texts of one server alone.
OWN = frozenset(
    "oid reltype relfilenode relpages reltoastrelid relfrozenxid relminmxid relacl reltuples nspacl datfrozenxid datminmxid "
    "indexrelid indrelid indclass conrelid conindid classoid relowner relallvisible total_rel_size rel_size "
    "index_rel_size proacl current_database pages cardinality table_catalog tabrelname_oid adbin datcollversion".split()
)
# What only one of the two has.
ONLY_OURS = frozenset({"streamsql"})
ONLY_THEIRS = frozenset({"pg_toast", "template0", "template1", "catalog", "postgres"})
# Rows that tell of the server itself.
OTHER_ROWS = ("version()", "pg_total_relation_size", "show timezone", "show time zone")
# Lists of the system's own objects: what is in ours is in theirs, but for these columns and rows with these names.
WITHIN_THEIRS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    # those that take any number of arguments have no VARIADIC here
    "pg_catalog.pg_proc p": (frozenset({"coalesce", "proargmodes", "proargnames", "arg_defaults"}), frozenset()),
    "FROM pg_catalog.pg_type t LEFT OUTER JOIN": (frozenset({"description", "typrelid", "typnamespace"}), frozenset()),
    "c.relnamespace=11": (frozenset({"description", "relhasindex"}), frozenset()),
    "pg_settings": (frozenset({"category", "short_desc", "extra_desc", "source"}), frozenset()),
    "pg_catalog.pg_database": (frozenset(), ONLY_OURS),
}


def comparable(columns: list[tuple[str, int]], rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    kept = [i for i, (name, _) in enumerate(columns) if name not in OWN]
    return [
        row
        for row in (tuple(row[i] for i in kept) for row in rows)
        if not any(isinstance(value, str) and value in ONLY_OURS | ONLY_THEIRS for value in row)
        and not {"pg_catalog", "information_schema"} & {v for v in row if isinstance(v, str)}
    ]


@pytest.mark.postgres
@pytest.mark.parametrize("query", QUERIES)
def test_a_question_of_a_tool_is_answered_as_postgres_answers_it(
    connection: Connection, postgres: Connection, query: str
):
    if "daticurules" in query:  # a column of PostgreSQL 16
        query = query.replace("d.daticurules", "NULL")
    try:
        their_columns, their_rows = answer(postgres, query)
    except psycopg.Error as theirs:
        with pytest.raises(type(theirs)):
            answer(connection, query)
        return
    columns, rows = answer(connection, query)
    assert columns == their_columns
    listed = next((rule for words, rule in WITHIN_THEIRS.items() if words in query), None)
    if listed is not None:
        assert rows
        differ, ours = listed
        kept = [i for i, (name, _) in enumerate(columns) if name not in OWN | differ]
        there = {repr([row[i] for i in kept]) for row in their_rows}
        alone = [row for row in rows if repr([row[i] for i in kept]) not in there]
        assert not [row for row in alone if not ours & {value for value in row if isinstance(value, str)}]
    elif not any(words in query for words in OTHER_ROWS):
        found, expected = comparable(columns, rows), comparable(columns, their_rows)
        in_order = "order by" in query.lower()
        assert (found if in_order else sorted(found, key=repr)) == (
            expected if in_order else sorted(expected, key=repr)
        )
