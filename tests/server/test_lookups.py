"""Lookups of a view's row by its key: what memory answers is what DuckDB answers, at every epoch."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from streamsql.base.limits import Limits
from streamsql.base.types import INT4, TEXT
from streamsql.engine import key_index
from streamsql.engine.key_index import KeyIndex
from streamsql.plan.point_lookup import point_lookup
from streamsql.server import lookups
from streamsql.server.templates import template_of
from streamsql.sql.parse import parse
from streamsql.sql.statements import Query
from tests.driver import Database
from tests.running import RunningServer, until

TEXTS = ["a", "b''c", "d e", "", "né"]
# each: the view's SELECT, and for some of its keys the condition by which DuckDB finds the same row
VIEWS: dict[str, tuple[str, Callable[[random.Random], str]]] = {
    "by a number": (
        "SELECT k, count(*) AS n, sum(x) AS s, max(t) AS t FROM events GROUP BY k",
        lambda draw: f"k = {draw.randint(-2, 12)}",
    ),
    "by a text": (
        "SELECT t, avg(x) AS a, min(at) AS first FROM events GROUP BY t",
        lambda draw: f"t = '{draw.choice([*TEXTS, 'nobody'])}'",
    ),
    "by a day and a number": (
        "SELECT at::date AS day, k, sum(x) AS s FROM events GROUP BY 1, 2",
        lambda draw: f"day = '2026-01-0{draw.randint(1, 4)}' AND {draw.randint(0, 9)} = k",
    ),
    "by a window": (
        "SELECT window_start, k, count(*) AS n FROM events GROUP BY window(at, '1 hour'), k EMIT UPDATE",
        lambda draw: f"k = {draw.randint(0, 9)} AND window_start = '2026-01-0{draw.randint(1, 3)} 00:00:00'",
    ),
    "of closed windows": (
        "SELECT window_start, k, count(*) AS n FROM events GROUP BY window(at, '1 hour'), k "
        "WITH WATERMARK '1 minute' EMIT APPEND",
        lambda draw: f"k = {draw.randint(0, 9)} AND window_start = '2026-01-0{draw.randint(1, 3)} 00:00:00'",
    ),
    "recomputed": (
        "SELECT k, x, n FROM (SELECT k, x, count(*) OVER (PARTITION BY k) AS n, row_number() OVER (PARTITION BY k "
        "ORDER BY at DESC, x) AS r FROM events) WHERE r = 1",
        lambda draw: f"k = {draw.randint(0, 11)} LIMIT 1",
    ),
    "joined": (
        "SELECT e.k, sum(e.x) AS s, max(n.name) AS name FROM events e JOIN names n ON e.k = n.k GROUP BY e.k",
        lambda draw: f"k = {draw.randint(0, 11)}",
    ),
}


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Make indexes at the second lookup; give what they find."""
    monkeypatch.setattr(lookups, "LOOKUPS_MIN", 2)
    found: list[Any] = []
    original = KeyIndex.find

    def find(self: KeyIndex, key: Any) -> pa.RecordBatch:
        row = original(self, key)
        found.append(key)
        return row

    monkeypatch.setattr(KeyIndex, "find", find)
    return found


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("seed", range(2))
def test_memory_answers_what_duckdb_answers_at_every_epoch(name: str, seed: int, eager: list[Any]):
    query, condition = VIEWS[name]
    draw = random.Random(f"{name} {seed}")
    with Database() as database:
        database.execute("CREATE STREAM events (k INT, t TEXT, x BIGINT, at TIMESTAMP)")
        database.execute("CREATE TABLE names (k INT PRIMARY KEY, name TEXT)")
        database.execute("INSERT INTO names SELECT i::int, 'n' || i FROM generate_series(0, 9) AS g(i)")
        database.execute(f"CREATE MATERIALIZED VIEW v AS {query}")
        for epoch in range(12):
            rows = ", ".join(
                f"({draw.randint(0, 9)}, '{draw.choice(TEXTS)}', {draw.randint(-5, 5)}, "
                f"TIMESTAMP '2026-01-01' + INTERVAL '{epoch} hours')"
                for _ in range(draw.randint(1, 5))
            )
            database.execute(f"INSERT INTO events VALUES {rows}")
            if "joined" in name and epoch % 4 == 3:
                database.execute(f"UPDATE names SET name = 'x{epoch}' WHERE k = {epoch % 10}")
            for _ in range(3):
                asked = condition(draw)
                where, _, limit = asked.partition(" LIMIT")
                plain = database.query(f"SELECT * FROM v WHERE {where} AND true{' LIMIT' + limit if limit else ''}")
                assert database.query(f"SELECT * FROM v WHERE {asked}") == plain, (epoch, asked)
                assert len(plain) <= 1
            database.settle()
        assert len(eager) > 15, "DuckDB answered nearly all"


def test_a_key_that_two_rows_have_is_left_to_duckdb(eager: list[Any]):
    with Database() as database:
        database.execute("CREATE STREAM events (k INT, x INT)")
        database.execute("CREATE MATERIALIZED VIEW v AS SELECT k, x FROM events")
        database.execute("INSERT INTO events VALUES (1, 1), (2, 1)")
        for _ in range(4):
            assert database.query("SELECT x FROM v WHERE k = 1") == [("1",)]
            database.settle()
        assert eager
        database.execute("INSERT INTO events VALUES (1, 2)")
        for _ in range(6):
            assert sorted(database.query("SELECT x FROM v WHERE k = 1")) == [("1",), ("2",)]
            database.settle()
        assert not database.known.lookups.kept


def test_another_view_of_the_same_name_has_an_index_of_its_own(eager: list[Any]):
    with Database() as database:
        database.execute("CREATE STREAM events (k INT, x INT)")
        database.execute("INSERT INTO events VALUES (1, 5), (1, 6)")
        for aggregate, expected in (("count(*)", "2"), ("sum(x)", "11"), ("max(x)", "6")):
            database.execute(
                f"CREATE OR REPLACE MATERIALIZED VIEW v AS SELECT k, {aggregate} AS n FROM events GROUP BY k"
            )
            for _ in range(4):
                assert database.query("SELECT n FROM v WHERE k = 1") == [(expected,)]
                database.settle()
        database.execute("DROP MATERIALIZED VIEW v")
        database.execute("CREATE MATERIALIZED VIEW v AS SELECT k, min(x) AS n FROM events GROUP BY k")
        assert database.query("SELECT n FROM v WHERE k = 1") == [("5",)]


def test_an_index_is_let_go_when_its_view_changes_faster_than_it_is_read(
    eager: list[Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(key_index, "CREDIT_ROWS_MAX", 50)
    monkeypatch.setattr(key_index, "ROWS_A_LOOKUP", 10)
    with Database() as database:
        database.execute("CREATE STREAM events (k INT)")
        database.execute("CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM events GROUP BY k")
        database.execute("INSERT INTO events VALUES (1)")
        for _ in range(3):
            database.query("SELECT n FROM v WHERE k = 1")
            database.settle()
        assert database.known.lookups.kept
        database.execute("INSERT INTO events SELECT i::int FROM generate_series(1, 100) AS g(i)")
        assert database.query("SELECT n FROM v WHERE k = 1") == [("2",)]
        assert not database.known.lookups.kept
        assert not database.engine.queries["v"].log.readers


def test_indexes_stay_within_their_bound(eager: list[Any]):
    with Database(limits=Limits(lookup_bytes_max=180_000)) as database:
        database.execute("CREATE STREAM events (k INT, t TEXT)")
        for name in ("small", "other", "large"):
            database.execute(
                f"CREATE MATERIALIZED VIEW {name} AS SELECT k, max(t) AS t FROM events WHERE t = '{name}' GROUP BY k"
            )
        for name, count in (("small", 700), ("other", 700), ("large", 10_000)):
            database.execute(f"INSERT INTO events SELECT i::int, '{name}' FROM generate_series(1, {count}) AS g(i)")
        for name in ("small", "large", "other"):
            for _ in range(4):
                assert database.query(f"SELECT t FROM {name} WHERE k = 1") == [(name,)]
                database.settle()
        assert database.known.lookups.kept == ["other"]  # one was put in the other's place, the third is too large


def test_rows_that_have_gone_are_let_go(eager: list[Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(key_index, "GARBAGE_ROWS_MIN", 20)
    with Database() as database:
        database.execute("CREATE STREAM events (k INT)")
        database.execute("CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM events GROUP BY k")
        database.execute("INSERT INTO events VALUES (1), (2), (3)")
        for number in range(1, 50):
            database.execute("INSERT INTO events VALUES (1)")
            assert database.query("SELECT n FROM v WHERE k = 1") == [(str(1 + number),)]
            assert database.query("SELECT n FROM v WHERE k = 3") == [("1",)]
            database.settle()
        assert len(eager) > 90
        (index,) = database.known.lookups._indexes.values()
        assert index.bytes < 10_000


@pytest.mark.parametrize(
    "text",
    [
        "SELECT n FROM v WHERE k = 1",
        'SELECT "v"."n" AS a, v.k FROM v WHERE ("v"."k" = 1) LIMIT 21',
        "SELECT * FROM public.v AS b WHERE b.k = $1 AND '2' = b.t",
        "SELECT b.* FROM v b WHERE k = -5 AND t = $2::text",
    ],
)
def test_what_is_a_lookup(text: str, catalog: Any):
    (statement,) = parse(text, Limits())
    assert isinstance(statement, Query)
    assert point_lookup(statement.tree, catalog, (INT4, TEXT)) is not None


@pytest.mark.parametrize(
    "text",
    [
        "SELECT n + 1 FROM v WHERE k = 1",
        "SELECT count(*) FROM v WHERE k = 1",
        "SELECT DISTINCT n FROM v WHERE k = 1",
        "SELECT n FROM v WHERE k = 1 OR k = 2",
        "SELECT n FROM v WHERE k = 1 AND k = 2",
        "SELECT n FROM v WHERE k > 1",
        "SELECT n FROM v WHERE k = NULL",
        "SELECT n FROM v WHERE k = 1.0",
        "SELECT n FROM v WHERE n = '1'",  # a numeric is no key
        "SELECT n FROM v WHERE k = n",
        "SELECT n FROM v WHERE k = $2",
        "SELECT n FROM v WHERE k = 1 LIMIT 0",
        "SELECT n FROM v WHERE k = 1 LIMIT 1 OFFSET 1",
        "SELECT n FROM v, v AS w WHERE v.k = 1",
        "SELECT n FROM v AS v (a, b, c) WHERE a = 1",
        "SELECT nobody FROM v WHERE k = 1",
        "SELECT n FROM v WHERE t = 'a'::varchar(1)",
        "SELECT n FROM s WHERE k = 1",
        "SELECT n FROM v WHERE w.k = 1",
        "SELECT tableoid FROM v WHERE k = 1",
        "SELECT n FROM v TABLESAMPLE SYSTEM (10) WHERE k = 1",
        "WITH v AS (SELECT 1 AS k, 2 AS n) SELECT n FROM v WHERE k = 1",
        "SELECT n FROM pg_catalog.v WHERE k = 1",
    ],
)
def test_what_is_none(text: str, catalog: Any):
    (statement,) = parse(text, Limits())
    assert isinstance(statement, Query)
    assert point_lookup(statement.tree, catalog, (INT4, TEXT)) is None


@pytest.fixture(scope="module")
def catalog() -> Any:
    with Database() as database:
        database.execute("CREATE STREAM s (k INT, t TEXT, n NUMERIC)")
        database.execute("CREATE MATERIALIZED VIEW v AS SELECT k, t, n FROM s")
        return database.engine.catalog


def test_a_text_is_parted_from_its_constants():
    found = template_of("SELECT n, x1 FROM v WHERE k = 17 AND t = 'it''s 5' AND x = 1.5;\n")
    assert found is not None
    assert found.text == "SELECT n, x1 FROM v WHERE k = ? AND t = '?' AND x = 1.5"
    assert found.constants == ("17", "it's 5")
    for unsure in (
        "SELECT E'a'",
        "SELECT 1 -- '",
        "SELECT $$a$$",
        "SELECT '\\'",
        "SELECT 1; SELECT 2",
        "UPDATE v SET n = 1",
    ):
        assert template_of(unsure) is None, unsure


# ---- over the wire ----


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server"), ["--in-memory", "--log-level", "debug"]) as running:
        running.execute(
            "CREATE TABLE rows (k INT, t TEXT, n INT)",
            "INSERT INTO rows SELECT i::int, 't''' || i, i::int FROM generate_series(1, 1000) AS g(i)",
            "CREATE MATERIALIZED VIEW v AS SELECT k, t, sum(n) AS n FROM rows GROUP BY k, t",
            "CREATE MATERIALIZED VIEW texts AS SELECT t, sum(n) AS n FROM rows GROUP BY t",
        )
        with running.session() as client:
            for _ in range(lookups.LOOKUPS_MIN + 1):
                client.execute("SELECT n FROM v WHERE k = 1 AND t = 't''1'")
                client.execute("SELECT n FROM texts WHERE t = %s", ("t'1",))
        until(lambda: running.log().count("lookup index made") == 2)
        yield running


def test_a_text_with_other_constants_is_answered_with_other_rows(server: RunningServer):
    with server.session() as client:
        for number in (1, 2, 3, 1_000, 1_001):
            expected = [(number,)] if number <= 1_000 else []
            assert client.execute(f"SELECT n FROM v WHERE k = {number} AND t = 't''{number}'").fetchall() == expected
            assert client.execute(f"SELECT n FROM v WHERE t = 't''{number}' AND k = {number}").fetchall() == expected
            assert client.execute("SELECT n FROM texts WHERE t = %s", (f"t'{number}",)).fetchall() == expected
        assert client.execute("SELECT n FROM v WHERE k = 1 AND t = 'other'").fetchall() == []
        assert (
            client.execute("SELECT n FROM v WHERE k = 99999999999 AND t = 'a'").fetchall() == []
        )  # DuckDB's to answer


def test_what_a_transaction_has_done_is_seen_and_its_end_is_minded(server: RunningServer):
    text = "SELECT n FROM v WHERE k = 1 AND t = 't''1'"
    with server.session(autocommit=False) as client:
        assert client.execute(text).fetchall() == [(1,)]
        with pytest.raises(psycopg.Error):
            client.execute("SELECT nothing")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            client.execute(text)
        client.rollback()
        client.execute("CREATE TEMP TABLE v (k INT, t TEXT, n INT)")
        assert client.execute(text).fetchall() == []  # the session's own table stands before the view
        client.rollback()
        assert client.execute(text).fetchall() == [(1,)]


def test_a_lookup_asks_for_the_right_to_read(server: RunningServer):
    text = "SELECT n FROM v WHERE k = 1 AND t = 't''1'"
    with server.session() as owner, server.session() as client:
        owner.execute("CREATE ROLE looker LOGIN")
        owner.execute("GRANT SELECT ON v TO looker")
        client.execute("SET SESSION AUTHORIZATION looker")
        for _ in range(3):
            assert client.execute(text).fetchall() == [(1,)]
        owner.execute("REVOKE SELECT ON v FROM looker")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            client.execute(text)


def test_no_reader_goes_back_in_time(server: RunningServer):
    """A reader asks memory and DuckDB in turn while a row's number grows: it never sees it smaller than before."""
    done = threading.Event()

    def write() -> None:
        with server.session() as client:
            for _ in range(200):
                client.execute("INSERT INTO rows VALUES (7, 't''7', 1)")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    last = 0
    with server.session() as client:
        while not done.is_set():
            for text in ("SELECT n FROM v WHERE k = 7 AND t = 't''7'", "SELECT n FROM v WHERE k + 0 = 7"):
                ((seen,),) = client.execute(text).fetchall()
                assert seen >= last
                last = seen
        assert client.execute("SELECT n FROM v WHERE k = 7 AND t = 't''7'").fetchall() == [(207,)]
    writer.join()
