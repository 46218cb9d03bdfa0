"""CREATE SINK and DROP SINK, and ALTER STREAM | TABLE | SINK ... PAUSE | RESUME."""

from __future__ import annotations

import asyncio

import duckdb

from streamsql.base.errors import (
    DuplicateColumn,
    InvalidParameterValue,
    NotNullViolation,
    StreamSQLError,
    UndefinedTable,
    WrongObjectType,
)
from streamsql.catalog.objects import Stream
from streamsql.catalog.rights import require_connector, require_create, require_owner, require_read, require_sink_owner
from streamsql.connectors import given_of_sink, sink_connector
from streamsql.connectors.growing import with_column
from streamsql.connectors.resetting import positions_for
from streamsql.connectors.shapes import shape_of
from streamsql.connectors.source import Surroundings
from streamsql.engine import sinks, sources
from streamsql.engine.columns import add_stream_column
from streamsql.engine.positions import StreamProgress
from streamsql.engine.view_definitions import reset_stream
from streamsql.plan.expressions import check_default
from streamsql.plan.places import located
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.server.statements.create import block_notices
from streamsql.sql.flow_statements import AddColumn, AlterFlow, CreateSink, ResetStream
from streamsql.sql.statements import Drop, ObjectKind


async def create_sink(context: Context, statement: CreateSink, values: Values) -> Done:
    engine, role, places = context.engine, context.asker.role, statement.option_positions
    connector = sink_connector(statement.options, places)
    require_connector(context.catalog, role, statement.options["connector"])
    snapshot = _snapshot(statement)

    def create() -> bool:
        require_create(engine.catalog, role)
        view = engine.catalog.view(statement.view, statement.view_position + 1)
        require_read(engine.catalog, role, view)
        shape = shape_of(engine, view.name, statement.options, places.get("key"))
        guarantee = connector.check(given_of_sink(statement.options, places), shape)
        return sinks.create_sink(engine, statement, guarantee.value, snapshot=snapshot, owner=role)

    made = await context.on_engine(create)
    if not made:
        return Done("CREATE SINK", [notice(f'sink "{statement.name}" already exists, skipping', sqlstate="42710")])
    return Done("CREATE SINK")


def _snapshot(statement: CreateSink) -> bool:
    text = statement.options.get("snapshot", "true").lower()
    if text not in {"true", "false"}:
        raise InvalidParameterValue(
            f'invalid value for option "snapshot": "{text}" is neither true nor false',
            position=statement.option_positions.get("snapshot"),
        )
    return text == "true"


async def drop_sinks(context: Context, statement: Drop, values: Values) -> Done:
    engine, role = context.engine, context.asker.role

    def drop() -> list[str]:
        for name in statement.names:
            if name in engine.catalog.sinks:
                require_sink_owner(engine.catalog, role, engine.catalog.sinks[name])
        return sinks.drop(engine, statement.names, if_exists=statement.if_exists)

    missing = await context.on_engine(drop)
    notices = [notice(f'sink "{name}" does not exist, skipping') for name in missing]
    return Done("DROP SINK", notices + block_notices(context, "DROP SINK"))


async def alter(context: Context, statement: AlterFlow, values: Values) -> Done:
    engine, role, what = context.engine, context.asker.role, f"ALTER {statement.kind.value}"

    def change() -> None:
        position = statement.name_position + 1
        if statement.kind is ObjectKind.SINK:
            require_sink_owner(engine.catalog, role, engine.catalog.sink(statement.name, position))
            sinks.alter(engine, statement)
        else:
            require_owner(engine.catalog, role, engine.catalog.find(statement.name, position))
            sources.alter(engine, statement)

    await context.on_engine(change)
    return Done(what, block_notices(context, what))


async def add_column(context: Context, statement: AddColumn, values: Values) -> Done:
    engine, role, what, position = context.engine, context.asker.role, "ALTER STREAM", statement.name_position + 1
    stream = context.catalog.find(statement.name, position)
    if not isinstance(stream, Stream):
        raise WrongObjectType(f'"{stream.shown}" is not a stream', position=position)
    require_owner(context.catalog, role, stream)
    column = statement.column
    if stream.column(column.name) is not None:
        said = f'column "{column.name}" of relation "{stream.bare}" already exists'
        if not statement.if_not_exists:
            raise DuplicateColumn(said, position=column.position + 1)
        return Done(what, [notice(f"{said}, skipping", sqlstate="42701")])
    if column.not_null and column.default is None:
        raise NotNullViolation(
            f'column "{column.name}" of relation "{stream.bare}" contains null values',
            hint="the rows that are kept have no value: give it a DEFAULT", position=column.position + 1,
        )  # fmt: skip
    made = with_column(stream, column, engine.limits, engine.catalog)
    if column.default is not None:
        default = column.default

        def check(cursor: duckdb.DuckDBPyConnection) -> None:
            try:
                check_default(column, made, context.scope(cursor))
            except StreamSQLError as error:
                raise located(error, default, statement) from error

        await context.reads.run(check)

    def change() -> None:
        if engine.catalog.get(stream.name) is not stream:
            raise UndefinedTable(f'stream "{stream.shown}" has been changed or dropped', hint="try again")
        add_stream_column(engine, stream, made)

    await context.on_engine(change)
    return Done(what, block_notices(context, what))


async def reset(context: Context, statement: ResetStream, values: Values) -> Done:
    engine, role, what, position = context.engine, context.asker.role, "ALTER STREAM", statement.name_position + 1
    stream = context.catalog.find(statement.name, position)
    if not isinstance(stream, Stream) or not stream.connector:
        raise WrongObjectType(
            f'"{stream.shown}" is not a stream with a connector', hint="clients send its rows", position=position
        )
    require_owner(context.catalog, role, stream)
    surroundings = Surroundings(
        engine.allowed_paths,
        name=stream.name,
        identity=f"{engine.identity}-{stream.id}",
        record_bytes_max=engine.limits.record_bytes_max,
        allowed_urls=engine.allowed_urls,
    )
    at = engine.streams.get(stream.name) or StreamProgress()
    positions = await asyncio.to_thread(positions_for, stream, statement, surroundings, dict(at.positions))

    def change() -> None:
        if engine.catalog.get(stream.name) is not stream:
            raise UndefinedTable(f'stream "{stream.shown}" is gone')
        reset_stream(engine, stream, positions)

    await context.on_engine(change)
    return Done(what, block_notices(context, what))
