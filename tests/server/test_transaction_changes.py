"""UPDATE, DELETE and ON CONFLICT in transactions: read back, committed in one epoch, undone; savepoints; the first one wins."""

from __future__ import annotations

import random
from collections.abc import Iterator

import duckdb
import psycopg
import pytest
from psycopg import errors
from psycopg.rows import TupleRow

from tests.running import RunningServer

Connection = psycopg.Connection[TupleRow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server"), ["--limit", "savepoints_max=20"]) as running:
        yield running


@pytest.fixture
def stock(server: RunningServer) -> Iterator[tuple[Connection, Connection]]:
    """Give two sessions, the first with transactions, and a table with a view over it."""
    with server.session(autocommit=False) as one, server.session() as two:
        two.execute("DROP MATERIALIZED VIEW IF EXISTS total")
        two.execute("DROP TABLE IF EXISTS stock")
        two.execute("CREATE TABLE stock (item TEXT PRIMARY KEY, n INT, note TEXT)")
        two.execute("CREATE MATERIALIZED VIEW total AS SELECT count(*) AS items, sum(n) AS n FROM stock EMIT UPDATE")
        two.execute("INSERT INTO stock VALUES ('a', 1, NULL), ('b', 2, 'x'), ('c', 3, NULL)")
        yield one, two


def rows(connection: Connection, query: str = "SELECT * FROM stock ORDER BY item") -> list[TupleRow]:
    return connection.execute(query).fetchall()


def test_changes_are_seen_inside_and_by_others_only_after_commit(stock: tuple[Connection, Connection]):
    one, two = stock
    assert one.execute("UPDATE stock SET n = n * 10 WHERE item <> %s", ["a"]).rowcount == 2
    assert one.execute("DELETE FROM stock WHERE note = 'x'").rowcount == 1
    assert one.execute("INSERT INTO stock VALUES ('d', 4, NULL)").rowcount == 1
    assert one.execute("UPDATE stock SET note = 'mine' WHERE n > 3").rowcount == 2
    upsert = "INSERT INTO stock VALUES ('a', 7, 'up'), ('e', 5, NULL) ON CONFLICT (item) DO UPDATE SET n = stock.n + excluded.n"
    assert one.execute(upsert).rowcount == 2
    inside = [("a", 8, None), ("c", 30, "mine"), ("d", 4, "mine"), ("e", 5, None)]
    assert rows(one) == inside
    assert rows(two) == [("a", 1, None), ("b", 2, "x"), ("c", 3, None)]
    assert rows(two, "SELECT * FROM total") == [(3, 6)]
    one.commit()
    assert rows(two) == inside
    assert rows(two, "SELECT * FROM total") == [(4, 47)]


def test_a_subscriber_sees_a_transaction_in_one_epoch(server: RunningServer, stock: tuple[Connection, Connection]):
    one, _ = stock
    follower = server.connect()
    changes = follower.cursor().stream("SUBSCRIBE total")
    assert next(changes)[1:] == (1, 3, 6)
    one.execute("UPDATE stock SET n = 100 WHERE item = 'a'")
    one.execute("DELETE FROM stock WHERE item = 'b'")
    one.commit()
    assert sorted(next(changes)[1:] for _ in range(2)) == [(-1, 3, 6), (1, 2, 103)]
    follower.cancel()
    with pytest.raises(errors.QueryCanceled):
        next(changes)
    follower.close()


def test_rollback_undoes_changes(stock: tuple[Connection, Connection]):
    one, _ = stock
    before = rows(one)
    one.execute("DELETE FROM stock")
    one.execute("INSERT INTO stock VALUES ('z', 1, NULL)")
    assert rows(one) == [("z", 1, None)]
    one.rollback()
    assert rows(one) == before


def test_a_statement_reads_what_the_transaction_has_written_before(stock: tuple[Connection, Connection]):
    one, two = stock
    one.execute("UPDATE stock SET n = 50 WHERE item = 'b'")
    one.execute("UPDATE stock SET n = (SELECT max(n) FROM stock) + 1 WHERE item = 'a'")
    one.execute("DELETE FROM stock WHERE n < (SELECT avg(n) FROM stock)")
    one.execute("INSERT INTO stock SELECT item || item, n, note FROM stock")
    one.execute("UPDATE stock SET note = s.m FROM (SELECT max(n) AS m FROM stock) AS s WHERE stock.item LIKE 'a%'")
    one.commit()
    assert rows(two) == [("a", 51, "51"), ("aa", 51, "51"), ("b", 50, "x"), ("bb", 50, "x")]


def test_the_key_of_a_row_can_change_and_be_taken_by_another(stock: tuple[Connection, Connection]):
    one, two = stock
    one.execute("DELETE FROM stock WHERE item = 'a'")
    one.execute("UPDATE stock SET item = 'a' WHERE item = 'b'")
    one.execute("INSERT INTO stock VALUES ('b', 9, NULL)")
    one.commit()
    assert rows(two) == [("a", 2, "x"), ("b", 9, None), ("c", 3, None)]


@pytest.mark.parametrize(
    "other", ["UPDATE stock SET n = 0 WHERE item = 'a'", "DELETE FROM stock WHERE item = 'a'"], ids=["update", "delete"]
)
def test_of_two_transactions_that_change_a_row_the_first_wins(stock: tuple[Connection, Connection], other: str):
    one, two = stock
    one.execute("UPDATE stock SET n = n + 1 WHERE item = 'a'")
    one.execute("INSERT INTO stock VALUES ('never', 1, NULL)")
    two.execute(other)
    after = rows(two)
    with pytest.raises(errors.SerializationFailure) as lost:
        one.commit()
    assert lost.value.diag.message_hint == "send the transaction again"
    assert rows(two) == after
    assert one.execute("UPDATE stock SET n = 5 WHERE item = 'c'").rowcount == 1
    one.commit()


def test_transactions_that_change_other_rows_do_not_disturb_each_other(stock: tuple[Connection, Connection]):
    one, two = stock
    one.execute("UPDATE stock SET n = 10 WHERE item = 'a'")
    two.execute("UPDATE stock SET n = 20 WHERE item = 'b'")
    two.execute("INSERT INTO stock VALUES ('new', 0, NULL)")
    one.commit()
    assert rows(two, "SELECT item, n FROM stock ORDER BY item") == [("a", 10), ("b", 20), ("c", 3), ("new", 0)]


def test_a_duplicate_key_is_found_and_nothing_is_committed(stock: tuple[Connection, Connection]):
    one, two = stock
    one.execute("UPDATE stock SET n = 10 WHERE item = 'a'")
    with pytest.raises(errors.UniqueViolation):  # noqa: PT012  # which of the two finds it is not promised
        one.execute("INSERT INTO stock VALUES ('a', 1, NULL)")
        one.commit()
    one.rollback()
    assert rows(two) == [("a", 1, None), ("b", 2, "x"), ("c", 3, None)]


def test_values_of_all_types_stay_as_they_are(server: RunningServer):
    columns = {
        "b": "true", "i": "-5", "l": "9223372036854775807", "f": "'NaN'", "n": "123.4500", "t": "'ä'", "y": "'\\x00ff'",
        "d": "'0044-03-15 BC'", "ts": "'infinity'", "tz": "'2024-01-01 00:00:00+02'", "iv": "'1 month 2 days'",
        "u": "'12345678-1234-5678-1234-567812345678'", "j": "'{\"a\": [1]}'", "a": "'{1,NULL,3}'", "tm": "'23:59:59.5'",
    }  # fmt: skip
    types = ["BOOLEAN", "INT", "BIGINT", "DOUBLE PRECISION", "NUMERIC(10,4)", "TEXT", "BYTEA", "DATE", "TIMESTAMP",
             "TIMESTAMPTZ", "INTERVAL", "UUID", "JSONB", "INT[]", "TIME"]  # fmt: skip
    with server.session(autocommit=False) as connection:
        declared = ", ".join(f"{name} {kind}" for name, kind in zip(columns, types, strict=True))
        connection.execute(f"CREATE TABLE kinds (id INT PRIMARY KEY, {declared})")
        connection.execute(f"INSERT INTO kinds VALUES (1, {', '.join(columns.values())})")
        connection.execute("INSERT INTO kinds (id) VALUES (2)")
        connection.commit()
        shown = f"SELECT id, {', '.join(f'{c}::text' for c in columns)} FROM kinds ORDER BY id"
        before = rows(connection, shown)
        assert connection.execute("UPDATE kinds SET id = id + 10").rowcount == 2
        connection.commit()
        after = rows(connection, shown)
        assert [r[1:] for r in after] == [r[1:] for r in before]
        assert [r[0] for r in after] == [11, 12]
        connection.execute("DELETE FROM kinds WHERE id = 11")
        connection.commit()
        assert [r[0] for r in rows(connection, "SELECT id FROM kinds")] == [12]


def test_a_table_that_is_dropped_meanwhile_fails_the_commit(server: RunningServer):
    with server.session(autocommit=False) as one, server.session() as two:
        for again in (False, True):
            two.execute("CREATE TABLE goes (n INT)")
            two.execute("INSERT INTO goes VALUES (1)")
            one.execute("UPDATE goes SET n = 2")
            two.execute("DROP TABLE goes")
            if again:
                two.execute("CREATE TABLE goes (n INT)")
            with pytest.raises(errors.UndefinedTable):
                one.commit()
        two.execute("DROP TABLE goes")


def test_a_table_read_in_append_mode_cannot_be_changed(server: RunningServer):
    with server.session(autocommit=False) as one:
        one.execute("CREATE TABLE events (n INT)")
        one.commit()
        follower = server.connect()
        list_of = follower.cursor().stream("SELECT n FROM events EMIT APPEND")
        one.execute("INSERT INTO events VALUES (1)")
        one.commit()
        assert next(list_of) == (1,)
        with pytest.raises(errors.FeatureNotSupported, match="append mode"):
            one.execute("UPDATE events SET n = 2")
        one.rollback()
        follower.cancel()
        with pytest.raises(errors.QueryCanceled):
            next(list_of)
        follower.close()


# ------------------------------------------------------------------------------------------------------------ savepoints


def test_a_savepoint_is_gone_back_to_after_an_error(stock: tuple[Connection, Connection]):
    one, two = stock
    one.execute("UPDATE stock SET n = 10 WHERE item = 'a'")
    one.execute("SAVEPOINT s")
    one.execute("DELETE FROM stock")
    one.execute("INSERT INTO stock VALUES ('q', 1, NULL)")
    with pytest.raises(errors.UndefinedColumn):
        one.execute("SELECT nosuch FROM stock")
    with pytest.raises(errors.InFailedSqlTransaction):
        one.execute("SELECT 1")
    one.execute("ROLLBACK TO SAVEPOINT s")
    assert rows(one) == [("a", 10, None), ("b", 2, "x"), ("c", 3, None)]
    one.execute("INSERT INTO stock VALUES ('d', 4, NULL)")
    one.execute("RELEASE s")
    one.commit()
    assert rows(two) == [("a", 10, None), ("b", 2, "x"), ("c", 3, None), ("d", 4, None)]


def test_a_duplicate_key_after_a_savepoint_is_found_at_once(stock: tuple[Connection, Connection]):
    one, two = stock
    one.execute("DELETE FROM stock WHERE item = 'b'")
    for statement in ("VALUES ('a', 9)", "VALUES ('x', 9), ('x', 8)", "SELECT item, n FROM stock LIMIT 1"):
        one.execute("SAVEPOINT s")
        with pytest.raises(errors.UniqueViolation) as twice:
            one.execute(f"INSERT INTO stock (item, n) {statement}")
        assert "already exists" in (twice.value.diag.message_detail or "")
        one.execute("ROLLBACK TO s")
    with pytest.raises(errors.UniqueViolation):
        one.execute("INSERT INTO stock (item, n) VALUES (%s, %s)", ["c", 1])
    one.execute("ROLLBACK TO s")
    one.execute("INSERT INTO stock (item, n) VALUES (%s, %s)", ["b", 1])
    one.commit()
    assert rows(two) == [("a", 1, None), ("b", 1, None), ("c", 3, None)]


def test_savepoints_nest_and_the_last_of_a_name_counts(server: RunningServer):
    with server.session(autocommit=False) as one:
        one.execute("CREATE TABLE nested (n INT)")
        for number in range(3):
            one.execute("SAVEPOINT s")
            one.execute("INSERT INTO nested VALUES (%s)", [number])
        one.execute("ROLLBACK TO s")
        one.execute("RELEASE SAVEPOINT s")
        assert rows(one, "SELECT n FROM nested ORDER BY n") == [(0,), (1,)]
        one.execute("ROLLBACK WORK TO s")
        assert rows(one, "SELECT n FROM nested ORDER BY n") == [(0,)]
        one.commit()
        assert rows(one, "SELECT n FROM nested") == [(0,)]


def test_settings_go_back_with_a_savepoint(server: RunningServer):
    with server.session(autocommit=False) as one:
        one.execute("SET application_name TO 'before'")
        one.execute("SAVEPOINT s")
        one.execute("SET application_name TO 'after'")
        one.execute("ROLLBACK TO s")
        assert rows(one, "SHOW application_name") == [("before",)]


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        ("ROLLBACK TO nosuch", errors.InvalidSavepointSpecification, 'savepoint "nosuch" does not exist'),
        ("RELEASE SAVEPOINT nosuch", errors.InvalidSavepointSpecification, 'savepoint "nosuch" does not exist'),
        ("SAVEPOINT", errors.SyntaxError, "syntax error"),
    ],
)
def test_what_is_wrong_with_a_savepoint_is_said(server: RunningServer, statement: str, error: type, message: str):
    with server.session(autocommit=False) as one:
        one.execute("SELECT 1")
        with pytest.raises(error, match=message):
            one.execute(statement)


@pytest.mark.parametrize("statement", ["SAVEPOINT s", "RELEASE SAVEPOINT s", "ROLLBACK TO SAVEPOINT s"])
def test_savepoints_are_for_transactions(server: RunningServer, statement: str):
    with server.session() as one:
        with pytest.raises(errors.NoActiveSqlTransaction, match=f"{statement[:-2]} can only be used in transaction"):
            one.execute(statement)
        assert rows(one, "SELECT 1") == [(1,)]


def test_the_number_of_savepoints_is_bounded(server: RunningServer):
    with server.session(autocommit=False) as one:
        for number in range(20):
            one.execute(f"SAVEPOINT s{number}")
        with pytest.raises(errors.ProgramLimitExceeded, match="savepoints_max"):
            one.execute("SAVEPOINT one_more")


def test_a_parameter_without_a_value_is_an_error(server: RunningServer):
    with server.session() as one:
        one.execute("CREATE STREAM unbound (ts TIMESTAMP, x INT)")
        for text in ("SELECT x, now()$1 FROM unbound EMIT APPEND", "SELECT $1", "DELETE FROM unbound WHERE x = $1"):
            failed = one.pgconn.exec_(text.encode())
            assert failed.error_field(psycopg.pq.DiagnosticField.SQLSTATE) in (b"42P02", b"42601")


# ---------------------------------------------------------------------------------------------------- against an oracle


def statement_of(draw: random.Random) -> str:
    """Give a statement that means the same to DuckDB."""
    k, n = draw.randrange(12), draw.randrange(100)
    return draw.choice([
        f"INSERT INTO t SELECT {k + 100 * n}, {n}, 'i' WHERE {k + 100 * n} NOT IN (SELECT k FROM t)",
        f"INSERT INTO t VALUES ({k}, {n}, 'u') ON CONFLICT (k) DO UPDATE SET n = t.n + excluded.n",
        f"INSERT INTO t VALUES ({k}, {n}, 'n'), ({k + 1}, {n}, 'n') ON CONFLICT DO NOTHING",
        f"UPDATE t SET n = n + {n} WHERE k % 3 = {k % 3}",
        f"UPDATE t SET s = s || '{n}' WHERE n < (SELECT avg(n) FROM t)",
        f"UPDATE t SET k = k + 1000 WHERE k = {k} AND k + 1000 NOT IN (SELECT k FROM t)",
        f"DELETE FROM t WHERE k = {k}",
        f"DELETE FROM t AS x WHERE x.n > {n + 100} OR x.k IN (SELECT k + 1 FROM t WHERE k < 5)",
        f"UPDATE t AS x SET n = y.n FROM t AS y WHERE y.k = {k} AND x.k = {k + 1}",
    ])  # fmt: skip


@pytest.mark.parametrize("seed", range(25))
def test_random_transactions_leave_what_duckdb_leaves(server: RunningServer, seed: int):
    draw = random.Random(seed)
    oracle = duckdb.connect()
    with server.session(autocommit=True) as one, oracle:
        for run in (oracle.execute, one.execute):
            run("DROP TABLE IF EXISTS t")
            run("CREATE TABLE t (k INT PRIMARY KEY, n INT, s TEXT)")
            run("INSERT INTO t SELECT i, i * 10, 'r' FROM generate_series(0, 9) AS g(i)")
        for _ in range(6):
            kept = sorted(oracle.execute("SELECT * FROM t").fetchall())
            one.execute("BEGIN")
            saved: list[tuple[int, str, str]] | None = None
            for step in range(draw.randrange(1, 7)):
                if draw.random() < 0.2:
                    one.execute("SAVEPOINT s")
                    saved = oracle.execute("SELECT * FROM t").fetchall()
                text = statement_of(draw)
                expected = oracle.execute(text).fetchall()[0][0]
                assert one.execute(text).rowcount == expected, (seed, step, text)
                if saved is not None and draw.random() < 0.3:
                    one.execute("ROLLBACK TO s")
                    put(oracle, saved)
                assert sorted(rows(one, "SELECT * FROM t")) == sorted(oracle.execute("SELECT * FROM t").fetchall()), (
                    text
                )
            if draw.random() < 0.2:
                one.execute("ROLLBACK")
                put(oracle, kept)
            else:
                one.execute("COMMIT")
            assert sorted(rows(one, "SELECT * FROM t")) == sorted(oracle.execute("SELECT * FROM t").fetchall())
        one.execute("DROP TABLE t")


def put(oracle: duckdb.DuckDBPyConnection, kept: list[tuple[int, str, str]]) -> None:
    """Give the oracle's table these rows."""
    oracle.execute("DELETE FROM t")
    if kept:
        oracle.executemany("INSERT INTO t VALUES (?, ?, ?)", kept)
