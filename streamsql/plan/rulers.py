"""Rulers: event time laid out so that all windows of a query have one length on it.

Operators do their arithmetic (panes, starts, ends, lateness) in *places* on a query's ruler. An instant's place never goes
back as time goes on, so a window is closed at an instant just when its end's place is at or before the instant's.

    plain       microseconds since the Unix epoch
    offset      the same, less the offset
    time zone   the local clock, in microseconds since 1970-01-01 00:00 on it. Where the clock is put back, places stand
                still until it has caught up; what it skips has no rows. So a window of a day is a local day of 23, 24
                or 25 hours. A change of the clock by a multiple of the window's size (but not by whole days) is not
                followed: windows of an hour stay hours, and still start where the local clock shows full hours
    months      each month is given `MONTH_LENGTH_US`, of which its own length is used

All times and places are int64 microseconds.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from streamsql.sql.durations import DAY_US, render_duration

PLACES = npt.NDArray[np.int64]

MONTH_LENGTH_US = 32 * DAY_US
# A zone's rules are looked up for these years; before and after, its first and last offset hold. SQL grows with them.
_FIRST_YEAR, _LAST_YEAR = 1970, 2070
_PROBE = timedelta(days=2)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Ruler:
    """A ruler: the zone's offset, then months, then the offset taken away, each where there is one.

    `changes` are the instants at which the shift from UTC becomes the one in `shifts` at the same index; the first is far
    in the past. Empty without a zone.
    """

    offset_us: int = 0
    months: bool = False
    zone: str | None = None
    changes: tuple[int, ...] = ()
    shifts: tuple[int, ...] = ()

    @property
    def plain(self) -> bool:
        return not (self.offset_us or self.months or self.changes)

    def place(self, instant: int) -> int:
        return instant if self.plain else int(self.places(np.array([instant], dtype=np.int64))[0])

    def places(self, instants: PLACES) -> PLACES:
        """Give the places of instants."""
        if self.plain:
            return instants
        places = instants
        if self.changes:
            index = np.maximum(np.searchsorted(np.array(self.changes), instants, side="right") - 1, 0)
            places = np.maximum(instants + np.array(self.shifts)[index], np.array(self._entries)[index] - 1)
        if self.months:
            month = places.astype("datetime64[us]").astype("datetime64[M]")
            within = places - month.astype("datetime64[us]").astype(np.int64)
            places = month.astype(np.int64) * MONTH_LENGTH_US + within
        return places - self.offset_us

    def instants(self, places: PLACES) -> PLACES:
        """Give the first instant whose place is this one or after it."""
        if self.plain:
            return places
        places = places + self.offset_us
        if self.months:
            month, within = np.divmod(places, MONTH_LENGTH_US)
            first, following = (m.astype("datetime64[M]").astype("datetime64[us]") for m in (month, month + 1))
            places = np.minimum(first.astype(np.int64) + within, following.astype(np.int64))
        if self.changes:
            index = np.maximum(np.searchsorted(np.array(self._entries), places, side="right") - 1, 0)
            places = np.maximum(places - np.array(self.shifts)[index], np.array(self.changes)[index])
        return places

    def render(self, length: int) -> str:
        """Write a length on the ruler in words."""
        if not self.months:
            return render_duration(length)
        months = length // MONTH_LENGTH_US
        return f"{months} month{'' if months == 1 else 's'}"

    @property
    def _entries(self) -> tuple[int, ...]:
        """The place that each change comes at, by the clock before it."""
        before = (self.shifts[0], *self.shifts[:-1])
        return tuple(change + shift for change, shift in zip(self.changes, before, strict=True))

    def place_sql(self, instant: str) -> str:
        """Say `place` in SQL."""
        place = instant
        if self.changes:
            pieces = [f"greatest({instant} + {s}, {e - 1})" for s, e in zip(self.shifts, self._entries, strict=True)]
            chosen = _choice(instant, list(self.changes), [f"{instant} + {self.shifts[0]}", *pieces[1:]])
            place = f"(CASE WHEN {instant} IS NOT NULL THEN {chosen} END)"  # greatest() passes over NULL
        if self.months:
            place = _named(place, _place_of_months("u")) if self.changes else _place_of_months(place)
        return f"({place} - {self.offset_us})" if self.offset_us else place

    def instant_sql(self, place: str) -> str:
        """Say `instants` in SQL."""
        instant = f"({place} + {self.offset_us})" if self.offset_us else place
        if self.months:
            instant = _instant_of_months(instant)
        if not self.changes:
            return instant
        value = "u" if self.months else instant
        pieces = [f"greatest({value} - {s}, {c})" for s, c in zip(self.shifts, self.changes, strict=True)]
        chosen = _choice(value, list(self._entries), [f"{value} - {self.shifts[0]}", *pieces[1:]])
        return _named(instant, chosen) if self.months else chosen


PLAIN = Ruler()


def _place_of_months(instant: str) -> str:
    time = f"make_timestamp({instant})"
    number = f"datediff('month', TIMESTAMP '1970-01-01', {time})"
    return f"({number} * {MONTH_LENGTH_US} + epoch_us({time}) - epoch_us(date_trunc('month', {time})))"


def _instant_of_months(place: str) -> str:
    within = f"((({place}) % {MONTH_LENGTH_US} + {MONTH_LENGTH_US}) % {MONTH_LENGTH_US})"  # also below zero
    month = f"CAST(({place} - {within}) // {MONTH_LENGTH_US} AS INTEGER)"
    first, following = (f"TIMESTAMP '1970-01-01' + to_months({m})" for m in (month, f"{month} + 1"))
    return f"least(epoch_us({first}) + {within}, epoch_us({following}))"


def _named(value: str, over_u: str) -> str:
    """SQL of an expression over a value that it calls ``u``: a text that says a long value often would be huge."""
    return f"list_transform([{value}], lambda u: {over_u})[1]"


def _choice(value: str, bounds: list[int], pieces: list[str]) -> str:
    """SQL of the piece whose bound is the last at or before `value`, found by halving."""
    if len(pieces) == 1:
        return f"({pieces[0]})"
    middle = len(pieces) // 2
    low, high = _choice(value, bounds[:middle], pieces[:middle]), _choice(value, bounds[middle:], pieces[middle:])
    return f"CASE WHEN {value} < {bounds[middle]} THEN {low} ELSE {high} END"


def zoned(zone: str, step_us: int, offset_us: int = 0, *, months: bool = False) -> Ruler:
    """Make the ruler of a time zone for windows whose sizes are multiples of `step_us`.

    Raises KeyError where there is no such zone.
    """
    changes, offsets = _offsets(zone)
    kept, shifts = [changes[0]], [offsets[0]]
    for change, before, after in zip(changes[1:], offsets[:-1], offsets[1:], strict=True):
        if (after - before) % step_us or abs(after - before) >= DAY_US:
            kept.append(change)
            shifts.append(shifts[-1] + after - before)
    return Ruler(offset_us, months, zone, tuple(kept), tuple(shifts))


@functools.lru_cache(maxsize=64)
def _offsets(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Find when a zone's offset changes, and what it becomes, by asking every two days and halving in between."""
    try:
        zone = ZoneInfo(name)
    except (ValueError, OSError) as error:
        raise KeyError(name) from error

    def offset(at: datetime, seconds: int = 0) -> timedelta:
        return (at + timedelta(seconds=seconds)).astimezone(zone).utcoffset() or timedelta(0)

    at, last = datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC), datetime(_LAST_YEAR, 1, 1, tzinfo=UTC)
    now = offset(at)
    changes, offsets = [-(1 << 62)], [now]
    while at < last:
        then, after = at + _PROBE, offset(at + _PROBE)
        if after != now:
            seconds, high = 0, int(_PROBE.total_seconds())
            while high - seconds > 1:  # the old offset holds at the one, no more at the other
                middle = (seconds + high) // 2
                seconds, high = (middle, high) if offset(at, middle) == now else (seconds, middle)
            changes.append((at + timedelta(seconds=high) - _EPOCH) // timedelta(microseconds=1))
            offsets.append(after)
        at, now = then, after
    return tuple(changes), tuple(o // timedelta(microseconds=1) for o in offsets)
