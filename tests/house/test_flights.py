"""The flights of the demo: the committed file, its figures in the README, and the parts of the replay that need no server."""

from __future__ import annotations

import asyncio
import datetime
import io
import re

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from rich.console import Console

import flights_data
import replay
from tests.house.project import ROOT

README = (ROOT / "examples/flights/README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    return flights_data.read()


def shown(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(renderable)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    assert isinstance(text, str)
    return text


def test_the_file_is_in_the_order_of_departure_and_each_delay_is_the_difference(flights: pa.Table):
    departed = flights_data.seconds(flights, "departed")
    scheduled = flights_data.seconds(flights, "scheduled")
    assert (np.diff(departed) >= 0).all()
    assert (departed - scheduled == 60 * flights["dep_delay"].to_numpy()).all()
    assert set(flights["origin"].unique().to_pylist()) == {"EWR", "JFK", "LGA"}


def test_the_readme_tells_how_far_out_of_order_the_flights_are(flights: pa.Table):
    lag_min = flights_data.lag_s(flights_data.seconds(flights, "scheduled")) / 60
    assert f"{flights.num_rows:,} of them" in README
    assert f"({np.count_nonzero(lag_min):,})" in README
    quantiles = np.quantile(lag_min, [0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0])
    assert f"| minutes | {' | '.join(f'{each:,.0f}' for each in quantiles)} |" in README
    assert f"NULL for {flights['arr_delay'].null_count} flights" in README


@pytest.mark.parametrize("delay", ["0 minutes", "10 minutes", "1 hour", "3 hours"])
def test_the_readme_tells_how_many_rows_are_late_row_by_row(flights: pa.Table, delay: str):
    amount, unit = delay.split()
    delay_s = int(amount) * (60 if unit == "minutes" else 3_600)
    late, results = late_and_results_one_row_at_a_time(flights, delay_s)
    assert f"| {delay} | {late:,} | {late / flights.num_rows:.1%} | {results:,} |".replace("%", " %") in README
    assert int(flights_data.late_rows(flights_data.seconds(flights, "scheduled"), delay_s).sum()) == late
    assert flights_data.closed_groups(flights, delay_s) == results


def late_and_results_one_row_at_a_time(flights: pa.Table, delay_s: int) -> tuple[int, int]:
    """The rule as a person would write it down, to check the arrays against."""
    largest, late, groups = -(2**62), 0, set()
    rows = zip(
        flights_data.seconds(flights, "scheduled").tolist(),
        flights["carrier"].to_pylist(),
        flights["origin"].to_pylist(),
        strict=True,
    )
    for event_s, carrier, origin in rows:
        end = event_s - event_s % 3_600 + 3_600
        if end <= largest - delay_s:
            late += 1
        else:
            groups.add((end, carrier, origin))
        largest = max(largest, event_s)
    return late, sum(end <= largest - delay_s for end, _, _ in groups)


def test_the_pieces_of_a_replay_are_the_whole_file_in_order(flights: pa.Table):
    assert pa.concat_tables(flights_data.Cutter(flights).by_day()).equals(flights)

    async def paced() -> list[pa.Table]:
        return [piece async for piece in replay.pieces(flights_data.Cutter(flights), seconds=0.2)]

    pieces = asyncio.run(paced())
    assert len(pieces) > 1
    assert pa.concat_tables(pieces).equals(flights)


def test_copy_text_reads_back_to_the_same_rows(flights: pa.Table):
    rows = flights.slice(0, 5_000)
    assert rows["arr_delay"].null_count > 0
    read = pa_csv.read_csv(
        io.BytesIO(flights_data.csv_of(rows)),
        read_options=pa_csv.ReadOptions(column_names=rows.column_names),
        convert_options=pa_csv.ConvertOptions(column_types=rows.schema, strings_can_be_null=False),
    )
    assert read.equals(rows)
    assert (
        flights_data.csv_of(rows.slice(0, 1))
        == b'2013-07-01 05:00:00,2013-07-01 04:59:00,"US",1431,"EWR","CLT",-1,2,529\n'
    )


def hour(day: int, at: int, mean_delay: float, flights: int = 5) -> replay.ClosedHour:
    return replay.ClosedHour(datetime.datetime(2013, 7, day, at), "UA", "EWR", flights, mean_delay, mean_delay * 2)


def test_the_worst_hour_of_a_day_is_told_once_when_two_days_on():
    days = replay.WorstOfDay()
    assert days.add(hour(1, 9, 10.0)) == []
    assert days.add(hour(2, 7, 1.0)) == []
    assert days.add(hour(1, 8, 30.0)) == []  # of the day before, in the same epoch
    assert days.add(hour(1, 10, 99.0, flights=1)) == []  # one plane's bad luck
    assert days.add(hour(3, 6, 5.0)) == [hour(1, 8, 30.0)]
    assert days.finish() == [hour(2, 7, 1.0), hour(3, 6, 5.0)]
    assert days.finish() == []
    assert days.rows == 5


def counts_as_expected(flights: pa.Table) -> list[tuple[str, int, int, int]]:
    event_s = flights_data.seconds(flights, "scheduled")
    return [
        (
            name,
            len(event_s),
            flights_data.closed_groups(flights, delay_s),
            int(flights_data.late_rows(event_s, delay_s).sum()),
        )
        for name, _, delay_s in replay.VIEWS
    ]


def test_the_last_table_says_whether_the_server_counted_what_the_file_says(flights: pa.Table):
    counts = counts_as_expected(flights)
    costs = replay.costs(counts, flights)
    assert all(cost.agrees for cost in costs)
    text = shown(replay.costs_table(costs, flights.num_rows))
    assert re.search(r"1 hour +2,248 +7\.9% +9,361 +yes", text)

    name, rows_in, rows_out, rows_late = counts[1]
    costs = replay.costs([counts[0], (name, rows_in, rows_out, rows_late + 1), counts[2]], flights)
    assert [cost.agrees for cost in costs] == [True, False, True]
    assert "no: 2,248 late, 9,361 results" in shown(replay.costs_table(costs, flights.num_rows))


def test_a_view_that_the_server_does_not_list_ends_the_demo(flights: pa.Table):
    with pytest.raises(replay.DemoError, match="delay_1h"):
        replay.costs(counts_as_expected(flights)[:1], flights)
