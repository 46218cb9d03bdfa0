"""Aggregates without a window: a group's value changes for ever, and each change takes the old value back.

    in    a 1      a 2            SELECT k, sum(x) FROM s GROUP BY k EMIT UPDATE
    out   +a 1     -a 1  +a 3

State: one row a group. Without keys there is one group from the start, as in one SELECT over no rows.
"""

from __future__ import annotations

from streamsql.engine.changes import Progress
from streamsql.engine.operators.base import Arrival, Operator, Sink, merge_partials
from streamsql.plan import stages


class GroupAggregate(Operator):
    """Keeps a query that groups by keys alone, or by nothing."""

    def create(self, sink: Sink, progress: Progress) -> Progress:
        self.create_state()
        return self._merge(progress, sink)

    def apply(self, arrival: Arrival, progress: Progress, sink: Sink) -> Progress:
        self.bind_delta(arrival)
        return self._merge(progress, sink)

    def _merge(self, progress: Progress, sink: Sink) -> Progress:
        progress = merge_partials(self, progress)
        assert self.plan.grouping is not None
        sink.update(_values(self.plan.grouping.parts, stages.result_keys(self.plan.grouping)))
        return progress


def _values(parts: tuple[str, ...], keys: list[str]) -> str:
    values = [f"finalize(s{i}) AS p{i}" for i in range(len(parts))]
    return f"SELECT {', '.join([*keys, *values])} FROM __merged"
