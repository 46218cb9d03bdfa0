"""Durations: what is read as one, what it is in microseconds, how it is written back."""

from __future__ import annotations

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st

from streamsql.base.errors import InvalidParameterValue
from streamsql.sql.durations import duration_of, parse_duration, render_duration

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("1h", 3600 * SECOND),
        ("90s", 90 * SECOND),
        ("1 day", 86400 * SECOND),
        ("10 minutes", 600 * SECOND),
        ("1h30m", 5400 * SECOND),
        ("1 hour 30 minutes", 5400 * SECOND),
        ("500ms", 500_000),
        ("250 us", 250),
        ("00:05:00", 300 * SECOND),
        ("01:30", 5400 * SECOND),
        ("00:00:00.5", 500_000),
        ("1 day 02:00:00", 93600 * SECOND),
        ("1 week", 604800 * SECOND),
        ("PT5M", 300 * SECOND),
        ("P1DT1H", 90000 * SECOND),
        ("P1W", 604800 * SECOND),
        ("1.5 hours", 5400 * SECOND),
        ("2 HOURS", 7200 * SECOND),
    ],
)
def test_a_duration_is_read(text: str, microseconds: int) -> None:
    assert parse_duration(text) == microseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 month", "months or years"),
        ("2 years", "months or years"),
        ("P1Y", "months or years"),
        ("P2M", "months or years"),
        ("-5 minutes", "must not be negative"),
        ("-00:05:00", "must not be negative"),
        ("0", "must be greater than zero"),
        ("0 seconds", "must be greater than zero"),
        ("", "invalid duration"),
        ("abc", "invalid duration"),
        ("5", "invalid duration"),
        ("5 fortnights", "invalid duration"),
        ("1h x", "invalid duration"),
        ("P", "invalid duration"),
        ("PT", "invalid duration"),
        ("0.1 us", "invalid duration"),
        ("9999999999999 days", "invalid duration"),
        ("1" * 5000 + "h", "invalid duration"),
    ],
)
def test_what_is_no_usable_duration_is_refused_with_a_hint(text: str, message: str) -> None:
    with pytest.raises(InvalidParameterValue, match=message) as caught:
        parse_duration(text, position=7)
    assert caught.value.position == 7
    assert caught.value.hint


def test_zero_and_negative_pass_where_they_are_allowed() -> None:
    assert parse_duration("0", zero_allowed=True) == 0
    assert parse_duration("-1s", negative_allowed=True) == -SECOND


@pytest.mark.parametrize(
    ("expression", "microseconds"),
    [
        ("'1h'", 3600 * SECOND),
        ("INTERVAL '10' MINUTE", 600 * SECOND),
        ("INTERVAL '10 minutes'", 600 * SECOND),
        ("INTERVAL '1 day 2 hours'", 93600 * SECOND),
        ("INTERVAL '1h30m'", 5400 * SECOND),
        ("'5 minutes'::interval", 300 * SECOND),
        ("(INTERVAL '1 hour')", 3600 * SECOND),
    ],
)
def test_a_constant_in_a_tree_is_a_duration(expression: str, microseconds: int) -> None:
    node = sqlglot.parse_one(f"SELECT {expression}", read="postgres").expressions[0]
    assert duration_of(node) == microseconds


@pytest.mark.parametrize("expression", ["a", "1", "now()", "INTERVAL '1 month'", "'x'", "-INTERVAL '1 hour'"])
def test_anything_else_in_a_tree_is_refused(expression: str) -> None:
    node = sqlglot.parse_one(f"SELECT {expression}", read="postgres").expressions[0]
    with pytest.raises(InvalidParameterValue):
        duration_of(node)


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (600 * SECOND, "10 minutes"),
        (5400 * SECOND, "1 hour 30 minutes"),
        (86400 * SECOND, "1 day"),
        (0, "0 seconds"),
        (1_001_001, "1 second 1 millisecond 1 microsecond"),
    ],
)
def test_a_duration_is_written_in_words(microseconds: int, text: str) -> None:
    assert render_duration(microseconds) == text


@given(st.integers(-(10**17), 10**17))
def test_what_is_written_reads_back(microseconds: int) -> None:
    assert parse_duration(render_duration(microseconds), zero_allowed=True, negative_allowed=True) == microseconds
