"""Each epoch's changes of a view reach its sinks, whole and in order, whatever fails on the way; until then they are kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from streamsql.base.errors import (
    DependentObjectsExist,
    DuplicateObject,
    InvalidParameterValue,
    ProgramLimitExceeded,
    StreamSQLError,
    Unavailable,
    UndefinedColumn,
    UndefinedObject,
)
from streamsql.base.limits import Limits
from streamsql.connectors import SINKS
from streamsql.connectors import delivering as delivering_module
from streamsql.connectors.delivering import Deliverers, note_due
from streamsql.connectors.outboxes import Outgoing
from streamsql.connectors.sink import Delivery
from tests.connectors.memory_sink import MemoryConnector, OtherSide
from tests.driver import Database
from tests.running import until

STREAM = "CREATE STREAM s (ts TIMESTAMP, k TEXT, n INT, WATERMARK FOR ts AS ts)"
APPEND = (
    "CREATE MATERIALIZED VIEW v AS SELECT window_start, k, sum(n) AS n FROM s "
    "GROUP BY window(ts, '1 minute'), k EMIT APPEND"
)
UPDATE = "CREATE MATERIALIZED VIEW v AS SELECT k, sum(n) AS n FROM s GROUP BY k EMIT UPDATE"
SINK = "CREATE SINK o FROM v WITH (connector = 'memory')"
STATUS = "SELECT status FROM streamsql.sinks"


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> OtherSide:
    made = OtherSide()
    monkeypatch.setitem(SINKS, "memory", MemoryConnector(made))
    return made


@contextmanager
def delivering(database: Database) -> Iterator[None]:
    deliverers = Deliverers(database.engine)
    deliverers.start()
    yield
    deliverers.stop()


def insert(database: Database, *rows: tuple[str, str, int]) -> None:
    values = ", ".join(f"('2026-01-01 00:{at}', '{k}', {n})" for at, k, n in rows)
    database.execute(f"INSERT INTO s VALUES {values}")


def has_rows(side: OtherSide, count: int) -> bool:
    return len(side.rows) == count


def waiting(database: Database) -> str | None:
    return database.query("SELECT rows_waiting FROM streamsql.sinks")[0][0]


def test_a_sink_gets_the_rows_that_are_there_and_then_every_change(side: OtherSide):
    with Database() as database, delivering(database):
        database.execute(STREAM)
        database.execute(UPDATE)
        insert(database, ("00:01", "a", 1), ("00:02", "b", 5))
        database.execute(SINK)
        until(lambda: len(side.rows) == 2)
        assert sorted(side.weighted) == [(1, ("a", 1)), (1, ("b", 5))]
        assert side.shape is not None
        assert (side.shape.key, side.shape.append_only) == (("k",), False)
        insert(database, ("00:03", "a", 2))
        until(lambda: len(side.rows) == 4)
        assert side.weighted[2:] == [(-1, ("a", 1)), (1, ("a", 3))]
        until(lambda: waiting(database) == "0")
        assert database.query(
            "SELECT name, view, connector, guarantee, rows_delivered, status FROM streamsql.sinks"
        ) == [("o", "v", "memory", "exactly once", "4", "delivering")]


def test_of_an_epoch_what_goes_stands_before_what_takes_its_place(side: OtherSide):
    """A view that is recomputed tells what came and what went apart."""
    with Database() as database, delivering(database):
        database.execute("CREATE TABLE t (id INT PRIMARY KEY, k TEXT, n INT)")
        database.execute(
            "CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS c, sum(n) AS n FROM t GROUP BY k EMIT UPDATE"
        )
        database.execute("INSERT INTO t VALUES (1, 'a', 1), (2, 'a', 2), (3, 'b', 4), (4, 'b', 8)")
        database.execute("CREATE SINK o FROM v WITH (connector = 'memory', key = 'k')")
        until(lambda: len(side.rows) == 2)
        database.execute("DELETE FROM t WHERE id IN (1, 4)")
        until(lambda: len(side.rows) == 6)
        assert [weight for weight, _ in side.weighted[2:]] == [-1, -1, 1, 1]


def test_without_a_snapshot_only_what_comes_later_is_delivered(side: OtherSide):
    with Database() as database, delivering(database):
        database.execute(STREAM)
        database.execute(UPDATE)
        insert(database, ("00:01", "a", 1))
        database.execute("CREATE SINK o FROM v WITH (connector = 'memory', snapshot = false)")
        insert(database, ("00:03", "a", 2))
        until(lambda: len(side.rows) == 2)
        assert side.weighted == [(-1, ("a", 1)), (1, ("a", 3))]


def test_windows_are_delivered_as_they_close_also_over_restarts_and_crashes(side: OtherSide, tmp_path: Path):
    with Database(tmp_path / "data") as database:
        database.execute(STREAM)
        database.execute(APPEND)
        database.execute(SINK)
        for minute in range(10):
            insert(database, (f"{minute:02}:30", "a", minute), (f"{minute:02}:31", "b", 1))
            if minute == 3:
                database.restart()
            if minute == 6:
                database.crash()
            if minute % 2:
                with delivering(database):
                    until(lambda: waiting(database) == "0")
    assert [(values[0].minute, values[1:]) for values in side.values] == [
        (minute, row) for minute in range(9) for row in (("a", minute), ("b", 1))
    ]
    assert side.shape is not None
    assert (side.shape.key, side.shape.append_only) == (("window_start", "k"), True)


@pytest.mark.parametrize("notes", [True, False])
def test_a_delivery_whose_note_was_lost_is_repeated_only_where_the_other_side_keeps_none(
    side: OtherSide, notes: bool, tmp_path: Path
):
    side.notes = notes

    def cut_off(delivery: Delivery) -> None:
        side.after = lambda delivery: None
        raise Unavailable("the connection was cut")

    with Database(tmp_path / "data") as database:
        database.execute(STREAM)
        database.execute(UPDATE)
        database.execute(SINK)
        insert(database, ("00:01", "a", 1))
        side.after = cut_off
        with delivering(database):
            until(lambda: waiting(database) == "0")
            insert(database, ("00:02", "b", 1))
            until(lambda: waiting(database) == "0")
    once = [(1, ("a", 1)), (1, ("b", 1))]
    assert side.weighted == (once if notes else once[:1] + once)
    assert side.opened == 2


def test_what_is_unavailable_is_tried_until_it_is_there(side: OtherSide):
    left = [3]

    def fail(delivery: Delivery) -> None:
        if left[0]:
            left[0] -= 1
            raise Unavailable("nobody listens on port 1")

    side.before = fail
    with Database() as database, delivering(database):
        database.execute(STREAM)
        database.execute(UPDATE)
        database.execute(SINK)
        insert(database, ("00:01", "a", 1))
        until(lambda: database.query(STATUS) == [("retrying: nobody listens on port 1",)])
        until(lambda: side.values == [("a", 1)])
        until(lambda: database.query(STATUS) == [("delivering",)])


def test_a_server_that_stops_does_not_wait_for_another_side_that_answers_nothing(
    side: OtherSide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(delivering_module, "STOP_SECONDS_MAX", 0.1)
    held, released, ended = Event(), Event(), Event()

    def hold(delivery: Delivery) -> None:
        held.set()
        released.wait(30)
        ended.set()
        raise Unavailable("not now")

    side.before = hold
    with Database(tmp_path / "data") as database:
        database.execute(STREAM)
        database.execute(UPDATE)
        database.execute(SINK)
        insert(database, ("00:01", "a", 1))
        with delivering(database):
            assert held.wait(30)
        assert not ended.is_set()
        released.set()
        until(lambda: not [t for t in threading.enumerate() if t.name == "sink o"])
        side.before = lambda _: None
        database.restart()
        with delivering(database):
            until(lambda: side.values == [("a", 1)])


def test_a_sink_that_fails_stops_alone_and_goes_on_when_it_is_resumed(side: OtherSide):
    def fail(delivery: Delivery) -> None:
        raise StreamSQLError("the topic does not exist")

    side.before = fail
    with Database() as database, delivering(database):
        database.execute(STREAM)
        database.execute(UPDATE)
        database.execute(SINK)
        insert(database, ("00:01", "a", 1))
        until(lambda: database.query(STATUS) == [("stopped: the topic does not exist",)])
        insert(database, ("00:02", "a", 1))
        assert database.query("SELECT * FROM v") == [("a", "2")]
        assert waiting(database) == "3"
        side.before = lambda delivery: None
        database.execute("ALTER SINK o RESUME")
        until(lambda: side.weighted == [(1, ("a", 1)), (-1, ("a", 1)), (1, ("a", 2))])


def test_a_paused_sink_waits_over_a_restart(side: OtherSide, tmp_path: Path):
    with Database(tmp_path / "data") as database:
        database.execute(STREAM)
        database.execute(UPDATE)
        database.execute(SINK)
        database.execute("ALTER SINK o PAUSE")
        insert(database, ("00:01", "a", 1))
        database.restart()
        with delivering(database):
            assert database.query("SELECT status, rows_waiting FROM streamsql.sinks") == [("paused", "1")]
            database.execute("ALTER SINK o RESUME")
            until(lambda: side.values == [("a", 1)])
        assert side.opened == 1


def test_a_sink_that_has_too_much_to_deliver_lets_no_more_in(side: OtherSide):
    with Database(limits=Limits(outbox_rows_max=4)) as database:
        database.execute(STREAM)
        database.execute("CREATE STREAM other (n INT)")
        database.execute(UPDATE)
        database.execute(SINK)
        insert(database, *((f"00:0{i}", f"k{i}", 1) for i in range(4)))
        with pytest.raises(ProgramLimitExceeded, match=r'sink "o" exceeds outbox_rows_max = 4'):
            insert(database, ("00:01", "a", 1))
        database.execute("INSERT INTO other VALUES (1)")
        with delivering(database):
            until(lambda: waiting(database) == "0")
        insert(database, ("00:01", "a", 1))


def test_a_sink_that_keeps_up_gets_from_memory_what_the_outbox_holds(side: OtherSide, monkeypatch: pytest.MonkeyPatch):
    read: list[int] = []
    original = Outgoing._read

    def noted(self: Outgoing, epoch: int, waiting: int) -> Delivery | None:
        read.append(epoch)
        return original(self, epoch, waiting)

    monkeypatch.setattr(Outgoing, "_read", noted)
    with Database() as database, delivering(database):
        database.execute("CREATE STREAM s (k TEXT, n INT, t TIME, b BYTEA, d DECIMAL(9,2), i INTERVAL, a INT[])")
        database.execute("CREATE MATERIALIZED VIEW v AS SELECT k, n, t, b, d, i, a FROM s EMIT APPEND")
        database.execute(SINK)
        values = "('a', 1, '01:02:03', '\\x00ff', 1.50, INTERVAL '1 month 2 days', ARRAY[1, NULL])"
        database.execute(f"INSERT INTO s VALUES {values}")
        until(lambda: len(side.rows) == 1)
        before = list(read)
        for count in range(2, 5):
            database.execute(f"INSERT INTO s VALUES {values}, (NULL, NULL, NULL, NULL, NULL, NULL, NULL)")
            until(partial(has_rows, side, 2 * count - 1))
        assert read == before
        assert side.values[0] == side.values[1]
        assert side.values[2] == (None,) * 7


def test_the_engine_is_told_when_deliveries_rest_and_once_a_second_while_they_do_not():
    assert note_due(first=10.0, last=10.0) == 10.25
    assert note_due(first=10.0, last=10.5) == 10.75
    assert note_due(first=10.0, last=10.9) == 11.0


def test_what_was_delivered_in_vain_comes_again_with_what_came_meanwhile(side: OtherSide):
    failed = Event()

    def fail(delivery: Delivery) -> None:
        failed.set()
        raise Unavailable("not now")

    with Database() as database, delivering(database):
        database.execute(STREAM)
        database.execute("CREATE MATERIALIZED VIEW v AS SELECT k, n FROM s EMIT APPEND")
        database.execute(SINK)
        insert(database, ("00:01", "a", 0))
        until(lambda: len(side.rows) == 1)
        side.before = fail
        insert(database, ("00:01", "a", 1))
        assert failed.wait(30)
        insert(database, ("00:01", "b", 2))
        side.before = lambda _: None
        until(lambda: len(side.rows) == 3)
    assert side.values == [("a", 0), ("a", 1), ("b", 2)]


def test_deliveries_hold_whole_epochs_and_no_more_rows_than_the_limit(side: OtherSide):
    cuts: list[tuple[int, int]] = []
    side.before = lambda delivery: cuts.append((delivery.rows.num_rows, delivery.last_epoch - delivery.first_epoch))
    with Database(limits=Limits(sink_batch_rows_max=3)) as database:
        database.execute(STREAM)
        database.execute("CREATE MATERIALIZED VIEW v AS SELECT k, n FROM s EMIT APPEND")
        database.execute(SINK)
        for count in (1, 2, 1, 5, 1):
            insert(database, *((f"00:0{i}", f"k{i}", 1) for i in range(count)))
        with delivering(database):
            until(lambda: waiting(database) == "0")
    assert cuts == [(3, 1), (1, 0), (5, 0), (1, 0)]


def test_a_view_with_a_sink_stays_unless_both_go(side: OtherSide):
    with Database() as database, delivering(database):
        database.execute(STREAM)
        database.execute(UPDATE)
        database.execute(SINK)
        with pytest.raises(DependentObjectsExist) as refused:
            database.execute("DROP MATERIALIZED VIEW v")
        assert refused.value.detail == "sink o depends on materialized view v"
        with pytest.raises(DependentObjectsExist, match="sink o depends on it"):
            database.execute(
                "CREATE OR REPLACE MATERIALIZED VIEW v AS SELECT k, max(n) AS n FROM s GROUP BY k EMIT UPDATE"
            )
        database.execute("DROP STREAM s CASCADE")
        assert database.query("SELECT * FROM streamsql.sinks") == []
        assert database.values("SELECT count(*) FROM duckdb_tables() WHERE schema_name = '_outbox'") == [(0,)]


def test_dropping_a_sink_gives_up_what_waits_and_frees_its_name(side: OtherSide, tmp_path: Path):
    with Database(tmp_path / "data") as database:
        database.execute(STREAM)
        database.execute(UPDATE)
        database.execute(SINK)
        first = database.engine.catalog.sinks["o"].id
        with pytest.raises(DuplicateObject):
            database.execute(SINK)
        assert "already exists" in database.execute(SINK.replace("SINK", "SINK IF NOT EXISTS"))[0].notices[0]
        insert(database, ("00:01", "a", 1))
        database.execute("DROP SINK o")
        with pytest.raises(UndefinedObject):
            database.execute("DROP SINK o")
        assert "does not exist" in database.execute("DROP SINK IF EXISTS o")[0].notices[0]
        database.execute(SINK)
        database.restart()
        assert database.engine.catalog.sinks["o"].id > first
        with delivering(database):
            until(lambda: side.values == [("a", 1)])
        assert side.surroundings is not None
        assert side.surroundings.identity == f"{database.engine.identity}-{database.engine.catalog.sinks['o'].id}"
        assert [row[:4] for row in database.query("SHOW SINKS")] == [("o", "v", "memory", "0")]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ("connector = 'memory', ^key = 'nope'", UndefinedColumn, 'column "nope" does not exist'),
        ("connector = 'memory', ^key = 'k, k'", InvalidParameterValue, "named twice"),
        ("^connector = 'nowhere'", InvalidParameterValue, 'there is no connector "nowhere"'),
        ("connector = 'memory', ^colour = 'red'", InvalidParameterValue, 'unrecognized option "colour"'),
        ("connector = 'memory', ^snapshot = 'maybe'", InvalidParameterValue, "neither true nor false"),
        ("key = 'k'", InvalidParameterValue, "a sink needs a connector"),
    ],
)
def test_what_is_wrong_with_a_sink_is_said_where_it_stands(
    side: OtherSide, options: str, error: type[StreamSQLError], message: str
):
    text = f"CREATE SINK o FROM v WITH ({options})"
    place = text.find("^") + 1 or None
    with Database() as database:
        database.execute(STREAM)
        database.execute(UPDATE)
        with pytest.raises(error, match=message) as raised:
            database.execute(text.replace("^", ""))
        assert raised.value.position == place
        assert database.query("SELECT * FROM streamsql.sinks") == []
