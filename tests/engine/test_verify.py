"""VERIFY finds what is wrong with a view, and finds nothing where nothing is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from streamsql.base.errors import NotInPrerequisiteState
from streamsql.base.limits import Limits
from tests.driver import Database
from tests.engine.copies import Copy
from tests.engine.sessions import SessionSelect, session_selects
from tests.engine.stories import story
from tests.engine.streams import COLUMNS, SECOND_US, Event, Select, cut_lists, event_lists, examples, selects, table_of
from tests.engine.test_windows import Called, kinds

_VIEWS = {
    "summed": "SELECT k, sum(x) AS s FROM s GROUP BY k EMIT UPDATE",
    "minutes": "SELECT window_start, k, count(*) AS n FROM s GROUP BY window(ts, '1 minute'), k EMIT APPEND",
    "hops": "SELECT window_start, k, count(*) AS n FROM s GROUP BY window(ts, '1 minute', '30 seconds'), k EMIT APPEND",
    "grown": "SELECT window_end, k, count(*) AS n FROM s GROUP BY cumulate_window(ts, '1 minute', '1 hour'), k EMIT UPDATE",
    "sessions": "SELECT window_start, k, count(*) AS n FROM s GROUP BY session_window(ts, '1 minute'), k EMIT APPEND",
    "every": "SELECT k, x FROM s EMIT APPEND",
    "joined": "SELECT a.k, a.x, b.x AS y FROM s a JOIN s b ON b.ts BETWEEN a.ts AND a.ts + INTERVAL '5 minutes' EMIT APPEND",
    "versions": "SELECT a.k, a.x, b.x AS y FROM s a ASOF JOIN s b ON a.k = b.k AND a.ts >= b.ts EMIT APPEND",
    "united": "SELECT * FROM (SELECT k, x FROM s UNION ALL SELECT k, 10 + x FROM s) q EMIT APPEND",
    "inside": "SELECT window_start, sum(n) AS n FROM (SELECT window_start, count(*) AS n FROM s "
    "GROUP BY window(ts, '10 s')) q GROUP BY window(window_start, '1 minute', '30 s') EMIT APPEND",
    "pairs": "SELECT a.k, a.x, b.x AS y FROM s a JOIN s b ON a.x < b.x",
}


@pytest.mark.parametrize("name", _VIEWS)
def test_a_view_that_was_tampered_with_is_told_from_one_that_was_not(name: str):
    with Database() as database:
        database.execute(
            "CREATE STREAM s (ts TIMESTAMP, k TEXT, x INT, WATERMARK FOR ts AS ts) WITH (retention = 'forever');"
            f"CREATE MATERIALIZED VIEW v AS {_VIEWS[name]};"
            "INSERT INTO s VALUES ('2026-01-01 00:00:00', 'a', 1), ('2026-01-01 00:00:10', 'b', 2),"
            " ('2026-01-01 00:02:00', 'a', 3)"
        )
        assert database.query("SELECT * FROM v")
        assert database.query("VERIFY MATERIALIZED VIEW v") == []
        store, query = database.engine.store, database.engine.queries["v"]
        table = query.tables.state if name == "summed" else query.tables.result
        last = query.plan.outputs[-1]
        column = f"o{len(query.plan.outputs) - 1}"
        held = database.query(f"SELECT * FROM v ORDER BY {last.name} LIMIT 1")[0]
        smallest = f"SELECT min(rowid) FROM {table} WHERE {column} = (SELECT min({column}) FROM {table})"
        database.on_engine(lambda: store.execute(f"UPDATE {table} SET {column} = 77 WHERE rowid = ({smallest})"))
        found = database.query("VERIFY MATERIALIZED VIEW v")
        assert sorted(found) == sorted([("1", *held), ("-1", *held[:-1], "77")])


def test_which_rows_were_late_is_told_without_the_ledger_too():
    few = dataclasses.replace(Limits(), late_rows_max=10)
    with Database(limits=few) as database:
        database.execute(
            "CREATE STREAM s (ts TIMESTAMP, x INT, WATERMARK FOR ts AS ts) WITH (retention = 'forever');"
            "CREATE MATERIALIZED VIEW v AS SELECT window_start, count(*) AS n FROM s "
            "GROUP BY window(ts, '1 minute') EMIT APPEND"
        )
        for number in range(30):
            database.execute(
                f"INSERT INTO s VALUES ('2026-01-01 00:{number:02}:10', 1), ('2026-01-01 00:{number:02}:00', 1),"
                f"('2026-01-01 00:{number // 2:02}:10', 1)"
            )
        late = database.values("SELECT rows_late FROM streamsql.views")[0][0]
        assert database.values("SELECT count(*) FROM streamsql.late_rows")[0][0] < late
        assert database.query("VERIFY MATERIALIZED VIEW v") == []
        store = database.engine.store
        database.on_engine(lambda: store.execute("DELETE FROM _results.v WHERE rowid = 3"))
        assert len(database.query("VERIFY MATERIALIZED VIEW v")) == 1


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Database() as made:
        yield made


@st.composite
def _called(draw: st.DrawFn) -> Select:
    mode, kind = draw(st.sampled_from(["APPEND", "UPDATE"])), draw(kinds())
    delays = st.sampled_from([0, 1, SECOND_US, 10 * SECOND_US])
    delay = draw(delays if mode == "APPEND" else st.one_of(delays, st.none()))
    made = Called(None, None, delay, (), (), None, None, mode)
    object.__setattr__(made, "call", kind.call)
    return made


def _repeats(select: Select | SessionSelect) -> bool:
    """Tell whether all of a query's values come out the same to the last bit, however they are computed."""
    return all(a.repeatable for a in select.aggregates)


@examples(18)
@given(st.data(), event_lists(most=30), st.one_of(selects(), session_selects(), _called()).filter(_repeats))
def test_a_view_that_nobody_tampered_with_is_proven_whatever_its_windows(
    database: Database, data: st.DataObject, events: list[Event], select: Select
):
    cuts = data.draw(cut_lists(len(events)), "cuts")
    note(story(events, cuts, [select]))
    with Copy(database, [select]) as copy:
        copy.push(events, cuts)
        assert database.query(f"VERIFY MATERIALIZED VIEW {copy.views[0]}") == []


def test_what_is_wrong_in_windows_that_have_lost_no_row_is_found_and_the_others_are_left_out():
    with Database() as database:
        database.execute(
            "CREATE STREAM s (ts TIMESTAMP, x INT, WATERMARK FOR ts AS ts) WITH (retention = '1 hour');"
            "CREATE MATERIALIZED VIEW c AS SELECT window_start, sum(x) AS x FROM s GROUP BY window(ts, '1 minute') EMIT APPEND;"
            "INSERT INTO s VALUES ('2026-01-01 00:00:01', 1), ('2026-01-01 00:01:01', 1)"
        )
        database.settle()
        database.advance(5_400_000_000)
        database.execute("INSERT INTO s VALUES ('2026-01-01 00:02:01', 1), ('2026-01-01 00:05:01', 2)")
        database.settle()
        engine = database.engine
        engine.store.execute(f"UPDATE {engine.queries['c'].tables.result} SET o1 = 99")
        found = database.execute("VERIFY MATERIALIZED VIEW c")[0]
        assert found.rows == [("1", "2026-01-01 00:02:00", "1"), ("-1", "2026-01-01 00:02:00", "99")]
        assert "windows that begin after 2026-01-01 00:01:01" in found.notices[0]


_SHOWING_TIME = (
    "SELECT ts, k, x FROM {s} UNION ALL SELECT ts, k, 1 FROM {s} WHERE x > 0",
    "SELECT a.ts, b.ts AS other, a.k FROM {s} a FULL JOIN {s} b ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '3 s' AND a.ts",
    "SELECT a.ts, a.k FROM {s} a WHERE NOT EXISTS (SELECT 1 FROM {s} b WHERE a.k = b.k AND b.ts > a.ts "
    "AND b.ts <= a.ts + INTERVAL '2 s')",
    "SELECT window_start, sum(n) AS n FROM (SELECT window_start AS w, k, count(*) AS n FROM {s} "
    "GROUP BY window(ts, '2 s'), k) q GROUP BY window(w, '4 s', '2 s')",
    "SELECT ts, count(*) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '2 s' PRECEDING AND INTERVAL '1 s' FOLLOWING) "
    "AS n FROM {s}",
    "SELECT DISTINCT date_trunc('minute', ts) AS minute, k FROM {s}",
    "SELECT minute, k, n FROM (SELECT date_trunc('minute', ts) AS minute, k, count(*) AS n FROM {s} GROUP BY 1, 2) q",
)


@examples(12)
@given(st.data(), event_lists(most=40), st.sampled_from(_SHOWING_TIME), st.sampled_from([0, 1, 5]))
def test_what_lost_no_row_is_proven_where_retention_has_dropped_others(
    database: Database, data: st.DataObject, events: list[Event], query: str, delay: int
):
    stream = "kept_for_an_hour"
    at = data.draw(st.integers(0, len(events)))
    note(f"{query}, delay {delay}, {at} of {events} go")
    database.execute(
        f"CREATE STREAM {stream} ({COLUMNS}, WATERMARK FOR ts AS ts - INTERVAL '{delay} s') WITH (retention = '1 hour');"
        f"CREATE MATERIALIZED VIEW verified AS {query.format(s=stream)} EMIT APPEND"
    )
    try:
        for part in (events[:at], events[at:]):
            if part:
                database.push_arrow(stream, table_of(part))
            database.advance(90 * 60 * SECOND_US if part is not events[at:] and at else 0)
        assert database.query("VERIFY MATERIALIZED VIEW verified") == []
    except NotInPrerequisiteState:
        if any(e.ts is not None for e in events[:at]):  # else nothing tells from when on
            raise
    finally:
        database.execute(f"DROP STREAM {stream} CASCADE")


def test_a_row_that_lost_no_input_is_told_where_it_was_tampered_with():
    with Database() as database:
        database.execute(
            "CREATE STREAM s (ts TIMESTAMP, k TEXT, WATERMARK FOR ts AS ts) WITH (retention = '1 hour');"
            "CREATE MATERIALIZED VIEW v AS SELECT a.ts, a.k FROM s a JOIN s b ON a.k = b.k AND b.ts BETWEEN a.ts AND "
            "a.ts + INTERVAL '1 minute' EMIT APPEND;"
            "INSERT INTO s VALUES ('2026-01-01 00:00:00', 'a')"
        )
        database.advance(90 * 60 * SECOND_US)
        database.execute("INSERT INTO s VALUES ('2026-01-01 00:00:00', 'b'), ('2026-01-01 00:00:01', 'c')")
        assert database.query("VERIFY MATERIALIZED VIEW v") == []
        database.on_engine(lambda: database.engine.store.execute("UPDATE _results.v SET o1 = 'x'"))
        found = database.query("VERIFY MATERIALIZED VIEW v")
        assert found == [("1", "2026-01-01 00:00:01", "c"), ("-1", "2026-01-01 00:00:01", "x")]
