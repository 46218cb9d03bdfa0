"""``window(time, size [, slide])``: tumbling and hopping windows.

Bounds are half-open, ``[start, end)``, and starts are multiples of the slide counted from the Unix epoch::

    window(ts, '10 min', '5 min')    row at 00:07  ->  [00:00, 00:10) and [00:05, 00:15)
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue, UndefinedFunction
from streamsql.base.limits import Limits, exceeded
from streamsql.plan.nodes import Window
from streamsql.sql.durations import duration_of

_USAGE = "write window(time, size [, slide]), as in window(ts, '1h') or window(ts, '1h', '5 minutes')"


def bind_window(
    call: exp.Anonymous, time_type: Callable[[exp.Expr], str], limits: Limits, position: int | None
) -> Window:
    """Make the window of a call; `time_type` gives the DuckDB type of its first argument."""
    arguments = list(call.expressions)
    for argument in arguments:
        name = _argument_name(argument)
        if name is not None:
            raise FeatureNotSupported(
                f'the option "{name}" of window() is not supported yet', hint=_USAGE, position=position
            )
    if not 2 <= len(arguments) <= 3:
        raise UndefinedFunction(
            f"window() takes 2 or 3 arguments, not {len(arguments)}", hint=_USAGE, position=position
        )
    size = duration_of(arguments[1])
    slide = duration_of(arguments[2]) if len(arguments) == 3 else size
    if size <= 0 or slide <= 0:
        raise InvalidParameterValue("a window's size and slide must be positive", hint=_USAGE, position=position)
    if slide > size:
        raise InvalidParameterValue(
            "a window's slide is larger than its size",
            detail="rows between two windows would belong to none",
            hint="filter such rows with WHERE, or make the slide at most the size",
            position=position,
        )
    pane = math.gcd(size, slide)
    if size // pane > limits.window_panes_max:
        raise exceeded(limits, "window_panes_max", "the number of panes of a window")
    time = arguments[0]
    type_name = time_type(time)
    column = time.name if isinstance(time, exp.Column) else None
    return Window(time.sql("duckdb"), column, type_name, size, slide, pane)


def _argument_name(argument: exp.Expr) -> str | None:
    if isinstance(argument, (exp.Kwarg, exp.PropertyEQ, exp.EQ)) and isinstance(
        argument.this, (exp.Column, exp.Identifier, exp.Var)
    ):
        return argument.this.name
    return None


def windows_of_time(window: Window, time_us_sql: str) -> tuple[str, str]:
    """Give the SQL of the first and the last window start, in microseconds, that hold the time of `time_us_sql`."""
    last = floor_to(time_us_sql, window.slide_us)
    if window.tumbling:
        return last, last
    return f"({floor_to(f'({time_us_sql} - {window.size_us})', window.slide_us)} + {window.slide_us})", last


def floor_to(microseconds_sql: str, step_us: int) -> str:
    """Round int64 microseconds down to a multiple of `step_us`, also below zero (SQL's % rounds toward zero)."""
    return f"({microseconds_sql} - (({microseconds_sql} % {step_us}) + {step_us}) % {step_us})"
