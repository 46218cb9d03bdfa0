"""Rows that need an answer from outside wait for it, in their order; nothing else does, and none is lost."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from streamsql.base.errors import AdminShutdown, ProgramLimitExceeded, QueryCanceled
from streamsql.base.limits import Limits
from streamsql.engine.answers import Answer
from streamsql.engine.waiting import Waiting
from streamsql.engine.writes import Write
from tests.driver import START_US, Database

COLUMNS = "id INT PRIMARY KEY, name TEXT, up INT"
TABLES = f"CREATE TABLE {{}} ({COLUMNS}) WITH (connector = 'postgres-lookup', database = 'd', user = 'u')"
MINUTE = 60_000_000


class Outside:
    """Tables outside, by name: what is asked is kept until `answer`."""

    def __init__(self, database: Database, cache_us: int = MINUTE, cache_rows: int = 100) -> None:
        self.database = database
        self.engine = database.engine
        self.tables: dict[str, dict[int, tuple[str, int | None]]] = {"t": {}, "u": {}}
        self.waiting: list[Waiting] = []
        self.seen: list[dict[str, list[int]]] = []
        self._cache = cache_us, cache_rows
        self.engine.waiting.asked = self.waiting.append
        self.engine.waiting.ask = self._answers
        for name in self.tables:
            database.execute(TABLES.format(name))

    def answer(self) -> None:
        """Answer what was asked first."""
        waiting = self.waiting.pop(0)
        answers = self._answers(waiting.wanted)
        self.database.on_engine(lambda: self.engine.waiting.answered(waiting.number, answers))

    def _answers(self, wanted: Mapping[str, pa.Table]) -> list[Answer]:
        self.seen.append({name: sorted(keys.column("id").to_pylist()) for name, keys in wanted.items()})
        return [self._answer(name, keys) for name, keys in wanted.items()]

    def _answer(self, name: str, keys: pa.Table) -> Answer:
        found = [(k, *self.tables[name][k]) for k in keys.column("id").to_pylist() if k in self.tables[name]]
        schema = pa.schema([("id", pa.int32()), ("name", pa.string()), ("up", pa.int32())])
        rows = pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in found], schema)
        table_id = self.engine.catalog.find(name).id
        return Answer(name, table_id, keys, rows, self.engine.clock.now_us() + self._cache[0], self._cache[1])

    def write(self, stream: str, *rows: tuple[int, int | None], seconds: int = 0) -> Future[int]:
        """Send rows without waiting for them."""
        columns = {
            "ts": pa.array([datetime(2026, 1, 1, 0, 0, seconds)] * len(rows), pa.timestamp("us")),
            "n": pa.array([n for n, _ in rows], pa.int32()), "k": pa.array([k for _, k in rows], pa.int32()),
        }  # fmt: skip
        done = self.engine.submit(Write([(stream, pa.table(columns))]))
        self.database.on_engine(lambda: None)  # it was taken
        return done


@pytest.fixture
def database():
    with Database() as made:
        made.execute(
            "CREATE STREAM s (ts TIMESTAMP, n INT, k INT, WATERMARK FOR ts AS ts) WITH (idle_timeout = '10 s')"
        )
        made.execute(
            "CREATE STREAM r (ts TIMESTAMP, n INT, k INT, WATERMARK FOR ts AS ts) WITH (idle_timeout = '10 s')"
        )
        yield made


NAMED = (
    "CREATE MATERIALIZED VIEW {0} AS SELECT n, k, name FROM {1} LEFT JOIN {2} FOR SYSTEM_TIME AS OF PROCTIME() "
    "ON {1}.k = {2}.id EMIT APPEND"
)


def test_what_comes_behind_waits_too_and_other_streams_do_not(database: Database):
    outside = Outside(database)
    outside.tables["t"] = {1: ("one", None), 2: ("two", None)}
    database.execute(NAMED.format("v", "s", "t"))
    database.execute(NAMED.format("w", "r", "u"))
    database.execute("CREATE MATERIALIZED VIEW plain AS SELECT n FROM r EMIT APPEND")
    first, second = outside.write("s", (1, 1), (2, 9)), outside.write("s", (3, None))
    third = outside.write("r", (1, None))
    both = database.engine.submit(Write([(name, pa.table({"n": pa.array([5], pa.int32())})) for name in ("s", "r")]))
    fourth = outside.write("s", (4, 2))
    assert third.done()
    assert not any(f.done() for f in (first, second, both, fourth))
    assert database.query("SELECT n FROM plain") == [("1",)]
    outside.answer()
    database.on_engine(lambda: None)
    assert first.done()
    assert not second.done()  # the epoch that it is in needs another answer
    outside.answer()
    assert second.result() == both.result() == fourth.result() == database.engine.epoch
    assert database.query("SELECT * FROM v ORDER BY n") == [
        ("1", "1", "one"), ("2", "9", None), ("3", None, None), ("4", "2", "two"), ("5", None, None),
    ]  # fmt: skip
    assert outside.seen == [{"t": [1, 9]}, {"t": [2]}]
    assert database.query("SELECT n FROM s") == [("1",), ("2",), ("3",), ("5",), ("4",)]


def test_an_answer_is_good_for_a_while_and_the_oldest_go_first(database: Database):
    outside = Outside(database, cache_rows=2)
    outside.tables["t"] = {k: (f"first {k}", None) for k in (1, 2, 3)}
    database.execute(NAMED.format("v", "s", "t"))
    for n, k in enumerate((1, 2)):
        done = outside.write("s", (n, k))
        outside.answer()
        done.result()
        database.advance(1_000_000)
    assert outside.write("s", (2, 1), (3, 2)).done()
    done = outside.write("s", (4, 3))
    outside.answer()
    assert done.done()
    assert outside.write("s", (5, 2)).done()
    outside.tables["t"][1] = ("second 1", None)
    done = outside.write("s", (6, 1))  # which has made room
    outside.answer()
    assert done.done()
    database.advance(MINUTE)
    del outside.tables["t"][1]
    done = outside.write("s", (7, 1))
    outside.answer()
    assert done.done()
    assert database.query("SELECT n, name FROM v ORDER BY n") == [
        ("0", "first 1"), ("1", "first 2"), ("2", "first 1"), ("3", "first 2"), ("4", "first 3"), ("5", "first 2"),
        ("6", "second 1"), ("7", None),
    ]  # fmt: skip
    assert database.query("SELECT keys_cached FROM streamsql.lookups WHERE name = 't'") == [("1",)]


def test_a_table_of_the_same_name_is_asked_anew(database: Database):
    outside = Outside(database)
    outside.tables["t"] = {1: ("old", None)}
    database.execute(NAMED.format("v", "s", "t"))
    outside.write("s", (1, 1))
    outside.answer()
    database.execute("DROP TABLE t CASCADE")
    database.execute(TABLES.format("t"))
    outside.tables["t"] = {1: ("new", None)}
    database.execute(NAMED.format("v", "s", "t"))  # over the row that is kept
    assert database.query("SELECT name FROM v") == [("new",)]
    assert outside.seen == [{"t": [1]}, {"t": [1]}]


def test_one_answer_may_ask_for_another(database: Database):
    outside = Outside(database, cache_us=0)
    outside.tables = {"t": {1: ("one", 10)}, "u": {10: ("ten", None)}}
    database.execute("INSERT INTO s VALUES ('2026-01-01', 0, 1)")
    database.execute(
        "CREATE MATERIALIZED VIEW v AS SELECT n, t.name AS name, u.name AS above FROM s "
        "LEFT JOIN t FOR SYSTEM_TIME AS OF PROCTIME() ON s.k = t.id LEFT JOIN u FOR SYSTEM_TIME AS OF PROCTIME() "
        "ON t.up = u.id EMIT APPEND"
    )  # from the rows that are kept
    done, behind = outside.write("s", (1, 1)), outside.write("s", (2, None))
    outside.answer()
    assert not done.done()
    outside.answer()
    database.on_engine(lambda: None)
    assert done.done()
    assert behind.done()
    assert outside.seen == 2 * [{"t": [1]}, {"u": [10]}]
    assert database.query("SELECT * FROM v ORDER BY n") == [("0", "one", "ten"), ("1", "one", "ten"), ("2", None, None)]


def test_windows_that_time_closes_are_looked_up_while_others_close(database: Database):
    outside = Outside(database)
    outside.tables["t"] = {1: ("one", None)}
    window = "SELECT window_start, k, count(*) AS n FROM {} GROUP BY window(ts, '1 minute'), k"
    database.execute(
        f"CREATE MATERIALIZED VIEW v AS SELECT q.k, q.n, t.name FROM ({window.format('s')}) AS q "
        "JOIN t FOR SYSTEM_TIME AS OF PROCTIME() ON q.k = t.id EMIT APPEND"
    )
    database.execute(f"CREATE MATERIALIZED VIEW w AS {window.format('r')} EMIT APPEND")
    outside.write("s", (1, 1), (2, 1)).result()
    database.advance(5_000_000)
    outside.write("r", (1, 1)).result()
    database.advance(2 * MINUTE)
    database.tick()
    assert [w.wanted["t"].to_pylist() for w in outside.waiting] == [[{"id": 1}]]
    assert database.query("SELECT n FROM w") == [("1",)]
    assert database.query("SELECT * FROM v") == []
    behind = outside.write("s", (3, 1), seconds=1)
    assert not behind.done()
    outside.answer()
    database.on_engine(lambda: None)
    assert behind.done()
    assert database.query("SELECT * FROM v") == [("1", "2", "one")]


def test_what_waits_goes_on_when_nobody_needs_the_answer_any_more(database: Database):
    outside = Outside(database)
    database.execute(NAMED.format("v", "s", "t"))
    done = outside.write("s", (1, 1))
    database.on_engine(lambda: database.engine.waiting.failed(outside.waiting[0].number, "no route"))
    assert database.query("SELECT rows_waiting, status FROM streamsql.lookups WHERE name = 't'") == [
        ("1", "retrying: no route")
    ]
    assert database.query("SELECT status FROM streamsql.views") == [("stalled: no route",)]
    database.execute("DROP MATERIALIZED VIEW v")
    database.on_engine(lambda: None)
    assert done.done()
    outside.answer()  # too late
    assert database.query("SELECT n FROM s") == [("1",)]
    assert database.query("SELECT DISTINCT status FROM streamsql.lookups") == [("ready",)]


def test_what_waits_is_bounded_and_refused_at_the_end():
    with Database(limits=Limits(queue_rows_max=2)) as database:
        database.execute("CREATE STREAM s (ts TIMESTAMP, n INT, k INT)")
        outside = Outside(database)
        database.execute(NAMED.format("v", "s", "t"))
        waiting = [outside.write("s", (n, n)) for n in (1, 2)]
        with pytest.raises(ProgramLimitExceeded, match="what waits for t to answer exceeds queue_rows_max = 2"):
            outside.write("s", (3, 3))
        database.on_engine(database.engine.waiting.give_up)
        for done in waiting:
            with pytest.raises(AdminShutdown):
                done.result(0)
        assert database.query("SELECT count(*) FROM s") == [("0",)]
        with pytest.raises(AdminShutdown):
            outside.write("s", (4, 4)).result(0)


def test_what_waited_when_the_server_ended_is_not_shown_as_waiting(tmp_path: Path):
    with Database(tmp_path) as database:
        database.execute("CREATE STREAM s (ts TIMESTAMP, n INT, k INT)")
        outside = Outside(database)
        database.execute(NAMED.format("v", "s", "t"))
        refused = outside.write("s", (1, 1))
        database.on_engine(lambda: database.engine.waiting.failed(outside.waiting[0].number, "no answer"))
        shown = "SELECT l.rows_waiting, l.status, v.status FROM streamsql.lookups AS l, streamsql.views AS v WHERE l.name = 't'"
        assert database.query(shown) == [("1", "retrying: no answer", "stalled: no answer")]
        database.restart()
        with pytest.raises(AdminShutdown):
            refused.result(0)
        assert database.query(shown) == [("0", "ready", "running")]


def test_a_write_that_is_withdrawn_holds_nobody_up(database: Database):
    outside = Outside(database)
    database.execute(NAMED.format("v", "s", "t"))
    rows = pa.table({"n": pa.array([1], pa.int32()), "k": pa.array([1], pa.int32())})
    first = Write([("s", rows)])
    database.engine.submit(first)
    second, third = Write([("s", rows)]), outside.write("s", (3, None))
    database.engine.submit(second)
    database.engine.waiting.withdraw(second)
    database.engine.waiting.withdraw(first)
    for write in (first, second):
        with pytest.raises(QueryCanceled):
            write.done.result(5)
    third.result(5)
    outside.answer()  # which nobody wants
    assert database.query("SELECT n FROM s") == [("3",)]


def test_what_is_shown_does_not_depend_on_cuts():
    shown = []
    for size in (1, 3, 8):
        with Database(now_us=START_US) as database:
            database.execute("CREATE STREAM s (ts TIMESTAMP, n INT, k INT)")
            outside = Outside(database)
            outside.tables["t"] = {k: (str(k), None) for k in range(4)}
            database.execute(NAMED.format("v", "s", "t"))
            rows = [(n, n % 5) for n in range(8)]
            writes = [outside.write("s", *rows[at : at + size]) for at in range(0, 8, size)]
            while outside.waiting:
                outside.answer()
                database.on_engine(lambda: None)
            assert all(done.done() for done in writes)
            shown.append(database.query("SELECT * FROM v"))
    assert shown[0] == shown[1] == shown[2]
