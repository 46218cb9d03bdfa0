"""The queries of Nexmark hold, after 100,000 events in several epochs, what DuckDB answers to them over all events."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest

from benchmarks.nexmark.oracle import answer_sql, open_oracle
from benchmarks.nexmark.queries import NAMES, STREAMS, script, streams
from tests.connectors.test_nexmark import rows
from tests.driver import Database

EVENTS = 100_000
DELAY = "2 ms"  # so that they span 200 seconds of event time
EPOCHS = 4


@pytest.fixture(scope="module")
def events() -> dict[str, pa.Table]:
    return {table: rows(table, EVENTS, inter_event_delay=DELAY) for table in STREAMS}


@pytest.fixture(scope="module")
def oracle(events: dict[str, pa.Table]) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_oracle(events) as connection:
        yield connection


@pytest.mark.parametrize("name", [name for name in NAMES if name != "q12"])
def test_a_query_holds_the_answer_over_all_events(
    name: str, events: dict[str, pa.Table], oracle: duckdb.DuckDBPyConnection
):
    with Database() as database:
        for statement in (*streams(EVENTS, delay=DELAY), *script(name).statements):
            database.execute(statement)
        for epoch in range(EPOCHS):
            for table in STREAMS:
                size = events[table].num_rows // EPOCHS
                database.push_arrow(table, _arranged(database, table, events[table].slice(epoch * size, size)))
        found = database.arrow(f"SELECT * FROM public.{name}")
        late = database.values("SELECT count(*) FROM _engine.late_rows")
    assert late == [(0,)]
    assert found.num_rows
    oracle.register("found", found)
    columns = ", ".join(f"c{i}" for i in range(found.num_columns))
    rounded = ", ".join(
        f"round(c{i}::DOUBLE, 4)" if pa.types.is_floating(t) or pa.types.is_decimal(t) else f"c{i}"
        for i, t in enumerate(found.schema.types)
    )
    view = f"SELECT {rounded} FROM (SELECT * FROM found) AS q({columns})"
    answer = f"SELECT {rounded} FROM ({answer_sql(name)}) AS q({columns})"
    for one, other in ((view, answer), (answer, view)):
        assert oracle.execute(f"SELECT * FROM ({one} EXCEPT ALL {other}) LIMIT 5").fetchall() == []


def _arranged(database: Database, table: str, batch: pa.Table) -> pa.Table:
    return batch.select([c.name for c in database.engine.catalog.relation(table).columns])


def test_windows_of_processing_time_hold_what_arrived_in_them(
    events: dict[str, pa.Table], oracle: duckdb.DuckDBPyConnection
):
    bids, arrived = events["bid"], []
    size = bids.num_rows // EPOCHS
    with Database() as database:
        for statement in (*streams(EVENTS, delay=DELAY), *script("q12").statements):
            database.execute(statement)
        for epoch in range(EPOCHS):
            batch = bids.slice(epoch * size, size)
            database.push_arrow("bid", _arranged(database, "bid", batch))
            arrived.append(batch.select(["bidder"]).append_column("second", pa.repeat(7 * epoch, size)))
            database.advance(7_000_000)
        database.advance(10_000_000)
        database.push_arrow("bid", _arranged(database, "bid", bids.slice(0, 1)))  # closes the windows before it
        found = database.arrow("SELECT * FROM public.q12")
        start = database.values("SELECT min(epoch_us(__arrived_at)) FROM _rows.bid")[0][0]
    oracle.register("found", found)
    oracle.register("arrived", pa.concat_tables(arrived))
    bucket = f"time_bucket(INTERVAL '10 seconds', make_timestamp({start} + second * 1000000))"
    answer = (
        f"SELECT bidder, count(*), {bucket} AS start, start + INTERVAL '10 seconds' FROM arrived GROUP BY bidder, start"
    )
    assert found.num_rows
    for one, other in (("SELECT * FROM found", answer), (answer, "SELECT * FROM found")):
        assert oracle.execute(f"SELECT * FROM ({one} EXCEPT ALL {other}) LIMIT 5").fetchall() == []
