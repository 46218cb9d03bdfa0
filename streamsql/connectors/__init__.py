"""Where rows come from besides clients: ``CREATE STREAM ... WITH (connector = 'name', ...)``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

from streamsql.base.errors import (
    DatatypeMismatch,
    DuplicateColumn,
    FeatureNotSupported,
    InvalidParameterValue,
    InvalidTableDefinition,
    UndefinedColumn,
    WrongObjectType,
)
from streamsql.catalog.objects import nearest
from streamsql.catalog.options import stream_options
from streamsql.connectors.backfilling import BACKFILL, Backfilled
from streamsql.connectors.datagen import Datagen
from streamsql.connectors.files import Files
from streamsql.connectors.files.sink import FilesSink
from streamsql.connectors.kafka import Kafka, KafkaSinks
from streamsql.connectors.lookup import LookupConnector
from streamsql.connectors.mqtt import MqttConnector, MqttSinkConnector
from streamsql.connectors.nats import NatsConnector, NatsSinkConnector
from streamsql.connectors.nexmark import Nexmark
from streamsql.connectors.postgres.lookup import PostgresLookupConnector
from streamsql.connectors.postgres.sink import PostgresSinkConnector
from streamsql.connectors.postgres.source import PostgresConnector
from streamsql.connectors.redis import RedisConnector, RedisSinkConnector
from streamsql.connectors.sink import SinkConnector
from streamsql.connectors.source import Connector, Given, GivesMetadata
from streamsql.connectors.webhook import WebhookConnector
from streamsql.formats.casts import shown_type
from streamsql.sql.render import render
from streamsql.sql.statements import ColumnDefinition, CreateStream, CreateTable

T = TypeVar("T")
S = TypeVar("S", bound=CreateStream | CreateTable)

# By the name that stands in WITH (connector = '...').
CONNECTORS: dict[str, Connector] = {
    "datagen": Datagen(),
    "file": Files(),
    "kafka": Kafka(),
    "mqtt": MqttConnector(),
    "nats": NatsConnector(),
    "nexmark": Nexmark(),
    "postgres": PostgresConnector(),
    "redis": RedisConnector(),
}

# The same for CREATE SINK.
SINKS: dict[str, SinkConnector] = {
    "file": FilesSink(),
    "kafka": KafkaSinks(),
    "mqtt": MqttSinkConnector(),
    "nats": NatsSinkConnector(),
    "postgres": PostgresSinkConnector(),
    "redis": RedisSinkConnector(),
    "webhook": WebhookConnector(),
}

# The same for tables that are looked up (`catalog.objects.LOOKUP_CONNECTORS`).
LOOKUPS: dict[str, LookupConnector] = {
    "postgres-lookup": PostgresLookupConnector(),
}

# Options of the stream itself (`catalog.options`), and of any sink.
_STREAM_OPTIONS = frozenset({"connector", "idle_timeout", "on_error", "rejected_into", "retention"})
_SINK_OPTIONS = frozenset({"connector", "key", "snapshot"})


def given_of_sink(options: Mapping[str, str], places: Mapping[str, int]) -> Given:
    """Part a connector's own options from those of any sink."""
    return Given({n: v for n, v in options.items() if n not in _SINK_OPTIONS}, places)


def given_of(options: Mapping[str, str], places: Mapping[str, int], *, table: bool = False) -> Given:
    """Part a connector's own options from those of the stream or table."""
    return Given({n: v for n, v in options.items() if n not in _STREAM_OPTIONS}, places, table)


def connector_of(options: Mapping[str, str], places: Mapping[str, int]) -> Connector:
    """Give the connector that a stream's options name, with history before it where they say so.

    Raises InvalidParameterValue.
    """
    found = named_connector(options["connector"], CONNECTORS, places)
    return Backfilled(found) if BACKFILL in options else found


def _with_time_of_history(statement: S) -> S:
    """Let history end by the stream's event time, if the options name no other column."""
    mark = statement.watermark if isinstance(statement, CreateStream) else None
    if BACKFILL not in statement.options or "backfill.time" in statement.options or mark is None or not mark.column:
        return statement
    return dataclasses.replace(statement, options={**statement.options, "backfill.time": mark.column})


def sink_connector(options: Mapping[str, str], places: Mapping[str, int]) -> SinkConnector:
    """Give the connector that a sink's options name. Raises InvalidParameterValue."""
    name = options.get("connector")
    if name is None:
        raise InvalidParameterValue("a sink needs a connector", hint=f"add connector = '...': {', '.join(SINKS)}")
    return named_connector(name, SINKS, places)


def named_connector(name: str, connectors: Mapping[str, T], places: Mapping[str, int]) -> T:
    """Give the connector of a name. Raises InvalidParameterValue."""
    found = connectors.get(name)
    if found is None:
        raise InvalidParameterValue(
            f'there is no connector "{name}"',
            hint=nearest(name, connectors) or f"connectors that there are: {', '.join(connectors)}",
            position=places.get("connector"),
        )
    return found


def resolved(statement: S) -> S:
    """Check the connector of a CREATE STREAM or TABLE, if it names one, and write its columns into the definition.

    Raises StreamSQLError with a position.
    """
    name, table = statement.options.get("connector"), isinstance(statement, CreateTable)
    if name is None:
        if table and statement.options:
            first = next(iter(statement.options))
            raise InvalidParameterValue(
                f'unrecognized option "{first}"',
                hint="a table has options where a connector fills it: WITH (connector = '...')",
                position=statement.option_positions.get(first),
            )
        return statement
    if name in LOOKUPS:
        return _looked_up(statement, LOOKUPS[name])
    statement = _with_time_of_history(statement)
    connector = connector_of(statement.options, statement.option_positions)
    if isinstance(statement, CreateTable) and not statement.primary_key:
        raise InvalidTableDefinition(
            "a table that a connector fills needs a PRIMARY KEY", hint="rows are replaced by their key",
            position=statement.option_positions.get("connector"),
        )  # fmt: skip
    stream_options(statement)
    declared = tuple(c for c in statement.columns if not c.include)
    included = tuple(_included(c, name, connector) for c in statement.columns if c.include)
    known = connector.columns(given_of(statement.options, statement.option_positions, table=table), declared)
    by_name = {column.name: column for column in known}
    for column in declared:
        position = column.position + 1
        if column.name not in by_name:
            raise UndefinedColumn(
                f'the connector "{name}" gives no column "{column.name}"',
                hint=nearest(column.name, by_name) or f"columns that there are: {', '.join(by_name)}",
                position=position,
            )
        if column.type != by_name[column.name].type:
            raise DatatypeMismatch(
                f'column "{column.name}" of the connector "{name}" is of type {by_name[column.name].type}',
                position=position,
            )
    for column in included:
        if not declared and column.name in by_name:
            raise DuplicateColumn(f'column "{column.name}" specified more than once', position=column.position + 1)
    made = dataclasses.replace(statement, columns=(declared or known) + included)
    mark = None if isinstance(made, CreateTable) else made.watermark
    if mark is not None and mark.column not in {c.name for c in made.columns}:
        raise UndefinedColumn(
            f'column "{mark.column}" does not exist',
            hint=nearest(mark.column or "", by_name),
            position=mark.position + 1,
        )
    return dataclasses.replace(made, text=render(dataclasses.replace(made, if_not_exists=False)))


def _looked_up(statement: S, connector: LookupConnector) -> S:
    """Check a table that is looked up. Raises StreamSQLError with a position."""
    position = statement.option_positions.get("connector")
    if not isinstance(statement, CreateTable):
        raise WrongObjectType(
            f'the connector "{statement.options["connector"]}" is for tables',
            hint="CREATE TABLE t (k BIGINT PRIMARY KEY, ...), and join a stream with it FOR SYSTEM_TIME AS OF PROCTIME()",
            position=position,
        )
    if not statement.primary_key:
        raise InvalidTableDefinition(
            "a table that is looked up needs a PRIMARY KEY", hint="it is what rows are asked for by", position=position
        )
    for column in statement.columns:
        if column.default is not None or column.include:
            raise FeatureNotSupported(
                "a table that is looked up has columns of its origin alone, without DEFAULT or INCLUDE",
                position=column.position + 1,
            )
    stream_options(statement)
    for name in ("on_error", "rejected_into"):
        if name in statement.options:
            raise InvalidParameterValue(
                f'the option "{name}" is for what is read: a row that cannot be read is asked for again',
                position=statement.option_positions.get(name),
            )
    given = given_of(statement.options, statement.option_positions, table=True)
    connector.check(given, statement.columns, statement.primary_key)
    return dataclasses.replace(statement, text=render(dataclasses.replace(statement, if_not_exists=False)))


def _included(column: ColumnDefinition, name: str, connector: Connector) -> ColumnDefinition:
    """Check a column of INCLUDE, and give it its type if it has none."""
    word = column.include.partition(":")[0]
    position = column.position + 1
    known = connector.metadata if isinstance(connector, GivesMetadata) else {}
    if not known:
        raise FeatureNotSupported(f'the connector "{name}" has nothing to INCLUDE', position=position)
    found = known.get(word)
    if found is None:
        raise InvalidParameterValue(
            f'the connector "{name}" has no {word.upper()} to INCLUDE',
            hint=nearest(word, known) or f"what there is: {', '.join(w.upper() for w in known)}",
            position=position,
        )
    kind = column.type or found.type
    if kind != found.type and not found.bytes and kind not in found.others:
        written = f" or {' or '.join(map(shown_type, found.others))}" if found.others else ""
        raise DatatypeMismatch(
            f'{word.upper()} of the connector "{name}" is of type {shown_type(found.type)}{written}', position=position
        )
    return dataclasses.replace(column, type=kind)
