"""A query in append mode run again from the rows that are kept, all at once, in a database of its own that is thrown away.

Which rows of a join, a union or a subquery count is told by watermarks that move row by row through all that lies below. So
what such a query ought to have shown is found by running it over its sources' rows in their order of arrival, from an empty
state. It has seen them in epochs, and with restarts between; what comes out may not depend on that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import duckdb
import pyarrow as pa

from streamsql.base.errors import NotInPrerequisiteState
from streamsql.base.limits import Limits
from streamsql.catalog.objects import RESULTS_SCHEMA, ROWS_SCHEMA, Catalog, View, quoted
from streamsql.engine import recovery
from streamsql.engine.changes import Progress
from streamsql.engine.flow import Arriving
from streamsql.engine.ingest import carried_as
from streamsql.engine.operators.lookup import LookupNode
from streamsql.engine.operators.outside_lookup import OutsideLookupNode
from streamsql.engine.origin_query import OriginQuery
from streamsql.engine.origins import InnerNode, Node, StreamNode, ViewNode
from streamsql.engine.partitions import TimeMove
from streamsql.engine.rejected import Rejected
from streamsql.engine.starting import start_query
from streamsql.engine.store import Store
from streamsql.engine.watermark import NEVER
from streamsql.plan import stages
from streamsql.plan.nodes import ContinuousPlan

if TYPE_CHECKING:
    from streamsql.engine.epoch import Engine


@dataclass(frozen=True, slots=True)
class Kept:
    """What a query is run again from: a snapshot, and the watermarks that the views below handed on at that moment."""

    cursor: duckdb.DuckDBPyConnection
    catalog: Catalog
    marks: Mapping[str, int]
    now_us: int
    next_sequence: int


def replayed(
    name: str, plan: ContinuousPlan, kept: Kept, limits: Limits, before: Progress, gone: Mapping[str, Mapping[str, int]]
) -> pa.Table:
    """Give the rows, ``o0``.. ., that a view ought to hold whose progress is `before`.

    `gone` are the streams of which rows are gone, with the largest time among these of each of their columns that hold times:
    then the watermarks start there, and which of the rows given are right is told by `plan.proven`.
    Raises NotInPrerequisiteState where the rows that are kept cannot tell.
    """
    store = Store(None)
    try:
        recovery.create_engine_tables(store)
        for source in plan.sources:
            _take_over(store, kept, source)
        query = _Resumed(1, name, plan, store, limits, gone)
        engine = cast(
            "Engine",
            SimpleNamespace(
                store=store, catalog=kept.catalog, limits=limits, epoch=0, clock=SimpleNamespace(now_us=lambda: kept.now_us),
                next_sequence=kept.next_sequence, queries={n: _view_with(mark) for n, mark in kept.marks.items()},
            ),
        )  # fmt: skip
        reached: list[Progress] = []
        start_query(engine, query, reached.append)
        progress = reached[-1]
        moved = dict(_moves(query.nodes, progress.inner, before.inner))
        if moved:
            query.progress = progress
            with store.transaction():
                rejected = Rejected()
                arriving = Arriving(0, kept.now_us, kept.next_sequence - 1, rejected.apply, moved=moved)
                progress = query.take(arriving, progress)
        if not gone:
            _check_the_same(name, progress, before)
        return store.arrow(f"SELECT {', '.join(stages.output_columns(plan))} FROM {query.tables.result}")
    finally:
        store.close()


class _Resumed(OriginQuery):
    """A query that is run again without the first rows of some streams, whose watermarks start where these had moved them."""

    def __init__(
        self, query_id: int, name: str, plan: ContinuousPlan, store: Store, limits: Limits,
        gone: Mapping[str, Mapping[str, int]],
    ) -> None:  # fmt: skip
        super().__init__(query_id, name, plan, store, limits, temporary=False)
        self._gone = gone

    def create(self, epoch: int) -> Progress:
        progress = super().create(epoch)
        return replace(progress, inner=_moved(self.nodes, progress.inner, self._gone))


def _moved(
    nodes: Sequence[Node], inner: Sequence[Progress], gone: Mapping[str, Mapping[str, int]]
) -> tuple[Progress, ...]:
    """Move the time of streams on to that of the last of the rows that are gone."""
    found = []
    for node, at in zip(nodes, inner, strict=True):
        column, made = None, at
        if isinstance(node, StreamNode):
            column = node.origin.time_column
        elif isinstance(node, InnerNode) and isinstance(node.query, OriginQuery):
            made = replace(at, inner=_moved(node.query.nodes, at.inner, gone))
        elif isinstance(node, InnerNode):
            plan = node.query.plan
            column = plan.window.time_column if plan.window is not None else plan.time[0] if plan.time else None
        time = gone.get(node.named, {}).get(column, NEVER) if column is not None else NEVER
        found.append(made if time == NEVER else replace(made, seen=time, largest=time))
    return tuple(found)


def by_partitions(query: OriginQuery, before: Progress) -> bool:
    """Tell whether time has gone on by partitions, so that rows alone do not tell which were late."""
    return any(at.partitions_seen for _, at in _inner(query.nodes, before.inner))


def rows_gone(query: OriginQuery, before: Progress, cursor: duckdb.DuckDBPyConnection) -> dict[str, tuple[int, int]]:
    """Give the streams that have fewer rows than the query has read: how many are kept, and how many were read."""
    found: dict[str, tuple[int, int]] = {}
    for name, rows_in in _read(query.nodes, before.inner):
        kept = int(cursor.execute(f"SELECT count(*) FROM {ROWS_SCHEMA}.{quoted(name)}").fetchall()[0][0])
        if kept < rows_in:
            found[name] = kept, max(rows_in, found.get(name, (0, 0))[1])
    return found


def looks_up(query: OriginQuery) -> tuple[bool, bool]:
    """Tell whether a query joins a table as it is when a row arrives, and whether it reads a view as well."""
    nodes = list(_all_nodes(query.nodes))
    return any(isinstance(n, LookupNode) for n in nodes), any(isinstance(n, ViewNode) for n in nodes)


def asks_outside(query: OriginQuery) -> bool:
    """Tell whether a query joins a table whose rows are not here."""
    return any(isinstance(n, OutsideLookupNode) for n in _all_nodes(query.nodes))


def _all_nodes(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        if isinstance(node, InnerNode) and isinstance(node.query, OriginQuery):
            yield from _all_nodes(node.query.nodes)


def _view_with(mark: int) -> SimpleNamespace:
    return SimpleNamespace(out=SimpleNamespace(mark=lambda _: mark), progress=None)


def _take_over(store: Store, kept: Kept, source: str) -> None:
    """Copy a source's rows from the snapshot."""
    found = kept.catalog.find(source)
    assert not isinstance(found, View) or found.append_only, source
    table = f"{RESULTS_SCHEMA if isinstance(found, View) else ROWS_SCHEMA}.{quoted(source)}"
    order = "rowid" if isinstance(found, View) else "__seq"
    shape = kept.cursor.sql(f"FROM {table} LIMIT 0")
    columns = [(name, str(data_type)) for name, data_type in zip(shape.columns, shape.types, strict=True)]
    store.execute(f"CREATE TABLE {table} ({', '.join(f'{quoted(n)} {t}' for n, t in columns)})")
    items = ", ".join(f"CAST({quoted(n)} AS {carried_as(t)})" if carried_as(t) != t else quoted(n) for n, t in columns)
    with _registered(store, kept.cursor.sql(f"SELECT {items} FROM {table} ORDER BY {order}").to_arrow_table()):
        store.execute(f"INSERT INTO {table} SELECT * FROM __given")


@contextmanager
def _registered(store: Store, rows: pa.Table) -> Iterator[None]:
    store.register("__given", rows)
    yield
    store.unregister("__given")


def _inner(nodes: Sequence[Node], progress: Sequence[Progress]) -> Iterator[tuple[str, Progress]]:
    """Give the streams below, each with the progress of what reads it."""
    for node, at in zip(nodes, progress, strict=True):
        if isinstance(node, StreamNode):
            yield node.named, at
        elif isinstance(node, InnerNode) and isinstance(node.query, OriginQuery):
            yield from _inner(node.query.nodes, at.inner)
        elif isinstance(node, InnerNode):
            yield node.query.plan.source, at


def _read(nodes: Sequence[Node], progress: Sequence[Progress]) -> Iterator[tuple[str, int]]:
    for name, at in _inner(nodes, progress):
        yield name, at.rows_in


def _moves(
    nodes: Sequence[Node], now: Sequence[Progress], before: Sequence[Progress]
) -> Iterator[tuple[str, TimeMove]]:
    """Give the streams whose time went on without rows, each with how far."""
    for (name, at), (_, wanted) in zip(_inner(nodes, now), _inner(nodes, before), strict=True):
        if wanted.largest > at.largest and at.seen != NEVER:
            yield name, TimeMove(wanted.largest - at.seen)


def _check_the_same(name: str, progress: Progress, before: Progress) -> None:
    """Raise where other rows were late than in the view: rows alone do not tell when time went on without them."""
    if (progress.rows_in, progress.rows_late) != (before.rows_in, before.rows_late):
        raise NotInPrerequisiteState(
            f'materialized view "{name}" cannot be verified: which rows came in time cannot be told again',
            detail=f"from the rows that are kept {progress.rows_late} rows are late, in the view {before.rows_late} were; "
            "an idle timeout has moved the watermark between them, or a view and a stream are joined, whose rows have no "
            "common order",
            hint="compare it with an ad-hoc SELECT",
        )
