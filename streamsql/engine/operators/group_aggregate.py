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
        progress = super().create(sink, progress)
        if self.plan.grouping is not None and not self.plan.grouping.keys:
            self.create_scratch()
            progress = self._merge(progress, sink)
        return progress

    def apply(self, arrival: Arrival, progress: Progress, sink: Sink) -> Progress:
        return self._merge(progress, sink)

    def _merge(self, progress: Progress, sink: Sink) -> Progress:
        progress = merge_partials(self, progress)
        assert self.plan.grouping is not None
        sink.update(merged_groups(self))
        return progress


def merged_groups(operator: Operator) -> str:
    """SQL of the groups that the epoch touched, with their new values, where a state is a group."""
    grouping = operator.plan.grouping
    assert grouping is not None
    values = [f"finalize(s{i}) AS p{i}" for i in range(len(grouping.parts))]
    return f"SELECT {', '.join([*stages.result_keys(grouping), *values])} FROM {operator.tables.merged}"
