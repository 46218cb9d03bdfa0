"""Aggregates without a window: a group's value changes for ever, and each change takes the old value back.

    in    a 1      a 2            SELECT k, sum(x) FROM s GROUP BY k EMIT UPDATE
    out   +a 1     -a 1  +a 3

State: one row a group. Without keys, and for a grouping set without keys, there is one group from the start, as in one
SELECT over no rows.
"""

from __future__ import annotations

from streamsql.engine.changes import Progress
from streamsql.engine.operators.base import Arrival, KeptGroups, Sink


class GroupAggregate(KeptGroups):
    """Keeps a query that groups by keys alone, or by nothing."""

    def create(self, sink: Sink, progress: Progress) -> Progress:
        progress = super().create(sink, progress)
        if self.plan.grouping is not None and self.plan.grouping.from_start:
            self.create_scratch()
            progress = self.merge(progress, sink)
        return progress

    def apply(self, arrival: Arrival, progress: Progress, sink: Sink) -> Progress:
        return self.merge(progress, sink) if arrival.count else progress
