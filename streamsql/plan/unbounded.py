"""Joins of streams in update mode: what they lack that would let rows be dropped."""

from __future__ import annotations

from sqlglot import exp

from streamsql.catalog.objects import Catalog, Stream
from streamsql.plan.nodes import ContinuousPlan
from streamsql.sql.statements import Query


def missing_bound(query: Query, plan: ContinuousPlan, catalog: Catalog) -> str | None:
    """Name what a join of streams lacks that is kept by recomputing it, and so reads all of their rows; None where nothing."""
    streams = [n for n in plan.sources if isinstance(catalog.get(n), Stream)]
    if plan.recomputed is None or plan.recomputed.marks or len(streams) < 2 or query.tree.find(exp.Join) is None:
        return None
    a, b = (_event_time(catalog.get(n)) for n in streams[:2])
    return (
        f"bound the join in time, for example: AND {a} BETWEEN {b} - INTERVAL '5 minutes' AND {b}, and use EMIT APPEND: "
        "rows are then dropped when none can match them any more; or say how long rows count: WITH (state_ttl = '1 day')"
    )


def _event_time(found: object) -> str:
    assert isinstance(found, Stream)
    declared = found.watermark.column if found.watermark is not None else None
    times = (c.name for c in found.columns if c.type.startswith("TIMESTAMP"))
    return f"{found.name}.{declared or next(times, 'time')}"
