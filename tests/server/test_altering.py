"""ALTER TABLE among views, live queries and restarts: what reads a table goes on, or goes with the column, or keeps it."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from tests.running import RunningServer


def test_views_follow_an_altered_table_over_a_restart(tmp_path: Path):
    with RunningServer(tmp_path) as server:
        server.execute(
            "CREATE TABLE base (id INT PRIMARY KEY, a INT, b TEXT)",
            "INSERT INTO base VALUES (1, 10, 'x'), (2, 20, 'x')",
            "CREATE MATERIALIZED VIEW sums AS SELECT b, sum(a) AS total FROM base GROUP BY b EMIT UPDATE",
            "CREATE MATERIALIZED VIEW ids AS SELECT count(*) AS n FROM base WHERE id > 0 EMIT UPDATE",
            "COMMENT ON COLUMN base.a IS 'of a'",
        )
        with server.connect() as connection:
            for statement, error in (
                ("ALTER TABLE base DROP COLUMN a", errors.DependentObjectsStillExist),
                ("ALTER TABLE base RENAME b TO c", errors.FeatureNotSupported),
                ("ALTER TABLE base ALTER a TYPE BIGINT", errors.FeatureNotSupported),
            ):
                with pytest.raises(error):
                    connection.execute(statement.encode())
            with connection.transaction():
                connection.execute("INSERT INTO base VALUES (9, 9, 'gone')")
                with pytest.raises(errors.ObjectInUse), connection.transaction():
                    connection.execute("ALTER TABLE base ADD COLUMN z INT")
                connection.execute("DELETE FROM base WHERE id = 9")
            connection.execute("ALTER TABLE base ADD COLUMN more INT NOT NULL DEFAULT 1, ALTER b SET NOT NULL")
            connection.execute("CREATE MATERIALIZED VIEW everything AS SELECT * FROM base EMIT UPDATE")
            with pytest.raises(errors.FeatureNotSupported):
                connection.execute("ALTER TABLE base ADD COLUMN z INT")
            connection.execute("INSERT INTO base VALUES (3, 30, 'y', 3)")
            connection.execute("UPDATE base SET a = a + 1 WHERE id = 1")
        server.stop(signal.SIGKILL)
        server.start()
        server.execute("INSERT INTO base VALUES (4, 40, 'y')")
        assert server.execute("SELECT * FROM sums ORDER BY b") == [("x", 31), ("y", 70)]
        assert server.execute("SELECT more FROM base ORDER BY id") == [(1,), (1,), (3,), (1,)]
        server.execute("DROP MATERIALIZED VIEW everything")
        told: list[str | None] = []
        with server.connect() as connection:
            connection.add_notice_handler(lambda diagnostic: told.append(diagnostic.message_primary))
            connection.execute("ALTER TABLE base DROP COLUMN a CASCADE")
            with pytest.raises(psycopg.errors.UndefinedTable):
                connection.execute("SELECT * FROM sums")
        assert told == ["drop cascades to materialized view sums"]
        server.execute("INSERT INTO base VALUES (5, 'z')")
        assert server.execute("SELECT n FROM ids") == [(5,)]
        server.stop()
        server.start()
        assert server.execute("SELECT * FROM base WHERE id = 5") == [(5, "z", 1)]
        assert server.execute("SELECT n FROM ids") == [(5,)]
