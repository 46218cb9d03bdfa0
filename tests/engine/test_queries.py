"""The law: what a query has emitted is DuckDB's answer over the accepted rows, however they came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from streamsql.engine.changes import Change
from tests.driver import Database
from tests.engine.copies import Copy
from tests.engine.oracle import answer, differences
from tests.engine.stories import story
from tests.engine.streams import Event, Select, cut_lists, event_lists, examples, selects


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Database() as made:
        yield made


@examples(12)
@given(st.data(), event_lists(), st.lists(selects(), min_size=1, max_size=3))
def test_a_view_holds_duckdbs_answer_whole_row_by_row_and_cut_at_random(
    database: Database, data: st.DataObject, events: list[Event], queries: list[Select]
):
    total = len(events)
    cuts = [[total] if total else [], [1] * total, data.draw(cut_lists(total), "cuts")]
    note(story(events, cuts[-1], queries))
    with ExitStack() as stack:
        copies = [stack.enter_context(Copy(database, queries)) for _ in cuts]
        for copy, cut in zip(copies, cuts, strict=True):
            copy.push(events, cut)
        for index, select in enumerate(queries):
            note(select.sql("s"))
            wanted = answer(select, events)
            whole = copies[0].rows(copies[0].views[index])
            assert not differences(select, whole, wanted.rows)
            for copy in copies:
                view = copy.views[index]
                assert copy.late(view) == (len(wanted.late), len(wanted.late))
                assert not differences(select, copy.rows(view), whole, repeated=True)


@examples(10)
@given(st.data(), event_lists(), selects(modes=("APPEND",)))
def test_append_mode_shows_the_same_rows_in_the_same_order_however_they_were_cut(
    database: Database, data: st.DataObject, events: list[Event], select: Select
):
    note(select.sql("s"))
    shown = []
    for cuts in ([len(events)] if events else [], [1] * len(events), data.draw(cut_lists(len(events)), "cuts")):
        with Copy(database, [select]) as copy:
            followed = copy.follow(copy.views[0])
            copy.push(events, cuts)
            changes, _ = followed.subscription.take()
            followed.subscription.close()
            followed.snapshot.close()
        shown.append([row for change in changes for row in _rows(change.rows.select(range(len(select.outputs))))])
    assert shown[1] == shown[0]
    assert shown[2] == shown[0]


@examples(15)
@given(st.data(), event_lists(most=16), selects())
def test_the_changes_of_every_epoch_add_up_to_the_view(
    database: Database, data: st.DataObject, events: list[Event], select: Select
):
    cuts = data.draw(cut_lists(len(events)), "cuts")
    before = data.draw(st.integers(0, len(cuts)), "epochs before the subscription")
    note(select.sql("s"))
    with Copy(database, [select]) as copy:
        copy.push(events[: sum(cuts[:before])], cuts[:before])
        view = copy.views[0]
        followed = copy.follow(view)
        held = Counter(_rows(followed.snapshot.sql(followed.snapshot_query).to_arrow_table()))
        start = sum(cuts[:before])
        for size in cuts[before:]:
            copy.push(events[start : start + size], [size])
            start += size
            changes, epoch = followed.subscription.take()
            assert epoch == database.engine.epoch
            for change in changes:
                _add_up(held, change)
            assert all(n > 0 for n in held.values())
            assert held == Counter(_rows(database.arrow(f"SELECT * FROM public.{view}")))
        followed.subscription.close()
        followed.snapshot.close()


def _add_up(held: Counter[str], change: Change) -> None:
    weights = [1] * change.rows.num_rows if change.weights is None else change.weights.to_pylist()
    for row, weight in zip(_rows(change.rows), weights, strict=True):
        held[row] += weight
        if not held[row]:
            del held[row]


def _rows(table: pa.Table) -> list[str]:
    """Give rows as texts that can be counted: a NaN is not equal to itself."""
    return list(map(repr, zip(*(column.to_pylist() for column in table.columns), strict=True)))


@examples(7)
@given(st.data(), event_lists(most=20), st.lists(selects(), min_size=1, max_size=3))
def test_restarts_and_crashes_and_later_views_make_no_difference(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, events: list[Event], queries: list[Select]
):
    folder: Path = tmp_path_factory.mktemp("restarts")
    cuts = data.draw(cut_lists(len(events)), "cuts")
    with Database(folder / "data") as database:
        copy = Copy(database, queries)
        start = 0
        for size in cuts:
            copy.push(events[start : start + size], [size])
            start += size
            match data.draw(st.sampled_from(["nothing", "restart", "crash", "view"]), "then"):
                case "restart":
                    database.restart()
                case "crash":
                    database.crash()
                case "view":
                    copy.add(queries[0])
        for view, select in zip(copy.views, copy.queries, strict=True):
            note(select.sql("s"))
            wanted = answer(select, events)
            assert not differences(select, copy.rows(view), wanted.rows)
            assert copy.late(view) == (len(wanted.late), len(wanted.late))
