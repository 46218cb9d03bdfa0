"""A continuous query over an origin: a view that never takes rows back, a subquery, a union, a join."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa

from streamsql.base.limits import Limits
from streamsql.engine.changes import Progress
from streamsql.engine.flow import AT_COLUMN, NO_TIMES, Arriving, Flow, Idle
from streamsql.engine.origins import InnerNode, bounded, typed, with_places
from streamsql.engine.partitions import Judged, judged
from streamsql.engine.rejected import QueryFailureError
from streamsql.engine.store import Store
from streamsql.engine.translate import translate
from streamsql.engine.trees import nodes_of
from streamsql.engine.views import ContinuousQuery
from streamsql.engine.watermark import MICROSECONDS, NEVER
from streamsql.plan.nodes import ContinuousPlan


class OriginQuery(ContinuousQuery):
    """One such query. `nodes` are those of its origin, each after its inputs; `Progress.inner` says how far each is."""

    def __init__(
        self, query_id: int, name: str, plan: ContinuousPlan, store: Store, limits: Limits, *, temporary: bool
    ) -> None:
        super().__init__(query_id, name, plan, store, limits, temporary=temporary)
        assert plan.origin is not None

        def make(number: int, inner_name: str, inner: ContinuousPlan) -> ContinuousQuery:
            kind = ContinuousQuery if inner.origin is None else OriginQuery
            return kind(number, inner_name, inner, store, limits, temporary=temporary)

        self.nodes = nodes_of(self, plan.origin, store, make)
        self.origin = self.nodes[-1]
        self.progress = Progress(inner=tuple(node.start() for node in self.nodes))
        self.use_delta(typed(self.tables.delta, plan.origin.columns))
        self._incoming = Flow(self.origin.empty, NO_TIMES, NEVER)

    # ---- tables ----

    def open(self) -> None:
        for node in self.nodes:
            node.open()
        super().open()

    def _no_rows(self) -> pa.Table:
        return with_places(self.origin, Flow(self.origin.empty, NO_TIMES, NEVER))

    def open_scratch(self) -> None:
        for node in self.nodes:
            node.open_scratch()
        super().open_scratch()

    def create(self, epoch: int) -> Progress:
        inner = [node.start() for node in self.nodes]
        for node in self.nodes:
            node.create(epoch, inner)
        self.progress = replace(self.progress, inner=tuple(inner))
        return super().create(epoch)

    def drop(self) -> None:
        super().drop()
        for node in self.nodes:
            node.drop()

    def close(self) -> None:
        super().close()
        for node in self.nodes:
            node.close()

    @property
    def state_names(self) -> list[str]:
        return [name for node in self.nodes for name in node.state_names]

    # ---- the epoch ----

    def take(self, arriving: Arriving, progress: Progress) -> Progress:
        """Take in what comes from the origin; `arriving.apply` calls `apply` with its rows."""
        inner = list(progress.inner)
        try:
            self._incoming = self.origin.take(arriving, inner)
        except duckdb.Error as error:  # a join's condition: no single row is at fault, so the query stops
            raise QueryFailureError(self, self._no_rows(), progress, translate(error)) from error
        late = sum(p.rows_late for p in inner) - sum(p.rows_late for p in progress.inner)
        progress = replace(progress, inner=tuple(inner), rows_late=progress.rows_late + late)
        rows = with_places(self.origin, self._incoming)
        return arriving.apply(self, arriving.epoch, rows, arriving.now_us, progress)

    def _handed_on(self, rows: pa.Table, progress: Progress) -> Progress:  # noqa: ARG002  # the origin tells
        flow = self._incoming
        self.out.follow(flow.steps_at, flow.steps)
        return replace(progress, largest=max(progress.largest, flow.last))

    def _judged_by(self, rows: pa.Table, times: MICROSECONDS, progress: Progress, *, hand_on: bool = True) -> Judged:
        flow, bound = self._incoming, self.plan.bound
        at = np.asarray(rows.column(AT_COLUMN))
        if bound is None:
            found = judged(rows, times, progress)
            if hand_on:
                self.out.move(at, found.after)
            return found
        if hand_on:
            self.out.move(flow.steps_at, bound(flow.steps))
        largest = max(progress.largest, bounded(bound, flow.last))
        return Judged(bound(flow.before(at)), bound(flow.after(at)), largest, ())

    def marks(self) -> list[tuple[str, int]]:
        """Give the watermark of each input: of the streams, views and subqueries at the leaves."""
        inputs = zip(self.nodes, self.progress.inner, strict=True)
        return [(node.named, node.mark(progress)) for node, progress in inputs if node.named]

    def subqueries(self) -> Iterator[ContinuousQuery]:
        """Give the queries in this one, and those in them, each with how far it is."""
        for node, progress in zip(self.nodes, self.progress.inner, strict=True):
            if isinstance(node, InnerNode):
                node.query.progress = progress
                yield node.query
                if isinstance(node.query, OriginQuery):
                    yield from node.query.subqueries()

    def rows_came(self) -> int:
        """Give how many rows have come from the streams and views that it reads."""
        came = 0
        for node, progress in zip(self.nodes, self.progress.inner, strict=True):
            if isinstance(node, InnerNode) and isinstance(node.query, OriginQuery):
                node.query.progress = progress
                came += node.query.rows_came()
            elif node.named:
                came += progress.rows_in
        return came

    def kept_rows(self) -> tuple[int, int]:
        """Give how many rows the origin's joins keep, and the time that the watermark must pass for the first to go."""
        held = [p for node, p in zip(self.nodes, self.progress.inner, strict=True) if not node.named and p.state_rows]
        return sum(p.state_rows for p in held), min((p.pane_low for p in held), default=-NEVER)

    # ---- time without rows ----

    def largest_if(self, idle: Idle, progress: Progress) -> int:
        mark = self.origin.mark_if(idle, progress.inner)
        if self.plan.bound is not None:
            return max(progress.largest, bounded(self.plan.bound, mark))
        return progress.largest if self.plan.window is not None else max(progress.largest, mark)

    def stirs(self, idle: Idle, progress: Progress) -> bool:
        return self.origin.stirs(idle, progress.inner) or super().stirs(idle, progress)
