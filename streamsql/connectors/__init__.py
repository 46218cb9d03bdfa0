"""Where rows come from besides clients: ``CREATE STREAM ... WITH (connector = 'name', ...)``."""

from __future__ import annotations

import dataclasses

from streamsql.base.errors import DatatypeMismatch, InvalidParameterValue, UndefinedColumn
from streamsql.catalog.objects import nearest
from streamsql.connectors.datagen import Datagen
from streamsql.connectors.nexmark import Nexmark
from streamsql.connectors.source import Connector, Given
from streamsql.sql.render import render
from streamsql.sql.statements import CreateStream

# By the name that stands in WITH (connector = '...').
CONNECTORS: dict[str, Connector] = {
    "datagen": Datagen(),
    "nexmark": Nexmark(),
}

# Options of the stream itself (`catalog.options`).
_STREAM_OPTIONS = frozenset({"connector", "idle_timeout", "retention"})


def given_of(options: dict[str, str], places: dict[str, int]) -> Given:
    """Part a connector's own options from the stream's."""
    return Given({n: v for n, v in options.items() if n not in _STREAM_OPTIONS}, places)


def resolved(statement: CreateStream) -> CreateStream:
    """Check the connector of a CREATE STREAM, if it names one, and write its columns into the definition.

    Raises StreamSQLError with a position.
    """
    name = statement.options.get("connector")
    if name is None:
        return statement
    connector = CONNECTORS.get(name)
    if connector is None:
        raise InvalidParameterValue(
            f'there is no connector "{name}"',
            hint=nearest(name, CONNECTORS) or f"connectors that there are: {', '.join(CONNECTORS)}",
            position=statement.option_positions.get("connector"),
        )
    known = connector.columns(given_of(statement.options, statement.option_positions), statement.columns)
    by_name = {column.name: column for column in known}
    for column in statement.columns:
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
    made = dataclasses.replace(statement, columns=statement.columns or known)
    mark = made.watermark
    if mark is not None and mark.column not in {c.name for c in made.columns}:
        raise UndefinedColumn(
            f'column "{mark.column}" does not exist',
            hint=nearest(mark.column or "", by_name),
            position=mark.position + 1,
        )
    return dataclasses.replace(made, text=render(dataclasses.replace(made, if_not_exists=False)))
