"""Clients that stop reading, on real sockets: each costs bounded memory, holds up nobody, and is told when it reads again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import RunningProgram, RunningServer, until
from tests.server.raw import RawClient

# what a client may cost that reads nothing: buffers of the socket and of the server, and a batch of rows under way
MEMORY_BYTES_MAX = 150 << 20
LIMITS = {"subscription_rows_max": 2_000, "notifications_max": 100, "cursor_bytes_max": 1_000_000}
ROWS, ROW_BYTES = 1_000_000, 1_000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    limits = [part for name, value in LIMITS.items() for part in ("--limit", f"{name}={value}")]
    with RunningProgram(tmp_path_factory.mktemp("small"), ["--in-memory", *limits]) as server:
        yield server
        server.wait_for_live_queries(0)


def memory_bytes(server: RunningServer) -> int:
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def kinds_until(client: RawClient, *last: str) -> list[str]:
    """Read messages up to one of these kinds; give all kinds."""
    kinds: list[str] = []
    while not kinds or kinds[-1] not in last:
        kinds.append(client.message()[0])
    return kinds


@pytest.mark.parametrize(
    ("statement", "row_kind"),
    [
        (f"COPY (SELECT i, repeat('x', {ROW_BYTES}) FROM range({ROWS}) r(i)) TO STDOUT", "d"),
        (f"COPY (SELECT i, repeat('x', {ROW_BYTES}) FROM range({ROWS}) r(i)) TO STDOUT (FORMAT binary)", "d"),
        (f"DECLARE c CURSOR FOR SELECT i, repeat('x', {ROW_BYTES}) FROM range({ROWS}) r(i); FETCH ALL c", "D"),
    ],
)
def test_a_large_result_waits_in_bounded_memory(small: RunningServer, statement: str, row_kind: str):
    before = memory_bytes(small)
    with RawClient(small.port, receive_bytes=4_096) as slow:
        slow.send("Query", {"text": statement})
        assert row_kind in [slow.message()[0] for _ in range(4)]
        for _ in range(20):  # others are served meanwhile
            assert small.execute("SELECT count(*) FROM range(100000)") == [(100_000,)]
        assert memory_bytes(small) - before < MEMORY_BYTES_MAX


def test_a_copy_of_changes_that_is_not_read_ends_with_an_error(small: RunningServer):
    small.execute("CREATE STREAM surge (n INT, padding TEXT)")
    with RawClient(small.port, receive_bytes=4_096) as slow:
        slow.send("Query", {"text": "COPY (SELECT n, padding FROM surge EMIT APPEND) TO STDOUT"})
        small.wait_for_live_queries(1)
        before = memory_bytes(small)
        with small.session() as session:
            for _ in range(40):
                session.execute("INSERT INTO surge SELECT i, repeat('x', 2000) FROM range(500) AS r(i)")
            assert session.execute("SELECT count(*) FROM surge").fetchone() == (20_000,)
        assert memory_bytes(small) - before < MEMORY_BYTES_MAX
        kinds = kinds_until(slow, "E", "c")
        assert kinds[-1] == "E"
        assert 500 <= kinds.count("d") < 20_000
        assert slow.lines(1) == ['ReadyForQuery {"status": "I"}']
        assert 'DataRow {"values": ["usable"]}' in slow.query("SELECT 'usable'")


def test_a_cursor_over_changes_that_is_not_fetched_is_told_so(small: RunningServer):
    small.execute("CREATE STREAM drizzle (n INT)")
    with RawClient(small.port) as slow:
        slow.query("DECLARE c CURSOR WITH HOLD FOR SELECT n FROM drizzle EMIT APPEND")
        slow.query("FETCH ALL c")
        for _ in range(6):
            small.execute("INSERT INTO drizzle SELECT i FROM range(1000) r(i)")
        answer = slow.query("FETCH ALL c") + slow.query("FETCH ALL c")
        assert any('"code": "53400"' in line and "fell behind" in line for line in answer)
        assert slow.query("CLOSE c") == ['CommandComplete {"tag": "CLOSE CURSOR"}', 'ReadyForQuery {"status": "I"}']
    small.wait_for_live_queries(0)


def test_one_who_listens_and_does_not_read_is_ended(small: RunningServer):
    with RawClient(small.port, receive_bytes=4_096) as slow:
        slow.query("LISTEN flood")
        before = memory_bytes(small)
        with small.session() as session:
            for _ in range(20):
                session.execute("SELECT pg_notify('flood', repeat('x', 7000) || n) FROM range(500) AS r(n)")
        assert memory_bytes(small) - before < MEMORY_BYTES_MAX
        kinds = kinds_until(slow, "E")
        assert kinds.count("A") < 10_000
        assert slow.at_end()
    until(lambda: small.execute("SELECT count(*) FROM pg_stat_activity") == [(1,)])
