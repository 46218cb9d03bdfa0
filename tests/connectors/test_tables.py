"""What a connector tells of a table replaces rows by their key, and goes through all views as changes; bad records as asked."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsql.base.errors import InvalidParameterValue, InvalidTableDefinition, Unavailable, WrongObjectType
from streamsql.connectors import CONNECTORS
from streamsql.connectors.readers import SourceReaders
from streamsql.engine.writes import Write
from tests.connectors.told import Told, batch
from tests.driver import Database
from tests.running import until

TABLE = "CREATE TABLE t (id INT PRIMARY KEY, k TEXT, n INT) WITH (connector = 'told')"
VIEW = "CREATE MATERIALIZED VIEW v AS SELECT k, sum(n) AS n, count(*) AS c FROM t GROUP BY k EMIT UPDATE"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    made = Told()
    monkeypatch.setitem(CONNECTORS, "told", made)
    return made


@contextmanager
def reading(database: Database) -> Iterator[None]:
    readers = SourceReaders(database.engine)
    readers.start()
    yield
    readers.stop()


def status(database: Database) -> str | None:
    return database.query("SELECT status FROM streamsql.sources")[0][0]


def taken(database: Database, partition: str, count: int) -> None:
    """Wait until so many batches are committed."""
    name = "t" if "t" in database.engine.catalog.objects else "s"

    def there() -> bool:
        at = database.engine.streams.get(name)
        return at is not None and at.positions.get(partition) == count

    until(there)


def test_rows_replace_each_other_by_their_key(told: Told, tmp_path: Path):
    told.batches["p"] = [
        batch([{"id": 1, "k": "a", "n": 10}, {"id": 2, "k": "b", "n": 20}]),
        batch([{"id": 1, "k": "b", "n": 11}], [1]),
        batch([{"id": 2, "k": None, "n": None}, {"id": 3, "k": "a", "n": 1}], [-1, 1]),
        # an update that changes the key, and a row that comes and goes within the batch
        batch(
            [
                {"id": 3, "k": "a", "n": 1},
                {"id": 4, "k": "a", "n": 1},
                {"id": 5, "k": "x", "n": 1},
                {"id": 5, "k": "x", "n": 1},
            ],
            [-1, 1, 1, -1],
        ),
    ]
    with Database(tmp_path / "data") as database:
        database.execute(TABLE)
        database.execute(VIEW)
        with reading(database):
            taken(database, "p", 4)
        assert sorted(database.query("SELECT * FROM t")) == [("1", "b", "11"), ("4", "a", "1")]
        assert sorted(database.query("SELECT * FROM v")) == [("a", "1", "1"), ("b", "11", "1")]
        assert database.query("VERIFY MATERIALIZED VIEW v") == []
        told.batches["p"].append(batch([{"id": 9, "k": "z", "n": 9}], truncated=True))
        database.crash()
        with reading(database):
            taken(database, "p", 5)
            until(lambda: told.told == {"p": 5})
        assert database.query("SELECT * FROM t") == [("9", "z", "9")]
        assert database.query("SELECT * FROM v") == [("z", "9", "1")]
        assert told.opened_at == [{}, {"p": 4}]
        assert database.query("SELECT rows_in, positions, status FROM streamsql.sources") == [
            ("10", '{"p":5}', "reading")
        ]


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(
        st.tuples(
            st.lists(
                st.tuples(st.integers(0, 5), st.sampled_from("ab"), st.integers(0, 3), st.sampled_from([1, 1, -1]))
            ),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_a_table_is_what_its_origin_is(cuts: list[tuple[list[tuple[int, str, int, int]], bool]]):
    told = Told()
    expected: dict[int, tuple[str, str, str]] = {}
    for changes, truncated in cuts:
        rows = [{"id": number, "k": k, "n": n} for number, k, n, _ in changes]
        truncated = truncated and bool(changes) and changes[0][2] == 3
        if changes:
            told.batches.setdefault("p", []).append(batch(rows, [w for *_, w in changes], truncated=truncated))
            expected = {} if truncated else expected
        for number, k, n, weight in changes:
            expected.pop(number, None)
            if weight > 0:
                expected[number] = (str(number), k, str(n))
    with pytest.MonkeyPatch.context() as patch, Database() as database:
        patch.setitem(CONNECTORS, "told", told)
        database.execute(TABLE)
        database.execute(VIEW)
        with reading(database):
            if told.batches:
                taken(database, "p", len(told.batches["p"]))
        assert sorted(database.query("SELECT * FROM t")) == sorted(expected.values())
        assert database.query("VERIFY MATERIALIZED VIEW v") == []


def test_an_origin_that_is_unavailable_is_opened_again_from_what_is_committed(told: Told):
    told.batches["p"] = [batch([{"n": 1}]), batch([{"n": 2}])]
    with Database() as database, reading(database):
        database.execute("CREATE STREAM s (n INT) WITH (connector = 'told')")
        taken(database, "p", 2)
        told.failures = [Unavailable("the broker is gone")] * 2
        until(lambda: status(database) == "retrying: the broker is gone")
        told.batches["p"].append(batch([{"n": 3}]))
        taken(database, "p", 3)
        assert status(database) == "reading"
        assert database.query("SELECT n FROM s ORDER BY n") == [("1",), ("2",), ("3",)]
        assert told.opened_at == [{}, {"p": 2}, {"p": 2}]


def test_a_record_that_cannot_be_read_is_set_aside_with_its_bytes(told: Told):
    told.batches["p"] = [batch([{"n": 1}], bad=["{", "nonsense"])]
    with Database() as database, reading(database):
        database.execute("CREATE STREAM s (n INT) WITH (connector = 'told')")
        taken(database, "p", 1)
        assert database.query("SELECT * FROM s") == [("1",)]
        assert database.query("SELECT stream, reason, bytes FROM streamsql.rejected_rows") == [
            ("s", "invalid JSON", "\\x7b"), ("s", "invalid JSON", "\\x6e6f6e73656e7365")
        ]  # fmt: skip
        assert database.query("SELECT rows_in, rows_rejected, status FROM streamsql.sources") == [("1", "2", "reading")]


def test_a_stream_may_stop_at_a_bad_record_and_go_on_from_it_or_past_it(told: Told, tmp_path: Path):
    told.batches["p"] = [
        batch([{"n": 1}]),
        batch([{"n": 2}], bad=["{"]),
        batch([{"n": 3}]),
        batch([{"n": 4}], bad=["["]),
    ]
    stopped = "stopped: a record cannot be read: invalid JSON, partition p, position 0"
    with Database(tmp_path / "data") as database:
        with reading(database):
            database.execute("CREATE STREAM s (n INT) WITH (connector = 'told', on_error = 'fail')")
            until(lambda: status(database) == stopped)
            assert database.query("SELECT * FROM s") == [("1",)]
            database.execute("ALTER STREAM s RESUME")  # it is as bad as before
            until(lambda: len(told.opened_at) == 2 and status(database) == stopped)
            told.batches["p"][1] = batch([{"n": 20}])  # the origin has put it right
            database.execute("ALTER STREAM s RESUME")
            taken(database, "p", 3)
            until(lambda: status(database) == stopped)
            database.execute("ALTER STREAM s RESUME SKIP")
            taken(database, "p", 4)
            told.batches["p"] += [batch([{"n": 5}], bad=["}"])]
            until(lambda: status(database) == stopped)
            database.execute("ALTER STREAM s PAUSE")
        database.restart()
        with reading(database):
            assert status(database) == "paused"
            database.execute("ALTER STREAM s RESUME")
            until(lambda: status(database) == stopped)
        assert database.query("SELECT n FROM s ORDER BY n") == [("1",), ("3",), ("4",), ("20",)]
        assert database.query("SELECT bytes FROM streamsql.rejected_rows") == [("\\x5b",)]


def test_a_table_that_is_filled_needs_a_key_and_a_connector(told: Told):
    with Database() as database:
        with pytest.raises(InvalidTableDefinition, match="needs a PRIMARY KEY"):
            database.execute("CREATE TABLE t (id INT) WITH (connector = 'told')")
        with pytest.raises(InvalidParameterValue, match='unrecognized option "retention"'):
            database.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (retention = '1 day')")
        with pytest.raises(InvalidParameterValue, match="is for streams"):
            database.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (connector = 'told', retention = '1 day')")
        with pytest.raises(InvalidParameterValue, match="neither skip nor fail"):
            database.execute("CREATE STREAM s (id INT) WITH (connector = 'told', on_error = 'panic')")
        database.execute("CREATE STREAM plain (id INT)")
        with pytest.raises(WrongObjectType, match="has no connector"):
            database.execute("ALTER STREAM plain PAUSE")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t VALUES (7, 'x', 7)",
        "INSERT INTO t VALUES (1, 'x', 7) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n",
        "UPDATE t SET n = 5",
        "DELETE FROM t WHERE id = 1",
        "TRUNCATE t",
        "BEGIN; UPDATE t SET n = 5; COMMIT",
    ],
)
def test_clients_cannot_change_a_table_that_is_kept_as_its_origin(told: Told, statement: str):
    told.batches["p"] = [batch([{"id": 1, "k": "a", "n": 10}])]
    with Database() as database, reading(database):
        database.execute(TABLE)
        taken(database, "p", 1)
        with pytest.raises(WrongObjectType, match='cannot change table "t"'):
            database.execute(statement)
        assert database.query("SELECT * FROM t") == [("1", "a", "10")]


def test_batches_that_are_there_together_are_one_write(told: Told, monkeypatch: pytest.MonkeyPatch):
    told.batches = {"p": [batch([{"n": 1}]), batch([{"n": 2}])], "q": [batch([{"n": 3}])]}
    with Database() as database:
        submit, writes = database.engine.submit, list[Write]()

        def seen(write: Write) -> Future[int]:
            writes.append(write)
            return submit(write)

        monkeypatch.setattr(database.engine, "submit", seen)
        with reading(database):
            database.execute("CREATE STREAM s (n INT) WITH (connector = 'told')")
            taken(database, "q", 1)
        assert [[(m.partition, m.before, m.after, m.rows) for m in write.moves] for write in writes] == [
            [("p", None, 1, 1), ("p", 1, 2, 1), ("q", None, 1, 1)]
        ]
        assert database.query("SELECT n FROM s") == [("1",), ("2",), ("3",)]


def test_what_came_before_a_record_that_stops_the_stream_is_kept(told: Told):
    told.batches["p"] = [batch([{"n": 1}]), batch([{"n": 2}]), batch([], bad=["{"]), batch([{"n": 4}])]
    with Database() as database, reading(database):
        database.execute("CREATE STREAM s (n INT) WITH (connector = 'told', on_error = 'fail')")
        until(lambda: (status(database) or "").startswith("stopped: a record cannot be read"))
        taken(database, "p", 2)
        assert database.query("SELECT n FROM s") == [("1",), ("2",)]
