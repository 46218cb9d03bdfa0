"""Lower bounds of a column: no row that is still to come has less, once the watermark stands somewhere.

A stream's watermark W says so of its event time itself. From it follows what is known of a column that is computed::

    ts - INTERVAL '1 minute'            W - 1 minute
    window_start of window(ts, '1m')    the start of the first window that ends after W
    window_end                          its end

So a window over such a column closes without waiting for rows, and no row of a view is ever late for a view above it.
Bounds are not decreasing; times are int64 microseconds since the Unix epoch, and NEVER where nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sqlglot import exp

from streamsql.base.errors import StreamSQLError
from streamsql.catalog.objects import TimeBound
from streamsql.plan.nodes import Window, WindowKind
from streamsql.plan.rulers import PLACES
from streamsql.sql.durations import duration_of

NEVER = -(1 << 62)
_UNITS = {"second": 1_000_000, "minute": 60_000_000, "hour": 3_600_000_000, "day": 86_400_000_000}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Steps from a watermark to a column's bound, one after the other; none: they are the same."""

    steps: tuple[TimeBound, ...] = ()

    def __call__(self, marks: PLACES) -> PLACES:
        """Give the bounds at these watermarks."""
        known = marks > NEVER
        bounds = np.where(known, marks, 0)
        for step in self.steps:
            bounds = step(bounds)
        return np.where(known, bounds, NEVER)


@dataclass(frozen=True, slots=True)
class Shifted:
    """A time plus a constant number of microseconds."""

    by_us: int

    def __call__(self, marks: PLACES) -> PLACES:
        return marks + self.by_us


@dataclass(frozen=True, slots=True)
class Truncated:
    """A time cut off to whole units of so many microseconds."""

    unit_us: int

    def __call__(self, marks: PLACES) -> PLACES:
        return marks // self.unit_us * self.unit_us


@dataclass(frozen=True, slots=True)
class WindowBound:
    """The start, or the end, of the first window that is still open."""

    window: Window
    end: bool

    def __call__(self, marks: PLACES) -> PLACES:
        window, places = self.window, self.window.ruler.places(marks)
        if window.session:
            return places + 1  # ends after the watermark, and nobody knows where
        # a window is known by its end less its size, also a growing one
        first = (places - window.size_us) // window.slide_us * window.slide_us + window.slide_us
        ends = first + window.size_us
        if self.end:
            return window.ruler.instants(ends)
        if window.kind is WindowKind.CUMULATE:
            first = (ends - 1) // window.size_us * window.size_us
        return window.ruler.instants(first)


def bounds_of(expression: exp.Expr, times: Mapping[str, TimeBound]) -> TimeBound | None:
    """Find the bounds of an expression over columns whose bounds are known; None where nothing follows."""
    if isinstance(expression, exp.Paren):
        return bounds_of(expression.this, times)
    if isinstance(expression, exp.Column):
        return times.get(expression.name)
    if isinstance(expression, (exp.Add, exp.Sub)):
        below, length = bounds_of(expression.this, times), _length(expression.expression)
        if below is None or length is None:
            return None
        return Bounds((below, Shifted(length if isinstance(expression, exp.Add) else -length)))
    unit = _unit(expression)
    if unit is not None:
        below = bounds_of(expression.this, times)
        return None if below is None else Bounds((below, Truncated(unit)))
    return None


def _unit(expression: exp.Expr) -> int | None:
    """Tell to what units of time an expression cuts its argument off: date_trunc('hour', ts), ts::date."""
    if isinstance(expression, (exp.DateTrunc, exp.TimestampTrunc)):
        return _UNITS.get(str(expression.args["unit"].name).lower())
    if isinstance(expression, exp.Cast) and expression.to.is_type(exp.DType.DATE):
        return _UNITS["day"]
    return None


def _length(expression: exp.Expr) -> int | None:
    if not isinstance(expression, exp.Interval):
        return None
    try:
        return duration_of(expression, zero_allowed=True, negative_allowed=True)
    except StreamSQLError:  # months have no fixed length
        return None


def bounds_of_window(window: Window) -> dict[str, TimeBound]:
    """Give the bounds of the window columns that a query in append mode shows, by its own watermark."""
    found: dict[str, TimeBound] = {"window_end": Bounds((WindowBound(window, end=True),))}
    if not window.session:  # a session that is open may have begun long ago
        found["window_start"] = Bounds((WindowBound(window, end=False),))
    return found
