"""A server killed while a view over many rows is built has no such view, nothing of it is left, and it can be made again."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psycopg

from tests.crash.servers import Server, serving

CREATE = "CREATE MATERIALIZED VIEW v AS SELECT x % 3 AS k, count(*) AS n FROM s GROUP BY 1"


def test_a_view_that_was_being_built_is_not_there(tmp_path: Path):
    directory = tmp_path / "data"
    server = Server(directory, "view.piece_built:2")
    with contextlib.suppress(psycopg.OperationalError), server.connect() as connection:  # its end is what is tested
        connection.execute("CREATE STREAM s (x INT) WITH (retention = 'forever')")
        connection.execute("INSERT INTO s SELECT * FROM range(250000)")
        connection.execute(CREATE)
    server.stop()
    assert server.was_killed()
    with serving(directory) as again, again.connect() as connection:
        assert connection.execute("SELECT * FROM streamsql.backfills").fetchall() == []
        assert connection.execute("SELECT count(*) FROM streamsql.views").fetchall() == [(0,)]
        connection.execute(CREATE)
        connection.execute("INSERT INTO s VALUES (0)")
        wanted = [(0, 83_335), (1, 83_333), (2, 83_333)]
        assert connection.execute("SELECT * FROM v ORDER BY k").fetchall() == wanted
