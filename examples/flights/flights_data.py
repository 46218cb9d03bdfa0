"""The flights as the demo needs them: in pieces, as COPY text, and with the counts that a server must come to.

The counts (`late_rows`, `closed_groups`) are made with numpy from the file alone and share nothing with the server: they
are the oracle that the demo and its tests hold the server's numbers against.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

FILE = Path(__file__).with_name("flights.parquet")
HOUR_S = 3_600
DAY_S = 86_400

Seconds = npt.NDArray[np.int64]


def read(path: Path = FILE) -> pa.Table:
    """Read all flights, in the order in which they left; times as whole seconds."""
    table = pq.read_table(path)
    for name in ("scheduled", "departed"):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, table[name].cast(pa.timestamp("s")))
    return table


def seconds(table: pa.Table, column: str) -> Seconds:
    """Give a time column as seconds since the Unix epoch."""
    return np.asarray(table[column].cast(pa.int64()))


def csv_of(rows: pa.Table) -> bytes:
    """Write rows as the text that COPY ... WITH (FORMAT csv) reads: no header, NULL as an empty field."""
    text = io.BytesIO()
    pa_csv.write_csv(rows, text, pa_csv.WriteOptions(include_header=False, quoting_style="needed"))
    return text.getvalue()


class Cutter:
    """Cuts the table into consecutive pieces by time of departure.

    `up_to(moment_s)` gives the rows that left up to then and were not given before (perhaps none); asked for
    non-decreasing moments, it gives each row once.
    """

    def __init__(self, flights: pa.Table) -> None:
        self._flights = flights
        self._departed = seconds(flights, "departed")
        self._given = 0

    @property
    def start_s(self) -> int:
        return int(self._departed[0])

    @property
    def end_s(self) -> int:
        return int(self._departed[-1])

    def up_to(self, moment_s: float) -> pa.Table:
        end = max(self._given, int(np.searchsorted(self._departed, moment_s, side="right")))
        piece = self._flights.slice(self._given, end - self._given)
        self._given = end
        return piece

    def by_day(self) -> Iterator[pa.Table]:
        """All that is left, a piece for each day of departures."""
        for moment_s in range(self.start_s // DAY_S * DAY_S + DAY_S, self.end_s + DAY_S, DAY_S):
            yield self.up_to(moment_s - 1)


def late_rows(event_s: Seconds, delay_s: int, window_s: int = HOUR_S) -> npt.NDArray[np.bool_]:
    """Say of each row, in arrival order, whether its tumbling window was closed by the rows before it.

    A window [start, end) closes when the watermark, the largest event time so far less the delay, reaches its end.
    """
    window_end = (event_s // window_s + 1) * window_s
    return window_end <= _seen_before(event_s) - delay_s


def closed_groups(flights: pa.Table, delay_s: int, window_s: int = HOUR_S) -> int:
    """Count the (window, carrier, origin) that append mode has emitted once all rows are in."""
    event_s = seconds(flights, "scheduled")
    window = event_s // window_s
    closed = (window + 1) * window_s <= int(event_s.max()) - delay_s
    shown = flights.append_column("window", pa.array(window)).filter(closed & ~late_rows(event_s, delay_s, window_s))
    return int(shown.group_by(["window", "carrier", "origin"]).aggregate([]).num_rows)


def lag_s(event_s: Seconds) -> Seconds:
    """How far each row's event time lies behind the largest one seen so far, itself included."""
    return np.asarray(np.maximum.accumulate(event_s) - event_s)


def _seen_before(event_s: Seconds) -> Seconds:
    largest = np.maximum.accumulate(event_s)
    return np.concatenate([[np.iinfo(np.int64).min // 2], largest[:-1]])
