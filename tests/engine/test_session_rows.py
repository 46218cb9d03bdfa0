"""Rows with their sessions, SESSION() without GROUP BY, are what a loop over single rows finds, however the rows were cut.

In append mode those of closed sessions, by the definition in docs/semantics.md; in update mode, where nothing is late, and ad
hoc those of all sessions.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.driver import Database
from tests.engine.sessions import Session, sessions_of
from tests.engine.streams import SECOND_US, Event, cut_lists, event_lists, examples, table_of

_NUMBERS = itertools.count()
_KEYS = {"": (), " PARTITION BY k": ("k",), " PARTITION BY (k, b)": ("k", "b")}


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Database() as made:
        yield made


def _instant(us: int) -> datetime:
    return datetime(1970, 1, 1) + timedelta(microseconds=us)


def _rows(sessions: list[Session]) -> Counter[Any]:
    return Counter((n, _instant(s.start), _instant(s.end)) for s in sessions for n in s.rows)


def _grouped(rows: Counter[Any]) -> Counter[Any]:
    ends = Counter(end for _, _, end in rows.elements())
    return Counter((end, count) for end, count in ends.items())


@examples(8)
@given(
    st.data(),
    event_lists(most=14),
    st.sampled_from(sorted(_KEYS)),
    st.integers(1, 10).map(lambda s: s * SECOND_US),
    st.sampled_from([0, 1, 4 * SECOND_US]),
)
def test_rows_come_with_the_session_that_single_rows_give(
    database: Database, data: st.DataObject, events: list[Event], partition: str, gap: int, delay: int
) -> None:
    total, rows = len(events), table_of(events).append_column("n", pa.array(range(len(events)), pa.int32()))
    keys = [tuple(getattr(e, name) for name in _KEYS[partition]) for e in events]
    closed, late, mark = sessions_of(gap, delay, events, keys, [True] * total)
    closed = [s for s in closed if mark is not None and s.end <= mark]
    every, _, _ = sessions_of(gap, None, events, keys, [True] * total)
    for cut in ([total] if total else [], data.draw(cut_lists(total), "cuts")):
        name = f"s{next(_NUMBERS)}"
        database.execute(
            f"CREATE STREAM {name} (ts TIMESTAMP, k TEXT, x INT, y DOUBLE PRECISION, b BOOLEAN, n INT, "
            f"WATERMARK FOR ts AS ts - INTERVAL '{delay} us')"
        )
        session = f"SESSION({name}{partition}, ts, '{gap} us')"
        query = f"SELECT n, window_start, window_end FROM {session}"
        grouped = f"SELECT window_end, count(*) AS rows FROM {session} AS q GROUP BY q.n > -1, window_end"
        database.execute(
            f"CREATE MATERIALIZED VIEW {name}_closed AS {query} EMIT APPEND;"
            f"CREATE MATERIALIZED VIEW {name}_now AS {query} EMIT UPDATE;"
            f"CREATE MATERIALIZED VIEW {name}_ends AS {grouped} EMIT APPEND"
        )
        note(f"{session}: {list(zip(keys, events, strict=True))} {cut}")
        followed = database.follow(f"SUBSCRIBE {name}_now")
        database.push_arrow(name, rows, cut)
        database.settle()
        assert Counter(database.values(f"SELECT * FROM public.{name}_closed")) == _rows(closed)
        assert Counter(database.values(f"SELECT * FROM public.{name}_now")) == _rows(every)
        assert sum(followed.integrated().values()) == sum(map(len, (s.rows for s in every)))
        assert len(database.query(query)) == sum(len(s.rows) for s in every)
        if partition:
            assert Counter(database.values(f"SELECT * FROM public.{name}_ends")) == _grouped(_rows(closed))
        counted = database.query(f"SELECT rows_late FROM streamsql.views WHERE name = '{name}_closed'")
        assert counted == [(str(len(late)),)]
        database.stop(followed)
        database.execute(f"DROP STREAM {name} CASCADE")
