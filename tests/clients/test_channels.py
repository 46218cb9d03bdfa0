"""LISTEN and NOTIFY by psycopg and asyncpg; and views that wake their readers when they change."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg import errors

from tests.running import RunningServer, until
from tests.server.raw import RawClient


def test_psycopg_hears_what_others_notify_and_commit(server: RunningServer):
    with server.session() as listener, server.session(autocommit=False) as other:
        listener.execute("LISTEN news")
        heard = listener.notifies()
        other.execute("NOTIFY news, 'rolled back'")
        other.rollback()
        other.execute("SELECT pg_notify('news', %s)", ("first",))
        other.execute("NOTIFY news, 'second'")
        other.execute("NOTIFY elsewhere, 'third'")
        other.commit()
        told = [next(heard), next(heard)]
        assert [(n.channel, n.payload, n.pid) for n in told] == [
            ("news", "first", other.info.backend_pid),
            ("news", "second", other.info.backend_pid),
        ]
        heard.close()
        assert listener.execute("SELECT pg_listening_channels()").fetchall() == [("news",)]


def test_asyncpgs_listeners_hear_a_view_change(server: RunningServer):
    server.execute(
        "CREATE STREAM sold (item TEXT, n INT)",
        "CREATE MATERIALIZED VIEW stock AS SELECT item, sum(n) AS n FROM sold GROUP BY item EMIT UPDATE",
        "CREATE MATERIALIZED VIEW large AS SELECT item FROM sold WHERE n > 100 EMIT APPEND",
    )

    async def talk() -> list[tuple[str, str]]:
        heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

        def note(_: Any, pid: int, channel: str, payload: object) -> None:
            assert pid == 0
            heard.put_nowait((channel, str(payload)))

        connection = await asyncpg.connect(server.dsn, user="tester")
        try:
            await connection.add_listener("stock", note)
            await connection.add_listener("large", note)
            # the second row changes nothing in either view
            for rows in ("('a', 1)", "('a', 0)", "('b', 1000)"):
                await asyncio.to_thread(server.execute, f"INSERT INTO sold VALUES {rows}")
            found = [await heard.get() for _ in range(3)]
            await connection.remove_listener("stock", note)
            await asyncio.to_thread(server.execute, "INSERT INTO sold VALUES ('c', 101)")
            return [*found, await heard.get()]
        finally:
            await connection.close()

    found = asyncio.run(talk())
    assert [channel for channel, _ in found] == ["stock", "stock", "large", "large"]
    epochs = [int(payload) for _, payload in found]
    assert epochs == [epochs[0], epochs[0] + 2, epochs[0] + 2, epochs[0] + 3]


def test_a_session_in_a_transaction_is_told_when_it_ends_and_of_a_view_only_the_last_change(server: RunningServer):
    server.execute(
        "CREATE TABLE watched_rows (n INT)",
        "CREATE MATERIALIZED VIEW watched_count AS SELECT count(*) AS n FROM watched_rows",
    )
    with RawClient(server.port) as client:
        client.query("LISTEN watched_count; LISTEN plain")
        client.query("BEGIN")
        for number in range(5):
            server.execute(f"INSERT INTO watched_rows VALUES ({number})", f"NOTIFY plain, '{number}'")
        assert not [line for line in client.query("SELECT 1") if line.startswith("Notification")]
        told = [line for line in client.query("COMMIT") if line.startswith("Notification")]
    assert len(told) == 6
    assert [f'"payload": "{number}"' in line for number, line in enumerate(told[:5])] == [True] * 5
    assert '"channel": "watched_count"' in told[5]


def test_one_who_does_not_read_notifications_is_ended_and_holds_up_nobody(tmp_path: Any):
    limits = ["--in-memory", "--limit", "notifications_max=100"]
    with RunningServer(tmp_path, limits) as server, server.session() as slow, server.session() as other:
        slow.execute("LISTEN flood")
        slow.execute("BEGIN")
        for number in range(101):
            other.execute("SELECT pg_notify('flood', %s)", (str(number),))
        with pytest.raises(psycopg.OperationalError, match="did not read its notifications") as ended:
            slow.execute("COMMIT")
        assert ended.value.sqlstate == errors.ConfigurationLimitExceeded.sqlstate
        until(lambda: other.execute("SELECT count(*) FROM pg_stat_activity").fetchone() == (1,))
