"""What a continuous query must have said, found without the engine.

Which rows are late is decided by a plain loop, row by row and window by window, from the definition alone. The answer is
DuckDB's own to an ordinary GROUP BY over the (row, window) pairs that are left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa

from tests.engine.streams import SCHEMA, Event, Select, table_of


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of the result, in no order, and the arrival numbers of the rows that belong to the ledger."""

    rows: list[tuple[Any, ...]]
    late: list[int]


def windows_of(ts: int, size: int, slide: int) -> list[int]:
    """List the starts of the windows that hold a time, by trying each start from far below on."""
    first = (ts - size) // slide * slide - slide
    return [start for start in range(first, ts + 1, slide) if start <= ts < start + size]


def accepted(select: Select, events: list[Event]) -> tuple[list[tuple[int | None, int]], list[int], int | None]:
    """Go through the rows as they arrive.

    Gives the (window start, row number) pairs that count, the numbers of rows that count nowhere, and the last watermark.
    """
    if select.size is None or select.slide is None:
        return [(None, number) for number in range(len(events))], [], None
    pairs: list[tuple[int | None, int]] = []
    late: list[int] = []
    watermark: int | None = None
    for number, event in enumerate(events):
        if event.ts is None:
            late.append(number)
            continue
        starts = windows_of(event.ts, select.size, select.slide)
        taken = [start for start in starts if watermark is None or start + select.size > watermark]
        pairs += [(start, number) for start in taken]
        if not taken:
            late.append(number)
        if select.delay is not None and (watermark is None or event.ts - select.delay > watermark):
            watermark = event.ts - select.delay
    return pairs, late, watermark


def answer(select: Select, events: list[Event]) -> Answer:
    """Ask DuckDB."""
    pairs, late, watermark = accepted(select, events)
    with duckdb.connect() as connection:
        rows = table_of(events).append_column("seq", pa.array(range(len(events)), pa.int64()))
        connection.register("events", rows)
        starts = pa.table(
            {"w": pa.array([w for w, _ in pairs], pa.int64()), "number": pa.array([n for _, n in pairs], pa.int64())}
        )
        connection.register("pairs", starts)
        columns = ", ".join(f"events.{name}" for name in SCHEMA.names)
        connection.execute(
            f"CREATE TABLE counted AS SELECT w, seq, {columns} FROM pairs JOIN events ON number = seq ORDER BY seq"
        )
        where = select.where or "true"
        wanted = connection.execute(f"SELECT seq FROM events WHERE {where}").fetchall()
        found = connection.execute(_query(select, watermark)).fetchall()
    return Answer([tuple(row) for row in found], [n for n in late if (n,) in wanted])


def _query(select: Select, watermark: int | None) -> str:
    bounds = [f"make_timestamp(w), make_timestamp(w + {select.size})"] if select.size else []
    items = [*bounds, *select.outputs_of_keys, *(a.oracle for a in select.aggregates)]
    conditions = [select.where or "true"]
    if select.mode == "APPEND":
        conditions.append(f"w + {select.size} <= {watermark}" if watermark is not None else "false")
    groups = [*(["w"] if select.size else []), *select.grouped]
    group_by = f" GROUP BY {', '.join(groups)}" if groups else ""
    having = f" HAVING {select.having}" if select.having else ""
    return (
        f"SELECT {', '.join(items)} FROM counted WHERE {' AND '.join(f'({c})' for c in conditions)}{group_by}{having}"
    )


def sorted_rows(rows: list[tuple[Any, ...]], keys: int) -> list[tuple[Any, ...]]:
    """Order rows by their first `keys` columns, which tell the groups apart."""
    return sorted(rows, key=lambda row: [_order(value) for value in row[:keys]])


def _order(value: Any) -> tuple[int, Any]:
    if value is None:
        return (2, "")
    if isinstance(value, float) and math.isnan(value):
        return (1, "")
    return (0, value.isoformat() if isinstance(value, datetime) else value)


def alike(one: Any, other: Any, *, exact: bool) -> bool:
    """Compare two values: to the last bit but for the sign of zero, or to nine digits."""
    if isinstance(one, dict) and isinstance(other, dict):
        one, other = [list(item) for item in one.items()], [list(item) for item in other.items()]
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(alike(a, b, exact=exact) for a, b in zip(one, other, strict=True))
    if not exact and isinstance(one, Decimal) and isinstance(other, float):
        one = float(one)  # a numeric, as PostgreSQL has it, where DuckDB has a double
    if isinstance(one, float) and isinstance(other, float):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return one == other or (not exact and math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9))
    return type(one) is type(other) and bool(one == other)


def differences(
    select: Select, found: list[tuple[Any, ...]], wanted: list[tuple[Any, ...]], *, repeated: bool = False
) -> list[str]:
    """Say where a result differs from the answer, or (`repeated`) from the same query's over other epochs; in any order."""
    keys = len(select.outputs)
    if len(found) != len(wanted):
        return [f"{len(found)} rows instead of {len(wanted)}:", *map(str, found), "instead of", *map(str, wanted)]
    exact = [True] * keys + [a.repeatable if repeated else a.exact for a in select.aggregates]
    return [
        f"{one} instead of {other}"
        for one, other in zip(sorted_rows(found, keys), sorted_rows(wanted, keys), strict=True)
        if not all(alike(a, b, exact=e) for a, b, e in zip(one, other, exact, strict=True))
    ]
