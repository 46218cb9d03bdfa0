"""CREATE [OR REPLACE] [MATERIALIZED] VIEW, and ALTER STREAM ... RESET TO, after which views begin anew as well.

A view that is replaced makes room for another in one transaction, and the views above it follow: those that are run again take
their new result on as a change; those that operators keep cannot take back what they have shown, and are made anew from what
they read. Whoever follows these is told to begin anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import ClassVar

from streamsql.base.errors import (
    DependentObjectsExist,
    InvalidObjectDefinition,
    InvalidTableDefinition,
    StreamSQLError,
    WrongObjectType,
)
from streamsql.base.faults import reached
from streamsql.catalog.access import OWNER, Access
from streamsql.catalog.dependents import all_dependents, written_over
from streamsql.catalog.objects import (
    PUBLIC_SCHEMA,
    Catalog,
    CatalogObject,
    OutputColumn,
    PlainView,
    Stream,
    View,
    literal,
)
from streamsql.engine import dropped, finished, outbox, plain_views, recovery
from streamsql.engine.building import Building, kept_of
from streamsql.engine.changes import Progress
from streamsql.engine.commits import commit
from streamsql.engine.definitions import exists, save_made, set_access
from streamsql.engine.epoch import Engine
from streamsql.engine.origin_query import OriginQuery
from streamsql.engine.origins import InnerNode, StreamNode
from streamsql.engine.positions import Positions, StreamProgress
from streamsql.engine.recomputed import RecomputedQuery, query_of
from streamsql.engine.rejected import QueryFailureError, Rejected
from streamsql.engine.replaced import Aside
from streamsql.engine.shared import SharedQuery, part
from streamsql.engine.sharing import share
from streamsql.engine.starting import filled, planned_view, shown_by, start_query, with_free_key
from streamsql.engine.type_names import type_name
from streamsql.engine.views import ContinuousQuery
from streamsql.plan.nodes import ContinuousPlan
from streamsql.sql.names import parted
from streamsql.sql.statements import CreateMaterializedView, CreateView


def create_view(engine: Engine, statement: CreateMaterializedView, owner: int = OWNER) -> View | Building | None:
    """CREATE MATERIALIZED VIEW: makes it and fills it from the rows kept, in one transaction; None where it was there.

    Where there are many, it is begun to be built.
    """
    replaced = engine.catalog.called(statement.name) if statement.or_replace else None
    if replaced is not None:
        return replace_view(engine, replace(statement, name=replaced.name))
    if exists(engine, statement.name, statement.if_not_exists):
        return None
    engine.check_query_count()
    view, query, show = planned_view(engine, statement)
    if (rows := kept_of(engine, query)) is not None:
        building = Building(engine, view, query, show, rows, owner)
        building.begin()
        return building

    def finish(progress: Progress) -> None:
        engine.store.execute(show)
        query.progress = progress
        engine.queries[view.name] = query
        save_made(engine, view, owner)

    before = engine.catalog
    try:
        start_query(engine, query, finish)
    except BaseException:
        engine.queries.pop(view.name, None)
        engine.catalog = before
        raise
    reached("view.created")
    share(engine, query)
    return view


def create_plain_view(
    engine: Engine, statement: CreateView, columns: list[OutputColumn], owner: int = OWNER
) -> PlainView | None:
    """CREATE VIEW, of a statement that has been looked up; `columns` are its query's. None where it was there."""
    replaced = engine.catalog.called(statement.name) if statement.or_replace else None
    if replaced is None and exists(engine, statement.name, statement.if_not_exists):
        return None
    schema, label = parted(statement.name)
    number = engine.next_id() if replaced is None else replaced.id
    made = plain_views.view_of(statement, number, columns, schema=schema or PUBLIC_SCHEMA, label=label)
    if replaced is None:
        made = with_free_key(engine, made)
        with engine.store.transaction():
            save_made(engine, made, owner)
        return made
    made = replace(made, name=replaced.name, schema=replaced.schema, label=replaced.label)
    _check_replaced(engine.catalog, replaced, made)
    catalog = engine.catalog

    def change() -> None:
        engine.store.execute(
            "UPDATE _engine.objects SET definition = ?, place = ? WHERE id = ?",
            [made.text, json.dumps(recovery.place_of(made)), made.id],
        )

    commit(engine, replace(catalog, objects={**catalog.objects, made.name: made}), change)
    return made


def _check_replaced(catalog: Catalog, old: CatalogObject, new: PlainView) -> None:
    """Raise where CREATE OR REPLACE VIEW cannot put one in the other's place."""
    if not isinstance(old, PlainView):
        raise WrongObjectType(f'"{old.bare}" is not a view')
    if len(new.columns) < len(old.columns):
        raise InvalidTableDefinition("cannot drop columns from view")
    for was, becomes in zip(old.columns, new.columns, strict=False):
        if was.name != becomes.name:
            raise InvalidTableDefinition(
                f'cannot change name of view column "{was.name}" to "{becomes.name}"',
                hint="DROP VIEW, then CREATE VIEW",
            )
        if was.type != becomes.type:
            raise InvalidTableDefinition(
                f'cannot change data type of view column "{was.name}" from {type_name(was.type)} '
                f"to {type_name(becomes.type)}"
            )
    below, waiting = set(), list(new.sources)
    while waiting:
        found = catalog.get(waiting.pop())
        if isinstance(found, PlainView) and found.name not in below:
            below.add(found.name)
            waiting += found.sources
    if new.name in below:
        raise InvalidObjectDefinition(f'view "{new.bare}" cannot read itself')
    above = written_over(catalog, old.name)
    if above:
        raise DependentObjectsExist(
            f"cannot replace view {old.bare} because other objects depend on it",
            detail="\n".join(f"materialized view {v.shown} keeps what view {old.bare} gave" for v in above),
            hint="drop them first: what they keep would not be what the view says",
        )


def replace_view(engine: Engine, statement: CreateMaterializedView) -> View:
    """CREATE OR REPLACE: the new query takes the old one's place in one transaction, and the views above it follow."""
    old = engine.catalog.view(statement.name)
    view, query, show = planned_view(engine, statement)
    view = replace(view, schema=old.schema, label=old.label)
    above = all_dependents(engine.catalog, view.name)
    cycle = [v.name for v in above if v.name in view.sources] + ([view.name] if view.name in view.sources else [])
    if cycle:
        raise InvalidObjectDefinition(
            f'materialized view "{view.name}" cannot read itself', detail=f"it reads {', '.join(cycle)}"
        )
    outbox.refuse_replacing(engine.catalog, [view.name, *(v.name for v in above)])
    for shared in (engine.queries[v.name] for v in (view, *above)):
        if isinstance(shared.shared, SharedQuery):
            part(engine.store, shared.shared, [shared])
    before, kept = engine.catalog, dict(engine.queries)
    replacement = Replacement(engine, view, above)
    try:
        start_query(
            engine,
            query,
            lambda progress: replacement.finish(query, show, progress),
            replacement.begin,
            replacement.rejected,
        )
    except BaseException:
        engine.catalog, engine.queries = before, kept
        replacement.undo()
        raise
    engine.store.forget_statements()
    replacement.committed()
    reached("view.created")
    share(engine, query)
    return view


def reset_stream(engine: Engine, stream: Stream, positions: Positions) -> None:
    """ALTER STREAM ... RESET TO: the stream is emptied, and read from these positions; the views above it are made anew.

    All in one transaction. Raises DependentObjectsExist where one of them has a sink.
    """
    above = all_dependents(engine.catalog, stream.name)
    outbox.refuse_replacing(engine.catalog, [stream.name, *(v.name for v in above)], "reset")
    for shared in (engine.queries[v.name] for v in above):
        if isinstance(shared.shared, SharedQuery):
            part(engine.store, shared.shared, [shared])
    before, kept, streams = engine.catalog, dict(engine.queries), engine.streams
    replacement = Replacement(engine, stream, above)
    while True:
        try:
            with engine.store.transaction():
                replacement.reset(positions)
            break
        except QueryFailureError as failure:
            engine.catalog, engine.queries, engine.streams = before, kept, streams
            if not replacement.rejected.set_aside(failure):
                replacement.undo()
                raise failure.error from failure
        except BaseException:
            engine.catalog, engine.queries, engine.streams = before, kept, streams
            replacement.undo()
            raise
    engine.store.forget_statements()
    replacement.committed()
    engine.flows.altered = True
    reached("stream.reset")


@dataclass(slots=True)
class Replacement:
    """One CREATE OR REPLACE, or reset of a stream: the views above it, each after what it reads, and what became of them."""

    # whether those who follow a stream are told that it begins anew
    resets: ClassVar[bool] = True

    engine: Engine
    view: View | Stream
    above: list[View]
    before: Catalog = field(init=False)
    kept: dict[str, ContinuousQuery] = field(init=False)
    rejected: Rejected = field(default_factory=Rejected)
    rebuilt: dict[str, tuple[ContinuousQuery, Progress]] = field(default_factory=dict)
    asides: dict[str, Aside] = field(default_factory=dict)
    states: list[tuple[RecomputedQuery, ContinuousPlan, Progress]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.before, self.kept = self.engine.catalog, dict(self.engine.queries)
        queries = [self.kept[v.name] for v in self.above]
        self.states = [(q, q.plan, q.progress) for q in queries if isinstance(q, RecomputedQuery)]

    def begin(self) -> None:
        self.asides = {}
        self._put_aside(self.view.name)

    def _put_aside(self, name: str) -> None:
        """Let a view's tables make room."""
        store = self.engine.store
        self.asides[name] = Aside(store, self.kept[name], name)
        self.asides[name].put()
        store.execute(f"DELETE FROM _engine.objects WHERE id = {self.kept[name].id}")
        store.execute(f"DELETE FROM _engine.late_rows WHERE view = {literal(name)}")

    def finish(self, query: ContinuousQuery, show: str, progress: Progress) -> None:
        """Let the views above follow, and make all of it durable."""
        engine, view = self.engine, self.view
        assert isinstance(view, View)
        engine.store.execute(show)
        query.progress = progress
        engine.queries = {**self.kept, view.name: query}
        engine.catalog = self.before.without(view.name).with_object(view)
        access = self.follow_all(self.before.access.handed_on(self.before.view(view.name).id, view.id))
        engine.catalog = engine.catalog.without(view.name)
        reorder(engine, view)
        set_access(engine, access)
        save_made(engine, view)

    def follow_all(self, access: Access) -> Access:
        """Let the views above follow; give who may do what then."""
        for item in self.above:
            access = self._follow(item, access)
        return access

    def _follow(self, item: View, access: Access) -> Access:
        """Let a view read what is new below it. Raises where its own columns would not be the same."""
        engine, query = self.engine, self.kept[item.name]
        made, plan = self._planned(item)
        if isinstance(query, RecomputedQuery) and plan.recomputed is not None:
            query.change_plan(plan)
            query.progress = query.recompute(engine.epoch, engine.recompute_time(query))
        elif {self.view.name, *self.asides}.isdisjoint(plan.followed) and plan == query.plan:
            pass  # what it looks up is another from now on; what it has shown stays
        else:
            self._refuse_lost(item, query)
            made = replace(made, id=self.rebuilt[item.name][0].id if item.name in self.rebuilt else engine.next_id())
            self._rebuild(made, plan)
            access = access.handed_on(item.id, made.id)
        engine.catalog = engine.catalog.without(item.name).with_object(made)
        return access

    def _planned(self, item: View) -> tuple[View, ContinuousPlan]:
        engine = self.engine
        statement = recovery.defined(item.text, item.name, item.names, engine.limits, engine.catalog)
        assert isinstance(statement, CreateMaterializedView)
        refused = f"cannot replace {self.view.shown} because {item.shown} depends on it"
        try:
            made, plan = recovery.view_of(
                statement, item.id, item.text, engine.catalog, engine.store.describe, engine.limits
            )
        except StreamSQLError as error:
            raise DependentObjectsExist(refused, detail=error.message) from error
        made = replace(made, name=item.name, schema=item.schema, label=item.label)
        if made.columns != item.columns:
            raise DependentObjectsExist(
                refused, detail="its columns would have other types", hint=f"drop {item.shown} first"
            )
        return made, plan

    def _refuse_lost(self, item: View, query: ContinuousQuery) -> None:
        """Raise where a view cannot be made anew, since a stream no longer keeps rows that it has taken in."""
        for name, count in _rows_taken(query).items():
            stream = self.before.get(name)
            if not isinstance(stream, Stream) or stream is self.view:
                continue
            kept = self.engine.store.fetch(f"SELECT count(*) FROM {stream.rows_table}")[0][0]
            if kept < count:
                raise DependentObjectsExist(
                    f"cannot replace {self.view.shown} because {item.shown} depends on it",
                    detail=f"{item.shown} cannot take back what it has shown, and cannot be made anew: "
                    f"stream {stream.shown} keeps {kept} of the {count} rows that it has taken in",
                    hint=f"drop {item.shown} first, and create it again",
                )

    def _rebuild(self, made: View, plan: ContinuousPlan) -> None:
        """Make a view anew from what it reads."""
        engine, name = self.engine, made.name
        self._put_aside(name)
        if name not in self.rebuilt:
            query = query_of(made.id, name, plan, engine.store, engine.limits, temporary=False)
            self.rebuilt[name] = query, query.progress
        query, query.progress = self.rebuilt[name]
        if not isinstance(query, RecomputedQuery):
            query.open()  # in each attempt: the names go with a transaction that is rolled back
        progress, _ = filled(engine, query, self.rejected)
        query.progress = progress
        engine.queries[name] = query
        engine.store.execute(shown_by(made, query))
        recovery.save_object(engine.store, made)

    def reset(self, positions: Positions) -> None:
        """Empty the stream, and let it begin at these positions; within the caller's transaction."""
        engine, stream = self.engine, self.view
        assert isinstance(stream, Stream)
        self.asides = {}
        engine.store.execute(f"DELETE FROM {stream.rows_table}")
        finished.forget(engine.store, stream.id)
        dropped.forget(engine.store, stream.id)
        at = engine.streams.get(stream.name) or StreamProgress()
        begun = StreamProgress(positions=positions, paused=at.paused, resets=at.resets + 1)
        engine.streams = {**engine.streams, stream.name: begun}
        engine.queries, engine.catalog = dict(self.kept), self.before
        access = self.follow_all(self.before.access)
        reorder(engine, stream)
        set_access(engine, access)
        engine.save()

    def undo(self) -> None:
        """Take back what a transaction does not."""
        for query, _ in self.rebuilt.values():
            query.close()
        for follower, plan, progress in self.states:
            if follower.plan is not plan:
                follower.restore_plan(plan)
            follower.progress = progress

    def committed(self) -> None:
        """Drop what made room, and tell those who followed it."""
        engine, gone = self.engine, set(self.asides)
        with engine.store.transaction():
            for aside in self.asides.values():
                aside.drop()
        for name in gone:
            self.kept[name].close()
        told = [(self.kept[name], name) for name in gone]
        live = [q for q in engine.queries.values() if q.temporary]
        if isinstance(self.view, Stream) and self.resets:
            gone.add(self.view.name)
        told += [(q, name) for q in live for name in q.plan.sources if name in gone]
        for reader, name in told:
            became = "reset" if name == self.view.name and isinstance(self.view, Stream) else "replaced"
            reader.log.fail(DependentObjectsExist(f'"{name}" was {became}', hint="subscribe anew"))
        for follower, _, _ in self.states:
            if follower.name not in gone:
                follower.commit(follower.progress)


def reorder(engine: Engine, changed: View | Stream) -> None:
    """Put the queries of a replaced view, of those above it, and live ones behind all others: each after what it reads."""
    if isinstance(changed, View):
        above = [changed, *all_dependents(engine.catalog.with_object(changed), changed.name)]
    else:
        above = all_dependents(engine.catalog, changed.name)
    for name in (v.name for v in above):
        engine.queries[name] = engine.queries.pop(name)
    for name in [q.name for q in engine.queries.values() if q.temporary]:
        engine.queries[name] = engine.queries.pop(name)


def _rows_taken(query: ContinuousQuery) -> dict[str, int]:
    """Give how many rows a query has taken in of each stream that it reads."""
    if not isinstance(query, OriginQuery):
        return {} if isinstance(query, RecomputedQuery) else {query.plan.source: query.progress.rows_in}
    found: dict[str, int] = {}
    for node, progress in zip(query.nodes, query.progress.inner, strict=True):
        if isinstance(node, StreamNode) or (isinstance(node, InnerNode) and node.query.plan.origin is None):
            found[node.named] = max(found.get(node.named, 0), progress.rows_in)
        elif isinstance(node, InnerNode):
            node.query.progress = progress
            found |= _rows_taken(node.query)
    return found
