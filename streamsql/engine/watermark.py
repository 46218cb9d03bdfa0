"""Watermarks, row by row.

The watermark before a row is the largest event time of all rows that arrived before it, less the delay; it never moves
back (The Dataflow Model, Akidau et al., VLDB 2015, section 2.3). Times are int64 microseconds since the Unix epoch.

    arrival   event time   largest before   watermark before (delay 10)
    1         100          -                -
    2         130          100              90
    3          95          130              120
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MICROSECONDS = npt.NDArray[np.int64]

# Below every finite timestamp of DuckDB; small enough that subtracting any delay does not wrap around.
NEVER = -(1 << 62)
_FINITE_MAX = (1 << 62) - 1
_DAY_US = 86_400_000_000


def event_times(column: pa.ChunkedArray | pa.Array) -> tuple[MICROSECONDS, npt.NDArray[np.bool_] | None]:
    """Take event times as int64 microseconds, and a mask of the rows that have one (None: all of them).

    Takes a column of timestamps, dates or int64 microseconds, of any length. NULL and the infinities are no event times:
    an infinite one would close every window for ever.
    """
    if pa.types.is_date(column.type):
        days = pc.cast(pc.cast(column, pa.int32()), pa.int64())
        finite = pc.less_equal(pc.abs(days), _FINITE_MAX // _DAY_US)
        column = pc.if_else(finite, pc.multiply(days, _DAY_US), pa.scalar(_FINITE_MAX + 1))
    if pa.types.is_timestamp(column.type):
        if column.type.unit != "us":
            column = pc.cast(column, pa.timestamp("us", tz=column.type.tz), safe=False)
        column = pc.cast(column, pa.int64())
    missing = column.null_count > 0
    if missing:
        valid = np.asarray(pc.is_valid(column))
        column = pc.fill_null(column, NEVER)
    times = np.asarray(column)
    if times.size and (times.max() > _FINITE_MAX or times.min() < NEVER):
        finite = (times <= _FINITE_MAX) & (times >= NEVER)
        valid = (valid & finite) if missing else finite
        return np.where(valid, times, NEVER), valid
    return times, (valid if missing else None)


def largest_before(times: MICROSECONDS, largest: int) -> tuple[MICROSECONDS, int]:
    """Give for each row the largest event time before it, and the largest after the last row.

    `largest` is the largest event time before the first row (`NEVER`: no row yet). Rows without an event time hold
    `NEVER` and so move nothing.
    """
    if not times.size:
        return times, largest
    running = np.empty(times.size + 1, dtype=np.int64)
    running[0] = largest
    running[1:] = times
    np.maximum.accumulate(running, out=running)
    return running[:-1], int(running[-1])
