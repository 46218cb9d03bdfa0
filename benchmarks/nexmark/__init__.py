"""The queries of Nexmark, each over events that the connector makes: events a second of CPU time, and rows of state.

A query is a view in a data directory on disk, with DuckDB at one thread; 5 M events (4.6 M bids) are taken in as they are made,
500,000 where the query is run again whole, whose cost grows with the square. What is divided by is the process's
CPU time, so the figures are for one core, and the making of the events (0.25 us each) is part of them. Streams that only
operators read keep no rows, as a server would be set up for them; recomputed queries read theirs again, so those do.

Estimate. The bound is DuckDB's own time, at one thread, for the same SELECT over all events at once, into a table on disk.
Against that an epoch of 65,536 rows pays for its commit, and for each row that is shown 60 bytes or more in the write-ahead
log, before it goes into the table: half to a quarter of the bound for what shows every row (q0, q1, q10, q22). Aggregates that
show little come near it; recomputing eight epochs costs four to five times the whole.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from benchmarks.events import scaled
from benchmarks.figures import Figure, say
from benchmarks.nexmark.oracle import answer_sql, open_oracle
from benchmarks.nexmark.queries import NAMES, STREAMS, script, streams
from benchmarks.servers import folder
from streamsql.base.clock import SystemClock
from streamsql.base.limits import Limits
from streamsql.catalog.objects import Stream
from streamsql.connectors import CONNECTORS, resolved
from streamsql.connectors.readers import SourceReaders
from streamsql.connectors.source import Given, Surroundings
from streamsql.engine import definitions, view_definitions
from streamsql.engine.epoch import Engine
from streamsql.engine.store import Store
from streamsql.engine.writes import Write
from streamsql.sql.parse import parse
from streamsql.sql.statements import CreateMaterializedView, CreateStream, CreateTable, Drop

EVENTS = 5_000_000
EVENTS_RUN_WHOLE = 500_000
OPERATORS, TOUCHED_KEYS, RUN_WHOLE = "by operators", "by touched keys", "run again whole"


def run(scale: float) -> list[Figure]:
    """Measure every query."""
    figures = []
    bounds: dict[int, dict[str, float]] = {}
    for name in NAMES:
        kept = _kept(name)
        events = scaled(EVENTS_RUN_WHOLE if kept == RUN_WHOLE else EVENTS, scale)
        if events not in bounds:
            bounds[events] = _bounds(events)
        seconds, cpu, note = _measured(name, events, "0" if kept == OPERATORS else "forever")
        note = f"{kept}, {events:,} events in {seconds:.1f} s; {note}"
        figures.append(
            say(Figure("nexmark", name, events / cpu, "events/s", bounds[events][name], "one SELECT", note=note))
        )
    return figures


def _kept(name: str) -> str:
    """Tell how a query's views are kept: by the one of them that costs most."""
    with folder("streamsql-bench") as base:
        engine = _open(base, name, 10)
        found = [q.plan.recomputed for q in engine.queries.values() if q.plan.recomputed is not None]
        engine.stop()
    if any(made.part is None and made.inner is None for made in found):
        return RUN_WHOLE
    return TOUCHED_KEYS if found else OPERATORS


def _open(base: Path, name: str, events: int, retention: str = "forever") -> Engine:
    """Start an engine with a query's views and the streams that they read."""
    engine = Engine(Store(base / "data", threads=1), Limits(), SystemClock())
    engine.start()
    for text in (*streams(events, retention=retention), *script(name).statements):
        _execute(engine, text)
    read = {source for query in engine.queries.values() for source in query.plan.sources}
    for stream in set(STREAMS) - read:
        _execute(engine, f"DROP STREAM {stream}")
    return engine


def _execute(engine: Engine, text: str) -> None:
    """Run CREATE and DROP, and the INSERT of q13, on the engine's thread."""
    if text.startswith("INSERT INTO side_input"):
        keys = pa.array(range(10_000), pa.int64())
        rows = pa.table({"key": keys, "value": [f"value {k}" for k in range(10_000)]})
        engine.submit(Write([("side_input", rows)])).result()
        return
    statement = parse(text, engine.limits)[0]
    match statement:
        case CreateMaterializedView():
            engine.call(lambda: view_definitions.create_view(engine, statement)).result()
        case CreateStream():
            engine.call(lambda: definitions.create_relation(engine, resolved(statement))).result()
        case CreateTable():
            engine.call(lambda: definitions.create_relation(engine, statement)).result()
        case Drop():
            engine.call(lambda: definitions.drop(engine, statement)).result()


def _measured(name: str, events: int, retention: str) -> tuple[float, float, str]:
    """Take all events in; give the seconds until the last one is durable, those of CPU, and a note on the state."""
    with folder("streamsql-bench") as base:
        engine = _open(base, name, events, retention)
        readers = SourceReaders(engine)
        began, cpu = time.perf_counter(), time.process_time()
        readers.start()
        while not all(_reached(engine, o.name, events) for o in engine.catalog if isinstance(o, Stream)):
            time.sleep(0.01)
        seconds, used = time.perf_counter() - began, time.process_time() - cpu
        readers.stop()
        state = sum(q.progress.rows_kept for q in engine.queries.values())
        view = engine.queries[name].progress
        assert view.error is None, view.error
        late = sum(q.progress.rows_late for q in engine.queries.values())
        assert not late, late
        note = f"{state:,} rows of state, {view.rows_out:,} out"
        engine.stop()
    return seconds, used, note


def _reached(engine: Engine, stream: str, events: int) -> bool:
    at = engine.streams.get(stream)
    return at is not None and at.positions.get("0") == events


def _bounds(events: int) -> dict[str, float]:
    """Give, for each query, how many events a second one SELECT answers it at."""
    found = {}
    with open_oracle(_tables(events), threads=1) as connection:
        for name in NAMES:
            began = time.process_time()
            connection.execute(f"CREATE OR REPLACE TEMP TABLE answer AS {answer_sql(name)}").fetchall()
            found[name] = events / (time.process_time() - began)
    return found


def _tables(events: int) -> Mapping[str, pa.Table]:
    tables = {}
    for table in STREAMS:
        given = Given({"table": table, "events": str(events)}, {})
        connector = CONNECTORS["nexmark"]
        source = connector.open(given, connector.columns(given, ()), {}, 0, Surroundings())
        batches = []
        while (batch := source.read(1 << 20, 0)) is not None:
            batches.append(batch.rows)
        tables[table] = pa.concat_tables(batches)
    return tables
