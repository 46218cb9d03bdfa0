"""How a query starts: its tables are made and filled from the rows that its sources have kept, in one transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TypeVar

from streamsql.base.errors import DuplicateColumn, FeatureNotSupported
from streamsql.catalog.objects import PlainView, Stream, Table, View, quoted
from streamsql.engine import chains, recovery
from streamsql.engine.answers import Missing
from streamsql.engine.changes import Change, Progress
from streamsql.engine.epoch import Engine
from streamsql.engine.flow import Arriving
from streamsql.engine.origin_query import OriginQuery
from streamsql.engine.recomputed import RecomputedQuery, RecomputeError, query_of
from streamsql.engine.rejected import QueryFailureError, Rejected
from streamsql.engine.views import ContinuousQuery
from streamsql.sql.statements import CreateMaterializedView, EmitMode

R = TypeVar("R", Stream, Table, Stream | Table, View, PlainView)


def with_free_key(engine: Engine, made: R) -> R:
    """Give what is made another key, where one that was renamed has the key of its name."""
    if made.name not in engine.catalog.objects:
        return made
    return dataclasses.replace(made, name=f"{made.name} ({made.id})")


def planned_view(engine: Engine, statement: CreateMaterializedView) -> tuple[View, ContinuousQuery, str]:
    """Plan a view: gives the catalog's object, the query, and the SQL that shows its result under its name."""
    # the client's own text: written anew from its tree, a function may come back as another (count_if as a sum)
    text = statement.text
    view, plan = recovery.view_of(statement, engine.next_id(), text, engine.catalog, engine.describe, engine.limits)
    if not statement.or_replace:
        view = with_free_key(engine, view)
    if plan.limit is not None:
        raise FeatureNotSupported(
            "LIMIT cannot be used in a materialized view", hint="use it when you SELECT from the view"
        )
    names = [c.name for c in view.columns]
    for name in names:
        if names.count(name) > 1:
            raise DuplicateColumn(f'column "{name}" specified more than once', hint="name the columns with AS")
    query = query_of(view.id, view.name, plan, engine.store, engine.limits, temporary=False)
    return view, query, shown_by(view, query)


def shown_by(view: View, query: ContinuousQuery) -> str:
    """SQL that shows a query's result under the view's name."""
    columns = ", ".join(f"o{i} AS {quoted(c.name)}" for i, c in enumerate(view.columns))
    return f"CREATE VIEW {view.public_name} AS SELECT {columns} FROM {query.result}"


def start_query(
    engine: Engine,
    query: ContinuousQuery,
    finish: Callable[[Progress], None],
    begin: Callable[[], None] = lambda: None,
    rejected: Rejected | None = None,
) -> None:
    """Make a query's tables and take in the rows that its source has kept, but for those that it fails on.

    `begin` and `finish` are called first and last in the transaction, which is tried again without rows that a query fails on;
    these are in `rejected`.
    """
    rejected = rejected or Rejected()
    if not isinstance(query, RecomputedQuery):
        query.open()
    fresh = query.progress
    while True:
        query.progress = fresh
        try:
            with engine.store.transaction():
                begin()
                progress, changes = filled(engine, query, rejected)
                changes = _shown_first(query, changes, engine.epoch)
                finish(progress)
            query.publish(changes)
            return
        except Missing:
            query.close()  # it is planned anew once that has been asked for
            raise
        except RecomputeError as failure:
            raise failure.error from failure
        except QueryFailureError as failure:
            failure.query.open()  # a query that was opened in the transaction has lost its names with it
            if not rejected.set_aside(failure):
                raise failure.error from failure


def _shown_first(query: ContinuousQuery, changes: list[Change], epoch: int) -> list[Change]:
    """Give what a query that was filled shows first: of results that change, what they are now and not how they came about.

    So the count of no rows, with which a total begins, is not shown before that of the rows which are there.
    """
    if not changes or not query.plan.retracts:
        return changes
    if query.plan.mode is EmitMode.COMPLETE:
        return [c for c in changes if c.whole][-1:]
    rows = query.result_rows()
    return [Change(epoch, rows)] if rows.num_rows else []


def filled(engine: Engine, query: ContinuousQuery, rejected: Rejected) -> tuple[Progress, list[Change]]:
    """Make a query's tables and fill them, within the caller's transaction; give the changes to show after it."""
    if isinstance(query, RecomputedQuery):
        query.make()
        return query.recompute(engine.epoch, engine.recompute_time(query)), query.take_emitted()
    progress = query.create(engine.epoch)
    changes = query.take_emitted()
    engine.store.answers.begin(engine.clock.now_us())
    pieces = _pieces_of_origin if isinstance(query, OriginQuery) else _pieces_of_stream
    for made in pieces(engine, query, progress, rejected):
        progress = made
        changes += query.take_emitted()
    engine.store.answers.check()
    return progress, changes


def _pieces_of_stream(
    engine: Engine, query: ContinuousQuery, progress: Progress, rejected: Rejected
) -> Iterator[Progress]:
    """Let a query take in the rows that its stream has kept, piece by piece; give its progress after each."""
    relation = engine.catalog.relation(query.plan.source)
    rows_max = engine.limits.epoch_rows_max
    last = 0
    while True:
        rows = engine.store.arrow(
            f"SELECT * EXCLUDE (__arrived_at) FROM {relation.rows_table} WHERE __seq > {last} "
            f"ORDER BY __seq LIMIT {rows_max}"
        )
        if not rows.num_rows:
            return
        last = rows.column("__seq")[-1].as_py()
        progress = rejected.apply(query, engine.epoch, rows, engine.clock.now_us(), progress)
        yield progress
        if rows.num_rows < rows_max:
            return


def _pieces_of_origin(
    engine: Engine, query: ContinuousQuery, progress: Progress, rejected: Rejected
) -> Iterator[Progress]:
    """Do the same for a query over an origin; at the end the watermarks are those of the views that it reads."""
    assert isinstance(query, OriginQuery)
    position, now = engine.next_sequence - 1, engine.clock.now_us()
    for rows, flows, clocks in chains.kept_rows(engine.store, engine.catalog, query, engine.limits.epoch_rows_max):
        arriving = Arriving(engine.epoch, now, position, rejected.apply, rows, flows, clocks=clocks)
        progress = query.take(arriving, progress)
        yield progress
    marks = chains.marks_of_views(engine.queries, query, position)
    if marks:
        yield query.take(Arriving(engine.epoch, now, position, rejected.apply, {}, marks), progress)
