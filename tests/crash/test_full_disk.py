"""A disk that gets full: the server says so, and ends if its database cannot go on; nothing acknowledged is lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.crash.servers import Server, serving

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
