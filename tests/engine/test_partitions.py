"""A stream's watermark is the least of its partitions', row by row, however rows are cut; idle ones do not count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsql.connectors import CONNECTORS
from streamsql.engine.changes import Progress
from streamsql.engine.partitions import judged
from streamsql.engine.positions import Move
from streamsql.engine.watermark import NEVER
from streamsql.engine.writes import Write
from tests.connectors.told import Told
from tests.driver import Database

START = datetime(2026, 1, 1)
STREAM = (
    "CREATE STREAM s (ts TIMESTAMP, n INT, WATERMARK FOR ts AS ts) "
    "WITH (connector = 'told', retention = 'forever', idle_timeout = '1 minute')"
)
VIEW = "CREATE MATERIALIZED VIEW {} AS SELECT window_start, count(*) AS n FROM s GROUP BY window(ts, '10 seconds') EMIT APPEND"

Rows = Sequence[tuple[int, int]]  # partition (0: a client's), seconds


class Feed:
    """Pushes rows of partitions, an epoch a call."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.positions: Counter[str] = Counter()

    def push(self, rows: Rows, together: int = 1) -> None:
        """Write the rows in one epoch; a write has so many runs of the same partition, a client's rows are alone."""
        engine = self.database.engine
        stream = engine.catalog.relation("s")
        writes: list[Write] = []
        for partition, seconds in _runs(rows):
            made = self._write(stream.id, partition, seconds)
            if writes and 0 < len(writes[-1].moves) < together and made.moves:
                before = writes[-1]
                pieces = [table for _, table in (*before.rows, *made.rows)]
                made = Write([("s", pa.concat_tables(pieces))], moves=(*before.moves, *made.moves))
                writes.pop()
            writes.append(made)
        self.database.on_engine(lambda: engine.run_writes(writes))
        for write in writes:
            write.done.result()

    def _write(self, stream_id: int, partition: int, seconds: list[int]) -> Write:
        times = pa.array([START + timedelta(seconds=s) for s in seconds], pa.timestamp("us"))
        table = pa.table({"ts": times, "n": pa.array(seconds, pa.int32())})
        if not partition:
            return Write([("s", table)])
        name = f"p{partition}"
        before = self.positions[name] or None
        self.positions[name] += 1
        move = Move("s", stream_id, name, before, self.positions[name], rows=len(seconds), own_watermark=True)
        return Write([("s", table)], moves=(move,))


def _runs(rows: Rows) -> Iterable[tuple[int, list[int]]]:
    runs: list[tuple[int, list[int]]] = []
    for partition, seconds in rows:
        if not runs or runs[-1][0] != partition:
            runs.append((partition, []))
        runs[-1][1].append(seconds)
    return runs


def row_by_row(rows: Rows) -> tuple[list[int], int]:
    """Say what the event time is before each row and after all, by looking at one row after the other."""
    largest: dict[int, int] = {}
    time, before = NEVER, []
    for partition, seconds in rows:
        before.append(time)
        if partition:
            largest[partition] = max(largest.get(partition, NEVER), seconds)
            time = max(time, min(largest.values()))
    return before, time


ROWS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 60)), max_size=40)


@given(ROWS, st.lists(st.integers(0, 40), max_size=3))
def test_event_time_is_what_a_look_at_each_row_gives(rows: Rows, cuts: list[int]):
    progress, found = Progress(), []
    ends = [*sorted(c for c in cuts if c < len(rows)), len(rows)]
    start = 0
    for end in ends:
        piece = rows[start:end]
        times = np.array([s for _, s in piece], np.int64)
        table = pa.table({"n": pa.array(times)})
        numbers = np.array([p for p, _ in piece], np.int64)
        table = table.append_column("__partition", pa.array(numbers))
        step = judged(table, times, progress)
        found += step.before.tolist()
        assert step.after.tolist() == [*step.before.tolist()[1:], step.largest][: len(piece)]
        progress, start = step.taken(progress), end
    before, last = row_by_row(rows)
    assert (found, progress.largest) == (before, last)


@settings(max_examples=25, deadline=None)
@given(ROWS.filter(bool), st.lists(st.integers(1, 39), max_size=4), st.integers(1, 4))
def test_windows_close_by_the_least_partition_however_rows_are_cut(rows: Rows, cuts: list[int], together: int):
    before, last = row_by_row(rows)
    closed = Counter(s // 10 * 10 for (_, s), mark in zip(rows, before, strict=True) if s // 10 * 10 + 10 > mark)
    expected = sorted((START + timedelta(seconds=w), n) for w, n in closed.items() if w + 10 <= last)
    with pytest.MonkeyPatch.context() as patch, Database() as database:
        patch.setitem(CONNECTORS, "told", Told())
        database.execute(STREAM)
        database.execute(VIEW.format("v"))
        feed, start = Feed(database), 0
        for end in [*sorted({c for c in cuts if c < len(rows)}), len(rows)]:
            feed.push(rows[start:end], together)
            start = end
        assert sorted(database.values("SELECT * FROM v")) == expected
        database.execute(VIEW.format("later"))  # from the rows that are kept
        assert sorted(database.values("SELECT * FROM later")) == expected
        late = len(rows) - sum(closed.values())
        assert database.values("SELECT rows_late FROM streamsql.views") == [(late,), (late,)]
        assert database.query("VERIFY MATERIALIZED VIEW v") == []


def test_an_idle_partition_holds_nothing_back_until_its_next_row(tmp_path):
    with pytest.MonkeyPatch.context() as patch, Database(tmp_path / "data") as database:
        patch.setitem(CONNECTORS, "told", Told())
        database.execute(STREAM)
        database.execute(VIEW.format("v"))
        database.execute("CREATE MATERIALIZED VIEW above AS SELECT n FROM v EMIT APPEND")
        feed = Feed(database)
        feed.push([(1, 5), (2, 5), (1, 25)])
        assert database.query("SELECT count(*) FROM v") == [("0",)]
        database.advance(50_000_000)
        feed.push([(1, 35)])
        database.advance(20_000_000)  # partition 2 has been silent for 70 seconds, partition 1 for 20
        assert [row[1] for row in database.query("SELECT * FROM v")] == ["2", "1"]
        assert database.query("SELECT n FROM above") == [("2",), ("1",)]
        database.restart()
        feed.push([(2, 7), (2, 31)])  # the first is late, and the partition holds time back again
        feed.push([(1, 55)])
        assert database.query("SELECT count(*) FROM v") == [("2",)]
        feed.push([(2, 41)])
        assert [row[1] for row in database.query("SELECT * FROM v")] == ["2", "1", "2"]
        assert database.query("SELECT partition, position, largest_event_time FROM streamsql.partitions") == [
            ("p1", "4", "2026-01-01 00:00:55"),
            ("p2", "3", "2026-01-01 00:00:41"),
        ]
        assert database.query("SELECT watermark FROM streamsql.watermarks WHERE name = 's'") == [
            ("2026-01-01 00:00:41",)
        ]
        assert database.query("SELECT rows_late FROM streamsql.views WHERE name = 'v'") == [("1",)]


def test_rows_of_clients_move_no_watermark_where_partitions_do():
    with pytest.MonkeyPatch.context() as patch, Database() as database:
        patch.setitem(CONNECTORS, "told", Told())
        database.execute(STREAM)
        database.execute(VIEW.format("v"))
        feed = Feed(database)
        feed.push([(1, 15), (0, 100), (1, 16)])
        database.execute("INSERT INTO s VALUES ('2026-01-01 00:00:05', 1)")
        assert database.query("SELECT count(*) FROM v") == [("0",)]
        assert database.query("SELECT rows_late FROM streamsql.views") == [("1",)]
        why = "; the lowest is that of partition p1, at 2026-01-01 00:00:16"
        assert (database.query("EXPLAIN WHY v")[0][7] or "").endswith(why)


def test_a_partition_that_is_known_holds_time_back_before_its_first_row(tmp_path):
    with pytest.MonkeyPatch.context() as patch, Database(tmp_path / "data") as database:
        patch.setitem(CONNECTORS, "told", Told())
        database.execute(STREAM)
        database.execute(VIEW.format("v"))
        engine, feed = database.engine, Feed(database)
        moves = tuple(
            Move("s", engine.catalog.relation("s").id, name, None, 1, own_watermark=True) for name in ("p1", "p2")
        )
        engine.submit(Write([], moves=moves)).result()
        feed.positions.update(p1=1, p2=1)
        feed.push([(1, 5), (1, 45)])
        assert database.query("SELECT count(*) FROM v") == [("0",)]
        assert (database.query("EXPLAIN WHY v")[0][7] or "").endswith("partition p2, which has had no row")
        database.execute(VIEW.format("later"))
        database.restart()
        feed.push([(2, 6), (2, 25)])
        for name in ("v", "later"):
            assert [row[1] for row in database.query(f"SELECT * FROM {name}")] == ["2"]
        database.advance(61_000_000)
        assert database.query("SELECT rows_late FROM streamsql.views") == [("0",), ("0",)]
