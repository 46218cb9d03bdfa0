"""Values that a change leaves out are those that the row had before, whatever else happened to its key meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsql.base.errors import NotInPrerequisiteState
from streamsql.engine.kept_values import MOVED, SAME, filled

KEYS = st.integers(0, 4)
# what happens: a key, the one that its row gets, whether its value stays
CHANGES = st.lists(st.tuples(KEYS, KEYS, st.booleans()), max_size=30)


class Origin:
    """A table (key, half of it, value) at its origin: it makes what the log says of changes, and knows the true rows."""

    def __init__(self, keys: set[int]) -> None:
        self.rows = {key: f"old {key}" for key in keys}
        self.log: list[tuple[int, int, str | None, int]] = []  # weight, key, value, how it is kept
        self.true: list[str | None] = []  # the value after each, where the row comes

    def change(self, key: int, to: int, keeps: bool, number: int) -> None:
        if key not in self.rows:
            self.rows[key] = f"new {number}"
            self._say(1, key, self.rows[key], 0, self.rows[key])
        elif key == to:
            if not keeps and number % 3 == 0:
                del self.rows[key]
                self._say(-1, key, None, 0, None)
                return
            self.rows[key] = self.rows[key] if keeps else f"new {number}"
            self._say(1, key, None if keeps else self.rows[key], SAME if keeps else 0, self.rows[key])
        elif to not in self.rows:
            value = self.rows.pop(key)
            self.rows[to] = value if keeps else f"new {number}"
            self._say(-1, key, None, 0, None)
            self._say(1, to, None if keeps else self.rows[to], MOVED if keeps else 0, self.rows[to])

    def _say(self, weight: int, key: int, value: str | None, how: int, true: str | None) -> None:
        self.log.append((weight, key, value, how))
        self.true.append(true)


def table(rows: Sequence[tuple[int, str | None]]) -> pa.Table:
    keys = pa.array([key for key, _ in rows], pa.int32())
    halves = pa.array([f"half {key % 2}" for key, _ in rows], pa.string())
    return pa.table({"key": keys, "half": halves, "value": pa.array([value for _, value in rows], pa.string())})


@given(st.sets(KEYS), CHANGES)
def test_what_is_left_out_is_what_the_row_had(keys: set[int], changes: list[tuple[int, int, bool]]):
    origin = Origin(keys)
    there = table(sorted(origin.rows.items()))
    for number, (key, to, keeps) in enumerate(changes):
        origin.change(key, to, keeps, number)
    rows = table([(key, value) for _, key, value, _ in origin.log])
    weights = np.array([weight for weight, *_ in origin.log], np.int8)
    kept = np.array([how for *_, how in origin.log], np.int8)
    found = filled(rows, weights, {"value": kept}, ("key", "half"), there, "t").column("value").to_pylist()
    assert [value for value, weight in zip(found, weights, strict=True) if weight > 0] == [
        value for value, weight in zip(origin.true, weights, strict=True) if weight > 0
    ]


def test_a_value_that_is_not_known_is_said():
    with pytest.raises(NotInPrerequisiteState, match='an update of "t" keeps a value of the column "value"'):
        filled(
            table([(1, None)]), np.array([1], np.int8), {"value": np.array([SAME], np.int8)}, ("key",), table([]), "t"
        )
