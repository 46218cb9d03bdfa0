"""Statements about what flows in and out: sinks, and how sources are read."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from streamsql.sql.statements import ColumnDefinition, ObjectKind, Statement


@dataclass(frozen=True, slots=True)
class CreateSink(Statement):
    """CREATE SINK [IF NOT EXISTS] name FROM view WITH (options)."""

    name: str
    view: str
    view_position: int
    options: dict[str, str] = field(default_factory=dict)
    if_not_exists: bool = False
    option_positions: dict[str, int] = field(default_factory=dict)


class FlowAction(enum.Enum):
    """What ALTER STREAM and ALTER SINK do with what flows."""

    PAUSE = "PAUSE"
    RESUME = "RESUME"
    SKIP = "RESUME SKIP"


@dataclass(frozen=True, slots=True)
class AlterFlow(Statement):
    """ALTER STREAM | SOURCE | TABLE | SINK name PAUSE | RESUME | RESUME SKIP.

    SKIP goes past the record at which a stream with ``on_error = 'fail'`` has stopped.
    """

    kind: ObjectKind
    name: str
    name_position: int
    action: FlowAction


@dataclass(frozen=True, slots=True)
class AddColumn(Statement):
    """ALTER STREAM | SOURCE name ADD [COLUMN] [IF NOT EXISTS] column type [NOT NULL] [DEFAULT value]."""

    name: str
    name_position: int
    column: ColumnDefinition
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class ResetStream(Statement):
    """ALTER STREAM name RESET TO EARLIEST | LATEST | TIMESTAMP 'time' | POSITIONS 'json'.

    `target` is the word; `value` what follows it.
    """

    name: str
    name_position: int
    target: str
    value: str | None = None
