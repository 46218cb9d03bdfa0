"""What changes the catalog: CREATE, DROP, and the start and end of live queries.

Every function here runs on the engine's thread, between two epochs, and is one transaction: the catalog in memory is
replaced only after the commit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import duckdb

from streamsql.base.errors import (
    DependentObjectsExist,
    DuplicateColumn,
    DuplicateTable,
    FeatureNotSupported,
    InvalidObjectDefinition,
    StreamSQLError,
    WrongObjectType,
)
from streamsql.base.faults import reached
from streamsql.catalog.access import OWNER, Access
from streamsql.catalog.objects import (
    KIND_OF,
    CatalogObject,
    Stream,
    Table,
    View,
    literal,
    quoted,
)
from streamsql.engine import chains, finished, outbox, recovery
from streamsql.engine.access import save_access
from streamsql.engine.changes import Change, Progress
from streamsql.engine.epoch import Engine
from streamsql.engine.flow import Arriving
from streamsql.engine.origin_query import OriginQuery
from streamsql.engine.partitions import PARTITION_COLUMN
from streamsql.engine.recomputed import RecomputedQuery, RecomputeError, query_of
from streamsql.engine.rejected import QueryFailureError, Rejected
from streamsql.engine.replaced import Aside
from streamsql.engine.shared import SharedQuery, leave, left, part
from streamsql.engine.sharing import make_anew, share
from streamsql.engine.subscriptions import Subscription
from streamsql.engine.table_changes import refuse_if_append_mode
from streamsql.engine.views import ContinuousQuery
from streamsql.sql.statements import (
    CreateMaterializedView,
    CreateStream,
    CreateTable,
    Drop,
)

R = TypeVar("R", Stream, Table, Stream | Table, View)


def create_relation(engine: Engine, statement: CreateStream | CreateTable, owner: int = OWNER) -> Stream | Table | None:
    """CREATE STREAM or CREATE TABLE; None where it exists already and IF NOT EXISTS was said. `owner` is a role's OID."""
    if _exists(engine, statement.name, statement.if_not_exists):
        return None
    made = _with_free_key(engine, recovery.relation_of(statement, engine.next_id(), statement.text))
    with engine.store.transaction():
        engine.store.execute(_rows_table(made))
        names = ", ".join(quoted(c.name) for c in made.columns)
        engine.store.execute(f"CREATE VIEW {made.public_name} AS SELECT {names} FROM {made.rows_table}")
        _save(engine, made, owner)
    return made


def _rows_table(made: Stream | Table) -> str:
    columns = []
    for column in made.columns:
        if column.name.startswith("__"):
            raise DuplicateColumn(f'column name "{column.name}" is reserved', hint="names that start with __ are ours")
        columns.append(
            f"{quoted(column.name)} {column.type}{' NOT NULL' if column.not_null or column.primary_key else ''}"
        )
    columns += ["__seq BIGINT", "__arrived_at TIMESTAMP"]
    if isinstance(made, Stream) and made.connector:
        columns.append(f"{PARTITION_COLUMN} INTEGER")
    if isinstance(made, Table) and made.primary_key:
        columns.append(f"PRIMARY KEY ({', '.join(quoted(c) for c in made.primary_key)})")
    return f"CREATE TABLE {made.rows_table} ({', '.join(columns)})"


def _exists(engine: Engine, key: str, may: bool) -> bool:
    found = engine.catalog.called(key)
    if found is not None and not may:
        raise DuplicateTable(f'relation "{found.bare}" already exists')
    return found is not None


def _with_free_key(engine: Engine, made: R) -> R:
    """Give what is made another key, where one that was renamed has the key of its name."""
    if made.name not in engine.catalog.objects:
        return made
    return dataclasses.replace(made, name=f"{made.name} ({made.id})")


def _save(engine: Engine, made: CatalogObject, owner: int = OWNER) -> None:
    """Make an object durable and known, as the last act of its transaction."""
    before = engine.catalog
    engine.catalog = before.with_object(made)
    try:
        if owner != OWNER:
            set_access(engine, before.access.with_owner(made.id, owner))
        recovery.save_object(engine.store, made)
        engine.save()
    except BaseException:
        engine.catalog = before
        raise


def set_access(engine: Engine, access: Access) -> None:
    """Change owners and privileges together with the objects, within the caller's transaction."""
    if access != engine.catalog.access:
        engine.catalog = engine.catalog.with_access(access)
        save_access(engine.store, access)


def create_view(engine: Engine, statement: CreateMaterializedView, owner: int = OWNER) -> View | None:
    """CREATE MATERIALIZED VIEW: makes it and fills it from the rows kept, in one transaction; None where it was there."""
    replaced = engine.catalog.called(statement.name) if statement.or_replace else None
    if replaced is not None:
        return _replace_view(engine, dataclasses.replace(statement, name=replaced.name))
    if _exists(engine, statement.name, statement.if_not_exists):
        return None
    engine.check_query_count()
    view, query, show = _planned(engine, statement)

    def finish(progress: Progress) -> None:
        engine.store.execute(show)
        query.progress = progress
        engine.queries[view.name] = query
        _save(engine, view, owner)

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


def _planned(engine: Engine, statement: CreateMaterializedView) -> tuple[View, ContinuousQuery, str]:
    """Plan a view: gives the catalog's object, the query, and the SQL that shows its result under its name."""
    # the client's own text: written anew from its tree, a function may come back as another (count_if as a sum)
    text = statement.text
    view, plan = recovery.view_of(statement, engine.next_id(), text, engine.catalog, engine.describe, engine.limits)
    if not statement.or_replace:
        view = _with_free_key(engine, view)
    if plan.limit is not None:
        raise FeatureNotSupported(
            "LIMIT cannot be used in a materialized view", hint="use it when you SELECT from the view"
        )
    names = [c.name for c in view.columns]
    for name in names:
        if names.count(name) > 1:
            raise DuplicateColumn(f'column "{name}" specified more than once', hint="name the columns with AS")
    query = query_of(view.id, view.name, plan, engine.store, engine.limits, temporary=False)
    columns = ", ".join(f"o{i} AS {quoted(n)}" for i, n in enumerate(names))
    return view, query, f"CREATE VIEW {view.public_name} AS SELECT {columns} FROM {query.result}"


def _replace_view(engine: Engine, statement: CreateMaterializedView) -> View:
    """CREATE OR REPLACE: the new query takes the old one's place in one transaction, and the views above it follow."""
    name, before, kept = statement.name, engine.catalog, dict(engine.queries)
    old_view = engine.catalog.view(name)
    view, query, show = _planned(engine, statement)
    view = dataclasses.replace(view, schema=old_view.schema, label=old_view.label)
    above = engine.catalog.all_dependents(name)
    cycle = [v.name for v in above if v.name in view.sources] + ([name] if name in view.sources else [])
    if cycle:
        raise InvalidObjectDefinition(
            f'materialized view "{name}" cannot read itself', detail=f"it reads {', '.join(cycle)}"
        )
    outbox.refuse_replacing(engine.catalog, [name, *(v.name for v in above)])
    old = engine.queries[name]
    if isinstance(old.shared, SharedQuery):
        part(engine.store, old.shared, [old])
    aside = Aside(engine.store, old, name)
    followers = [engine.queries[v.name] for v in above]
    states = [(f, f.plan, f.progress) for f in followers]

    def finish(progress: Progress) -> None:
        engine.store.execute(show)
        engine.store.execute(f"DELETE FROM _engine.objects WHERE id = {old_view.id}")
        query.progress = progress
        engine.queries[name] = query
        engine.catalog = before.without(name)
        for item, follower in zip(above, followers, strict=True):
            _follow(engine, view, item, follower)
        engine.reorder(view)
        set_access(engine, before.access.handed_on(old_view.id, view.id))
        _save(engine, view)

    try:
        start_query(engine, query, finish, aside.put)
    except BaseException:
        engine.catalog, engine.queries = before, kept
        for follower, plan, progress in states:
            if follower.plan is not plan:
                assert isinstance(follower, RecomputedQuery)
                follower.restore_plan(plan)
            follower.progress = progress
        raise
    engine.store.forget_statements()
    with engine.store.transaction():
        aside.drop()
    old.close()
    replaced = DependentObjectsExist(f'"{name}" was replaced', hint="subscribe anew")
    for reader in (old, *(q for q in engine.queries.values() if q.temporary and name in q.plan.sources)):
        reader.log.fail(replaced)
    for follower in followers:
        follower.commit(follower.progress)
    reached("view.created")
    share(engine, query)
    return view


def _follow(engine: Engine, replaced: View, item: View, query: ContinuousQuery) -> None:
    """Let a view read the new query of a view below it. Raises where its own columns would not be the same."""
    statement = recovery.defined(item.text, item.name, item.names, engine.limits)
    assert isinstance(statement, CreateMaterializedView)
    if not isinstance(query, RecomputedQuery):
        raise DependentObjectsExist(
            f"cannot replace {replaced.shown} because {item.shown} depends on it",
            detail=f"{item.shown} has taken in rows of {replaced.shown}, and cannot give them back",
            hint=f"drop {item.shown} first, and create it again",
        )
    try:
        catalog = engine.catalog.with_object(replaced)
        made, plan = recovery.view_of(statement, item.id, item.text, catalog, engine.store.describe, engine.limits)
    except StreamSQLError as error:
        raise DependentObjectsExist(
            f"cannot replace {replaced.shown} because {item.shown} depends on it", detail=error.message
        ) from error
    if made.columns != item.columns:
        raise DependentObjectsExist(
            f"cannot replace {replaced.shown} because {item.shown} depends on it",
            detail="its columns would have other types",
            hint=f"drop {item.shown} first",
        )
    query.change_plan(plan)
    try:
        query.progress = query.recompute(engine.epoch, engine.clock.now_us())
    except RecomputeError as failure:
        raise failure.error from failure


def start_query(
    engine: Engine,
    query: ContinuousQuery,
    finish: Callable[[Progress], None],
    begin: Callable[[], None] = lambda: None,
) -> None:
    """Make a query's tables and take in the rows that its source has kept, but for those that it fails on.

    `begin` and `finish` are called first and last in the transaction.
    """
    if isinstance(query, RecomputedQuery):
        try:
            with engine.store.transaction():
                begin()
                query.make()
                finish(query.recompute(engine.epoch, engine.clock.now_us()))
                changes = query.take_emitted()
        except RecomputeError as failure:
            raise failure.error from failure
        query.publish(changes)
        return
    query.open()
    rejected = Rejected()
    while True:
        try:
            query.publish(_filled(engine, query, finish, begin, rejected))
            return
        except QueryFailureError as failure:
            if not rejected.set_aside(failure):
                raise failure.error from failure


def _filled(
    engine: Engine,
    query: ContinuousQuery,
    finish: Callable[[Progress], None],
    begin: Callable[[], None],
    rejected: Rejected,
) -> list[Change]:
    """Make a query's tables and fill them in one transaction; give the changes to show after it."""
    with engine.store.transaction():
        begin()
        progress = query.create(engine.epoch)
        changes = query.take_emitted()
        pieces = _pieces_of_origin if isinstance(query, OriginQuery) else _pieces_of_stream
        for made in pieces(engine, query, progress, rejected):
            progress = made
            changes += query.take_emitted()
        finish(progress)
    return changes


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
    for rows, flows in chains.kept_rows(engine.store, engine.catalog, query, engine.limits.epoch_rows_max):
        progress = query.take(Arriving(engine.epoch, now, position, rejected.apply, rows, flows), progress)
        yield progress
    marks = chains.marks_of_views(engine.queries, query, position)
    if marks:
        yield query.take(Arriving(engine.epoch, now, position, rejected.apply, {}, marks), progress)


@dataclass(frozen=True, slots=True)
class ViewSubscription:
    """A SUBSCRIBE: the view, the epoch of the snapshot and a connection that sees it, and the changes after it."""

    view: View
    epoch: int
    snapshot: duckdb.DuckDBPyConnection
    snapshot_query: str
    subscription: Subscription


def subscribe(engine: Engine, name: str, position: int | None, wake: Callable[[], None]) -> ViewSubscription:
    """Start following a view from the current epoch."""
    view = engine.catalog.view(name, position)
    query = engine.queries[name]
    if query.progress.error is not None:
        raise StreamSQLError(
            f'materialized view "{name}" has stopped: {query.progress.error}', hint="drop and create it"
        )
    snapshot = engine.store.snapshot(query.tables.result)
    return ViewSubscription(view, engine.epoch, snapshot, query.snapshot_query(), query.log.subscribe(wake))


def drop(engine: Engine, statement: Drop) -> list[CatalogObject]:
    """DROP of what has these keys; gives what else has gone with it."""
    gone: list[CatalogObject] = []
    for name in statement.names:
        found = engine.catalog.find(name)
        if KIND_OF[type(found)] is not statement.kind:
            kind = KIND_OF[type(found)].value
            raise WrongObjectType(
                f'"{found.bare}" is not a {statement.kind.value.lower()}', hint=f"use DROP {kind} to remove it"
            )
        gone.append(found)
    return drop_objects(engine, gone, cascade=statement.cascade)


def drop_objects(engine: Engine, given: list[CatalogObject], *, cascade: bool) -> list[CatalogObject]:
    """Drop objects, and what depends on them where `cascade` says so; gives the latter. Raises DependentObjectsExist."""
    gone = list(given)
    named = {o.name for o in gone}
    for item in gone:  # which grows as dependents are found
        known = named | {o.name for o in gone}
        views = [v for v in engine.catalog.dependents(item.name) if v.name not in known]
        depending = [f"materialized view {v.shown}" for v in views]
        depending += [f"sink {s.name}" for s in engine.catalog.sinks_of(item.name)]
        if depending and not cascade:
            raise DependentObjectsExist(
                f"cannot drop {KIND_OF[type(item)].value.lower()} {item.shown} because other objects depend on it",
                detail="\n".join(f"{other} depends on {item.shown}" for other in depending),
                hint="use DROP ... CASCADE to drop the dependent objects too",
            )
        gone += views
    if gone:
        _drop_all(engine, gone)
    return gone[len(given) :]


def _drop_all(engine: Engine, gone: list[CatalogObject]) -> None:
    names = {o.name for o in gone}
    live = [
        q for q in engine.queries.values()
        if q.name in names or (q.temporary and names.intersection(q.plan.sources))
    ]  # fmt: skip
    before, streams, sinks = engine.catalog, dict(engine.streams), engine.sinks
    catalog = before
    for name in names:
        catalog = catalog.without(name).without_comments(name)
    kept = dict(engine.queries)
    groups: dict[SharedQuery, list[ContinuousQuery]] = {}
    for query in live:
        if isinstance(query.shared, SharedQuery):
            groups.setdefault(query.shared, []).append(query)
    try:
        with engine.store.transaction():
            for group, members in groups.items():
                leave(engine.store, group, members)
            for item in sorted(gone, key=lambda o: not isinstance(o, View)):
                engine.store.execute(f"DROP VIEW {item.public_name}")
                engine.store.execute(f"DELETE FROM _engine.objects WHERE id = {item.id}")
                engine.store.execute(f"DELETE FROM _engine.comments WHERE object = {literal(item.name)}")
                if isinstance(item, (Stream, Table)):
                    engine.store.execute(f"DROP TABLE {item.rows_table}")
                    finished.forget(engine.store, item.id)
            for query in live:
                query.drop()
                engine.queries.pop(query.name)
            cut_off = [s for name in names for s in before.sinks_of(name)]
            catalog, engine.sinks = outbox.remove(engine.store, catalog, sinks, cut_off)
            for name in names:
                engine.streams.pop(name, None)
            engine.catalog = catalog.with_access(before.access)
            set_access(engine, catalog.access.without_objects(o.id for o in gone))
            engine.save()
    except BaseException:
        engine.catalog, engine.queries, engine.streams, engine.sinks = before, kept, streams, sinks
        raise
    engine.store.forget_statements()
    for group, members in groups.items():
        left(group, members)
        make_anew(engine, group)
    for query in live:
        if query not in chain.from_iterable(groups.values()):
            query.close()
        query.log.fail(DependentObjectsExist(f'"{query.plan.source if query.temporary else query.name}" was dropped'))


def change_table(engine: Engine, table: Table, sql: str, zone: str) -> int:
    """Run UPDATE or DELETE on a table's rows; gives how many. Refused while a query reads it that cannot take rows back."""
    refuse_if_append_mode(engine.queries.values(), table)
    return engine.change_table(table, sql, zone=zone)
