"""Session windows hold what a loop over single rows finds, however the rows were cut into epochs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.driver import Database
from tests.engine.copies import Copy
from tests.engine.oracle import differences
from tests.engine.sessions import SessionSelect, answer, session_selects, sessions_of
from tests.engine.stories import story
from tests.engine.streams import SECOND_US, Event, cut_lists, event_lists, examples


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Database() as made:
        yield made


@examples(8)
@given(st.data(), event_lists(most=30), session_selects())
def test_a_view_of_sessions_holds_what_single_rows_give(
    database: Database, data: st.DataObject, events: list[Event], select: SessionSelect
):
    total = len(events)
    cuts = [[total] if total else [], [1] * total, data.draw(cut_lists(total), "cuts")]
    wanted = answer(select, events)
    note(story(events, cuts[-1], [select]))
    shown = []
    with ExitStack() as stack:
        copies = [stack.enter_context(Copy(database, [select])) for _ in cuts]
        for copy, cut in zip(copies, cuts, strict=True):
            followed = copy.follow(copy.views[0])
            copy.push(events, cut)
            changes, _ = followed.subscription.take()
            followed.subscription.close()
            followed.snapshot.close()
            assert not differences(select, copy.rows(copy.views[0]), wanted.rows)
            assert copy.late(copy.views[0]) == (len(wanted.late), len(wanted.late))
            held: Counter[str] = Counter()
            ordered: list[str] = []
            for change in changes:
                rows = [repr(row) for row in zip(*(c.to_pylist() for c in change.rows.columns), strict=True)]
                weights = [1] * len(rows) if change.weights is None else change.weights.to_pylist()
                for row, weight in zip(rows, weights, strict=True):
                    held[row] += weight
                ordered += [repr(row) for row in zip(*(c.to_pylist() for c in change.rows.columns[:2]), strict=True)]
            view = database.arrow(f"SELECT * FROM public.{copy.views[0]}")
            rows_of_view = Counter(map(repr, zip(*(c.to_pylist() for c in view.columns), strict=True)))
            assert +held == rows_of_view
            assert all(count >= 0 for count in held.values())
            shown.append(ordered)
    if select.mode == "APPEND":
        assert shown[1] == shown[0]
        assert shown[2] == shown[0]


@examples(11)
@given(st.data(), event_lists(most=20), session_selects())
def test_restarts_and_crashes_and_later_views_make_no_difference_to_sessions(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, events: list[Event], select: SessionSelect
):
    folder: Path = tmp_path_factory.mktemp("restarts")
    wanted = answer(select, events)
    with Database(folder / "data") as database:
        copy = Copy(database, [select])
        start = 0
        for size in data.draw(cut_lists(len(events)), "cuts"):
            copy.push(events[start : start + size], [size])
            start += size
            match data.draw(st.sampled_from(["nothing", "restart", "crash", "view"]), "then"):
                case "restart":
                    database.restart()
                case "crash":
                    database.crash()
                case "view":
                    copy.add(select)
        for view in copy.views:
            assert not differences(select, copy.rows(view), wanted.rows)
            assert copy.late(view) == (len(wanted.late), len(wanted.late))


def test_the_loop_over_single_rows_itself():
    def event(second: int) -> Event:
        return Event(second * SECOND_US, "a", 1, None, None)

    events = [event(s) for s in (0, 15, 7, 30, 21, 12)]
    found, late, watermark = sessions_of(10 * SECOND_US, 5 * SECOND_US, events, ["a"] * 6, [True] * 6)
    told = [(s.start // SECOND_US, s.end // SECOND_US, sorted(s.rows)) for s in found]
    assert told == [(0, 10, [0]), (7, 25, [1, 2]), (21, 40, [3, 4])]
    assert late == [5]
    assert watermark == 25 * SECOND_US
