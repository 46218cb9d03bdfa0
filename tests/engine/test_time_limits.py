"""Property tests whose time is limited: they end where they are, and a failure that they have found is told all the same."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine import streams


@pytest.fixture(autouse=True)
def a_case_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count()
    monkeypatch.setattr(streams, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    monkeypatch.setenv("STREAMSQL_PROFILE", "nightly")
    monkeypatch.setenv("STREAMSQL_MINUTES", "0.1")


def test_a_test_ends_before_what_it_draws_when_its_time_is_over() -> None:
    @streams.examples(100)
    @given(st.data())
    def drawn(data: st.DataObject) -> None:
        data.draw(st.integers())

    with pytest.raises(streams.TimeIsOver):
        drawn()
    assert streams.CASES.pop("drawn") == 7


def test_a_failure_found_in_time_is_told_after_it() -> None:
    @streams.examples(100)
    @given(st.data())
    def failing(data: st.DataObject) -> None:
        assert data.draw(st.integers()) == 0

    with pytest.raises(AssertionError):
        failing()
    streams.CASES.pop("failing", None)
