"""What changes the catalog: CREATE, DROP, and the start and end of live queries.

Every function here runs on the engine's thread, between two epochs, and is one transaction: the catalog in memory is
replaced only after the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import chain

import duckdb

from streamsql.base.errors import (
    DependentObjectsExist,
    DuplicateColumn,
    DuplicateTable,
    FeatureNotSupported,
    StreamSQLError,
    WrongObjectType,
)
from streamsql.catalog.access import OWNER, Access
from streamsql.catalog.dependents import plain_dependents, written_over
from streamsql.catalog.objects import (
    KIND_OF,
    PUBLIC_SCHEMA,
    CatalogObject,
    PlainView,
    Sequence,
    Stream,
    Table,
    View,
    answers_to,
    literal,
    quoted,
)
from streamsql.engine import (
    dead_letters,
    dropped,
    finished,
    foreign_keys,
    kept_indexes,
    left_behind,
    outbox,
    recovery,
    sequences,
)
from streamsql.engine.access import save_access
from streamsql.engine.constraints import with_checks
from streamsql.engine.epoch import Engine
from streamsql.engine.partitions import PARTITION_COLUMN
from streamsql.engine.shared import SharedQuery, leave, left
from streamsql.engine.sharing import make_anew
from streamsql.engine.starting import with_free_key
from streamsql.engine.subscriptions import Subscription
from streamsql.engine.table_changes import refuse_if_append_mode, refuse_if_filled
from streamsql.engine.views import ContinuousQuery
from streamsql.sql.constraints import ForeignKey
from streamsql.sql.names import parted
from streamsql.sql.statements import CreateStream, CreateTable, Drop


def create_relation(engine: Engine, statement: CreateStream | CreateTable, owner: int = OWNER) -> Stream | Table | None:
    """CREATE STREAM or CREATE TABLE; None where it exists already and IF NOT EXISTS was said. `owner` is a role's OID."""
    if exists(engine, statement.name, statement.if_not_exists):
        return None
    made = with_free_key(engine, recovery.relation_of(statement, engine.next_id(), statement.text))
    if made.name != statement.name:
        made = _speaking_of_itself(made, statement.name)
    if made.connector and (made.constraints or any(c.numbered for c in made.columns)):
        raise FeatureNotSupported(
            "constraints and numbered columns of what a connector fills are not supported",
            hint="a materialized view can leave rows out",
        )
    made = with_checks(made, engine.limits, statement, engine.describe)
    if made.rejected_into:
        dead_letters.check_target(engine.catalog, made, statement.option_positions.get("rejected_into"))
    if isinstance(made, Table):
        foreign_keys.check_new(engine.catalog, made)
    with engine.store.transaction():
        engine.store.execute(rows_table(made))
        names = ", ".join(quoted(c.name) for c in made.columns)
        engine.store.execute(f"CREATE VIEW {made.public_name} AS SELECT {names} FROM {made.rows_table}")
        numbering = sequences.owned(engine, made)
        for sequence in numbering:
            sequences.save(engine.store, sequence)
            engine.sequences.add(sequence)
        save_made(engine, made, owner, numbering)
    return made


def _speaking_of_itself(made: Stream | Table, name: str) -> Stream | Table:
    """Give a relation whose key is another than its name's, with foreign keys that speak of it by that."""
    constraints = tuple(
        replace(c, table=made.name) if isinstance(c, ForeignKey) and c.table == name else c for c in made.constraints
    )
    return replace(made, constraints=constraints)


def rows_table(made: Stream | Table) -> str:
    """Give the statement that makes the table of a relation's rows."""
    columns = []
    for column in made.columns:
        if column.name.startswith("__"):
            raise DuplicateColumn(f'column name "{column.name}" is reserved', hint="names that start with __ are ours")
        columns.append(
            f"{quoted(column.name)} {column.type}{' NOT NULL' if column.not_null or column.primary_key else ''}"
        )
    columns += ["__seq BIGINT", "__arrived_at TIMESTAMP"]
    if isinstance(made, Stream) and made.connector:
        columns.append(f"{PARTITION_COLUMN} BIGINT")
    if isinstance(made, Table) and made.primary_key:
        columns.append(f"PRIMARY KEY ({', '.join(quoted(c) for c in made.primary_key)})")
    if isinstance(made, Table):
        columns += [f"UNIQUE ({', '.join(map(quoted, key.columns))})" for key in made.uniques]
    return f"CREATE TABLE {made.rows_table} ({', '.join(columns)})"


def exists(engine: Engine, key: str, may: bool) -> bool:
    schema, name = parted(key)
    found = engine.catalog.is_taken(schema or PUBLIC_SCHEMA, name)
    if found and not may:
        raise DuplicateTable(f'relation "{name}" already exists')
    return found


def save_made(engine: Engine, made: CatalogObject, owner: int = OWNER, numbering: Iterable[Sequence] = ()) -> None:
    """Make an object, with the sequences of its columns, durable and known, as the last act of its transaction."""
    before = engine.catalog
    engine.catalog = before.with_object(made).with_sequences(numbering)
    try:
        if owner != OWNER:
            access = before.access.with_owner(made.id, owner)
            for sequence in numbering:
                access = access.with_owner(sequence.id, owner)
            set_access(engine, access)
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
        if not answers_to(found, statement.kind):
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
        views: list[View | PlainView] = [v for v in plain_dependents(engine.catalog, item.name) if v.name not in known]
        kept = engine.catalog.dependents(item.name)
        kept += [v for v in written_over(engine.catalog, item.name) if v not in kept]
        views += [v for v in kept if v.name not in known]
        depending = [f"{KIND_OF[type(v)].value.lower()} {v.shown}" for v in views]
        depending += [f"sink {s.name}" for s in engine.catalog.sinks_of(item.name)]
        depending += [
            f"constraint {key.name} on table {table.shown}"
            for table, key in engine.catalog.referencing(item.name) if table.name not in known
        ]  # fmt: skip
        kind = KIND_OF[type(item)].value.lower()
        if depending and not cascade:
            raise DependentObjectsExist(
                f"cannot drop {kind} {item.shown} because other objects depend on it",
                detail="\n".join(f"{other} depends on {kind} {item.shown}" for other in depending),
                hint="use DROP ... CASCADE to drop the dependent objects too",
            )
        users = [o for o in dead_letters.users_of(engine.catalog, item.name) if o.name not in known]
        if users:
            user = f"{KIND_OF[type(users[0])].value.lower()} {users[0].shown}"
            raise DependentObjectsExist(
                f"cannot drop {kind} {item.shown} because other objects depend on it",
                detail=f"{user} puts records that cannot be read into it",
                hint=f"drop {user} first: CASCADE does not",
            )
        gone += views
    if gone:
        _drop_all(engine, gone)
    return gone[len(given) :]


def _drop_all(engine: Engine, gone: list[CatalogObject]) -> None:
    from streamsql.engine import altering  # which drops views that read a column

    names = {o.name for o in gone}
    live = [
        q for q in engine.queries.values()
        if q.name in names or (q.temporary and names.intersection(q.plan.sources))
    ]  # fmt: skip
    before, streams, sinks = engine.catalog, dict(engine.streams), engine.sinks
    catalog = before
    cut = altering.without_references(engine, before, names)
    for name in names:
        catalog = catalog.without(name).without_comments(name)
    catalog = replace(catalog, objects={**catalog.objects, **{table.name: table for table in cut}})
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
                if not isinstance(item, PlainView):
                    engine.store.execute(f"DROP VIEW {item.public_name}")
                if isinstance(item, (Stream, Table)):
                    left_behind.note(engine.store, item)
                engine.store.execute(f"DELETE FROM _engine.objects WHERE id = {item.id}")
                engine.store.execute(f"DELETE FROM _engine.comments WHERE object = {literal(item.name)}")
                if isinstance(item, (Stream, Table)):
                    engine.store.execute(f"DROP TABLE {item.rows_table}")
                    finished.forget(engine.store, item.id)
                    dropped.forget(engine.store, item.id)
            for table in cut:
                altering.save_definition(engine, table)
            for query in live:
                query.drop()
                engine.queries.pop(query.name)
            cut_off = [s for name in names for s in before.sinks_of(name)]
            catalog, engine.sinks = outbox.remove(engine.store, catalog, sinks, cut_off)
            for name in names:
                engine.streams.pop(name, None)
            ids = {o.id for o in gone}
            numbering = [s.id for s in catalog.sequences.values() if s.owned_by is not None and s.owned_by[0] in ids]
            sequences.forget(engine.store, numbering)
            catalog = kept_indexes.without_relations(engine.store, catalog, ids)
            engine.catalog = catalog.without_sequences(numbering).with_access(before.access)
            set_access(engine, catalog.access.without_objects([*ids, *numbering]))
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
    refuse_if_filled(engine.catalog, [table.name])
    refuse_if_append_mode(engine.queries.values(), table)
    return engine.change_table(table, sql, zone=zone)
