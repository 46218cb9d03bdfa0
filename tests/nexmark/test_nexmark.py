"""The queries of Nexmark hold, after 100,000 events in several epochs, what DuckDB answers to them over all events."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest

from benchmarks.nexmark.oracle import answer_sql, open_oracle
from benchmarks.nexmark.queries import NAMES, NOT_POSSIBLE, STREAMS, script, streams
from streamsql.base.errors import FeatureNotSupported
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


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_POSSIBLE])
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


@pytest.mark.parametrize("name", NOT_POSSIBLE)
def test_what_is_not_possible_is_refused_with_its_reason(name: str):
    with Database() as database:
        for statement in streams(10):
            database.execute(statement)
        with pytest.raises(FeatureNotSupported) as raised:
            database.execute(script(name).statements[-1])
    assert raised.value.message == "proctime() cannot be used in a continuous query"
    assert raised.value.detail == "its value would depend on when a row was processed, and the result with it"
    assert raised.value.position is not None
