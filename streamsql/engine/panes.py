"""Where the rows of an epoch belong: their panes, and the windows that they count for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.engine.watermark import MICROSECONDS
from streamsql.plan import stages
from streamsql.plan.nodes import Window


def with_window_columns(
    window: Window | None, rows: pa.Table, times: MICROSECONDS, first_ends: npt.NDArray[np.int64] | None
) -> pa.Table:
    """Add ``__pane`` (a session's row keeps its own place), and ``__from`` unless windows tumble."""
    if window is None:
        return rows
    panes = times if window.session else times // window.pane_us * window.pane_us
    rows = rows.append_column(stages.PANE_COLUMN, pa.array(panes))
    if window.tumbling:
        return rows
    if first_ends is None:
        first_ends = np.full(rows.num_rows, stages.EVERY_WINDOW, dtype=np.int64)
    return rows.append_column(stages.FROM_COLUMN, pa.array(first_ends))


def counts_from(window: Window, places: MICROSECONDS, watermarks: MICROSECONDS) -> npt.NDArray[np.int64] | None:
    """For windows of several panes: the end of the first window that each row counts for; for sessions the watermark."""
    if window.tumbling or not places.size:
        return None
    if window.session:
        return watermarks
    size, slide = window.size_us, window.slide_us
    first = (places - size) // slide * slide + slide + size
    if int(first.min()) > int(watermarks.max()):
        return None
    opened = (watermarks - size) // slide * slide + slide + size
    return np.where(first > watermarks, stages.EVERY_WINDOW, opened)
