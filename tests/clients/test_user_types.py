"""Enums, composite types and records with the clients that look them up: psycopg, asyncpg, SQLAlchemy's reflection."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum

from tests.running import RunningServer

Connection = psycopg.Connection[tuple[Any, ...]]


class Mood(enum.Enum):
    SAD = "sad"
    OK = "ok"
    HAPPY = "happy"


@pytest.fixture(scope="module")
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        opened.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
        opened.execute("CREATE TABLE person (id int PRIMARY KEY, m mood, ms mood[])")
        opened.execute("ALTER TYPE mood ADD VALUE 'ok' BEFORE 'happy'")
        opened.execute("CREATE TYPE place AS (x int, name text, m mood)")
        opened.execute("CREATE TABLE visit (id int, p place, ps place[])")
        yield opened


@pytest.mark.parametrize("binary", [False, True])
def test_psycopg_fetches_an_enum_and_reads_and_writes_it(connection: Connection, binary: bool):
    info = EnumInfo.fetch(connection, "mood")
    assert info is not None
    assert list(info.labels) == ["sad", "ok", "happy"]
    register_enum(info, connection, Mood, mapping={each: each.value for each in Mood})
    connection.execute("DELETE FROM person")
    connection.execute("INSERT INTO person VALUES (%s, %s, %s)", (1, Mood.OK, [Mood.SAD, Mood.OK]))
    with connection.cursor().copy("COPY person FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "mood", "mood[]"])
        copy.write_row((2, Mood.HAPPY, None))
    with connection.cursor().copy("COPY person (id, m) FROM STDIN (FORMAT csv)") as copy:
        copy.write("3,sad\n4,\n")
    found = connection.execute("SELECT id, m, ms FROM person ORDER BY m", binary=binary).fetchall()
    assert found == [(3, Mood.SAD, None), (1, Mood.OK, [Mood.SAD, Mood.OK]), (2, Mood.HAPPY, None), (4, None, None)]
    more = connection.execute("SELECT id FROM person WHERE m > %s OR m = %s ORDER BY id", (Mood.OK, "sad")).fetchall()
    assert more == [(2,), (3,)]


@pytest.mark.parametrize(
    "sql", ["INSERT INTO person VALUES (9, %s)", "UPDATE person SET m = %s", "SELECT * FROM person WHERE m = %s"]
)
def test_a_parameter_that_is_no_label_is_refused(connection: Connection, sql: str):
    with pytest.raises(psycopg.errors.InvalidTextRepresentation, match='invalid input value for enum mood: "blue"'):
        connection.execute(sql, ("blue",))


def test_copy_tells_the_line_of_a_text_that_is_no_label(connection: Connection):
    with (
        pytest.raises(psycopg.errors.InvalidTextRepresentation) as raised,
        connection.cursor().copy("COPY person (id, m) FROM STDIN") as copy,
    ):
        copy.write("8\tok\n9\tblue\n")
    assert raised.value.diag.context == 'COPY person, line 2, column m: "blue"'


@pytest.mark.parametrize("binary", [False, True])
def test_psycopg_fetches_a_composite_type(connection: Connection, binary: bool):
    info = CompositeInfo.fetch(connection, "place")
    assert info is not None
    register_composite(info, connection)
    place = info.python_type
    assert place is not None
    connection.execute("DELETE FROM visit")
    connection.execute("INSERT INTO visit VALUES (1, %s, %s)", (place(1, 'a "b', "ok"), [place(2, None, "sad"), None]))
    connection.execute("""INSERT INTO visit VALUES (2, ROW(3, 'c d', 'sad'), '{"(4,\\"x,y\\",)"}'), (3, NULL, NULL)""")
    found = connection.execute("SELECT p, ps, (p).x + 1, (p).m FROM visit ORDER BY id", binary=binary).fetchall()
    assert [row[2] for row in found] == [2, 4, None]
    assert [row[0] and row[0].name for row in found] == ['a "b', "c d", None]
    assert found[0][1][0].x == 2
    assert found[0][1][1] is None
    assert found[1][1][0].name == "x,y"
    assert connection.execute("SELECT id FROM visit WHERE p = %s", (place(3, "c d", "sad"),)).fetchall() == [(2,)]
    connection.execute("UPDATE visit SET p = ROW(5, 'e', 'ok') WHERE id = 3")
    for sql in (
        "INSERT INTO visit VALUES (4, ROW(1, 'x', 'blue'))",
        "UPDATE visit SET p = ROW(1, 'x', 'blue') WHERE id = 3",
    ):
        with pytest.raises(psycopg.errors.InvalidTextRepresentation, match='enum mood: "blue"'):
            connection.execute(sql)
    assert connection.execute("SELECT (p).x, (p).m = 'ok' FROM visit WHERE id = 3").fetchall() == [(5, True)]


def test_records_are_written_as_postgres_writes_them(connection: Connection):
    text = connection.execute("SELECT ROW(1, 'a b', NULL, '', 'q\"\\')::text, (1, 'x'), array[ROW(1, 2)]").pgresult
    assert text is not None
    assert [text.get_value(0, i) for i in (1, 2)] == [b"(1,x)", b'{"(1,2)"}']
    assert [text.ftype(i) for i in (1, 2)] == [2249, 2287]
    sql = "SELECT ROW(1, 'a b', NULL, ''), ROW(1.5, true), array[ROW(1, 2)], ROW(1, ROW(2, 'z')), MAP(['k'], [1])"
    binary = connection.execute(sql, binary=True)
    assert binary.fetchall() == [((1, "a b", None, ""), (Decimal("1.5"), True), [(1, 2)], (1, (2, "z")), {"k": 1})]


def test_asyncpg_looks_the_types_up(connection: Connection, server: RunningServer):
    connection.execute("DELETE FROM person")
    connection.execute("DELETE FROM visit")

    async def talk() -> None:
        client = await asyncpg.connect(server.dsn, user="tester")
        try:
            await client.execute("INSERT INTO person VALUES ($1, $2, $3)", 1, "ok", ["sad", "happy"])
            await client.copy_records_to_table("person", records=[(2, "happy", ["ok"]), (3, None, None)])
            rows = await client.fetch("SELECT m, ms, $1::mood AS x FROM person WHERE m >= $2 ORDER BY m", "sad", "ok")
            assert [tuple(row) for row in rows] == [("ok", ["sad", "happy"], "sad"), ("happy", ["ok"], "sad")]
            await client.execute("INSERT INTO visit VALUES ($1, $2, $3)", 1, (5, "five", "ok"), [(6, None, None), None])
            row = await client.fetchrow("SELECT p, ps, ROW(1, 'x') AS r FROM visit")
            assert row is not None
            assert (row["p"]["name"], tuple(row["ps"][0]), row["ps"][1]) == ("five", (6, None, None), None)
            assert tuple(row["r"]) == (1, "x")
            with pytest.raises(asyncpg.InvalidTextRepresentationError):
                await client.fetch("SELECT * FROM person WHERE m = $1", "blue")
        finally:
            await client.close(timeout=10)

    asyncio.run(talk())


def test_sqlalchemy_makes_and_reflects_an_enum(connection: Connection, server: RunningServer):
    engine = sa.create_engine(f"postgresql+psycopg://tester@127.0.0.1:{server.port}/streamsql")
    metadata = sa.MetaData()
    table = sa.Table(
        "task", metadata, sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("state", sa.Enum("new", "done", name="state"), nullable=False, server_default="new"),
    )  # fmt: skip
    with engine.begin() as bound:
        metadata.create_all(bound)
    with engine.begin() as bound:
        bound.execute(table.insert(), [{"id": 1, "state": "done"}, {"id": 2, "state": "new"}])
        assert bound.execute(sa.select(table.c.id).order_by(table.c.state)).scalars().all() == [2, 1]
    found = sa.inspect(engine).get_columns("task")[1]["type"]
    assert isinstance(found, sa.Enum)
    assert (found.name, found.enums) == ("state", ["new", "done"])
    with engine.begin() as bound:
        metadata.drop_all(bound)
    assert connection.execute("SELECT count(*) FROM pg_type WHERE typname = 'state'").fetchall() == [(0,)]
    engine.dispose()
