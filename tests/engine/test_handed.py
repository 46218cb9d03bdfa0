"""What is committed goes to a deliverer that keeps up from memory, and nothing else does."""

from __future__ import annotations

import pyarrow as pa
import pytest

from streamsql.engine import handed
from streamsql.engine.handed import Handed, Handing


def rows(count: int) -> pa.Table:
    return pa.table({"o0": pa.array(range(count), pa.int64())})


def counts(found: list[pa.Table] | None) -> list[int] | None:
    return None if found is None else [table.num_rows for table in found]


def test_who_has_all_before_takes_epochs_and_they_stay_until_delivered():
    held = Handed()
    assert held.after(3, 10) is None, "nothing is known yet: the outbox tells"
    held.add(4, rows(2))
    held.add(7, rows(3))
    assert counts(held.after(2, 10)) is None, "epoch 3 may be in the outbox"
    assert counts(held.after(3, 10)) == [2, 3]
    assert counts(held.after(3, 10)) == [2, 3], "a delivery that failed comes again"
    assert counts(held.after(4, 10)) == [3]
    assert counts(held.after(7, 10)) == []


def test_so_many_epochs_are_taken_as_have_no_more_rows_than_wanted_but_one_at_least():
    held = Handed()
    for epoch, count in enumerate((5, 2, 2), 1):
        held.add(epoch, rows(count))
    assert counts(held.after(0, 4)) == [5]
    assert counts(held.after(1, 4)) == [2, 2]


@pytest.mark.parametrize("bound", ["ROWS_MAX", "BYTES_MAX"])
def test_what_is_too_much_is_forgotten_and_left_to_the_outbox(bound: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(handed, bound, 4 if bound == "ROWS_MAX" else 4 * 8)
    held = Handed()
    held.add(1, rows(3))
    held.add(2, rows(2))
    assert held.after(0, 10) is None
    held.add(3, rows(4))
    assert held.after(1, 10) is None
    assert counts(held.after(2, 10)) == [4], "who has read the outbox so far keeps up again"


def test_only_what_is_committed_is_handed_over_and_only_to_sinks_that_are_taken_from():
    handing = Handing()
    taken = handing.taken(1)
    handing.begin(5)
    handing.stage(1, [rows(2)])
    handing.begin(5)  # the epoch was rolled back, and is run again
    handing.stage(1, [rows(1), rows(2)])
    handing.stage(2, [rows(9)])
    assert taken.after(4, 10) is None
    handing.commit()
    assert counts(taken.after(4, 10)) == [3]
    handing.leave(1)
    handing.begin(6)
    handing.stage(1, [rows(1)])
    handing.commit()
    assert counts(taken.after(5, 10)) == []
