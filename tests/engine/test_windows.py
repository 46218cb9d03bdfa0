"""Windows with an offset, growing windows, local days and months: as single rows would have it, however rows were cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.driver import Database
from tests.engine.copies import Copy
from tests.engine.stories import story
from tests.engine.streams import SECOND_US, Event, Select, cut_lists, event_lists, examples

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Bounds = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Kind:
    """A window as it is called, and the bounds of all windows that hold a time, by trying."""

    call: str
    holding: Callable[[int], list[Bounds]]


def hopping(size: int, slide: int, offset: int) -> Kind:
    def holding(ts: int) -> list[Bounds]:
        first = (ts - offset - size) // slide * slide + offset
        starts = range(first, ts + 1, slide)
        return [(start, start + size) for start in starts if start <= ts < start + size]

    return Kind(f"window(ts, '{size} us', '{slide} us', \"offset\" => '{offset} us')", holding)


def cumulating(step: int, steps: int, offset: int) -> Kind:
    def holding(ts: int) -> list[Bounds]:
        start = (ts - offset) // (step * steps) * step * steps + offset
        return [(start, start + n * step) for n in range(1, steps + 1) if ts < start + n * step]

    return Kind(f"cumulate_window(ts, '{step} us', '{step * steps} us', \"offset\" => '{offset} us')", holding)


# New Year 1970 lies in the middle of what is drawn, in London too, which then was an hour ahead all the year.
def local(zone: str, unit: str) -> Kind:
    def start_of(at: datetime) -> datetime:
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight if unit == "day" else midnight.replace(day=1)

    def us(at: datetime) -> int:
        return (at.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)

    def holding(ts: int) -> list[Bounds]:
        start = start_of((EPOCH + timedelta(microseconds=ts)).astimezone(ZoneInfo(zone)))
        return [(us(start), us(start_of(start + timedelta(days=1 if unit == "day" else 31))))]

    return Kind(f"window(ts, '1 {unit}', timezone => '{zone}')", holding)


@st.composite
def kinds(draw: st.DrawFn) -> Kind:
    size = draw(st.integers(1, 12))
    match draw(st.sampled_from(["hop", "hop", "fine", "fine", "cumulate", "cumulate", "local"])):
        case "hop":
            slide = draw(st.integers(1, size))
            offset = draw(st.integers(-30, 30)) * SECOND_US + draw(st.sampled_from([0, 0, 1]))
            return hopping(size * SECOND_US, slide * SECOND_US, offset)
        case "fine":  # so many panes that windows are found by frames
            slide = size * SECOND_US // 12
            return hopping(slide * draw(st.integers(32, 50)), slide, draw(st.integers(-30, 30)) * SECOND_US)
        case "cumulate":
            return cumulating(size * SECOND_US, draw(st.integers(1, 5)), draw(st.integers(-30, 30)) * SECOND_US)
    return local(draw(st.sampled_from(["UTC", "Europe/London"])), draw(st.sampled_from(["day", "month"])))


class Called(Select):
    """A query that lists the numbers of a window's rows."""

    __slots__ = ("call",)

    def sql(self, stream: str) -> str:
        watermark = f" WITH WATERMARK '{self.delay} us'" if self.delay is not None else ""
        return (
            f"SELECT window_start AS s, window_end AS e, k, list(x) AS xs FROM {stream} "
            f"GROUP BY {self.call}, k{watermark} EMIT {self.mode}"  # type: ignore[attr-defined]  # a slot
        )


def wanted_rows(kind: Kind, delay: int | None, mode: str, events: list[Event]) -> tuple[Counter[Any], int]:
    """Take the rows one by one; give the view's rows, and how many rows were late."""
    groups: dict[tuple[int, int, str | None], list[int | None]] = {}
    late, watermark = 0, None
    for event in events:
        taken = [
            w for w in (kind.holding(event.ts) if event.ts is not None else []) if watermark is None or w[1] > watermark
        ]
        late += not taken
        for start, end in taken:
            groups.setdefault((start, end, event.k), []).append(event.x)
        if event.ts is not None and delay is not None:
            watermark = max(event.ts - delay, event.ts - delay if watermark is None else watermark)
    closed = {g: xs for g, xs in groups.items() if mode != "APPEND" or (watermark is not None and g[1] <= watermark)}
    return Counter((s, e, k, tuple(xs)) for (s, e, k), xs in closed.items()), late


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Database() as made:
        yield made


@examples(10)
@given(st.data(), event_lists(), kinds(), st.sampled_from(["APPEND", "UPDATE"]))
def test_a_view_holds_what_single_rows_give(
    database: Database, data: st.DataObject, events: list[Event], kind: Kind, mode: str
):
    delays = st.sampled_from([0, 1, SECOND_US, 10 * SECOND_US])
    delay = data.draw(delays if mode == "APPEND" else st.one_of(delays, st.none()), "delay")
    select = Called(None, None, delay, (), (), None, None, mode)
    object.__setattr__(select, "call", kind.call)
    note(select.sql("s"))
    wanted, late = wanted_rows(kind, delay, mode, events)
    total = len(events)
    with ExitStack() as stack:
        cuts = data.draw(cut_lists(total), "cuts")
        note(story(events, cuts, [select]))
        for cut in ([total] if total else [], [1] * total, cuts):
            copy = stack.enter_context(Copy(database, [select]))
            copy.push(events, cut)
            told = database.values(f"SELECT epoch_us(s), epoch_us(e), k, xs FROM public.{copy.views[0]}")
            assert Counter((s, e, k, tuple(xs)) for s, e, k, xs in told) == wanted
            assert copy.late(copy.views[0]) == (late, late)


@examples(15)
@given(event_lists(), kinds())
def test_an_adhoc_query_has_the_same_windows(database: Database, events: list[Event], kind: Kind):
    select = Called(None, None, None, (), (), None, None, "UPDATE")
    object.__setattr__(select, "call", kind.call)
    with Copy(database, [select]) as copy:
        copy.push(events, [len(events)] if events else [])
        adhoc = database.query(
            f"SELECT window_start, window_end, k, list(x ORDER BY x) FROM {copy.name} WHERE ts IS NOT NULL "
            f"GROUP BY {kind.call}, k"
        )
        view = database.query(f"SELECT s, e, k, list_sort(xs) FROM {copy.views[0]}")
        assert Counter(adhoc) == Counter(view)
