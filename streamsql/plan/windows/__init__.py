"""The window functions of GROUP BY: one file a kind, one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

from sqlglot import exp

from streamsql.base.errors import DatatypeMismatch
from streamsql.base.limits import Limits
from streamsql.plan.nodes import Window
from streamsql.plan.windows.call import Call
from streamsql.plan.windows.cumulating import bind_cumulate_window
from streamsql.plan.windows.hopping import bind_window as bind_hop_window
from streamsql.plan.windows.hopping import bounds_of_window, windows_of_place
from streamsql.plan.windows.session import bind_session_window

__all__ = ["bind_window", "bounds_of_window", "check_time_type", "is_window", "times_wanted", "windows_of_place"]

EVENT_TIME_TYPES = {"TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "DATE", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"}

# function -> what makes its window
KINDS: dict[str, Callable[[Call], Window]] = {
    "cumulate_window": bind_cumulate_window,
    "session_window": bind_session_window,
    "window": bind_hop_window,
}


def is_window(node: exp.Expr) -> TypeGuard[exp.Anonymous]:
    """Tell whether this is a call of a window function."""
    return isinstance(node, exp.Anonymous) and str(node.this).lower() in KINDS


def bind_window(
    call: exp.Anonymous, time_type: Callable[[exp.Expr], str], limits: Limits, position: int | None
) -> Window:
    """Make the window of a call; `time_type` gives the DuckDB type of its first argument. Raises StreamSQLError."""
    return KINDS[str(call.this).lower()](Call(call, time_type, limits, position))


def times_wanted(tree: exp.Select) -> set[str]:
    """Give the columns that a query's window is over."""
    group = tree.args.get("group")
    calls = [n for n in group.walk() if is_window(n)] if group is not None else []
    return {c.name for call in calls for c in call.find_all(exp.Column)}


def check_time_type(window: Window, position: int | None) -> None:
    """Raise DatatypeMismatch where a window is not over time."""
    if window.time_type not in EVENT_TIME_TYPES:
        raise DatatypeMismatch(
            f"window() takes a timestamp, not {window.time_type.lower()}",
            hint="cast the first argument, as in window(to_timestamp(seconds), '1h')",
            position=position,
        )
