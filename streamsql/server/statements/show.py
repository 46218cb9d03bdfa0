"""SHOW STREAMS, TABLES, VIEWS, SINKS, QUERIES."""

from __future__ import annotations

from streamsql.catalog.objects import Stream, Table, View
from streamsql.catalog.rights import may_read
from streamsql.engine.sharing import members_beside
from streamsql.engine.views import ContinuousQuery
from streamsql.server.context import Context, Values
from streamsql.server.results import ResultColumn, Rows, static_columns, static_rows
from streamsql.sql.durations import render_duration
from streamsql.sql.statements import Show, ShowKind

_COLUMNS: dict[ShowKind, tuple[tuple[str, type], ...]] = {
    ShowKind.STREAMS: (
        ("name", str), ("columns", int), ("watermark", str), ("retention", str), ("idle_timeout", str), ("rows_in", int)
    ),
    ShowKind.TABLES: (("name", str), ("columns", int), ("primary_key", str), ("rows_in", int)),
    ShowKind.VIEWS: (("name", str), ("source", str), ("mode", str), ("definition", str)),
    ShowKind.SINKS: (("name", str), ("view", str), ("connector", str), ("rows_waiting", int), ("definition", str)),
    ShowKind.QUERIES: (
        ("name", str), ("kind", str), ("source", str), ("mode", str), ("rows_in", int), ("rows_out", int),
        ("rows_late", int), ("state_rows", int), ("readers", int), ("status", str), ("shares_state_with", str),
    ),
}  # fmt: skip


async def columns(context: Context, statement: Show, values: Values) -> list[ResultColumn]:
    return static_columns(*_COLUMNS[statement.kind])


async def execute(context: Context, statement: Show, values: Values) -> Rows:
    rows = await context.on_engine(lambda: _ROWS[statement.kind](context))
    return static_rows(static_columns(*_COLUMNS[statement.kind]), rows, "SHOW")


def _duration(us: int | None, none: str) -> str:
    return none if us is None else "0" if us == 0 else render_duration(us)


def _rows_in(context: Context, name: str) -> int:
    at = context.engine.streams.get(name)
    return at.rows_in if at else 0


def _streams(context: Context) -> list[tuple[object, ...]]:
    return [
        (
            o.shown,
            len(o.columns),
            f"{o.watermark.column} - {render_duration(o.watermark.delay_us)}" if o.watermark else None,
            _duration(o.retention_us, "forever"),
            _duration(o.idle_timeout_us, "never"),
            _rows_in(context, o.name),
        )
        for o in sorted(context.catalog, key=lambda o: o.shown)
        if isinstance(o, Stream)
    ]


def _tables(context: Context) -> list[tuple[object, ...]]:
    return [
        (o.shown, len(o.columns), ", ".join(o.primary_key) or None, _rows_in(context, o.name))
        for o in sorted(context.catalog, key=lambda o: o.shown)
        if isinstance(o, Table)
    ]


def _views(context: Context) -> list[tuple[object, ...]]:
    return [
        (o.shown, o.source, o.mode.value.lower(), o.text)
        for o in sorted(context.catalog, key=lambda o: o.shown)
        if isinstance(o, View)
    ]


def _queries(context: Context) -> list[tuple[object, ...]]:
    catalog, role = context.catalog, context.asker.role

    def readable(query: ContinuousQuery) -> bool:
        names = query.plan.sources if query.temporary else (query.name,)
        return all(may_read(catalog, role, made) for name in names if (made := catalog.get(name)) is not None)

    return [
        (
            q.name,
            "live query" if q.temporary else "materialized view",
            q.plan.source,
            q.plan.mode.value.lower(),
            q.progress.rows_in,
            q.progress.rows_out,
            q.progress.rows_late,
            q.progress.state_rows,
            q.log.readers,
            "running" if q.progress.error is None else f"failed: {q.progress.error}",
            ", ".join(sorted(m.name for m in members_beside(q) if readable(m))) or None,
        )
        for q in context.engine.queries.values()
        if readable(q)
    ]


def _sinks(context: Context) -> list[tuple[object, ...]]:
    return [
        (s.name, s.view, s.connector["connector"], context.engine.sinks[s.name].rows_waiting, s.text)
        for s in sorted(context.engine.catalog.sinks.values(), key=lambda s: s.name)
    ]


_ROWS = {
    ShowKind.STREAMS: _streams,
    ShowKind.TABLES: _tables,
    ShowKind.VIEWS: _views,
    ShowKind.SINKS: _sinks,
    ShowKind.QUERIES: _queries,
}
