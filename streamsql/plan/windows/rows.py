"""The windows that a row is in, as rows: ``FROM s, window(s.ts, '1 minute') AS w``, as TUMBLE(s, ts, size) is.

::

    ts 00:07, window(ts, '10 min', '5 min')     ->  (00:00, 00:10), (00:05, 00:15)

A row without an event time is in none.
"""

from __future__ import annotations

import sqlglot
from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported
from streamsql.catalog.objects import quoted
from streamsql.plan import stages
from streamsql.plan.nodes import Window
from streamsql.plan.windows import windows_of_place
from streamsql.plan.windows.tables import WINDOW_COLUMNS


def rows_of_windows(window: Window, position: int | None) -> tuple[str, list[tuple[str, str]]]:
    """Give the SELECT of a row's windows, over its columns, with its columns and their types. Raises FeatureNotSupported."""
    if window.session:
        raise FeatureNotSupported(
            "a row alone does not tell its session",
            detail="which rows are in one session is known by the rows of its key",
            hint="GROUP BY session_window(time, gap) and your keys",
            position=position,
        )
    # DuckDB writes what a subquery computes into all that reads it, which makes zones' expressions huge: unnest stands between
    instant = f"(SELECT {stages.time_us(window)} AS u) AS instant WHERE u IS NOT NULL"
    places = f"(SELECT unnest([{window.ruler.place_sql('u')}]) AS p FROM {instant}) AS place"
    first, last = windows_of_place(window, "p")
    windows = f"[{last}]" if window.tumbling else f"generate_series({first}, {last}, {window.slide_us})"
    starts = f"SELECT unnest({windows}) AS w FROM {places}"
    bounds = zip(stages.window_bounds(window, "w"), WINDOW_COLUMNS, strict=True)
    items = ", ".join(f"{sql} AS {name}" for sql, name in bounds)
    kind = "TIMESTAMP WITH TIME ZONE" if window.time_type == "TIMESTAMP WITH TIME ZONE" else "TIMESTAMP"
    return f"SELECT {items} FROM ({starts}) AS starts", [(name, kind) for name in WINDOW_COLUMNS]


def window_start(select: exp.Select, window: Window) -> str:
    """Give the SQL of the start of a row's window, on its ruler; what is long or gives several rows is joined."""
    place = window.ruler.place_sql(stages.time_us(window))
    if not window.ruler.plain:
        place = _joined(select, place, "__place")
    first, last = windows_of_place(window, place)
    if not window.tumbling:
        return _joined(select, f"unnest(generate_series({first}, {last}, {window.slide_us}))", "__window")
    return last if window.ruler.plain else _joined(select, last, "__window")


def _joined(select: exp.Select, value: str, name: str) -> str:
    """Join a value, or several, to each row."""
    lateral = sqlglot.parse_one(
        f"SELECT 1 FROM x CROSS JOIN LATERAL (SELECT {value} AS w) AS {quoted(name)}", read="duckdb"
    )
    for join in lateral.args["joins"]:
        select.append("joins", join)
    return f"{quoted(name)}.w"
