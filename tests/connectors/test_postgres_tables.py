"""A captured table is a table: views follow it, streams are joined with it, and it goes with all that was made for it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.connectors.servers.postgres import OtherDatabase, other_database, postgres_cluster
from tests.running import RunningServer, until

__all__ = ["other_database", "postgres_cluster"]

pytestmark = pytest.mark.postgres


def test_views_and_joins_follow_a_captured_table(tmp_path: Path, other_database: OtherDatabase):
    other_database.execute(
        "CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, city text, long text NOT NULL); "
        "ALTER TABLE customers ALTER long SET STORAGE EXTERNAL; "
        "INSERT INTO customers VALUES (1, 'ann', 'rome', repeat('ann', 10000)), (2, 'bob', 'oslo', '')"
    )
    options = f"connector = 'postgres', {other_database.written_options}"
    slots = f"SELECT 1 FROM pg_replication_slots WHERE database = '{other_database.name}'"
    with RunningServer(tmp_path) as server, psycopg.connect(server.dsn, autocommit=True) as session:
        session.execute(
            "CREATE TABLE customers (id INT PRIMARY KEY, name TEXT NOT NULL, city TEXT, long TEXT NOT NULL) "
            f"WITH ({options})".encode()
        )
        session.execute("CREATE STREAM orders (customer INT, amount INT)")
        session.execute(
            "CREATE MATERIALIZED VIEW bought AS SELECT c.name, o.amount FROM orders AS o "
            "JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON o.customer = c.id EMIT APPEND"
        )
        session.execute(
            "CREATE MATERIALIZED VIEW cities AS SELECT city, count(*) AS n FROM customers GROUP BY city EMIT UPDATE"
        )
        until(lambda: session.execute("SELECT count(*) FROM customers").fetchone() == (2,))
        session.execute("INSERT INTO orders VALUES (1, 10)")
        other_database.execute(
            "UPDATE customers SET name = 'anna', city = 'oslo' WHERE id = 1; DELETE FROM customers WHERE id = 2"
        )
        until(lambda: session.execute("SELECT * FROM cities").fetchall() == [("oslo", 1)])
        session.execute("INSERT INTO orders VALUES (1, 20), (2, 30)")
        assert session.execute("SELECT * FROM bought ORDER BY amount").fetchall() == [("ann", 10), ("anna", 20)]
        assert session.execute("SELECT long FROM customers").fetchall() == [
            ("ann" * 10_000,)
        ]  # not in the update's log
        other_database.execute("UPDATE customers SET id = 3 WHERE id = 1")
        until(lambda: session.execute("SELECT id, long FROM customers").fetchall() == [(3, "ann" * 10_000)])
        other_database.execute("TRUNCATE customers")
        until(lambda: session.execute("SELECT count(*) FROM customers").fetchone() == (0,))
        assert session.execute("SELECT * FROM cities").fetchall() == []
        with pytest.raises(psycopg.errors.InvalidParameterValue, match='unrecognized option "lookup"'):
            session.execute(f"CREATE TABLE live (id INT PRIMARY KEY) WITH ({options}, lookup = 'true')".encode())
        session.execute("DROP MATERIALIZED VIEW bought")
        session.execute("DROP MATERIALIZED VIEW cities")
        assert other_database.rows(slots)
        session.execute("DROP TABLE customers")
        until(lambda: not other_database.rows(slots))
