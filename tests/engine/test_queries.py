"""The law: what a query has emitted is DuckDB's answer over the accepted rows, however they came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from streamsql.engine import definitions
from streamsql.engine.changes import Change
from tests.driver import Database
from tests.engine.copies import Copy
from tests.engine.oracle import answer, differences
from tests.engine.streams import Event, Select, cut_lists, event_lists, examples, selects


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Database() as made:
        yield made


@examples(100)
@given(st.data(), event_lists(), st.lists(selects(), min_size=1, max_size=3))
def test_a_view_holds_duckdbs_answer_whole_row_by_row_and_cut_at_random(
    database: Database, data: st.DataObject, events: list[Event], queries: list[Select]
):
    total = len(events)
    cuts = [[total] if total else [], [1] * total, data.draw(cut_lists(total), "cuts")]
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


@examples(60)
@given(st.data(), event_lists(most=16), selects())
def test_append_mode_shows_the_same_rows_in_the_same_order_however_they_were_cut(
    database: Database, data: st.DataObject, events: list[Event], select: Select
):
    keys = len(select.outputs)
    shown = []
    with ExitStack() as stack:
        for cut in ([len(events)] if events else [], data.draw(cut_lists(len(events)), "cuts")):
            copy = stack.enter_context(Copy(database, [select]))
            copy.push(events, cut)
            shown.append(copy.rows(copy.views[0]))
    if select.mode == "APPEND":
        assert [row[:keys] for row in shown[0]] == pytest.approx([row[:keys] for row in shown[1]], nan_ok=True)


@examples(60)
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
        followed = database.on_engine(lambda: definitions.subscribe(database.engine, view, None, lambda: None))
        held = Counter(map(repr, followed.snapshot.execute(followed.snapshot_query).fetchall()))
        followed.snapshot.close()
        start = sum(cuts[:before])
        for size in cuts[before:]:
            copy.push(events[start : start + size], [size])
            start += size
            changes, epoch = followed.subscription.take()
            assert epoch == database.engine.epoch
            for change in changes:
                _add_up(held, change)
            assert all(n > 0 for n in held.values())
            assert held == Counter(map(repr, copy.rows(view)))
        followed.subscription.close()


def _add_up(held: Counter[str], change: Change) -> None:
    weights = [1] * change.rows.num_rows if change.weights is None else change.weights.to_pylist()
    import duckdb

    rows = duckdb.from_arrow(change.rows).fetchall()
    for row, weight in zip(rows, weights, strict=True):
        held[repr(row)] += weight
        if not held[repr(row)]:
            del held[repr(row)]


@examples(20)
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
