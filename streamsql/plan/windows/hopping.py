"""``window(time, size [, slide] [, "offset" => ..] [, timezone => ..])``: tumbling and hopping windows.

Bounds are half-open, ``[start, end)``, and starts are multiples of the slide counted from the Unix epoch, or from local
midnight of that day, plus the offset::

    window(ts, '10 min', '5 min')    row at 00:07  ->  [00:00, 00:10) and [00:05, 00:15)
"""

from __future__ import annotations

import math

from streamsql.base.errors import InvalidParameterValue
from streamsql.base.limits import exceeded
from streamsql.plan.nodes import Window, WindowKind
from streamsql.plan.windows.call import Call

SIGNATURE = "window(time, size [, slide])"
_USAGE = f"write {SIGNATURE}, as in window(ts, '1h') or window(ts, '1h', '5 minutes')"


def bind_window(call: Call) -> Window:
    call.check(("time", "size", "slide"), 2, _USAGE, ("offset", "timezone"))
    size, slide = call.lengths("size", "slide" if call.has("slide") else "size")
    if slide > size:
        raise InvalidParameterValue(
            "a window's slide is larger than its size",
            detail="rows between two windows would belong to none",
            hint="filter such rows with WHERE, or make the slide at most the size",
            position=call.position,
        )
    pane = math.gcd(size, slide)
    if size // pane > call.limits.window_panes_max:
        raise exceeded(call.limits, "window_panes_max", "the number of panes of a window")
    return call.window(size, slide, pane, WindowKind.HOP, call.ruler(size, slide))


def windows_of_place(window: Window, place_sql: str) -> tuple[str, str]:
    """Give the SQL of the first and the last window that hold a place, as window starts (see `Window` for cumulate's)."""
    last = floor_to(place_sql, window.size_us if window.kind is WindowKind.CUMULATE else window.slide_us)
    if window.tumbling:
        return last, last
    return f"({floor_to(f'({place_sql} - {window.size_us})', window.slide_us)} + {window.slide_us})", last


def bounds_of_window(window: Window, start_sql: str) -> tuple[str, str]:
    """Give the SQL of a window's two bounds, as places, from the start by which it is known."""
    end = f"({start_sql} + {window.size_us})"
    if window.kind is WindowKind.CUMULATE:
        return floor_to(f"({end} - 1)", window.size_us), end
    return start_sql, end


def floor_to(microseconds_sql: str, step_us: int) -> str:
    """Round int64 microseconds down to a multiple of `step_us`, also below zero (SQL's % rounds toward zero)."""
    return f"({microseconds_sql} - (({microseconds_sql} % {step_us}) + {step_us}) % {step_us})"
