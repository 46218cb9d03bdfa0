"""Cursors: DECLARE, FETCH, MOVE, CLOSE. See https://www.postgresql.org/docs/15/sql-declare.html and sql-fetch.html.

A cursor may stand for a query that never ends (continuous, or SUBSCRIBE). FETCH then gives what there is, or waits for rows
as long as ``WITH (timeout = '1s')`` says.
"""

from __future__ import annotations

from streamsql.base.errors import InvalidCursorDefinition, NumericOutOfRange, SQLSyntaxError
from streamsql.sql.changes import parse_subscribe
from streamsql.sql.cursor_statements import CloseCursor, DeclareCursor, Direction, Fetch
from streamsql.sql.durations import parse_duration
from streamsql.sql.query import QUERY_WORDS, parse_query
from streamsql.sql.statements import Query, Subscribe
from streamsql.sql.tokens import Cursor

# words -> (direction, count); a count of None means all
_FIXED: dict[str, tuple[Direction, int | None]] = {
    "next": (Direction.FORWARD, 1),
    "prior": (Direction.BACKWARD, 1),
    "first": (Direction.ABSOLUTE, 1),
    "last": (Direction.ABSOLUTE, -1),
    "all": (Direction.FORWARD, None),
}
_COUNTED = {"absolute": Direction.ABSOLUTE, "relative": Direction.RELATIVE}
_OPTIONAL = {"forward": Direction.FORWARD, "backward": Direction.BACKWARD}
_COUNT_MAX = 2**63 - 1


def parse_declare(cursor: Cursor) -> DeclareCursor:
    """Read DECLARE name [BINARY] [INSENSITIVE] [[NO] SCROLL] CURSOR [WITH | WITHOUT HOLD] FOR query | SUBSCRIBE."""
    cursor.expect("declare")
    start = cursor.position
    name = cursor.expect_name()
    binary, scroll = False, None
    given: set[str] = set()
    while not cursor.accept("cursor"):
        place = cursor.position
        if cursor.accept("binary"):
            binary = True
        elif cursor.accept_any("insensitive", "asensitive") is not None:
            pass
        elif cursor.sees("scroll") or cursor.sees("no", "scroll"):
            scroll = not cursor.accept("no")
            cursor.expect("scroll")
            given.add("SCROLL" if scroll else "NO SCROLL")
            if len(given) > 1:
                raise InvalidCursorDefinition("cannot specify both SCROLL and NO SCROLL", position=place + 1)
        else:
            raise cursor.error()
    hold = cursor.accept("with", "hold")
    if not hold:
        cursor.accept("without", "hold")
    cursor.expect("for")
    inner = Cursor(cursor.text, cursor.rest, cursor.limits)
    first = inner.tokens[0] if inner.tokens else None
    if first is None or (first.text not in QUERY_WORDS and not inner.sees("subscribe")):
        raise cursor.error()
    query: Query | Subscribe = parse_subscribe(inner) if inner.sees("subscribe") else parse_query(inner)
    return DeclareCursor(
        *cursor.source,
        name=name,
        query=query,
        binary=binary,
        scroll=scroll,
        hold=hold,
        parameter_count=query.parameter_count if isinstance(query, Query) else 0,
        name_position=start,
    )


def parse_fetch(cursor: Cursor) -> Fetch:
    """Read FETCH | MOVE [direction] [FROM | IN] name [WITH (timeout = '1s')]."""
    move = cursor.accept("move")
    if not move:
        cursor.expect("fetch")
    direction, count = _direction(cursor)
    cursor.accept_any("from", "in")
    name = cursor.expect_name()
    timeout_us = _timeout(cursor) if cursor.accept("with") else None
    cursor.expect_end()
    return Fetch(*cursor.source, name=name, direction=direction, count=count, move=move, timeout_us=timeout_us)


def _direction(cursor: Cursor) -> tuple[Direction, int | None]:
    if len(cursor.rest) == 1:  # FETCH next, of a cursor that is called so
        return Direction.FORWARD, 1
    word = cursor.accept_any(*_FIXED)
    if word is not None:
        return _FIXED[word]
    word = cursor.accept_any(*_COUNTED)
    if word is not None:
        count = _count(cursor)
        if count is None:
            raise cursor.error()
        return _COUNTED[word], count
    word = cursor.accept_any(*_OPTIONAL)
    if word is not None:
        if cursor.accept("all"):
            return _OPTIONAL[word], None
        count = _count(cursor)
        return _turned(_OPTIONAL[word], 1 if count is None else count)
    count = _count(cursor)
    return _turned(Direction.FORWARD, 1 if count is None else count)


def _turned(direction: Direction, count: int) -> tuple[Direction, int]:
    """Count from the other end where the count is negative; a count of 0 is the row where the cursor stands."""
    if count == 0:
        return Direction.RELATIVE, 0
    if count > 0:
        return direction, count
    return Direction.BACKWARD if direction is Direction.FORWARD else Direction.FORWARD, -count


def _count(cursor: Cursor) -> int | None:
    place = cursor.position
    text = cursor.accept_number()
    if text is None:
        return None
    try:
        count = int(text)
    except ValueError:
        raise SQLSyntaxError(f'syntax error at or near "{text}"', position=place + 1) from None
    if abs(count) > _COUNT_MAX:
        raise NumericOutOfRange(f'value "{text}" is out of range for type bigint', position=place + 1)
    return count


def _timeout(cursor: Cursor) -> int:
    cursor.expect("(")
    if not cursor.accept("timeout"):
        raise cursor.error(hint="the option is timeout, an interval")
    cursor.accept("=")
    place = cursor.position
    cursor.accept("interval")
    found = parse_duration(cursor.expect_string(), zero_allowed=True, position=place + 1)
    cursor.expect(")")
    return found


def parse_close(cursor: Cursor) -> CloseCursor:
    """Read CLOSE name | ALL."""
    cursor.expect("close")
    name = None if cursor.accept("all") else cursor.expect_name()
    cursor.expect_end()
    return CloseCursor(*cursor.source, name=name)
