"""Values of every type go in and out, in text and in binary, by psycopg and asyncpg, and are the bytes of PostgreSQL."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import struct
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import asyncpg
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from tests.running import RunningServer

Connection = psycopg.Connection[TupleRow]

UTC = dt.UTC
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
TIMES = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


def _numeric(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    limit = 10**precision - 1
    return st.integers(-limit, limit).map(lambda n: Decimal(f"{n}e-{scale}"))


# column type -> its values in Python
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "smallint": st.integers(-(2**15), 2**15 - 1),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(width=32, allow_nan=False),
    "double precision": st.floats(allow_nan=False),
    "numeric(20,6)": _numeric(20, 6),
    "numeric(38,0)": _numeric(38, 0),
    "text": TEXT,
    "bytea": st.binary(max_size=12),
    "date": st.dates(),
    "time": st.times(),
    "timetz": st.builds(
        lambda t, m: t.replace(tzinfo=dt.timezone(dt.timedelta(minutes=m))), st.times(), st.integers(-839, 839)
    ),
    "timestamp": TIMES,
    "timestamptz": TIMES.map(lambda value: value.replace(tzinfo=UTC)),
    "interval": st.timedeltas(dt.timedelta(days=-10_000), dt.timedelta(days=10_000)),
    "uuid": st.uuids(),
    "jsonb": JSON.map(Jsonb),
    "integer[]": st.lists(st.none() | st.integers(-5, 5), max_size=4),
    "text[]": st.lists(st.none() | TEXT, max_size=4),
    "numeric(10,2)[]": st.lists(_numeric(10, 2), max_size=3),
    "timestamp[]": st.lists(TIMES, max_size=3),
    "integer[][]": st.integers(1, 3).flatmap(
        lambda n: st.lists(st.lists(st.integers(-5, 5), min_size=n, max_size=n), min_size=1, max_size=3)
    ),
}


@pytest.fixture(scope="module")
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        yield opened


@pytest.fixture(scope="module")
def postgres(postgres_port: int) -> Iterator[Connection]:
    with psycopg.connect(f"postgresql://tester@127.0.0.1:{postgres_port}/postgres", autocommit=True) as opened:
        yield opened


def _sent(connection: Connection, query: str, *, binary: bool) -> list[bytes | None]:
    """Give the bytes of a result's first column."""
    result = connection.cursor(binary=binary).execute(query).pgresult
    assert result is not None
    return [result.get_value(row, 0) for row in range(result.ntuples)]


def _comparable(value: Any) -> Any:
    """JSON by its value; times with a zone with their zone."""
    if isinstance(value, Jsonb):
        return value.obj
    return (value, value.utcoffset()) if isinstance(value, dt.time) else value


@pytest.mark.parametrize("column", sorted(VALUES))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_in_text_or_binary_is_read_back_in_both(
    connection: Connection, column: str, data: st.DataObject
) -> None:
    written = data.draw(st.lists(st.none() | VALUES[column], min_size=1, max_size=4))
    connection.execute("DROP TABLE IF EXISTS of_type", prepare=False)
    connection.execute(f"CREATE TABLE of_type (place INT, value {column})".encode())
    for place, value in enumerate(written):
        mark = "%b" if place % 2 and not isinstance(value, (list, Jsonb, float, dt.time)) else "%t"
        connection.execute(f"INSERT INTO of_type VALUES (%s, {mark})".encode(), [place, value], prepare=False)
    for binary in (False, True):
        cursor = connection.execute("SELECT value FROM of_type ORDER BY place", binary=binary, prepare=False)
        read = [row[0] for row in cursor]
        if column == "real":  # psycopg reads its digits as a double
            read = [None if value is None else struct.unpack("f", struct.pack("f", value))[0] for value in read]
        assert [_comparable(value) for value in read] == [_comparable(value) for value in written], binary


# what both servers must send the same bytes for, in text and in binary
EXPRESSIONS = [
    "true", "false", "1::smallint", "'-32768'::smallint", "2147483647", "-9223372036854775807::bigint", "1.5::real",
    "1e-7::real", "'NaN'::float8", "'-Infinity'::float8", "0.1::float8", "1e22::float8", "'1.50'::numeric",
    "10.5::numeric(12,4)", "-0.0001::numeric(12,4)", "12345678901234567890.123456789::numeric(38,9)", "0::numeric(5,2)",
    "''", "'é'", "'a'::varchar(10)", "'a'::name", "'\\x00ff'::bytea", "''::bytea", "'2024-02-29'::date", "'infinity'::date",
    "'-infinity'::date", "'0044-03-15 BC'::date", "'12:34:56.789'::time", "'24:00'::time", "'12:34:56+05:30'::timetz",
    "'23:59:59.5-11'::timetz", "'2024-02-29 12:34:56.789012'::timestamp", "'infinity'::timestamp",
    "'0001-01-01 00:00:00 BC'::timestamp", "'2024-02-29 12:34:56.789012+02'::timestamptz", "'-infinity'::timestamptz",
    "'1 year 2 mons -3 days 04:05:06.789'::interval", "'-1 mons +2 days'::interval", "'00:00:00'::interval",
    "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "'{\"a\": 1}'::json", "'{1,NULL,3}'::int[]", "'{}'::int[]",
    "'{{1,2},{3,NULL}}'::int[]", "'{{{1},{2}},{{3},{4}}}'::int[]", "'{a,\"b c\",NULL,\"\"}'::text[]",
    "'{2024-01-01,infinity}'::date[]", "'{t,f}'::bool[]", "'{1.50,2.25}'::numeric(5,2)[]",
    "'{\"1 day\",02:00:00}'::interval[]", "ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid]",
    "'{\"\\\\x00ff\"}'::bytea[]", "NULL::int", "NULL::text[]", "ARRAY[ARRAY['a', NULL]]",
]  # fmt: skip


@pytest.mark.postgres
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_value_is_sent_in_the_bytes_of_postgres(connection: Connection, postgres: Connection, expression: str):
    for binary in (False, True):
        query = f"SELECT {expression}"
        assert _sent(connection, query, binary=binary) == _sent(postgres, query, binary=binary), binary


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_catalog_knows_the_type_that_an_expression_is_described_with(connection: Connection, expression: str):
    described = connection.execute(f"SELECT {expression}".encode()).description
    assert described
    known = connection.execute("SELECT typname FROM pg_type WHERE oid = %s", [described[0].type_code]).fetchall()
    assert len(known) == 1


def test_asyncpg_writes_and_reads_all_types_in_binary(server: RunningServer):
    rows = [
        (
            1, True, 7, 2**40, 1.25, Decimal("12.345"), "é", b"\0\xff", dt.date(2024, 2, 29), dt.time(12, 30, 1, 5),
            dt.datetime(2024, 2, 29, 1, 2, 3, 4), dt.datetime(2024, 2, 29, 1, 2, 3, 4, UTC), dt.timedelta(days=3, seconds=5),
            uuid.UUID(int=5), json.dumps({"a": [1, None]}), [1, None, 3], [[1, 2], [3, 4]], ["a", None, 'q"'],
        ),
        (2, *[None] * 17),
    ]  # fmt: skip
    types = (
        "int, boolean, smallint, bigint, float8, numeric(12,3), text, bytea, date, time, timestamp, timestamptz, interval,"
        " uuid, jsonb, int[], int[][], text[]"
    )

    async def run() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(server.dsn, user="tester")
        try:
            columns = ", ".join(f"c{i} {name}" for i, name in enumerate(types.split(", ")))
            await connection.execute(f"CREATE TABLE by_asyncpg ({columns})")
            marks = ", ".join(f"${i + 1}" for i in range(len(rows[0])))
            await connection.executemany(f"INSERT INTO by_asyncpg VALUES ({marks})", rows)
            return [tuple(row) for row in await connection.fetch("SELECT * FROM by_asyncpg ORDER BY c0")]
        finally:
            await connection.close()

    read = asyncio.run(run())
    as_read = [(*row[:14], json.dumps(json.loads(row[14])) if row[14] else None, *row[15:]) for row in read]
    assert as_read == rows


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT [[1,2],NULL]", [("{{1,2},NULL}",)]),
        ("SELECT 18446744073709551615::ubigint, 255::utinyint, 65535::usmallint", [("18446744073709551615", "255", "65535")]),
        ("SELECT 170141183460469231731687303715884105727::hugeint", [("170141183460469231731687303715884105727",)]),
        ("SELECT 340282366920938463463374607431768211455::uhugeint", [("340282366920938463463374607431768211455",)]),
        ("SELECT MAP(['a'], [1])", [('{"a":1}',)]),
        ("SELECT {'a': 1, 'b': [1, 2]}", [('(1,"{1,2}")',)]),
    ],
)  # fmt: skip
def test_what_only_duckdb_has_is_shown_as_what_comes_nearest(
    connection: Connection, query: str, rows: list[tuple[str, ...]]
):
    result = connection.execute(query.encode()).pgresult
    assert result is not None
    shown = [
        tuple((result.get_value(row, i) or b"NULL").decode() for i in range(result.nfields))
        for row in range(result.ntuples)
    ]
    assert shown == rows
