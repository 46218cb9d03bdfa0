"""Cursors as drivers use them: psycopg's server cursors, asyncpg's, and FETCH that waits for what a live query will give."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg import errors
from psycopg.rows import TupleRow

from tests.running import RunningServer

Connection = psycopg.Connection[TupleRow]


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session(autocommit=False) as opened:
        yield opened


@pytest.fixture(scope="module", autouse=True)
def numbers(server: RunningServer) -> None:
    server.execute(
        "CREATE TABLE numbered (n INT, t TEXT)", "INSERT INTO numbered SELECT i, 't' || i FROM range(50000) r(i)"
    )


@pytest.mark.parametrize("binary", [False, True])
def test_psycopgs_server_cursors_give_all_rows_in_portions(connection: Connection, binary: bool):
    with connection.cursor("named", binary=binary) as cursor:
        cursor.itersize = 7_000
        cursor.execute("SELECT n, t FROM numbered WHERE n >= %s ORDER BY n", (10,))
        assert [column.name for column in cursor.description or ()] == ["n", "t"]
        assert cursor.fetchone() == (10, "t10")
        assert cursor.fetchmany(2) == [(11, "t11"), (12, "t12")]
        assert sum(n for n, _ in cursor) == sum(range(13, 50_000))


def test_psycopgs_scrollable_cursor_goes_back(connection: Connection):
    with connection.cursor("backwards", scrollable=True) as cursor:
        cursor.execute("SELECT n FROM numbered ORDER BY n")
        cursor.scroll(40_000)
        assert cursor.fetchone() == (40_000,)
        cursor.scroll(5, mode="absolute")
        assert cursor.fetchmany(2) == [(5,), (6,)]
        cursor.scroll(-3)
        assert cursor.fetchone() == (4,)


def test_a_cursor_with_hold_outlives_its_transaction(connection: Connection):
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("SELECT n FROM numbered ORDER BY n")
        assert cursor.fetchone() == (0,)
        connection.commit()
        held = connection.execute("SELECT name, is_holdable, is_scrollable FROM pg_cursors").fetchall()
        assert held == [("held", True, False)]
        assert len(cursor.fetchall()) == 49_999
    assert connection.execute("SELECT count(*) FROM pg_cursors").fetchone() == (0,)


def test_a_cursor_sees_what_was_there_when_it_was_declared(server: RunningServer, connection: Connection):
    server.execute("CREATE TABLE moving (n INT)", "INSERT INTO moving SELECT * FROM range(40000)")
    with connection.cursor("unmoved") as cursor:
        cursor.execute("SELECT n FROM moving")
        cursor.fetchone()
        server.execute("DELETE FROM moving")
        assert len(cursor.fetchall()) == 39_999
    connection.execute("INSERT INTO moving VALUES (7)")
    with connection.cursor("own") as cursor:  # and what the session itself has written
        assert cursor.execute("SELECT n FROM moving").fetchall() == [(7,)]
    connection.rollback()


def test_fetch_gives_what_there_is_of_a_subscription_or_waits_for_it(server: RunningServer):
    server.execute(
        "CREATE STREAM heard (k TEXT)",
        "CREATE MATERIALIZED VIEW by_k AS SELECT k, count(*) AS n FROM heard GROUP BY k EMIT UPDATE",
        "INSERT INTO heard VALUES ('a'), ('b'), ('c')",
    )
    with server.session() as connection:
        connection.execute("DECLARE c CURSOR WITH HOLD FOR SUBSCRIBE by_k")

        def fetch(what: str) -> list[Any]:
            return [row[1:] for row in connection.execute(f"FETCH {what}").fetchall()]

        assert fetch("2 FROM c") == [(1, "a", 1), (1, "b", 1)]
        assert fetch("ALL FROM c") == [(1, "c", 1)]
        assert fetch("ALL FROM c") == []
        assert fetch("ALL FROM c WITH (timeout = '1ms')") == []
        server.execute("INSERT INTO heard VALUES ('b')")
        assert fetch("1 FROM c WITH (timeout = '1 minute')") == [(-1, "b", 1)]
        assert fetch("1 FROM c") == [(1, "b", 2)]
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            fetch("PRIOR FROM c")
        with pytest.raises(errors.FeatureNotSupported, match="a cursor over changes cannot be SCROLL"):
            connection.execute("DECLARE d SCROLL CURSOR WITH HOLD FOR SUBSCRIBE by_k")
        connection.execute("CLOSE c")


def test_a_fetch_that_waits_can_be_cancelled_and_the_cursor_goes_on(server: RunningServer):
    server.execute("CREATE STREAM later (n INT)")

    async def talk() -> list[tuple[int, ...]]:
        connection = await psycopg.AsyncConnection.connect(server.dsn, user="tester", autocommit=True)
        async with connection:
            await connection.execute("DECLARE c CURSOR WITH HOLD FOR SELECT n FROM later EMIT APPEND")
            waiting = asyncio.create_task(connection.execute("FETCH ALL FROM c WITH (timeout = '1 day')"))
            await asyncio.to_thread(server.wait_for_live_queries, 1)
            while not await asyncio.to_thread(_waits, server):
                pass
            connection.cancel()
            with pytest.raises(errors.QueryCanceled):
                await waiting
            await asyncio.to_thread(server.execute, "INSERT INTO later VALUES (1)")
            return await (await connection.execute("FETCH ALL FROM c WITH (timeout = '1 day')")).fetchall()

    assert asyncio.run(talk()) == [(1,)]
    server.wait_for_live_queries(0)


def _waits(server: RunningServer) -> bool:
    return bool(server.execute("SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'FETCH ALL%'"))


def test_asyncpgs_cursors_read_ahead_and_skip(server: RunningServer):
    async def talk() -> Any:
        connection = await asyncpg.connect(server.dsn, user="tester")
        try:
            async with connection.transaction():
                total = 0
                async for row in connection.cursor(
                    "SELECT n FROM numbered WHERE n < $1 ORDER BY n", 10_000, prefetch=333
                ):
                    total += row["n"]
                cursor = await connection.cursor("SELECT n FROM numbered ORDER BY n")
                skipped = await cursor.forward(100)
                return total, skipped, [row["n"] for row in await cursor.fetch(2)]
        finally:
            await connection.close()

    assert asyncio.run(talk()) == (sum(range(10_000)), 100, [100, 101])


def test_what_scroll_and_held_cursors_keep_is_bounded(tmp_path: Any):
    with (
        RunningServer(tmp_path, ["--in-memory", "--limit", "cursor_bytes_max=100000"]) as small,
        small.session() as connection,
    ):
        connection.execute("DECLARE kept SCROLL CURSOR WITH HOLD FOR SELECT i FROM range(10000) r(i)")
        for text in (
            "DECLARE more CURSOR WITH HOLD FOR SELECT i FROM range(10000) r(i)",
            "BEGIN; DECLARE more SCROLL CURSOR FOR SELECT i FROM range(10000) r(i); FETCH ALL more",
        ):
            with pytest.raises(errors.ProgramLimitExceeded, match="exceeds cursor_bytes_max = 100000"):
                connection.execute(text)
            connection.execute("ROLLBACK")
        # one that is neither may be of any size
        connection.execute("BEGIN; DECLARE most CURSOR FOR SELECT i FROM range(100000) r(i)")
        assert len(connection.execute("FETCH ALL most").fetchall()) == 100_000
        connection.execute("COMMIT")
