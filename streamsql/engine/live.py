"""Live queries: continuous SELECTs that are followed by a client, and kept as long as one follows them.

Clients that ask the same are shown the same: who comes second reads the changes of the query that runs, after its result so
far. So a hundred viewers of one dashboard cost what one costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from streamsql.engine.changes import Change, Progress
from streamsql.engine.epoch import Engine
from streamsql.engine.recomputed import query_of
from streamsql.engine.starting import start_query
from streamsql.engine.subscriptions import Subscription
from streamsql.engine.views import ContinuousQuery
from streamsql.plan.continuous import plan_query
from streamsql.plan.nodes import ContinuousPlan
from streamsql.sql.statements import EmitMode, Query


@dataclass(frozen=True, slots=True)
class LiveQuery:
    """A live SELECT: its plan, the subscription that delivers its changes from the first row kept, and what runs it."""

    plan: ContinuousPlan
    subscription: Subscription
    name: str


def start_live_query(engine: Engine, query: Query, wake: Callable[[], None]) -> LiveQuery:
    """Start a continuous SELECT; end it with `stop_live_query`."""
    plan = plan_query(query, engine.catalog, engine.describe, engine.limits)
    running = next((q for q in engine.queries.values() if _shows_the_same(engine, q, plan)), None)
    if running is not None:
        return _join(engine, running, plan, wake)
    engine.check_query_count()
    number = engine.next_id()
    name = f"query {number}"
    started = query_of(number, name, plan, engine.store, engine.limits, temporary=True)
    started.text = query.text
    subscription = started.log.subscribe(wake, whole=plan.mode is EmitMode.COMPLETE)

    def finish(progress: Progress) -> None:
        started.progress = progress
        engine.queries[name] = started

    try:
        start_query(engine, started, finish)
    except BaseException:
        engine.queries.pop(name, None)
        raise
    return LiveQuery(plan, subscription, name)


def stop_live_query(engine: Engine, live: LiveQuery) -> None:
    """Stop following a live query; with the last who does, it ends, and its tables are dropped."""
    live.subscription.close()
    running = engine.queries.get(live.name)
    if running is not None and not running.log.wanted:
        engine.queries.pop(live.name)
        with engine.store.transaction():
            running.drop()
        running.close()


def _shows_the_same(engine: Engine, running: ContinuousQuery, plan: ContinuousPlan) -> bool:
    """Tell whether a live query runs whose result is what the plan would give now, from the rows that are kept.

    In append mode what it has shown is gone. A query that has seen rows which the stream no longer keeps shows more.
    """
    if not (running.temporary and plan.retracts) or running.progress.error is not None:
        return False
    if replace(running.plan, every_us=None, limit=None) != replace(plan, every_us=None, limit=None):
        return False
    if plan.recomputed is not None or plan.origin is not None:
        return True  # views keep all that they have shown
    kept = engine.store.fetch(f"SELECT count(*) FROM {engine.catalog.relation(plan.source).rows_table}")[0][0]
    return bool(kept == running.progress.rows_in)


def _join(engine: Engine, running: ContinuousQuery, plan: ContinuousPlan, wake: Callable[[], None]) -> LiveQuery:
    whole = plan.mode is EmitMode.COMPLETE
    rows = running.result_rows()
    before = [Change(engine.epoch, rows, whole=whole)] if rows.num_rows else []
    subscription = running.log.subscribe(wake, whole=whole, before=before)
    wake()
    return LiveQuery(plan, subscription, running.name)
