"""Origins as they run: a tree of nodes below a query in append mode, each of which gives a flow in every epoch.

A node keeps nothing in memory: what it knows is in its tables and in its `Progress`, one of the query's `Progress.inner`. So
an epoch that is rolled back leaves no trace, and a restart goes on where it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from streamsql.catalog.objects import OutputColumn, TimeBound, quoted
from streamsql.engine.changes import Progress
from streamsql.engine.flow import AT_COLUMN, NO_TIMES, Arriving, Flow, Idle, compressed, mark_of, stream_flow
from streamsql.engine.partitions import without_numbers
from streamsql.engine.store import Store
from streamsql.engine.watermark import MICROSECONDS, NEVER
from streamsql.plan import origins as plans
from streamsql.plan.arrivals import ARRIVAL_COLUMN

if TYPE_CHECKING:
    from streamsql.engine.views import ContinuousQuery

# DuckDB's types whose values leave Arrow as values of another type
_RETYPED = ("HUGEINT", "UUID", "JSON", "BIT", "TIME WITH TIME ZONE")


def typed(relation: str, columns: Sequence[OutputColumn]) -> str:
    """Give a relation of Arrow rows with the columns' own types."""
    casts = [
        f"CAST({quoted(c.name)} AS {c.type}) AS {quoted(c.name)}"
        for c in columns
        if any(word in c.type for word in _RETYPED)
    ]
    return f"(SELECT * REPLACE ({', '.join(casts)}) FROM {relation})" if casts else relation


def bounded(bound: TimeBound, mark: int) -> int:
    """Give a column's bound at one watermark."""
    return int(bound(np.array([mark], dtype=np.int64))[0])


@runtime_checkable
class Taking(Protocol):
    """A query over an origin (`origin_query.OriginQuery`)."""

    def take(self, arriving: Arriving, progress: Progress) -> Progress: ...


class NodeTables:
    """What a node keeps in the database: nothing, unless it says so."""

    def create(self, epoch: int, inner: list[Progress]) -> None:
        """Make the node's tables."""

    def open(self) -> None:
        """Let SQL read rows by name."""

    def open_scratch(self) -> None:
        """Make scratch tables of a node that is there already."""

    def drop(self) -> None:
        """Drop all tables."""

    def close(self) -> None:
        """Let go of names."""

    @property
    def state_names(self) -> list[str]:
        """Names of the durable tables, without their schema."""
        return []


class Node(NodeTables, ABC):
    """One node. `index` is the place of its progress; `empty` has its rows' columns and ``__seq``."""

    def __init__(self, origin: plans.Origin, store: Store, index: int) -> None:
        self.store = store
        self.index = index
        self.empty = store.arrow(f"SELECT *, 0::BIGINT AS __seq FROM {origin.shape} AS o LIMIT 0")

    # what a leaf reads, for people
    named = ""

    def mark(self, progress: Progress) -> int:
        """Give the watermark."""
        return progress.largest

    @abstractmethod
    def take(self, arriving: Arriving, inner: list[Progress]) -> Flow:
        """Give the flow of an epoch, and put the node's progress into its place."""

    @abstractmethod
    def mark_if(self, idle: Idle, inner: Sequence[Progress]) -> int:
        """Give the watermark if time went on without rows."""

    def stirs(self, idle: Idle, inner: Sequence[Progress]) -> bool:  # noqa: ARG002  # a node without a state
        """Tell whether that would bring rows out of the node's state."""
        return False

    def start(self) -> Progress:
        """Give the progress of a node that has seen nothing."""
        return Progress()

    def rows(self, flow: Flow) -> pa.Table:
        """Give a flow's rows, with all columns also where there is none."""
        return flow.rows if flow.rows.num_rows else self.empty


class StreamNode(Node):
    """A stream's rows, and its watermark as this query sees it."""

    def __init__(self, origin: plans.StreamScan, store: Store, index: int) -> None:
        super().__init__(origin, store, index)
        self.origin = origin
        self.named = origin.name

    def mark(self, progress: Progress) -> int:
        return mark_of(progress.largest, self.origin.delay_us)

    def take(self, arriving: Arriving, inner: list[Progress]) -> Flow:
        progress, origin = inner[self.index], self.origin
        rows, move = arriving.rows.get(origin.name), arriving.moved.get(origin.name)
        mark = mark_of(progress.largest, origin.delay_us)
        if rows is not None:
            if origin.time_column == ARRIVAL_COLUMN:
                rows = with_arrivals(rows, arriving, progress)
            flow, progress = stream_flow(rows, origin.time_column, origin.delay_us, progress)
            inner[self.index] = replace(progress, rows_in=progress.rows_in + rows.num_rows)
            return flow
        if move is None or progress.seen == NEVER:
            return Flow(self.empty, NO_TIMES, mark)
        inner[self.index] = progress = move.after(progress)
        at, marks = np.array([arriving.position]), np.array([mark_of(progress.largest, origin.delay_us)])
        return Flow(self.empty, NO_TIMES, mark, *compressed(at, marks, mark))

    def mark_if(self, idle: Idle, inner: Sequence[Progress]) -> int:
        progress, move = inner[self.index], idle.moved.get(self.origin.name)
        return mark_of((progress if move is None else move.after(progress)).largest, self.origin.delay_us)

    def stirs(self, idle: Idle, inner: Sequence[Progress]) -> bool:
        move = idle.moved.get(self.origin.name)
        return move is not None and bool(move.partitions) and move.moves(inner[self.index])


class ViewNode(Node):
    """A view's rows, and its watermark."""

    def __init__(self, origin: plans.ViewScan, store: Store, index: int) -> None:
        super().__init__(origin, store, index)
        self.name = self.named = origin.name

    def take(self, arriving: Arriving, inner: list[Progress]) -> Flow:
        progress = inner[self.index]
        flow = arriving.flows.get(self.name)
        if flow is None:
            return Flow(self.empty, NO_TIMES, progress.largest)
        inner[self.index] = replace(
            progress, largest=max(progress.largest, flow.last), rows_in=progress.rows_in + flow.rows.num_rows
        )
        return replace(flow, mark=progress.largest)

    def mark_if(self, idle: Idle, inner: Sequence[Progress]) -> int:
        return max(inner[self.index].largest, idle.mark(self.name))


class InnerNode(Node):
    """The rows of a subquery."""

    def __init__(self, origin: plans.Inner, store: Store, index: int, query: ContinuousQuery) -> None:
        super().__init__(origin, store, index)
        self.origin = origin
        self.query = query
        self._fresh = query.progress
        self.named = ", ".join(origin.names)

        query.out.wanted = True

    def mark(self, progress: Progress) -> int:
        return self.query.out.mark(progress)

    def take(self, arriving: Arriving, inner: list[Progress]) -> Flow:
        query, progress = self.query, inner[self.index]
        query.progress = progress
        query.out.begin(progress)
        if isinstance(query, Taking):
            if arriving.touches(query.plan.followed):
                inner[self.index] = query.take(arriving, progress)
        elif query.plan.source in arriving.rows:
            rows = arriving.rows[query.plan.source]
            inner[self.index] = arriving.apply(query, arriving.epoch, rows, arriving.now_us, progress)
        elif query.plan.source in arriving.moved and progress.seen != NEVER:
            move = arriving.moved[query.plan.source]
            inner[self.index] = query.advance(arriving.epoch, move, arriving.now_us, arriving.position)
        return query.out.flow or Flow(self.empty, NO_TIMES, query.out.mark(progress))

    def mark_if(self, idle: Idle, inner: Sequence[Progress]) -> int:
        return self.query.mark_if(idle, inner[self.index])

    def stirs(self, idle: Idle, inner: Sequence[Progress]) -> bool:
        return self.query.stirs(idle, inner[self.index])

    def start(self) -> Progress:
        return self._fresh

    def create(self, epoch: int, inner: list[Progress]) -> None:
        self.query.progress = self._fresh
        inner[self.index] = self.query.create(epoch)

    def open(self) -> None:
        self.query.open()

    def open_scratch(self) -> None:
        self.query.open_scratch()

    def drop(self) -> None:
        self.query.drop()

    def close(self) -> None:
        self.query.close()

    @property
    def state_names(self) -> list[str]:
        return [self.query.name, *self.query.state_names]


class UnionNode(Node):
    """The rows of all branches in the order of their arrivals; of one arrival, in the order of the branches."""

    def __init__(self, origin: plans.Union, store: Store, index: int, branches: Sequence[Node]) -> None:
        super().__init__(origin, store, index)
        self.origin = origin
        self.branches = branches
        names = [[c.name for c in b.columns] for b in origin.branches]
        self._bounds = [
            None if origin.time is None else dict(b.times)[n[origin.time]]
            for b, n in zip(origin.branches, names, strict=True)
        ]
        wanted = ", ".join(f"CAST({{{i}}} AS {c.type}) AS {quoted(c.name)}" for i, c in enumerate(origin.columns))
        self._casts = [
            None if [c.type for c in b.columns] == [c.type for c in origin.columns]
            else f"SELECT {wanted.format(*(quoted(n) for n in own))}, __seq FROM {typed('__branch', b.columns)}"
            for b, own in zip(origin.branches, names, strict=True)
        ]  # fmt: skip

    def take(self, arriving: Arriving, inner: list[Progress]) -> Flow:
        flows = [branch.take(arriving, inner) for branch in self.branches]
        progress = inner[self.index]
        mark = min(self._bound(i, f.mark) for i, f in enumerate(flows))
        steps_at = np.unique(np.concatenate([f.steps_at for f in flows]))
        steps = NO_TIMES
        if self.origin.time is not None and steps_at.size:
            steps = np.minimum.reduce(
                [b(f.after(steps_at)) for b, f in zip(self._bounds, flows, strict=True) if b is not None]
            )
        else:
            steps_at = NO_TIMES
        steps_at, steps = compressed(steps_at, steps, mark)
        rows, at = self._merged(flows, progress.rows_out)
        flow = Flow(rows, at, mark, steps_at, steps)
        inner[self.index] = replace(progress, largest=flow.last, rows_out=progress.rows_out + rows.num_rows)
        return flow

    def _merged(self, flows: Sequence[Flow], rows_out: int) -> tuple[pa.Table, MICROSECONDS]:
        given = [(i, f) for i, f in enumerate(flows) if f.rows.num_rows]
        if not given:
            return self.empty, NO_TIMES
        names = [*(c.name for c in self.origin.columns), "__seq"]
        tables = [self._cast(i, f.rows).rename_columns(names) for i, f in given]
        at = np.concatenate([f.at for _, f in given])
        branch = np.repeat([i for i, _ in given], [f.rows.num_rows for _, f in given])
        rows = pa.concat_tables(tables, promote_options="permissive") if len(tables) > 1 else tables[0]
        order = np.lexsort((np.asarray(rows.column("__seq")), branch, at))
        numbers = np.arange(rows_out + 1, rows_out + 1 + rows.num_rows, dtype=np.int64)
        rows = rows.take(order).drop_columns(["__seq"]).append_column("__seq", pa.array(numbers))
        return rows, at[order]

    def _cast(self, index: int, rows: pa.Table) -> pa.Table:
        sql = self._casts[index]
        rows = rows.select([*(c.name for c in self.origin.branches[index].columns), "__seq"])
        if sql is None:
            return rows
        self.store.register("__branch", rows)
        return self.store.arrow(sql)

    def _bound(self, index: int, mark: int) -> int:
        bound = self._bounds[index]
        return NEVER if bound is None else bounded(bound, mark)

    def stirs(self, idle: Idle, inner: Sequence[Progress]) -> bool:
        return any(branch.stirs(idle, inner) for branch in self.branches)

    def mark_if(self, idle: Idle, inner: Sequence[Progress]) -> int:
        return min(self._bound(i, b.mark_if(idle, inner)) for i, b in enumerate(self.branches))


def with_arrivals(rows: pa.Table, arriving: Arriving, progress: Progress) -> pa.Table:
    """Give a stream's rows with the instants of their arrival, which never go back where the clock does."""
    clocks = arriving.clock(np.asarray(rows.column("__seq")))
    instants = np.maximum.accumulate(np.maximum(clocks, progress.largest))
    return without_numbers(rows).append_column(ARRIVAL_COLUMN, pa.array(instants, pa.timestamp("us")))


def with_places(node: Node, flow: Flow) -> pa.Table:
    """Give a flow's rows with the arrivals that brought them, as a query takes them in."""
    return node.rows(flow).append_column(AT_COLUMN, pa.array(flow.at))
