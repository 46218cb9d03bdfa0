"""The statements of cursors."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from streamsql.sql.statements import Query, Statement, Subscribe


class Direction(enum.Enum):
    """Where FETCH and MOVE go; ABSOLUTE and RELATIVE name a row."""

    FORWARD = "FORWARD"
    BACKWARD = "BACKWARD"
    ABSOLUTE = "ABSOLUTE"
    RELATIVE = "RELATIVE"


@dataclass(frozen=True, slots=True)
class DeclareCursor(Statement):
    """DECLARE name [BINARY] [[NO] SCROLL] CURSOR [WITH HOLD] FOR query | SUBSCRIBE; `scroll` is None where neither is said."""

    name: str
    query: Query | Subscribe
    binary: bool = False
    scroll: bool | None = None
    hold: bool = False
    parameter_count: int = 0
    name_position: int = 0


@dataclass(frozen=True, slots=True)
class Fetch(Statement):
    """FETCH | MOVE direction FROM name [WITH (timeout = ..)]; `count` None means all, `timeout_us` None no waiting."""

    name: str
    direction: Direction = Direction.FORWARD
    count: int | None = 1
    move: bool = False
    timeout_us: int | None = None


@dataclass(frozen=True, slots=True)
class CloseCursor(Statement):
    """CLOSE name | ALL (None)."""

    name: str | None
