"""Rows that a query's expressions fail on, and time that goes on by itself: neither may show how the rows were cut."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.driver import Database, Row
from tests.engine.streams import cut_lists, examples

_NUMBERS = count()
_VALUES = st.sampled_from(["1", "2", "-3", "7", "x", "", "1.5", "99999999999", None])
_ROWS = st.lists(st.tuples(st.one_of(st.integers(0, 40), st.none()), st.sampled_from("ab"), _VALUES), max_size=14)

# queries that fail on some rows in each place where an expression may stand
_QUERIES = (
    "SELECT window_start, sum(v::INT) AS s, count(*) AS n FROM {s} GROUP BY window(ts, '10 s') EMIT APPEND",
    "SELECT window_start, list(v::INT) AS s FROM {s} WHERE v::INT > 0 GROUP BY window(ts, '10 s') EMIT APPEND",
    "SELECT window_start, v::INT AS v, count(*) AS n FROM {s} GROUP BY window(ts, '10 s', '4 s'), v::INT EMIT UPDATE",
    "SELECT k, max(v::INT) AS v FROM {s} WHERE v <> 'x' GROUP BY k EMIT UPDATE",
    "SELECT k, sum(1) FILTER (WHERE v::INT > 1) AS v FROM {s} GROUP BY k HAVING count(*) > 1 EMIT UPDATE",
    "SELECT k, v::INT * 2 AS v FROM {s} WHERE k = 'a' EMIT APPEND",
    "SELECT window_start, count(*) AS n FROM {s} WHERE v <> '2'"
    " GROUP BY window(to_timestamp(v::INT), '5 s') WITH WATERMARK '1 s' EMIT APPEND",
    "SELECT window_start, count(*) AS n FROM {s} WHERE k = 'a'"
    " GROUP BY window(ts + to_seconds(v::INT), '5 s', '2 s') WITH WATERMARK '3 s' EMIT UPDATE",
)


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Database() as made:
        yield made


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else f"1970-01-01 00:00:{seconds:02}"


def _told(database: Database, name: str, rows: list[Row], cuts: list[int], query: str) -> list[object]:
    """Push rows in these epochs; give the view's rows, the ledger, and the counters."""
    database.execute(
        f"CREATE STREAM {name} (ts TIMESTAMP, k TEXT, v TEXT, WATERMARK FOR ts AS ts - INTERVAL '2 s');"
        f"CREATE MATERIALIZED VIEW {name}_v AS {query.format(s=name)}"
    )
    database.push(name, ["ts", "k", "v"], rows, cuts)
    view = f"'{name}_v'"
    found: list[object] = [
        sorted(map(repr, database.values(f"SELECT * FROM public.{name}_v"))),
        sorted(map(repr, database.values(f"SELECT reason, row FROM streamsql.late_rows WHERE view = {view}"))),
        database.values(f"SELECT rows_in, rows_late, watermark, status FROM streamsql.views WHERE name = {view}"),
    ]
    database.execute(f"DROP STREAM {name} CASCADE")
    return found


@examples(12)
@given(st.data(), _ROWS, st.sampled_from(_QUERIES))
def test_a_row_at_fault_is_set_aside_whatever_epoch_it_comes_in(
    database: Database, data: st.DataObject, drawn: list[tuple[int | None, str, str | None]], query: str
):
    rows: list[Row] = [(_time(seconds), k, v) for seconds, k, v in drawn]
    note(query)
    cuts = [[len(rows)] if rows else [], [1] * len(rows), data.draw(cut_lists(len(rows)), "cuts")]
    whole, *others = [_told(database, f"f{next(_NUMBERS)}", rows, cut, query) for cut in cuts]
    assert "running" in repr(whole[-1])
    assert others == [whole, whole]


_STEPS = st.lists(
    st.one_of(
        st.lists(st.integers(0, 90), min_size=1, max_size=4),  # rows of these times
        st.integers(1, 100).map(float),  # that many seconds without rows
    ),
    max_size=8,
)


def _idled(steps: list[list[int] | float], *, whole: bool) -> list[object]:
    """Go through the steps; give what the views hold at the end."""
    with Database() as database:
        database.execute(
            "CREATE STREAM s (ts TIMESTAMP, x INT, WATERMARK FOR ts AS ts - INTERVAL '5 s')"
            " WITH (retention = 'forever', idle_timeout = '20 s');"
            "CREATE MATERIALIZED VIEW a AS SELECT window_start, list(x) AS xs FROM s GROUP BY window(ts, '30 s') EMIT APPEND;"
            "CREATE MATERIALIZED VIEW h AS SELECT window_start, list(x) AS xs FROM s"
            " GROUP BY window(ts, '30 s', '20 s') EMIT APPEND;"
            "CREATE MATERIALIZED VIEW u AS SELECT window_start, list(x) AS xs FROM s"
            " GROUP BY window(ts, '30 s', '7 s') EMIT UPDATE;"
        )
        number = 0
        for step in steps:
            if isinstance(step, float):
                database.advance(int(step * 1_000_000))
                continue
            rows: list[Row] = [(f"1970-01-01 00:0{s // 60}:{s % 60:02}", str(number + i)) for i, s in enumerate(step)]
            number += len(rows)
            database.push("s", ["ts", "x"], rows, [len(rows)] if whole else [1] * len(rows))
        return [
            *(sorted(database.values(f"SELECT * FROM public.{view}")) for view in "ahu"),
            sorted(
                database.values("SELECT view, reason, event_time, watermark, late_by, row FROM streamsql.late_rows")
            ),
            sorted(database.values("SELECT name, rows_in, rows_late, watermark FROM streamsql.views")),
        ]


@examples(10)
@given(_STEPS)
def test_idle_time_closes_the_same_windows_however_the_rows_before_it_were_cut(steps: list[list[int] | float]):
    assert _idled(steps, whole=False) == _idled(steps, whole=True)
