"""A server killed while a stream gets another column has it everywhere or nowhere, and goes on."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psycopg
import pytest

from tests.crash.servers import Server, serving


@pytest.mark.parametrize(("point", "is_there"), [("stream.column_adding", False), ("stream.column_added", True)])
def test_a_column_is_there_whole_or_not_at_all(point: str, is_there: bool, tmp_path: Path):
    directory = tmp_path / "data"
    server = Server(directory, f"{point}:1")
    with contextlib.suppress(psycopg.OperationalError), server.connect() as connection:  # its end is what is tested
        connection.execute("CREATE STREAM s (k TEXT, v INT) WITH (retention = 'forever')")
        connection.execute("CREATE MATERIALIZED VIEW totals AS SELECT k, sum(v) AS v FROM s GROUP BY k")
        connection.execute("CREATE MATERIALIZED VIEW everything AS SELECT * FROM s")
        connection.execute("INSERT INTO s VALUES ('a', 1), ('b', 2)")
        connection.execute("ALTER STREAM s ADD COLUMN note TEXT DEFAULT 'none'")
    server.stop()
    assert server.was_killed()
    with serving(directory) as again, again.connect() as connection:
        wanted = [("a", 1, "none"), ("b", 2, "none")] if is_there else [("a", 1), ("b", 2)]
        assert connection.execute("SELECT * FROM s ORDER BY k").fetchall() == wanted
        connection.execute("ALTER STREAM s ADD COLUMN IF NOT EXISTS note TEXT DEFAULT 'none'")
        connection.execute("INSERT INTO s (k, v, note) VALUES ('a', 10, 'new')")
        assert connection.execute("SELECT note FROM s ORDER BY v").fetchall() == [("none",), ("none",), ("new",)]
        assert connection.execute("SELECT * FROM totals ORDER BY k").fetchall() == [("a", 11), ("b", 2)]
        assert connection.execute("SELECT * FROM everything ORDER BY v").fetchall() == [("a", 1), ("b", 2), ("a", 10)]
