"""The options of CREATE STREAM ... WITH (...): which there are, what they take, what they mean.

connector      what reads the rows; all options that are not named here are its own (`connectors`)
retention      how long rows are kept, by arrival: a duration, 'forever', or '0' for none. Default 7 days
on_error       'skip' sets records that cannot be read aside (the default), 'fail' stops the stream at the first one
rejected_into  the stream that records which cannot be read are put into as well. Default: none
idle_timeout   after that long without a row, time moves the watermark on. Default: never
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamsql.base.errors import InvalidParameterValue, StreamSQLError
from streamsql.catalog.objects import nearest
from streamsql.sql.durations import parse_duration
from streamsql.sql.statements import CreateStream, CreateTable

RETENTION_DEFAULT_US = 7 * 86_400 * 1_000_000

# options of connectors, so that an error can say what is missing
_CONNECTOR_OPTIONS = {
    "format", "topic", "backfill", "path", "url", "on_error", "rejected_into", "table", "events", "seed",
}  # fmt: skip
_OF_CONNECTORS = frozenset({"on_error", "rejected_into"})


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Options of a stream, in microseconds. None: for ever, and never."""

    retention_us: int | None = RETENTION_DEFAULT_US
    idle_timeout_us: int | None = None
    fails: bool = False
    rejected_into: str = ""
    connector: Mapping[str, str] = field(default_factory=dict)


def _retention(text: str) -> int | None:
    if text.lower() in {"forever", "infinite", "infinity"}:
        return None
    return 0 if text.strip() == "0" else parse_duration(text)


def _idle_timeout(text: str) -> int | None:
    timeout = parse_duration(text)
    if timeout <= 0:
        raise InvalidParameterValue("must be positive", hint="leave it out to never move time on")
    return timeout


def _fails(text: str) -> bool:
    if text.lower() not in {"skip", "fail"}:
        raise InvalidParameterValue(f'"{text}" is neither skip nor fail')
    return text.lower() == "fail"


# name -> the field of StreamOptions, and how its text is read
_OPTIONS: dict[str, tuple[str, Callable[[str], int | bool | str | None]]] = {
    "idle_timeout": ("idle_timeout_us", _idle_timeout),
    "on_error": ("fails", _fails),
    "rejected_into": ("rejected_into", str),
    "retention": ("retention_us", _retention),
}


def stream_options(statement: CreateStream | CreateTable) -> StreamOptions:
    """Read the options of a CREATE STREAM or CREATE TABLE; raises at the option that is wrong."""
    if isinstance(statement, CreateTable):
        for name in ("idle_timeout", "retention"):
            if name in statement.options:
                raise InvalidParameterValue(
                    f'the option "{name}" is for streams', position=statement.option_positions.get(name)
                )
    values: dict[str, Any] = {}
    connector: dict[str, str] = {}
    for name, text in statement.options.items():
        position = statement.option_positions.get(name)
        known = _OPTIONS.get(name)
        if known is None and "connector" in statement.options:
            connector[name] = text
            continue
        if known is None or (name in _OF_CONNECTORS and "connector" not in statement.options):
            raise _unknown(name, position)
        try:
            values[known[0]] = known[1](text)
        except StreamSQLError as error:
            raise InvalidParameterValue(
                f'invalid value for option "{name}": {error.message}', hint=error.hint, position=position
            ) from error
    return StreamOptions(**values, connector=connector)


def _unknown(name: str, position: int | None) -> StreamSQLError:
    if name in _CONNECTOR_OPTIONS:
        return InvalidParameterValue(
            f'the option "{name}" needs a connector', hint="name it: WITH (connector = '...')", position=position
        )
    hint = nearest(name, _OPTIONS) or f"options that there are: {', '.join(_OPTIONS)}"
    return InvalidParameterValue(f'unrecognized option "{name}"', hint=hint, position=position)
