"""Filter and project: each row that arrives gives at most one row, at once and for ever. No state.

in    (1, 'a')  (2, 'b')        SELECT x * 10 FROM s WHERE x > 1
out             (20)
"""

from __future__ import annotations

from typing import ClassVar

from streamsql.engine.changes import Progress
from streamsql.engine.operators.base import Arrival, Operator, Sink
from streamsql.plan import stages
from streamsql.plan.nodes import Strategy


class Linear(Operator):
    """Keeps a query without aggregates."""

    strategy: ClassVar[Strategy] = Strategy.LINEAR

    def create(self, sink: Sink, progress: Progress) -> Progress:
        return progress

    def apply(self, arrival: Arrival, progress: Progress, sink: Sink) -> Progress:
        if arrival.count:
            sink.append_rows(stages.linear_result(self.plan, self.tables.delta, numbered=sink.handed_on))
        return progress
