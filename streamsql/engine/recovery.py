"""What is kept besides rows, state and results: definitions, progress, the ledger. Made, read back, shown.

``_engine.objects``    a row an object: its id, kind, key and defining statement; `place` as JSON: its schema, its name there,
                       and the keys of what its text names
``_engine.schemas``    the schemas besides ``public``
``_engine.epoch``      one row: the last epoch, when it was committed, the next arrival number, all progress as JSON
``_engine.shared_states``  which views share a state (`engine.shared`)
``_engine.layout``     one row: the format, and the digest of the statements that made all of these
``_engine.left_behind``  what was dropped, and its origin may still keep something for (`engine.left_behind`)
``_engine.identity``   one row: a text that no other database has, for what is kept of this one elsewhere
``_engine.late_rows``  rows that a query could not take in any more

The tables of schema ``streamsql`` are DuckDB views over these, so they agree with every other table of the same epoch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from streamsql.base.faults import reached
from streamsql.base.limits import Limits
from streamsql.catalog.objects import (
    PUBLIC,
    PUBLIC_SCHEMA,
    RESULTS_SCHEMA,
    STATE_SCHEMA,
    Catalog,
    CatalogObject,
    OutputColumn,
    PlainView,
    Schema,
    Sink,
    Stream,
    Table,
    View,
    quoted,
)
from streamsql.engine import (
    access,
    finished,
    kept_indexes,
    kept_types,
    outbox,
    plain_views,
    progress_views,
    receipts,
    sequences,
)
from streamsql.engine.changes import Progress
from streamsql.engine.constraints import with_checks
from streamsql.engine.outbox import SinkProgress
from streamsql.engine.partitions import PartitionProgress
from streamsql.engine.positions import StreamProgress
from streamsql.engine.stalls import stalls
from streamsql.engine.store import DataDirectoryError, Store
from streamsql.plan.continuous import named_relations, plan_query
from streamsql.plan.naming import Remembered, resolved
from streamsql.plan.nodes import ContinuousPlan, Describe
from streamsql.plan.stages import seen_name
from streamsql.sql.flow_statements import CreateSink
from streamsql.sql.names import Key, parted
from streamsql.sql.parse import parse
from streamsql.sql.statements import CreateMaterializedView, CreateStream, CreateTable, Statement

_TABLES = (
    "CREATE TABLE IF NOT EXISTS _engine.objects (id BIGINT, kind VARCHAR, name VARCHAR, definition VARCHAR)",
    # of files from before there were schemas
    "ALTER TABLE _engine.objects ADD COLUMN IF NOT EXISTS place VARCHAR",
    "CREATE TABLE IF NOT EXISTS _engine.schemas (id BIGINT, name VARCHAR)",
    "CREATE TABLE IF NOT EXISTS _engine.epoch "
    "(epoch BIGINT, committed_at TIMESTAMP, next_sequence BIGINT, next_id BIGINT, progress VARCHAR)",
    "CREATE TABLE IF NOT EXISTS _engine.late_rows (epoch BIGINT, seq BIGINT, arrived_at TIMESTAMP, view VARCHAR, "
    "stream VARCHAR, reason VARCHAR, event_time TIMESTAMP, watermark TIMESTAMP, late_by INTERVAL, row_json VARCHAR)",
    "CREATE TABLE IF NOT EXISTS _engine.shared_states (number BIGINT, slot BIGINT, view VARCHAR, definition VARCHAR)",
    "CREATE TABLE IF NOT EXISTS _engine.dropped_rows (stream BIGINT, column_name VARCHAR, rows BIGINT, largest BIGINT)",
    "CREATE TABLE IF NOT EXISTS _engine.identity (identity VARCHAR)",
    "CREATE TABLE IF NOT EXISTS _engine.left_behind (id BIGINT, name VARCHAR, definition VARCHAR, place VARCHAR)",
    "CREATE TABLE IF NOT EXISTS _engine.comments (object VARCHAR, column_name VARCHAR, comment VARCHAR)",
)

SYSTEM_RELATIONS = (
    "backfills",
    "epoch",
    "late_rows",
    "lookups",
    "partitions",
    "rejected_rows",
    "sinks",
    "sources",
    "streams",
    "views",
    "watermarks",
)


@dataclass(slots=True)
class Recovered:
    """Everything that a server needs to go on where the last one stopped."""

    catalog: Catalog
    epoch: int
    next_sequence: int
    next_id: int
    streams: dict[str, StreamProgress]
    sinks: dict[str, SinkProgress]
    views: dict[str, tuple[View, ContinuousPlan, Progress]] = field(default_factory=dict)


_HAS_EPOCH = "SELECT 1 FROM duckdb_tables() WHERE schema_name = '_engine' AND table_name = 'epoch'"

# Of what states, results and progress hold. One more, when what an older program has written cannot be read any more.
FORMAT = 2


def create_engine_tables(store: Store) -> None:
    """Make the engine's own tables and views, in one transaction, where the database has not those of this program.

    Raises DataDirectoryError for a database of another format, which is left as it is.
    """
    tables = (
        *_TABLES,
        *access.TABLES,
        *receipts.TABLES,
        finished.TABLE,
        sequences.TABLE,
        kept_types.TABLE,
        kept_indexes.TABLE,
    )
    views = (*progress_views.VIEWS, receipts.VIEW)
    layout = f"{FORMAT}:{hashlib.sha256(chr(10).join((*tables, *views)).encode()).hexdigest()}"
    store.execute("CREATE TABLE IF NOT EXISTS _engine.layout (digest VARCHAR)")
    found = "".join(digest for (digest,) in store.fetch("SELECT digest FROM _engine.layout"))
    if found == layout:
        return
    before, _, _ = found.partition(":")
    if before != str(FORMAT) and store.fetch(_HAS_EPOCH):
        raise DataDirectoryError(
            f"the data directory has format {before or 0}, and this version of streamsql reads {FORMAT}: start the version "
            "that wrote it, or another directory"
        )
    with store.transaction():
        for table in tables:
            store.execute(table)
        reached("start.tables_made")
        if not store.fetch("SELECT 1 FROM _engine.epoch"):
            store.execute(
                'INSERT INTO _engine.epoch VALUES (0, NULL, 1, 1, \'{"watermarks":[],"streams":[],"views":[]}\')'
            )
        if not store.fetch("SELECT 1 FROM _engine.identity"):
            store.execute("INSERT INTO _engine.identity VALUES (?)", [secrets.token_hex(8)])
        for view in views:
            store.execute(view)
        store.execute("DELETE FROM _engine.layout")
        store.execute("INSERT INTO _engine.layout VALUES (?)", [layout])


def place_of(made: CatalogObject) -> dict[str, Any]:
    """Give what `_engine.objects` has of where an object stands, and of a view that keeps nothing its columns."""
    place: dict[str, Any] = {"schema": made.schema, "name": made.bare, "names": dict(made.names)}
    return place | (plain_views.kept_columns(made) if isinstance(made, PlainView) else {})


def save_object(store: Store, made: CatalogObject | Sink) -> None:
    """Make a definition durable, within the caller's transaction."""
    place: dict[str, Any] = {"schema": PUBLIC_SCHEMA, "name": made.name, "names": {}}
    if isinstance(made, Sink):
        place["names"] = {"view": made.view}
    else:
        place = place_of(made)
    store.execute(
        "INSERT INTO _engine.objects (id, kind, name, definition, place) VALUES (?, ?, ?, ?, ?)",
        [made.id, type(made).__name__.lower(), made.name, made.text, json.dumps(place)],
    )


def progress_of(
    catalog: Catalog,
    streams: dict[str, StreamProgress],
    queries: Iterable[tuple[str, ContinuousPlan, Progress, bool]],
) -> dict[str, list[dict[str, Any]]]:
    """Put together what `save_progress` writes; of a query: its name, plan, progress, and whether it is a live SELECT."""
    progress: dict[str, list[dict[str, Any]]] = {"watermarks": [], "streams": [], "views": []}
    for item in catalog:
        if isinstance(item, (Stream, Table)):
            at = streams.get(item.name) or StreamProgress()
            entry = {"name": item.name, "rows_in": at.rows_in, "last_arrival": at.last_arrival, "largest": at.largest,
                     "rows_rejected": at.rows_rejected}  # fmt: skip
            progress["streams"].append(entry | _source_of(item, at))
            if isinstance(item, Stream) and item.watermark is not None:
                progress["watermarks"].append(
                    {**entry, "source": item.name, "kind": "stream", "event_time_column": item.watermark.column,
                     "delay": item.watermark.delay_us}
                )  # fmt: skip
    queries = list(queries)
    stalled = stalls((name, plan.sources, at.error) for name, plan, at, _ in queries)
    for name, plan, at_query, temporary in queries:
        if not temporary:
            progress["views"].append(
                {"name": name, "source": plan.source, "mode": plan.mode.value, "delay": plan.watermark_delay_us,
                 **at_query.as_json(), "state_ttl": plan.state_ttl_us, "rows_kept": at_query.rows_kept,
                 "stalled": stalled.get(name)}
            )  # fmt: skip
        if plan.watermark_delay_us is not None and plan.window is not None:
            progress["watermarks"].append(
                {"name": name, "source": plan.source, "kind": "query" if temporary else "view",
                 "event_time_column": plan.window.time_column or plan.window.time_sql,
                 "largest": at_query.largest, "delay": plan.watermark_delay_us}
            )  # fmt: skip
    return progress


def _source_of(item: Stream | Table, at: StreamProgress) -> dict[str, Any]:
    """Say what a connector reads a stream from, and how far it is."""
    if not item.is_read:
        return {}
    return {"connector": item.connector["connector"], "positions": dict(at.positions), "error": at.error,
            "paused": at.paused, "retrying": at.retrying, "finished": at.finished,
            "partitions": [{"partition": n, **dataclasses.asdict(p)} for n, p in at.partitions.items()]}  # fmt: skip


def save_progress(
    store: Store, epoch: int, committed_at_us: int, next_sequence: int, next_id: int, progress: dict[str, Any]
) -> None:
    """Write how far everything is, within the epoch's transaction."""
    store.run(
        "UPDATE _engine.epoch SET epoch = $1, committed_at = make_timestamp($2), next_sequence = $3, next_id = $4, "
        "progress = $5",
        epoch,
        committed_at_us,
        next_sequence,
        next_id,
        json.dumps(progress),
    )


def recover(store: Store, describe: Describe, limits: Limits) -> Recovered:
    """Read back the catalog and the progress; plans are made anew from the definitions' text."""
    epoch, next_sequence, next_id, text = store.fetch(
        "SELECT epoch, next_sequence, next_id, progress FROM _engine.epoch"
    )[0]
    progress = json.loads(text)
    streams = {
        s["name"]: StreamProgress(
            s["rows_in"],
            s["last_arrival"],
            s["largest"],
            s.get("positions", {}),
            s.get("error"),
            s.get("rows_rejected", 0),
            s.get("paused", False),
            s.get("retrying", False),
            s.get("finished", False),
            {
                p["partition"]: PartitionProgress(p["number"], p["last_arrival"], p["largest"])
                for p in s.get("partitions", ())
            },
        )
        for s in progress["streams"]
    }
    views = {v["name"]: Progress.from_json(v) for v in progress["views"]}
    sinks = outbox.recovered(progress.get("sinks", ()))
    guarantees = {s["name"]: s["guarantee"] for s in progress.get("sinks", ())}
    schemas = {name: Schema(i, name) for i, name in store.fetch("SELECT id, name FROM _engine.schemas ORDER BY id")}
    catalog = Catalog(
        access=access.read_access(store),
        schemas={PUBLIC_SCHEMA: PUBLIC, **schemas},
        sequences=sequences.read(store),
        types=kept_types.read(store, limits),
        indexes=kept_indexes.read(store),
    )
    found = Recovered(catalog, epoch, next_sequence, next_id, streams, sinks)
    rows = store.fetch("SELECT id, name, definition, place FROM _engine.objects ORDER BY id")
    for row in rows:
        if (plain := plain_views.read(limits, catalog, *row)) is not None:
            found.catalog = found.catalog.with_object(plain)
    waiting = [_Kept.of(limits, found.catalog, *row) for row in rows if row[1] not in found.catalog.objects]
    names = {kept.statement.name for kept in waiting if not isinstance(kept.statement, CreateSink)}
    while waiting:
        # a view that was replaced may read what is younger
        kept = next(w for w in waiting if not _reads(w.statement, names - set(found.catalog.objects)))
        waiting.remove(kept)
        statement = kept.statement
        if isinstance(statement, CreateMaterializedView):
            view, plan = view_of(statement, kept.id, statement.text, found.catalog, describe, limits)
            if plan.distincts and not store.has_table(STATE_SCHEMA, seen_name(view.name, 0)):
                view, plan = view_of(statement, kept.id, statement.text, found.catalog, describe, limits, as_lists=True)
            found.views[view.name] = (view, plan, views[view.name])
            made: CatalogObject = view
        elif isinstance(statement, CreateSink):
            sink = sink_of(statement, kept.id, statement.text, guarantees[statement.name])
            found.catalog = found.catalog.with_sink(sink)
            continue
        else:
            made = with_checks(relation_of(statement, kept.id, statement.text), limits)
        found.catalog = found.catalog.with_object(replace(made, schema=kept.schema, label=kept.label))
    for name, column, comment in store.fetch("SELECT object, column_name, comment FROM _engine.comments"):
        found.catalog = found.catalog.with_comment(name, column, comment)
    return found


@dataclass(frozen=True, slots=True)
class _Kept:
    """A definition as it was read back, its names looked up as they were when it was made."""

    id: int
    statement: CreateMaterializedView | CreateSink | CreateStream | CreateTable
    schema: str
    label: str

    @classmethod
    def of(
        cls, limits: Limits, catalog: Catalog | None, object_id: int, key: str, text: str, place: str | None
    ) -> _Kept:
        at: dict[str, Any] = (
            json.loads(place) if place is not None else {"schema": PUBLIC_SCHEMA, "name": key, "names": {}}
        )
        return cls(object_id, defined(text, key, at["names"], limits, catalog), at["schema"], at["name"])


def read_relation(limits: Limits, object_id: int, key: str, text: str, place: str | None) -> Stream | Table:
    """Make the object of what `_engine.objects` had of a stream or table that is gone, and maybe its types as well."""
    kept = _Kept.of(limits, None, object_id, key, text, place)
    assert isinstance(kept.statement, (CreateStream, CreateTable)), kept.statement
    return relation_of(kept.statement, object_id, kept.statement.text)


def defined(
    text: str, key: str, names: Mapping[str, str], limits: Limits, catalog: Catalog | None
) -> CreateMaterializedView | CreateSink | CreateStream | CreateTable:
    """Read a definition's text again, with its own key and those of what it names.

    Views and the types of users are those of the catalog; without one, types may be any.
    """
    statement = parse(text, limits)[0]
    if isinstance(statement, CreateSink):
        return replace(statement, name=key, view=Key(names.get("view", statement.view)))
    assert isinstance(statement, (CreateMaterializedView, CreateStream, CreateTable)), statement
    made = resolved(statement, Remembered(Key(key), names, catalog))
    return replace(made, names=names)


def remembered(view: View) -> str:
    """Write a view's definition down with what its names mean, for `read_again`."""
    return json.dumps({"key": view.name, "definition": view.text, "names": dict(view.names)})


def read_again(text: str, limits: Limits, catalog: Catalog) -> CreateMaterializedView:
    """Read what `remembered` wrote."""
    kept = json.loads(text)
    statement = defined(kept["definition"], kept["key"], kept["names"], limits, catalog)
    assert isinstance(statement, CreateMaterializedView)
    return statement


def _reads(statement: Statement, names: set[str]) -> bool:
    """Tell whether a definition reads one of these."""
    if not isinstance(statement, CreateMaterializedView):
        return False
    return not names.isdisjoint(named_relations(statement.query))


def drop_orphans(store: Store, known: set[str]) -> None:
    """Drop the tables of views that had been replaced when the server was killed: those whose names are not `known`."""
    # a view that was being built then is not
    store.execute(
        "UPDATE _engine.epoch SET progress = json_merge_patch(progress, '{\"builds\":[]}') "
        "WHERE json_array_length(progress, '$.builds') > 0"
    )
    tables = store.fetch(
        f"SELECT schema_name, table_name FROM duckdb_tables() WHERE schema_name IN ('{STATE_SCHEMA}', '{RESULTS_SCHEMA}')"
    )
    for schema, name in tables:
        if name not in known:
            store.execute(f"DROP TABLE {schema}.{quoted(name)}")


def relation_of(statement: CreateStream | CreateTable, object_id: int, text: str) -> Stream | Table:
    """Make the catalog's object of a CREATE STREAM or CREATE TABLE."""
    from streamsql.catalog.options import stream_options

    schema, label = parted(statement.name)
    place: dict[str, Any] = {"schema": schema or PUBLIC_SCHEMA, "label": label}
    options = stream_options(statement)
    if isinstance(statement, CreateTable):
        return Table(
            object_id, statement.name, statement.columns, text, statement.primary_key, options.connector, options.fails,
            statement.key_name, options.rejected_into, constraints=statement.constraints, names=statement.names, **place,
        )  # fmt: skip
    return Stream(
        object_id,
        statement.name,
        statement.columns,
        text,
        statement.watermark,
        options.retention_us,
        options.idle_timeout_us,
        options.connector,
        options.fails,
        options.rejected_into,
        constraints=statement.constraints,
        names=statement.names,
        **place,
    )


def sink_of(statement: CreateSink, object_id: int, text: str, guarantee: str) -> Sink:
    """Make the catalog's object of a CREATE SINK."""
    return Sink(object_id, statement.name, statement.view, text, statement.options, guarantee)


def view_of(
    statement: CreateMaterializedView, object_id: int, text: str, catalog: Catalog, describe: Describe, limits: Limits,
    *, as_lists: bool = False,
) -> tuple[View, ContinuousPlan]:  # fmt: skip
    """Make the catalog's object and the plan of a CREATE MATERIALIZED VIEW; `as_lists` as in `bind.bind`."""
    plan = plan_query(statement.query, catalog, describe, limits, as_lists=as_lists)
    columns = tuple(OutputColumn(o.name, o.type, o.made) for o in plan.outputs)
    append_only = not plan.retracts
    schema, label = parted(statement.name)
    view = View(
        object_id, statement.name, columns, text, plan.sources, plan.mode, append_only, plan.times, statement.names,
        schema=schema or PUBLIC_SCHEMA, label=label,
    )  # fmt: skip
    return view, plan
