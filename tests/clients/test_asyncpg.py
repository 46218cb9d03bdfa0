"""asyncpg: binary values throughout, prepared statements, executemany, COPY, cursors over live queries, pools, timeouts."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import io
import json
import math
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any, TypeAlias

import asyncpg
import pytest

from tests.running import CONDITION_SECONDS_MAX, RunningServer

Connection: TypeAlias = "asyncpg.Connection[Any]"  # the stubs know the parameter, the class does not


@contextlib.asynccontextmanager
async def connected(server: RunningServer) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(server.dsn, user="tester")
    try:
        yield connection
    finally:
        await connection.close(timeout=10)


def run(server: RunningServer, talk: Callable[[Connection], Awaitable[Any]]) -> Any:
    """Let a client talk to the server; give what it comes back with."""

    async def all_of_it() -> Any:
        async with asyncio.timeout(60), connected(server) as connection:
            return await talk(connection)

    return asyncio.run(all_of_it())


async def live_queries(server: RunningServer, count: int) -> None:
    """Return when so many live queries run."""
    async with connected(server) as watcher, asyncio.timeout(CONDITION_SECONDS_MAX):
        while True:
            rows = await watcher.fetch("SHOW QUERIES")
            if sum(row["kind"] == "live query" for row in rows) == count:
                return


VALUES: list[tuple[str, Any]] = [
    ("boolean", False),
    ("smallint", 32767),
    ("integer", -(2**31)),
    ("bigint", 2**63 - 1),
    ("real", -0.25),
    ("double precision", 1.7976931348623157e308),
    ("double precision", float("inf")),
    ("numeric(20,5)", Decimal("-123456789012345.67891")),
    ("numeric(38,0)", Decimal("99999999999999999999999999999999999999")),
    ("text", "Käse ☃ 'n' \\"),
    ("varchar", ""),
    ("bytea", bytes(range(256))),
    ("date", dt.date(1900, 3, 1)),
    ("time", dt.time(0, 0, 0, 1)),
    ("timestamp", dt.datetime(1969, 12, 31, 23, 59, 59, 999999)),
    ("timestamptz", dt.datetime(2262, 4, 12, tzinfo=dt.UTC)),
    ("interval", dt.timedelta(days=400, microseconds=-1)),
    ("uuid", uuid.UUID(int=2**128 - 1)),
    ("json", json.dumps({"a": [1, None, "ü"]})),
    ("integer[]", [1, None, 3]),
    ("bigint[]", []),
    ("text[]", ["a", None, 'q"{},\\']),
    ("timestamp[]", [dt.datetime(2024, 1, 1)]),
    ("numeric[]", [Decimal("1.5")]),
]


@pytest.mark.parametrize(("type_name", "value"), VALUES)
def test_a_value_comes_back_as_it_was_sent(server: RunningServer, type_name: str, value: object):
    async def talk(connection: Connection) -> list[Any]:
        statement = await connection.prepare(f"SELECT $1::{type_name}")
        return [await statement.fetchval(value), await statement.fetchval(None)]

    assert run(server, talk) == [value, None]


def test_rows_of_all_types_are_kept_as_they_were_sent(server: RunningServer):
    values = [value for _, value in VALUES]
    rows = [values, [None] * len(values)] * 3

    async def talk(connection: Connection) -> list[list[Any]]:
        columns = ", ".join(f"c{i} {name}" for i, (name, _) in enumerate(VALUES))
        await connection.execute(f"CREATE TABLE kept ({columns})")
        marks = ", ".join(f"${i + 1}" for i in range(len(values)))
        await connection.executemany(f"INSERT INTO kept VALUES ({marks})", rows)
        return [list(row) for row in await connection.fetch("SELECT * FROM kept")]

    assert run(server, talk) == rows


def test_infinite_times_are_the_extremes_of_python(server: RunningServer):
    async def talk(connection: Connection) -> Any:
        return await connection.fetchrow(
            "SELECT 'infinity'::timestamp, '-infinity'::date, 'NaN'::float8, 'infinity'::timestamptz"
        )

    first, second, third, fourth = run(server, talk)
    assert (first, second) == (dt.datetime.max, dt.date.min)
    assert math.isnan(third)
    assert fourth == dt.datetime.max


def test_a_client_that_sends_the_wrong_python_type_is_told_before_the_server_is_asked(server: RunningServer):
    async def talk(connection: Connection) -> Any:
        await connection.execute("CREATE TABLE typed (n INT)")
        statement = await connection.prepare("INSERT INTO typed VALUES ($1)")
        assert [p.name for p in statement.get_parameters()] == ["int4"]
        with pytest.raises(asyncpg.DataError):
            await statement.fetch("one")
        return await connection.fetchval("SELECT 1")

    assert run(server, talk) == 1


@pytest.mark.parametrize(
    ("query", "types"),
    [
        ("INSERT INTO shapes VALUES ($1, $2, $3)", ["int4", "text", "timestamp"]),
        ("INSERT INTO shapes (ts, n) VALUES ($2, $1)", ["int4", "timestamp"]),
        ("INSERT INTO shapes VALUES ($1, 'x', now()), (1, $2, $3)", ["int4", "text", "timestamp"]),
        ("INSERT INTO shapes SELECT $1, k, $2 FROM shapes WHERE n = $3", ["int4", "timestamp", "int4"]),
        ("SELECT * FROM shapes WHERE ts >= $1 AND k = ANY($2) LIMIT $3", ["timestamp", "text[]", "int8"]),
        ("SELECT count(*) FROM shapes WHERE n > $1 EMIT UPDATE", ["int4"]),
        ("SELECT $1", ["text"]),
        ("SELECT $1::float8 + $2", ["float8", "float8"]),
        ("UPDATE keyed SET n = $1 WHERE k = $2", ["int4", "text"]),
        ("DELETE FROM keyed WHERE n < $1 OR k IN ($2, $3)", ["int4", "text", "text"]),
    ],
)
def test_a_prepared_statement_tells_its_parameters_types(server: RunningServer, query: str, types: list[str]):
    async def talk(connection: Connection) -> list[str]:
        with contextlib.suppress(asyncpg.DuplicateTableError):
            await connection.execute("CREATE STREAM shapes (n INT, k TEXT, ts TIMESTAMP)")
            await connection.execute("CREATE TABLE keyed (k TEXT PRIMARY KEY, n INT)")
        return [p.name for p in (await connection.prepare(query)).get_parameters()]

    assert run(server, talk) == types


def test_columns_are_told_before_execution(server: RunningServer):
    async def talk(connection: Connection) -> Any:
        await connection.execute("CREATE STREAM told (ts TIMESTAMP, k TEXT, x NUMERIC(10,2))")
        ad_hoc = await connection.prepare("SELECT *, x * $1::numeric AS y, count(*) OVER () FROM told")
        live = await connection.prepare(
            "SELECT k, count(*), sum(x) AS total FROM told WHERE x > $1 GROUP BY k EMIT UPDATE"
        )
        nothing = await connection.prepare("CREATE TABLE never_made (a INT)")
        return [[(a.name, a.type.name) for a in s.get_attributes()] for s in (ad_hoc, live, nothing)]

    assert run(server, talk) == [
        [("ts", "timestamp"), ("k", "text"), ("x", "numeric"), ("y", "numeric"), ("count", "int8")],
        [("k", "text"), ("count", "int8"), ("total", "numeric")],
        [],
    ]


def test_executemany_is_all_or_nothing(server: RunningServer):
    async def talk(connection: Connection) -> Any:
        await connection.execute("CREATE STREAM many (n INT NOT NULL, k TEXT)")
        await connection.executemany("INSERT INTO many VALUES ($1, $2)", [(i, str(i)) for i in range(50_000)])
        with pytest.raises(asyncpg.NotNullViolationError):
            await connection.executemany("INSERT INTO many VALUES ($1, $2)", [(1, "x"), (None, "y"), (3, "z")])
        return list(await connection.fetchrow("SELECT count(*), sum(n), first(k), last(k) FROM many") or ())

    assert run(server, talk) == [50_000, 1_249_975_000, "0", "49999"]


def test_executemany_of_other_statements_runs_each(server: RunningServer):
    async def talk(connection: Connection) -> Any:
        await connection.execute("CREATE TABLE accounts (k TEXT PRIMARY KEY, n INT)")
        await connection.execute("INSERT INTO accounts VALUES ('a', 1), ('b', 2), ('c', 3)")
        await connection.executemany("UPDATE accounts SET n = n + $2 WHERE k = $1", [("a", 10), ("b", 20)])
        await connection.executemany("DELETE FROM accounts WHERE k = $1", [("c",)])
        return [tuple(row) for row in await connection.fetch("SELECT * FROM accounts ORDER BY k")]

    assert run(server, talk) == [("a", 11), ("b", 22)]


def test_copy_takes_files_of_text_and_csv(server: RunningServer):
    async def talk(connection: Connection) -> Any:
        await connection.execute("CREATE STREAM copied (ts TIMESTAMP, k TEXT, x INT)")
        text = io.BytesIO(b"2024-01-01\ta\t1\n2024-01-02\t\\N\t2\n")
        csv = io.BytesIO(b'k,x\n"c,d",3\n,4\n')
        tags = [
            await connection.copy_to_table("copied", source=text),
            await connection.copy_to_table("copied", source=csv, columns=["k", "x"], format="csv", header=True),
        ]
        return tags, [tuple(row)[1:] for row in await connection.fetch("SELECT * FROM copied ORDER BY x")]

    assert run(server, talk) == (["COPY 2", "COPY 2"], [("a", 1), (None, 2), ("c,d", 3), (None, 4)])


def test_records_are_copied_in_and_out_in_binary(server: RunningServer):
    rows = [
        (1, "a", 0.5, dt.datetime(2024, 1, 1), Decimal("12.34"), [1, None], b"\0\x0c", uuid.UUID(int=1), dt.date(1, 1, 1)),
        (2, None, float("inf"), None, Decimal("-0.05"), [], b"", None, dt.date.max),
        (None, "", None, dt.datetime.min, None, None, None, uuid.UUID(int=2), None),
    ]  # fmt: skip

    async def talk(connection: Connection) -> Any:
        for name in ("records", "records_again"):
            await connection.execute(
                f"CREATE TABLE {name} "
                "(i INT, t TEXT, x FLOAT8, ts TIMESTAMP, n NUMERIC(10, 2), a INT[], b BYTEA, u UUID, d DATE)"
            )
        tag = await connection.copy_records_to_table("records", records=rows)
        copied = io.BytesIO()
        tags = [tag, await connection.copy_from_table("records", output=copied, format="binary")]
        copied.seek(0)
        tags.append(await connection.copy_to_table("records_again", source=copied, format="binary"))
        return tags, [tuple(row) for row in await connection.fetch("SELECT * FROM records_again ORDER BY i")]

    assert run(server, talk) == (["COPY 3", "COPY 3", "COPY 3"], rows)


def test_a_cursor_in_a_transaction_follows_a_live_query_until_it_is_left(server: RunningServer):
    async def talk(connection: Connection) -> Any:
        await connection.execute("CREATE STREAM followed (ts TIMESTAMP, x INT, WATERMARK FOR ts AS ts)")
        seen: list[Any] = []
        both = asyncio.Event()

        async def follow() -> None:
            async with connected(server) as follower, follower.transaction():
                live = "SELECT window_start, sum(x) FROM followed GROUP BY window(ts, '1h') EMIT APPEND"
                async for row in follower.cursor(live, prefetch=50):
                    seen.append(tuple(row))
                    if len(seen) == 2:
                        both.set()

        task = asyncio.create_task(follow())
        await live_queries(server, 1)
        for hour in range(4):
            await connection.execute("INSERT INTO followed VALUES ($1, $2)", dt.datetime(2024, 1, 1, hour), hour)
        await both.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, asyncpg.QueryCanceledError):
            await task
        await live_queries(server, 0)
        return seen[:2]

    assert run(server, talk) == [(dt.datetime(2024, 1, 1, 0), 0), (dt.datetime(2024, 1, 1, 1), 1)]


def test_a_cursor_that_is_left_ends_its_live_query_with_the_transaction(server: RunningServer):
    async def talk(connection: Connection) -> None:
        await connection.execute("CREATE STREAM left_early (x INT)")
        await connection.execute("INSERT INTO left_early VALUES (1), (2)")
        async with connection.transaction():
            async for row in connection.cursor("SELECT x FROM left_early EMIT APPEND", prefetch=2):
                assert row["x"] == 1
                break
            await live_queries(server, 1)
        await live_queries(server, 0)

    run(server, talk)


def test_a_cursor_fetches_in_portions_and_skips(server: RunningServer):
    async def talk(connection: Connection) -> Any:
        async with connection.transaction():
            cursor = await connection.cursor("SELECT i FROM generate_series(1, $1) AS g(i)", 100)
            first = [row["i"] for row in await cursor.fetch(3)]
            rest = [row["i"] for row in await cursor.fetch(1_000)]
            return first, rest[0], rest[-1], await cursor.fetch(1)

    assert run(server, talk) == ([1, 2, 3], 4, 100, [])


def test_two_cursors_in_one_transaction_do_not_disturb_each_other(server: RunningServer):
    async def talk(connection: Connection) -> Any:
        async with connection.transaction():
            one = await connection.cursor("SELECT i FROM generate_series(1, 50000) AS g(i)")
            two = await connection.cursor("SELECT -i FROM generate_series(1, 50000) AS g(i)")
            found = []
            for _ in range(3):
                found += [row[0] for row in await one.fetch(1)] + [row[0] for row in await two.fetch(1)]
            return found

    assert run(server, talk) == [1, -1, 2, -2, 3, -3]


def test_transactions_commit_and_roll_back(server: RunningServer):
    async def talk(connection: Connection) -> Any:
        await connection.execute("CREATE TABLE transacted (n INT)")
        async with connection.transaction():
            await connection.execute("INSERT INTO transacted VALUES (1)")
            await connection.executemany("INSERT INTO transacted VALUES ($1)", [(2,), (3,)])
            assert await connection.fetchval("SELECT count(*) FROM transacted") == 3

        async def fail() -> None:
            async with connection.transaction():
                await connection.execute("INSERT INTO transacted VALUES (4)")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        return [row["n"] for row in await connection.fetch("SELECT n FROM transacted ORDER BY n")]

    assert run(server, talk) == [1, 2, 3]


def test_a_pool_resets_its_connections(server: RunningServer):
    async def talk() -> Any:
        async with asyncpg.create_pool(server.dsn, user="tester", min_size=1, max_size=2) as pool:
            async with pool.acquire() as connection:
                await connection.execute("SET application_name TO 'changed'")
                first = connection.get_server_pid()
            async with pool.acquire() as connection:
                assert connection.get_server_pid() == first
                assert await connection.fetchval("SELECT pg_backend_pid()") == first
                return await connection.fetchval("SHOW application_name")

    assert asyncio.run(talk()) == ""


def test_a_timeout_cancels_what_runs_and_the_session_goes_on(server: RunningServer):
    async def talk(connection: Connection) -> Any:
        await connection.execute("CREATE STREAM timed_out (x INT)")
        with pytest.raises(asyncio.TimeoutError):
            await connection.fetch("SELECT x FROM timed_out EMIT APPEND", timeout=0.2)
        with pytest.raises(asyncio.TimeoutError):
            await connection.fetch(
                "SELECT count(*) FROM range(300000000) a(x), range(100000) b(y) WHERE (x * y) % 7 = 3", timeout=0.2
            )
        return await connection.fetchval("SELECT 'on'")

    assert run(server, talk) == "on"


def test_notices_and_errors_carry_their_fields(server: RunningServer):
    async def talk(connection: Connection) -> Any:
        seen: list[str] = []
        connection.add_log_listener(lambda _, message: seen.append(message.message))
        await connection.execute("DROP TABLE IF EXISTS nothing_of_the_kind")
        with pytest.raises(asyncpg.UndefinedColumnError) as wrong:
            await connection.fetch("SELECT 1, nosuch")
        assert wrong.value.position == "11"
        return seen

    assert run(server, talk) == ['table "nothing_of_the_kind" does not exist, skipping']


def test_a_script_of_several_statements_runs_with_execute(server: RunningServer):
    async def talk(connection: Connection) -> Any:
        tag = await connection.execute("CREATE TABLE scripted (a INT); INSERT INTO scripted VALUES (1), (2); SELECT 1")
        return tag, await connection.fetchval("SELECT sum(a) FROM scripted")

    assert run(server, talk) == ("SELECT 1", 3)


def test_a_subscription_is_followed_by_a_cursor(server: RunningServer):
    async def talk(connection: Connection) -> Any:
        await connection.execute("CREATE STREAM clicks (who TEXT)")
        await connection.execute(
            "CREATE MATERIALIZED VIEW counted AS SELECT who, count(*) AS n FROM clicks GROUP BY who EMIT UPDATE"
        )
        await connection.execute("INSERT INTO clicks VALUES ('ann')")
        async with connected(server) as follower, follower.transaction():
            cursor = await follower.cursor("SUBSCRIBE counted WITH (PROGRESS = true)")
            snapshot = await cursor.fetch(2)
            await connection.execute("INSERT INTO clicks VALUES ('ann')")
            later = await cursor.fetch(2)
            while len(later) < 2:
                later += await cursor.fetch(2 - len(later))
        return [[tuple(row)[1:] for row in rows] for rows in (snapshot, later)]

    assert run(server, talk) == [
        [(1, False, "ann", 1), (None, True, None, None)],
        [(-1, False, "ann", 1), (1, False, "ann", 2)],
    ]
