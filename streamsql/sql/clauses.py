"""The streaming clauses of a query: taken out of its tokens, so that the stock parser sees plain Postgres SQL.

::

    SELECT ... FROM trades WATERMARK ts DELAY OF INTERVAL '10 minutes' ...      -- behind a table, at any depth
    ... WITH WATERMARK '10 minutes'                                             -- at the end of the query
    ... WITH WATERMARK FOR ts AS ts - INTERVAL '10 minutes'
    ... ALLOWED LATENESS '1h'
    ... EMIT APPEND | ON WINDOW CLOSE | FINAL | UPDATE | CHANGES | COMPLETE [EVERY '5s']
    ... WITH (state_ttl = '1 day')

LIMIT, OFFSET and ORDER BY may come before or after the clauses at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot.tokens import Token, TokenType

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue, SQLSyntaxError
from streamsql.sql.durations import parse_duration
from streamsql.sql.statements import AllowedLateness, EmitMode, StateTtl, Watermark
from streamsql.sql.tokens import Cursor

EMIT_MODES: dict[tuple[str, ...], EmitMode] = {
    ("append",): EmitMode.APPEND,
    ("on", "window", "close"): EmitMode.APPEND,
    ("final",): EmitMode.APPEND,
    ("update",): EmitMode.UPDATE,
    ("changes",): EmitMode.UPDATE,
    ("complete",): EmitMode.COMPLETE,
}
# what may stand behind a clause at the end of a query
_FOLLOWERS = frozenset({"with", "allowed", "emit", "limit", "offset", "fetch", "order by"})
_UNITS = frozenset({"microsecond", "millisecond", "second", "minute", "hour", "day", "week", "month", "year"})


@dataclass(frozen=True, slots=True)
class StreamingClauses:
    """What the clauses said, and the tokens without them."""

    tokens: list[Token]
    emit: EmitMode | None
    watermark: Watermark | None
    every_us: int | None
    lateness: AllowedLateness | None = None
    state_ttl: StateTtl | None = None


def take_clauses(cursor: Cursor) -> StreamingClauses:
    """Read the query at the cursor to the end of the statement.

    Raises SQLSyntaxError for a clause given twice or in the wrong place, InvalidParameterValue for its durations.
    """
    kept: list[Token] = []
    emit: EmitMode | None = None
    watermark: Watermark | None = None
    every_us: int | None = None
    lateness: AllowedLateness | None = None
    state_ttl: StateTtl | None = None
    depth = 0
    while (token := cursor.peek) is not None:
        found: Watermark | None = None
        if depth == 0 and kept and cursor.sees("with", "("):
            if state_ttl is not None:
                raise SQLSyntaxError("state_ttl is given twice", position=token.start + 1)
            state_ttl = expect_query_options(cursor)
            _check_follower(cursor)
            continue
        if token.text in ("with", "watermark"):
            found = _accept_watermark(cursor, depth)
        elif token.text == "allowed" and depth == 0 and _accept_lateness(cursor):
            if lateness is not None:
                raise SQLSyntaxError("ALLOWED LATENESS is given twice", position=token.start + 1)
            lateness = AllowedLateness(expect_duration(cursor, zero_allowed=True), token.start)
            _check_follower(cursor)
            continue
        elif token.text == "emit" and not (kept and kept[-1].token_type is TokenType.DOT):
            mode = _accept_emit(cursor, depth)
            if mode is not None:
                if emit is not None:
                    raise SQLSyntaxError("EMIT is given twice", position=token.start + 1)
                emit = mode
                every_us = expect_duration(cursor) if cursor.accept("every") else None
                _check_follower(cursor)
                continue
        if found is not None:
            if watermark is not None:
                raise SQLSyntaxError("WATERMARK is given twice", position=token.start + 1)
            watermark = found
            continue
        kept.append(cursor.advance())
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
    if watermark is not None and emit is None:
        emit = EmitMode.APPEND
    return StreamingClauses(kept, emit, watermark, every_us, lateness, state_ttl)


def expect_query_options(cursor: Cursor) -> StateTtl:
    """Read ``WITH (state_ttl = '1 day')``. Raises InvalidParameterValue for another option."""
    cursor.expect("with", "(")
    position = cursor.position
    name = cursor.expect_name()
    if name != "state_ttl":
        raise InvalidParameterValue(
            f'unrecognized option "{name}" of a query', hint="there is one: state_ttl", position=position + 1
        )
    cursor.expect("=")
    ttl_us = expect_duration(cursor)
    cursor.expect(")")
    return StateTtl(ttl_us, position)


def _accept_lateness(cursor: Cursor) -> bool:
    """Read ``ALLOWED LATENESS``, unless it is a column and its name in a SELECT list."""
    if any(cursor.sees("allowed", "lateness", mark) for mark in ("from", ",")):
        return False
    return cursor.accept("allowed", "lateness")


def _accept_watermark(cursor: Cursor, depth: int) -> Watermark | None:
    start = cursor.index
    position = cursor.position
    if cursor.accept("watermark"):  # FROM trades WATERMARK ts DELAY OF '10 minutes'
        column_position = cursor.position
        column = cursor.accept_name()
        if column is not None and cursor.accept("delay", "of"):
            return Watermark(expect_duration(cursor, zero_allowed=True), column, column_position)
    elif cursor.accept("with", "watermark") and not cursor.sees("as") and not cursor.sees("("):
        if depth > 0:
            raise FeatureNotSupported(
                "WITH WATERMARK inside parentheses is not supported",
                hint="write it at the end of the query, or FROM stream WATERMARK ts DELAY OF '10 minutes'",
                position=position + 1,
            )
        if cursor.sees("for"):
            watermark = expect_watermark_for(cursor)
        else:
            watermark = Watermark(expect_duration(cursor, zero_allowed=True), None, position)
        _check_follower(cursor)
        return watermark
    cursor.index = start
    return None


def expect_watermark_for(cursor: Cursor) -> Watermark:
    """Read ``FOR ts AS ts [- duration]``. Raises SQLSyntaxError, FeatureNotSupported for another expression."""
    cursor.expect("for")
    position = cursor.position
    column = cursor.expect_name()
    cursor.expect("as")
    second = cursor.position
    if cursor.expect_name() != column or cursor.sees("("):
        raise FeatureNotSupported(
            "a watermark must be its own column minus a delay",
            hint=f"write WATERMARK FOR {column} AS {column} - INTERVAL '10 seconds'",
            position=second + 1,
        )
    delay_us = expect_duration(cursor, zero_allowed=True) if cursor.accept("-") else 0
    return Watermark(delay_us, column, position)


def expect_duration(cursor: Cursor, *, zero_allowed: bool = False) -> int:
    """Read ``'10 minutes'``, ``INTERVAL '10 minutes'`` or ``INTERVAL '10' MINUTE``, and give its microseconds.

    Raises SQLSyntaxError where no duration stands, InvalidParameterValue for one that cannot be used.
    """
    interval = cursor.accept("interval")
    position = cursor.position + 1
    text = cursor.accept_string()
    if text is None and interval:
        text = cursor.accept_number()
    if text is None:
        raise cursor.error(hint="a duration is written as '10 minutes' or INTERVAL '10 minutes'")
    if interval:
        word = cursor.peek.text.removesuffix("s") if cursor.peek is not None else ""
        if word in _UNITS and cursor.accept_word():
            text = f"{text} {word}"
    return parse_duration(text, zero_allowed=zero_allowed, position=position)


def _accept_emit(cursor: Cursor, depth: int) -> EmitMode | None:
    position = cursor.position
    for words, mode in EMIT_MODES.items():
        if cursor.accept("emit", *words):
            if depth > 0:
                raise FeatureNotSupported(
                    "EMIT inside parentheses is not supported",
                    hint="write it at the end of the query",
                    position=position + 1,
                )
            return mode
    return None


def _check_follower(cursor: Cursor) -> None:
    token = cursor.peek
    if token is not None and token.text not in _FOLLOWERS:
        raise cursor.error(token)
