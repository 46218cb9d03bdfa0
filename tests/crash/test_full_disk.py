"""A disk that gets full: the server says so, and ends if its database cannot go on; nothing acknowledged is lost.

What comes from Kafka and PostgreSQL meanwhile is there once in the end, here and in the sinks.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.connectors.servers import kafka as brokers
from tests.connectors.servers.kafka import Broker
from tests.connectors.servers.postgres import OtherDatabase, other_database, postgres_cluster
from tests.crash.servers import Server, serving
from tests.running import until

__all__ = ["other_database", "postgres_cluster"]

# so often is tried while it is full
FULL_MAX = 5


# DuckDB's log does not fit; it does, and what it is moved into does not
@pytest.fixture(params=["10m", "20m"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A data directory on a small disk of its own; the log is on another."""
    folder = tmp_path / "data"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip(f"no disk can be mounted: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_what_was_acknowledged_is_there_after_the_disk_was_full(small: Path):
    server = Server(small)
    acknowledged, full, ended = 0, 0, False
    with server.connect() as connection:
        connection.execute("CREATE STREAM s (n INT, t TEXT)")
        connection.execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c, sum(n) AS n FROM s EMIT UPDATE")
        while full < FULL_MAX and not ended:
            try:
                connection.execute("INSERT INTO s VALUES (%s, %s)", (acknowledged, os.urandom(60_000).hex()))
                acknowledged += 1
            except psycopg.errors.DiskFull:
                full += 1
            except psycopg.OperationalError:  # the database cannot go on, so that the server ends
                ended = True
    assert full
    subprocess.run(["mount", "-o", "remount,size=90m", str(small)], check=True)
    if ended:
        assert server.ended_by_itself()
        log = (small.parent / "server.log").read_text()
        assert 'event="the database cannot go on"' in log
        server = Server(small)
    with server.connect() as connection:
        (found,) = connection.execute("SELECT c, n FROM v").fetchall()
        expected = (acknowledged, acknowledged * (acknowledged - 1) // 2)
        assert found in {
            expected,
            (acknowledged + 1, expected[1] + acknowledged),
        }  # the last one had no answer that counts
        assert connection.execute("SELECT count(*) FROM s").fetchone() == (found[0],)
        connection.execute("INSERT INTO s VALUES (7, 'more')")
        assert connection.execute("SELECT c FROM v").fetchone() == (int(str(found[0])) + 1,)
    server.stop()
    assert not server.was_killed()
    with serving(small) as again, again.connect() as connection:
        assert connection.execute("SELECT c FROM v").fetchone() == (int(str(found[0])) + 1,)


PIECES = 500
PIECE_BYTES = 60_000


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    yield from brokers.broker_in(tmp_path_factory.mktemp("kafka"))


def piece(number: int) -> str:
    """Give a text that is not packed to much less."""
    return random.Random(number).randbytes(PIECE_BYTES // 2).hex()


@pytest.mark.kafka
@pytest.mark.parametrize("small", ["20m"], indirect=True)
def test_what_kafka_sends_meanwhile_comes_once(small: Path, broker: Broker):
    for topic in ("large", "numbers"):
        broker.create(topic, 2)
    broker.send("large", [json.dumps({"n": n, "t": piece(n)}).encode() for n in range(PIECES)])
    where = f"connector = 'kafka', brokers = '{broker.address}', topic = "
    _through_a_full_disk(small, f"{where} 'large'", f"{where} 'numbers'")
    found = sorted(json.loads(m.value())["n"] for m in broker.received("numbers"))
    assert found == list(range(PIECES))


@pytest.mark.postgres
@pytest.mark.parametrize("small", ["20m"], indirect=True)
def test_what_postgres_sends_meanwhile_comes_once(small: Path, other_database: OtherDatabase):
    with other_database.connect() as origin:
        origin.execute("CREATE TABLE s (n int, t text)")
        for n in range(PIECES):
            origin.execute("INSERT INTO s VALUES (%s, %s)", (n, piece(n)))
    options = f"connector = 'postgres', {other_database.written_options}"
    _through_a_full_disk(small, options, f"{options}, table = 'numbers', create_table = true")
    assert other_database.rows("SELECT n FROM numbers ORDER BY n") == [(n,) for n in range(PIECES)]


def _through_a_full_disk(folder: Path, source: str, sink: str) -> None:
    """Read more than the disk holds, give it a larger one, and wait until all is there and delivered."""
    server = Server(folder)
    connection = server.connect()
    for sql in (
        f"CREATE STREAM s (n INT, t TEXT) WITH ({source}, retention = 'forever')",
        "CREATE MATERIALIZED VIEW v AS SELECT n FROM s EMIT APPEND",
        f"CREATE SINK o FROM v WITH ({sink})",
    ):
        connection.execute(sql.encode())

    def is_full() -> bool:
        try:
            found = connection.execute("SELECT 1 FROM streamsql.sources WHERE status NOT IN ('reading', 'finished')")
        except psycopg.Error:
            return True
        return bool(found.fetchall())

    until(is_full, 60)
    connection.close()
    subprocess.run(["mount", "-o", "remount,size=150m", str(folder)], check=True)
    if server.ended_by_itself():
        server = Server(folder)
    with server.connect() as connection:
        ((status,),) = connection.execute("SELECT status FROM streamsql.sources").fetchall()
        if str(status).startswith("stopped"):
            connection.execute("ALTER STREAM s RESUME")
        until(lambda: connection.execute("SELECT count(*) FROM v").fetchone() == (PIECES,), 60)
        until(lambda: connection.execute("SELECT rows_waiting FROM streamsql.sinks").fetchone() == (0,), 60)
        numbers = [n for (n,) in connection.execute("SELECT n FROM s ORDER BY n").fetchall()]
        assert numbers == list(range(PIECES))
        same = f"SELECT count(*) FROM s WHERE length(t) = {PIECE_BYTES // 2 * 2}"
        assert connection.execute(same.encode()).fetchone() == (PIECES,)
    server.stop()
    assert not server.was_killed()
