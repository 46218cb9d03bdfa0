"""MERGE beyond what PostgreSQL shows of it (`tables/merge.sql`): views, parameters, rights, streams."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from tests.running import RunningServer

MERGE = """MERGE INTO stock USING (VALUES (%s::text, %s::int)) AS s(item, n) ON stock.item = s.item
    WHEN MATCHED AND stock.n + s.n = 0 THEN DELETE
    WHEN MATCHED THEN UPDATE SET n = stock.n + s.n
    WHEN NOT MATCHED THEN INSERT VALUES (s.item, s.n)"""


@pytest.fixture
def stock(server: RunningServer) -> RunningServer:
    server.execute(
        "DROP TABLE IF EXISTS stock CASCADE", "CREATE TABLE stock (item TEXT PRIMARY KEY, n INT)",
        "INSERT INTO stock VALUES ('a', 1), ('b', 2)",
        "CREATE MATERIALIZED VIEW total AS SELECT count(*) AS items, sum(n) AS n FROM stock",
    )  # fmt: skip
    return server


def test_views_take_back_what_a_merge_changes(stock: RunningServer):
    with stock.session() as session:
        for given, expected in ((("a", 5), (2, 8)), (("c", 10), (3, 18)), (("b", -2), (2, 16))):
            assert session.execute(MERGE, given).statusmessage == "MERGE 1"
            assert session.execute("SELECT * FROM total").fetchall() == [expected]


def test_parameters_are_of_the_columns_types(stock: RunningServer):
    with stock.session() as session:
        asked = (
            "MERGE INTO stock USING (SELECT 'a' AS item) AS s ON stock.item = s.item "
            "WHEN MATCHED AND stock.n < %s THEN UPDATE SET n = %s WHEN NOT MATCHED THEN INSERT VALUES (%s, %s)"
        )
        for _ in range(6):  # psycopg prepares what it sends often
            session.execute(asked, (100, 7, "x", 1))
        assert session.execute("SELECT * FROM stock ORDER BY item").fetchall() == [("a", 7), ("b", 2)]


def test_each_action_needs_its_right(stock: RunningServer):
    stock.execute("CREATE ROLE merger LOGIN", "GRANT SELECT, UPDATE ON stock TO merger")
    with stock.session() as session:
        session.execute("SET ROLE merger")
        with pytest.raises(errors.InsufficientPrivilege, match="permission denied for table stock"):
            session.execute(MERGE, ("a", 1))
        session.execute("MERGE INTO stock USING (SELECT 1) s ON item = 'a' WHEN MATCHED THEN UPDATE SET n = 3")
        session.execute("RESET ROLE")
        session.execute("REVOKE SELECT ON stock FROM merger")
        session.execute("SET ROLE merger")
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute("MERGE INTO stock USING (SELECT 1) s ON item = 'a' WHEN MATCHED THEN UPDATE SET n = 4")
    assert stock.execute("DROP OWNED BY merger", "DROP ROLE merger", "SELECT n FROM stock ORDER BY item") == [
        (3,),
        (2,),
    ]


def test_of_two_transactions_that_merge_into_a_row_the_second_fails(stock: RunningServer):
    with stock.session() as one, stock.session() as other:
        for session in (one, other):
            session.execute("BEGIN")
            session.execute(MERGE, ("a", 1))
        one.execute("COMMIT")
        with pytest.raises(errors.SerializationFailure):
            other.execute("COMMIT")
    assert stock.execute("SELECT n FROM stock WHERE item = 'a'") == [(2,)]


def test_a_stream_takes_no_merge(server: RunningServer):
    server.execute("CREATE STREAM IF NOT EXISTS happened (k INT)")
    with pytest.raises(psycopg.errors.WrongObjectType, match='cannot execute MERGE on relation "happened"'):
        server.execute(
            "MERGE INTO happened USING (SELECT 1 AS k) s ON s.k = happened.k WHEN NOT MATCHED THEN DO NOTHING"
        )
