"""``cumulate_window(time, step, size [, "offset" => ..] [, timezone => ..])``: windows that share a start and grow.

::

    cumulate_window(ts, '20 min', '1h')    row at 00:25  ->  [00:00, 00:40) and [00:00, 01:00)
"""

from __future__ import annotations

from streamsql.base.errors import InvalidParameterValue
from streamsql.base.limits import exceeded
from streamsql.plan.nodes import Window, WindowKind
from streamsql.plan.windows.call import Call

SIGNATURE = "cumulate_window(time, step, size)"
_USAGE = f"write {SIGNATURE}, as in cumulate_window(ts, '10 minutes', '1 day')"


def bind_cumulate_window(call: Call) -> Window:
    call.check(("time", "step", "size"), 3, _USAGE, ("offset", "timezone"))
    size, step = call.lengths("size", "step")
    if size % step:
        raise InvalidParameterValue(
            "the size of a cumulating window is not a multiple of its step",
            hint="make the size a multiple of the step, as in cumulate_window(ts, '10 minutes', '1 day')",
            position=call.position,
        )
    if size // step > call.limits.window_panes_max:
        raise exceeded(call.limits, "window_panes_max", "the number of panes of a window")
    return call.window(size, step, step, WindowKind.CUMULATE, call.ruler(size, step))
