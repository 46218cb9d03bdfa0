"""Sources are read from CREATE to DROP and from start to stop, never further ahead than the limits say, never with a gap."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from streamsql.base.errors import (
    FeatureNotSupported,
    InvalidParameterValue,
    NotInPrerequisiteState,
    WrongObjectType,
)
from streamsql.base.limits import Limits
from streamsql.connectors import CONNECTORS
from streamsql.connectors.nexmark import Nexmark
from streamsql.connectors.readers import SourceReaders
from streamsql.connectors.source import Given, Source, Surroundings
from streamsql.engine.epoch import Engine
from streamsql.engine.positions import Move
from streamsql.engine.writes import Write
from streamsql.sql.statements import ColumnDefinition
from tests.connectors.test_nexmark import rows
from tests.driver import Database
from tests.running import until

BIDS = "CREATE STREAM bids WITH (connector = 'nexmark', table = 'bid', retention = 'forever', events = {})"


@contextmanager
def reading(database: Database) -> Iterator[SourceReaders]:
    readers = SourceReaders(database.engine)
    readers.start()
    yield readers
    readers.stop()


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("source ")]


def position(database: Database) -> object:
    at = database.engine.streams.get("bids")
    return None if at is None else at.positions.get("0")


def test_a_stream_is_filled_from_its_creation_and_goes_on_after_a_restart(tmp_path: Path):
    with Database(tmp_path / "data", Limits(source_batch_rows_max=1_000)) as database:
        with reading(database):
            database.execute(BIDS.format(30_000))
            database.execute(
                "CREATE MATERIALIZED VIEW v AS SELECT channel, count(*) AS n FROM bids GROUP BY channel EMIT UPDATE"
            )
            until(lambda: (position(database) or 0) > 5_000)  # type: ignore[operator]  # it is a number
        assert not threads()
        database.restart()
        with reading(database):
            until(lambda: position(database) == 30_000)
        database.crash()
        with reading(database):
            until(lambda: not threads())  # there is nothing left to read
        assert database.query("SELECT positions, rows_in FROM streamsql.sources") == [('{"0":30000}', "27600")]
        held = database.arrow("SELECT * EXCLUDE (__seq, __arrived_at, __partition) FROM _rows.bids ORDER BY __seq")
        assert held.equals(rows("bid", 30_000).cast(held.schema))
        assert database.query("SELECT sum(n) FROM v") == [("27600",)]
        assert database.query("VERIFY MATERIALIZED VIEW v") == []


def test_a_reader_pauses_while_too_many_rows_are_not_committed():
    limits = Limits(source_batch_rows_max=1_000, source_ahead_rows_max=3_000)
    with Database(limits=limits) as database:
        engine, blocked, release = database.engine, threading.Event(), threading.Event()

        def block() -> None:
            blocked.set()
            release.wait()

        with reading(database):
            database.execute(BIDS.format(40_000))
            call = engine.call(block)
            blocked.wait()
            until(lambda: engine.queue.rows == 3_000 or release.is_set())
            assert not engine.queue.full
            release.set()
            call.result()
            until(lambda: position(database) == 40_000)


def test_a_reader_pauses_while_the_engines_queue_is_full():
    with Database(limits=Limits(source_batch_rows_max=500, queue_rows_max=1_000)) as database:
        engine, blocked, release = database.engine, threading.Event(), threading.Event()

        def block() -> None:
            blocked.set()
            release.wait()

        with reading(database):
            database.execute(BIDS.format(20_000))
            call = engine.call(block)
            blocked.wait()
            until(lambda: engine.queue._room_waiters)
            assert engine.queue.rows < 1_000 + 500
            release.set()
            call.result()
            until(lambda: position(database) == 20_000)


def test_a_dropped_stream_is_read_no_more_and_its_name_begins_anew():
    with Database(limits=Limits(source_batch_rows_max=100)) as database, reading(database):
        database.execute(BIDS.format(10_000_000))
        until(lambda: position(database))
        database.execute("DROP STREAM bids")
        database.execute(BIDS.format(1_000))
        until(lambda: position(database) == 1_000)
        assert database.query("SELECT count(*) FROM bids") == [("920",)]
        until(lambda: not threads())


def test_rows_that_do_not_follow_on_what_is_committed_are_refused():
    with Database() as database:
        database.execute(BIDS.format(100))
        stream, batch = database.engine.catalog.relation("bids"), rows("bid", 100)

        def submit(before: int | None, after: int, stream_id: int = stream.id) -> int:
            move = Move("bids", stream_id, "0", before, after, rows=batch.num_rows)
            return database.engine.submit(Write([("bids", batch)], moves=(move,))).result()

        submit(None, 10)
        submit(10, 20)
        for before in (None, 10, 30):
            with pytest.raises(NotInPrerequisiteState, match="do not follow"):
                submit(before, 40)
        with pytest.raises(NotInPrerequisiteState, match="gone"):
            submit(20, 30, stream.id + 100)
        assert position(database) == 20
        assert database.query("SELECT count(*) FROM bids") == [("184",)]


class Meddled:
    """A connector while which opens a source, somebody else reads some of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.opened = 0

    def columns(self, given: Given, declared: Sequence[ColumnDefinition]) -> tuple[ColumnDefinition, ...]:
        return Nexmark().columns(given, declared)

    def open(self, given: Given, columns: Any, positions: Any, now_us: int, surroundings: Surroundings) -> Source:
        self.opened += 1
        if self.opened == 1:
            move = Move("bids", self.engine.catalog.relation("bids").id, "0", None, 7)
            self.engine.submit(Write([], moves=(move,))).result()
        return Nexmark().open(given, columns, positions, now_us, surroundings)


def test_a_reader_whose_rows_are_refused_stops_and_says_so_until_it_is_resumed(monkeypatch):
    with Database() as database:
        monkeypatch.setitem(CONNECTORS, "nexmark", Meddled(database.engine))
        with capture_logs() as logs, reading(database):
            database.execute(BIDS.format(5_000))
            until(lambda: database.query("SELECT status FROM streamsql.sources") != [("reading",)])
            told = [(entry["event"], entry["stream"], entry["error"]) for entry in logs]
            assert told == [("source stopped", "bids", 'rows for "bids" do not follow on what is committed')]
            assert database.query("SELECT name, positions, status FROM streamsql.sources") == [
                ("bids", '{"0":7}', 'stopped: rows for "bids" do not follow on what is committed')
            ]
            assert database.query("SELECT count(*) FROM bids") == [("0",)]
            database.execute("ALTER STREAM bids RESUME")
            until(lambda: database.query("SELECT status FROM streamsql.sources") == [("finished",)])
            assert position(database) == 5_000
            assert database.query("SELECT count(*) FROM bids") == [("4597",)]


def test_a_stream_begins_elsewhere_and_its_views_anew(tmp_path: Path):
    with Database(tmp_path / "data", Limits(source_batch_rows_max=1_000)) as database:
        with reading(database):
            database.execute(
                "CREATE STREAM bids (WATERMARK FOR date_time AS date_time - INTERVAL '1 second') "
                "WITH (connector = 'nexmark', table = 'bid', retention = 'forever', events = 20000)"
            )
            database.execute(
                "CREATE MATERIALIZED VIEW by_channel AS SELECT channel, count(*) AS n FROM bids GROUP BY channel"
            )
            database.execute(
                "CREATE MATERIALIZED VIEW windows AS SELECT window_start, count(*) AS n FROM bids "
                "GROUP BY window(date_time, '1 second') EMIT APPEND"
            )
            database.execute("CREATE MATERIALIZED VIEW total AS SELECT sum(n) AS n FROM by_channel")
            until(lambda: position(database) == 20_000)
            whole = database.query("SELECT * FROM windows ORDER BY 1")
            with pytest.raises(FeatureNotSupported, match="cannot be reset to latest"):
                database.execute("ALTER STREAM bids RESET TO LATEST")
            with pytest.raises(InvalidParameterValue, match="does not tell positions"):
                database.execute("ALTER STREAM bids RESET TO POSITIONS 'x'")
            for wrong in ('{"1": 5}', '{"0": "5"}', '{"0": -1}', "{}", '{"0": true}'):
                with pytest.raises(InvalidParameterValue, match='of the connector "nexmark"'):
                    database.execute(f"ALTER STREAM bids RESET TO POSITIONS '{wrong}'")
            assert position(database) == 20_000
            database.execute("""ALTER STREAM bids RESET TO POSITIONS '{"0": 10000}'""")
            until(lambda: position(database) == 20_000)
            assert database.query("SELECT count(*) FROM bids") == [("9200",)]
            assert database.query("SELECT n FROM total") == [("9200",)]
            assert database.query("VERIFY MATERIALIZED VIEW by_channel") == []
            assert database.query("VERIFY MATERIALIZED VIEW windows") == []
            assert database.query("SELECT rows_late FROM streamsql.views WHERE name = 'windows'") == [("0",)]
        database.crash()
        with reading(database):
            database.execute("ALTER STREAM bids RESET TO EARLIEST")
            until(lambda: position(database) == 20_000)
            assert database.query("SELECT n FROM total") == [("18400",)]
            assert database.query("SELECT * FROM windows ORDER BY 1") == whole
        database.execute("CREATE STREAM plain (n INT)")
        with pytest.raises(WrongObjectType, match="not a stream with a connector"):
            database.execute("ALTER STREAM plain RESET TO EARLIEST")
