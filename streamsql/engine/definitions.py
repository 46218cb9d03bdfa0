"""What changes the catalog: CREATE, DROP, and the start and end of live queries.

Every function here runs on the engine's thread, between two epochs, and is one transaction: the catalog in memory is
replaced only after the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from streamsql.base.errors import (
    CardinalityViolation,
    DependentObjectsExist,
    DuplicateColumn,
    DuplicateTable,
    FeatureNotSupported,
    InvalidObjectDefinition,
    StreamSQLError,
    UndefinedTable,
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
    nearest,
    quoted,
)
from streamsql.engine import chains, outbox, recovery
from streamsql.engine.access import save_access
from streamsql.engine.changes import Change, Progress
from streamsql.engine.epoch import Engine
from streamsql.engine.flow import Arriving
from streamsql.engine.origin_query import OriginQuery
from streamsql.engine.recomputed import RecomputedQuery, RecomputeError, query_of
from streamsql.engine.rejected import QueryFailureError, Rejected
from streamsql.engine.replaced import Aside
from streamsql.engine.subscriptions import Subscription
from streamsql.engine.table_changes import refuse_if_append_mode
from streamsql.engine.views import ContinuousQuery
from streamsql.sql.parse import parse
from streamsql.sql.statements import (
    CreateMaterializedView,
    CreateStream,
    CreateTable,
    Drop,
    ObjectKind,
)


def create_relation(engine: Engine, statement: CreateStream | CreateTable, owner: int = OWNER) -> bool:
    """CREATE STREAM or CREATE TABLE; False where it exists already and IF NOT EXISTS was said. `owner` is a role's OID."""
    if _exists(engine, statement.name, statement.if_not_exists):
        return False
    made = recovery.relation_of(statement, engine.next_id(), statement.text)
    with engine.store.transaction():
        engine.store.execute(_rows_table(made))
        names = ", ".join(quoted(c.name) for c in made.columns)
        engine.store.execute(f"CREATE VIEW {made.public_name} AS SELECT {names} FROM {made.rows_table}")
        _save(engine, made, owner)
    return True


def _rows_table(made: Stream | Table) -> str:
    columns = []
    for column in made.columns:
        if column.name.startswith("__"):
            raise DuplicateColumn(f'column name "{column.name}" is reserved', hint="names that start with __ are ours")
        columns.append(
            f"{quoted(column.name)} {column.type}{' NOT NULL' if column.not_null or column.primary_key else ''}"
        )
    columns += ["__seq BIGINT", "__arrived_at TIMESTAMP"]
    if isinstance(made, Table) and made.primary_key:
        columns.append(f"PRIMARY KEY ({', '.join(quoted(c) for c in made.primary_key)})")
    return f"CREATE TABLE {made.rows_table} ({', '.join(columns)})"


def _exists(engine: Engine, name: str, may: bool) -> bool:
    if engine.catalog.get(name) is None:
        return False
    if may:
        return True
    raise DuplicateTable(f'relation "{name}" already exists')


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


def create_view(engine: Engine, statement: CreateMaterializedView, owner: int = OWNER) -> bool:
    """CREATE MATERIALIZED VIEW: makes it and fills it from the rows kept, in one transaction."""
    if statement.or_replace and engine.catalog.get(statement.name) is not None:
        _replace_view(engine, statement)
        return True
    if _exists(engine, statement.name, statement.if_not_exists):
        return False
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
    return True


def _planned(engine: Engine, statement: CreateMaterializedView) -> tuple[View, ContinuousQuery, str]:
    """Plan a view: gives the catalog's object, the query, and the SQL that shows its result under its name."""
    # the client's own text: written anew from its tree, a function may come back as another (count_if as a sum)
    text = statement.text
    view, plan = recovery.view_of(statement, engine.next_id(), text, engine.catalog, engine.describe, engine.limits)
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


def _replace_view(engine: Engine, statement: CreateMaterializedView) -> None:
    """CREATE OR REPLACE: the new query takes the old one's place in one transaction, and the views above it follow."""
    name, before, kept = statement.name, engine.catalog, dict(engine.queries)
    old_id = engine.catalog.view(name).id
    view, query, show = _planned(engine, statement)
    above = engine.catalog.all_dependents(name)
    cycle = [v.name for v in above if v.name in view.sources] + ([name] if name in view.sources else [])
    if cycle:
        raise InvalidObjectDefinition(
            f'materialized view "{name}" cannot read itself', detail=f"it reads {', '.join(cycle)}"
        )
    _refuse_sinks(engine, [name, *(v.name for v in above)])
    old = engine.queries[name]
    aside = Aside(engine.store, old, name)
    followers = [engine.queries[v.name] for v in above]
    states = [(f, f.plan, f.progress) for f in followers]

    def finish(progress: Progress) -> None:
        engine.store.execute(show)
        engine.store.execute(f"DELETE FROM _engine.objects WHERE id = {old_id}")
        query.progress = progress
        engine.queries[name] = query
        engine.catalog = before.without(name)
        for item, follower in zip(above, followers, strict=True):
            _follow(engine, view, item, follower)
        engine.reorder(view)
        set_access(engine, before.access.handed_on(old_id, view.id))
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


def _refuse_sinks(engine: Engine, names: list[str]) -> None:
    """Raise where a view that is to be replaced, or one above it, has sinks: what they have delivered would not be undone."""
    found = [s for name in names for s in engine.catalog.sinks_of(name)]
    if found:
        raise DependentObjectsExist(
            f"cannot replace {names[0]} because sink {found[0].name} depends on it",
            detail=f"{found[0].name} has delivered rows of {found[0].view}",
            hint=f"DROP SINK {found[0].name} first",
        )


def _follow(engine: Engine, replaced: View, item: View, query: ContinuousQuery) -> None:
    """Let a view read the new query of a view below it. Raises where its own columns would not be the same."""
    statement = parse(item.text, engine.limits)[0]
    assert isinstance(statement, CreateMaterializedView)
    if not isinstance(query, RecomputedQuery):
        raise DependentObjectsExist(
            f"cannot replace {replaced.name} because {item.name} depends on it",
            detail=f"{item.name} has taken in rows of {replaced.name}, and cannot give them back",
            hint=f"drop {item.name} first, and create it again",
        )
    try:
        catalog = engine.catalog.with_object(replaced)
        made, plan = recovery.view_of(statement, item.id, item.text, catalog, engine.store.describe, engine.limits)
    except StreamSQLError as error:
        raise DependentObjectsExist(
            f"cannot replace {replaced.name} because {item.name} depends on it", detail=error.message
        ) from error
    if made.columns != item.columns:
        raise DependentObjectsExist(
            f"cannot replace {replaced.name} because {item.name} depends on it",
            detail="its columns would have other types",
            hint=f"drop {item.name} first",
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


def drop(engine: Engine, statement: Drop) -> list[str]:
    """DROP: gives the names that did not exist (IF EXISTS)."""
    missing: list[str] = []
    gone: list[CatalogObject] = []
    for name in statement.names:
        found = engine.catalog.get(name)
        if found is None:
            if not statement.if_exists:
                raise UndefinedTable(
                    f'{statement.kind.value.lower()} "{name}" does not exist',
                    hint=nearest(name, engine.catalog.objects),
                )
            missing.append(name)
            continue
        if KIND_OF[type(found)] is not statement.kind:
            kind = KIND_OF[type(found)].value
            raise WrongObjectType(
                f'"{name}" is not a {statement.kind.value.lower()}', hint=f"use DROP {kind} to remove it"
            )
        gone.append(found)
    drop_objects(engine, gone, cascade=statement.cascade)
    return missing


def drop_objects(engine: Engine, gone: list[CatalogObject], *, cascade: bool) -> None:
    """Drop objects, and what depends on them where `cascade` says so. Raises DependentObjectsExist."""
    named = {o.name for o in gone}
    for item in gone:  # which grows as dependents are found
        known = named | {o.name for o in gone}
        views = [v for v in engine.catalog.dependents(item.name) if v.name not in known]
        depending = [f"materialized view {v.name}" for v in views]
        depending += [f"sink {s.name}" for s in engine.catalog.sinks_of(item.name)]
        if depending and not cascade:
            raise DependentObjectsExist(
                f"cannot drop {KIND_OF[type(item)].value.lower()} {item.name} because other objects depend on it",
                detail="\n".join(f"{other} depends on {item.name}" for other in depending),
                hint="use DROP ... CASCADE to drop the dependent objects too",
            )
        gone += views
    if gone:
        _drop_all(engine, gone)


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
    try:
        with engine.store.transaction():
            for item in sorted(gone, key=lambda o: not isinstance(o, View)):
                engine.store.execute(f"DROP VIEW {item.public_name}")
                engine.store.execute(f"DELETE FROM _engine.objects WHERE id = {item.id}")
                engine.store.execute(f"DELETE FROM _engine.comments WHERE object = {literal(item.name)}")
                if isinstance(item, (Stream, Table)):
                    engine.store.execute(f"DROP TABLE {item.rows_table}")
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
    for query in live:
        query.close()
        query.log.fail(DependentObjectsExist(f'"{query.plan.source if query.temporary else query.name}" was dropped'))


def change_table(engine: Engine, table: Table, sql: str, zone: str) -> int:
    """Run UPDATE or DELETE on a table's rows; gives how many. Refused while a query reads it that cannot take rows back."""
    refuse_if_append_mode(engine.queries.values(), table)
    return engine.change_table(table, sql, zone=zone)


def upsert(engine: Engine, table: Table, rows: pa.Table, clause: str) -> int:
    """Run an INSERT with an ON CONFLICT clause; gives how many rows were written. Refused as `change_table` is."""
    refuse_if_append_mode(engine.queries.values(), table)
    if not rows.num_rows:
        return 0
    engine.store.register("__given", rows)
    check_once(table, clause, engine.store.fetch)
    more = {
        "__seq": f"{engine.next_sequence} - 1 + row_number() OVER ()",
        "__arrived_at": f"make_timestamp({engine.clock.now_us()})",
    }
    return engine.change_table(table, upsert_sql(table, clause, table.rows_table, more), rows.num_rows)


def check_once(table: Table, clause: str, fetch: Callable[[str], list[tuple[Any, ...]]]) -> None:
    """Raise CardinalityViolation where two of the rows in ``__given`` that ON CONFLICT is to update with have one key."""
    key = ", ".join(quoted(c) for c in table.primary_key)
    if "DO UPDATE" in clause and fetch(f"SELECT 1 FROM __given GROUP BY {key} HAVING count(*) > 1 LIMIT 1"):
        raise CardinalityViolation(
            "ON CONFLICT DO UPDATE command cannot affect row a second time",
            hint="ensure that no rows proposed for insertion within the same command have duplicate constrained values",
        )


def upsert_sql(table: Table, clause: str, target: str, more: Mapping[str, str]) -> str:
    """Give the INSERT of the rows in ``__given`` into `target`, which has the table's columns and `more` besides."""
    names = [quoted(c.name) for c in table.columns]
    return (
        f"INSERT INTO {target} AS {quoted(table.name)} ({', '.join([*names, *more])}) "
        f"SELECT {', '.join([*names, *more.values()])} FROM __given {clause}"
    )


def kinds(engine: Engine, kind: ObjectKind) -> list[CatalogObject]:
    """List the objects of a kind by name."""
    return sorted((o for o in engine.catalog if KIND_OF[type(o)] is kind), key=lambda o: o.name)
