"""``session_window(time, gap)``: a key's rows, as long as each comes less than the gap after the one before.

::

    session_window(ts, '10 min')    rows at 00:00, 00:07, 00:17  ->  [00:00, 00:17) and [00:17, 00:27)
"""

from __future__ import annotations

from streamsql.plan.nodes import Window, WindowKind
from streamsql.plan.rulers import PLAIN
from streamsql.plan.windows.call import Call

SIGNATURE = "session_window(time, gap)"
_USAGE = f"write {SIGNATURE}, as in session_window(ts, '30 minutes')"


def bind_session_window(call: Call) -> Window:
    call.check(("time", "gap"), 2, _USAGE)
    gap = call.fixed_length("gap")
    return call.window(gap, gap, gap, WindowKind.SESSION, PLAIN)
