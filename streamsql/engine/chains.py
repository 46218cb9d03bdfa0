"""Queries that read other queries: what one hands on in an epoch, the next takes in, in the same epoch.

A query is made after what it reads, so one pass in the order of their making goes through all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa

from streamsql.catalog.dependents import roots
from streamsql.catalog.objects import RESULTS_SCHEMA, Catalog, Stream, Table, View, quoted
from streamsql.engine.changes import Progress
from streamsql.engine.flow import NO_TIMES, Arriving, Flow, Idle
from streamsql.engine.origin_query import OriginQuery
from streamsql.engine.partitions import TimeMove
from streamsql.engine.store import Store
from streamsql.engine.views import ContinuousQuery
from streamsql.engine.watermark import MICROSECONDS, NEVER, event_times
from streamsql.plan.origins import Lookup

Clocks = tuple[MICROSECONDS, MICROSECONDS]
Taken = list[tuple[ContinuousQuery, Progress]]


def numbered(writes: list[list[tuple[str, pa.Table]]], sequence: int) -> tuple[dict[str, pa.Table], int]:
    """Give rows their arrival numbers, write by write, so that these do not depend on where epochs are cut.

    Gives the rows of each relation, with ``__seq``, and the next number.
    """
    batches: dict[str, list[pa.Table]] = {}
    starts: dict[str, list[int]] = {}
    for rows in writes:
        for name, table in rows:
            if table.num_rows:
                batches.setdefault(name, []).append(table)
                starts.setdefault(name, []).append(sequence)
                sequence += table.num_rows
    return {name: _numbered(tables, starts[name]) for name, tables in batches.items()}, sequence


def _numbered(tables: list[pa.Table], starts: list[int]) -> pa.Table:
    """Join tables, in order, without copying; the rows of each are numbered from its start on."""
    counts = np.array([t.num_rows for t in tables], dtype=np.int64)
    before = np.cumsum(counts) - counts
    numbers = np.repeat(np.array(starts, dtype=np.int64) - before, counts) + np.arange(counts.sum(), dtype=np.int64)
    rows = tables[0] if len(tables) == 1 else pa.concat_tables(tables)
    return rows.append_column("__seq", pa.array(numbers))


def mark_handed_on(queries: Mapping[str, ContinuousQuery]) -> None:
    """Tell queries whether others read them."""
    read = {name for q in queries.values() if isinstance(q, OriginQuery) for name in q.plan.sources}
    for query in queries.values():
        query.out.wanted = query.name in read


def apart(catalog: Catalog, queries: Iterable[ContinuousQuery]) -> list[tuple[set[str], set[str]]]:
    """Give the streams and tables whose rows may not come in one epoch: those joined with a view as of now, and the view's."""
    lookups = [
        node for q in queries if q.plan.origin is not None for node in q.plan.origin.walk()
        if isinstance(node, Lookup) and node.of_view
    ]  # fmt: skip
    return [(roots(catalog, node.left.names), roots(catalog, [node.table])) for node in lookups]


def follow(queries: Mapping[str, ContinuousQuery], arriving: Arriving, taken: Taken) -> Taken:
    """Let queries over origins take in what streams and the queries in `taken` give; give their progress."""
    found: Taken = []
    for query, _ in taken:
        _hand_on(query, arriving)
    for query in queries.values():
        if not isinstance(query, OriginQuery) or query.progress.error is not None:
            continue
        if arriving.touches(query.plan.followed):
            found.append((query, query.take(arriving, query.progress)))
            _hand_on(query, arriving)
    return found


def _hand_on(query: ContinuousQuery, arriving: Arriving) -> None:
    flow = query.out.flow
    if query.out.wanted and flow is not None and not flow.idle:
        arriving.flows[query.name] = flow


def idle_moves(
    queries: Mapping[str, ContinuousQuery], moved: dict[str, TimeMove]
) -> tuple[list[tuple[ContinuousQuery, TimeMove]], dict[str, TimeMove]]:
    """Find what time alone brings about, where it goes on so in idle streams.

    Gives the queries over streams whose time is to go on, each with how it does, and the streams that move for
    queries over origins. A query moves if that brings something out of it, or out of one that reads it.
    """
    marks: dict[str, int] = {}
    idle = Idle(moved, lambda name: marks.get(name, NEVER))
    stirred: list[ContinuousQuery] = []
    for query in queries.values():
        if query.progress.error is not None or query.plan.recomputed is not None:
            continue
        marks[query.name] = query.mark_if(idle, query.progress)
        if query.stirs(idle, query.progress):
            stirred.append(query)
    names = {q.name for q in stirred}
    for query in stirred:  # which grows by what they read
        for name in query.plan.sources:
            if name in queries and name not in names:
                names.add(name)
                stirred.append(queries[name])
    direct = [
        (q, moved[q.plan.source]) for q in queries.values()
        if q.name in names and q.plan.origin is None and q.plan.source in moved
    ]  # fmt: skip
    streams = {n: moved[n] for q in stirred if q.plan.origin is not None for n in q.plan.sources if n in moved}
    return direct, streams


# ---- what is there when a query starts ----


def kept_rows(
    store: Store, catalog: Catalog, query: OriginQuery, rows_max: int
) -> Iterator[tuple[dict[str, pa.Table], dict[str, Flow], Clocks | None]]:
    """Give what the query's sources have kept, piece by piece: first the views' rows, then the streams' as they arrived."""
    sources = [catalog.find(name) for name in query.plan.followed]
    for view in (s for s in sources if isinstance(s, View)):
        for rows in _rows_of_view(store, view, rows_max):
            yield {}, {view.name: Flow(rows, np.zeros(rows.num_rows, dtype=np.int64), NEVER)}, None
    tables = {s.name: s.rows_table for s in sources if isinstance(s, (Stream, Table))}
    last = 0
    while tables:
        numbers = " UNION ALL ".join(f"SELECT __seq FROM {t} WHERE __seq > {last}" for t in tables.values())
        upto = store.fetch(f"SELECT max(__seq) FROM (SELECT __seq FROM ({numbers}) ORDER BY __seq LIMIT {rows_max})")[
            0
        ][0]
        if upto is None:
            return
        found = {
            name: store.arrow(f"SELECT * FROM {table} WHERE __seq > {last} AND __seq <= {upto} ORDER BY __seq")
            for name, table in tables.items()
        }
        clocks = _clocks(list(found.values()))
        yield {n: rows.drop_columns(["__arrived_at"]) for n, rows in found.items() if rows.num_rows}, {}, clocks
        last = upto


def _clocks(tables: list[pa.Table]) -> Clocks:
    """Give when rows arrived, by their numbers."""
    numbers = np.concatenate([np.asarray(t.column("__seq")) for t in tables])
    clocks = np.concatenate([event_times(t.column("__arrived_at"))[0] for t in tables])
    order = np.argsort(numbers)
    return numbers[order], clocks[order]


def _rows_of_view(store: Store, view: View, rows_max: int) -> Iterator[pa.Table]:
    """Give a view's rows: of windows in the order of time, and then of all columns; else as they came."""
    names = ", ".join(f"o{i} AS {quoted(c.name)}" for i, c in enumerate(view.columns))
    timed = [name for name, _ in view.times]
    order = ", ".join([quoted(n) for n in timed[:1]] + [quoted(c.name) for c in view.columns]) if timed else "__row"
    table = f"{RESULTS_SCHEMA}.{quoted(view.name)}"
    given = 0
    while True:
        rows = store.arrow(
            f"SELECT * EXCLUDE (__row), row_number() OVER () + {given} AS __seq FROM ("
            f"SELECT {names}, rowid AS __row FROM {table} ORDER BY {order}, __row LIMIT {rows_max} OFFSET {given}) "
            "ORDER BY __seq"
        )
        if not rows.num_rows:
            return
        given += rows.num_rows
        yield rows


def marks_of_views(queries: Mapping[str, ContinuousQuery], query: OriginQuery, position: int) -> dict[str, Flow]:
    """Give the watermarks of the views that a query reads, as they are now."""
    found = {}
    for name in query.plan.sources:
        above = queries.get(name)
        if above is not None:
            mark = above.out.mark(above.progress)
            empty = pa.table({"__seq": pa.array([], pa.int64())})
            found[name] = Flow(empty, NO_TIMES, NEVER, np.array([position]), np.array([mark]))
    return found
