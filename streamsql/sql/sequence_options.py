"""The options of a sequence, as CREATE SEQUENCE, ALTER SEQUENCE and GENERATED ... AS IDENTITY have them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from streamsql.base.errors import InvalidParameterValue, SQLSyntaxError
from streamsql.sql.sequence_statements import SEQUENCE_TYPES, SequenceOptions
from streamsql.sql.tokens import Cursor

_TYPE_NAMES = {
    "smallint": "smallint", "int2": "smallint", "integer": "integer", "int": "integer", "int4": "integer",
    "bigint": "bigint", "int8": "bigint",
}  # fmt: skip


def accept_options(cursor: Cursor, options: SequenceOptions) -> tuple[SequenceOptions, set[str]]:
    """Read options until something else comes; give them over the ones that are, and which were given."""
    changed: dict[str, Any] = {}
    while (found := _accept_option(cursor)) is not None:
        name, value, position = found
        if name in changed:
            raise SQLSyntaxError("conflicting or redundant options", position=position)
        changed[name] = value
    return check_options(replace(options, **changed)), set(changed)


def _accept_option(cursor: Cursor) -> tuple[str, Any, int] | None:
    position = cursor.position + 1
    if cursor.accept("as"):
        word = cursor.accept_any(*_TYPE_NAMES)
        if word is None:
            raise InvalidParameterValue(
                "sequence type must be smallint, integer, or bigint", position=cursor.position + 1
            )
        return "type", _TYPE_NAMES[word], position
    if cursor.accept("increment"):
        cursor.accept("by")
        return "increment", _expect_integer(cursor), position
    if cursor.accept("no"):
        word = cursor.accept_any("minvalue", "maxvalue", "cycle")
        if word is None:
            raise cursor.error()
        return ("cycle", False, position) if word == "cycle" else (_BOUNDS[word], None, position)
    for word, name in _BOUNDS.items():
        if cursor.accept(word):
            return name, _expect_integer(cursor), position
    if cursor.accept("start"):
        cursor.accept("with")
        return "start", _expect_integer(cursor), position
    if cursor.accept("cache"):
        return "cache", _expect_integer(cursor), position
    if cursor.accept("cycle"):
        return "cycle", True, position
    return None


_BOUNDS = {"minvalue": "minimum", "maxvalue": "maximum"}


def _expect_integer(cursor: Cursor) -> int:
    text = cursor.accept_number()
    if text is None or not text.lstrip("+-").isdecimal():
        raise cursor.error()
    return int(text)


def check_options(options: SequenceOptions) -> SequenceOptions:
    """Give options that go together. Raises InvalidParameterValue in PostgreSQL's words."""
    largest = SEQUENCE_TYPES[options.type]
    if options.increment == 0:
        raise InvalidParameterValue("INCREMENT must not be zero")
    if options.maximum is not None and not -largest - 1 <= options.maximum <= largest:
        raise InvalidParameterValue(
            f"MAXVALUE ({options.maximum}) is out of range for sequence data type {options.type}"
        )
    if options.minimum is not None and not -largest - 1 <= options.minimum <= largest:
        raise InvalidParameterValue(
            f"MINVALUE ({options.minimum}) is out of range for sequence data type {options.type}"
        )
    if options.lowest >= options.highest:
        raise InvalidParameterValue(f"MINVALUE ({options.lowest}) must be less than MAXVALUE ({options.highest})")
    if options.first < options.lowest:
        raise InvalidParameterValue(f"START value ({options.first}) cannot be less than MINVALUE ({options.lowest})")
    if options.first > options.highest:
        raise InvalidParameterValue(
            f"START value ({options.first}) cannot be greater than MAXVALUE ({options.highest})"
        )
    if options.cache < 1:
        raise InvalidParameterValue(f"CACHE ({options.cache}) must be greater than zero")
    return options
