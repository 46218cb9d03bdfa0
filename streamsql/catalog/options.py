"""The options of CREATE STREAM ... WITH (...): which there are, what they take, what they mean.

retention      how long rows are kept, by arrival: a duration, 'forever', or '0' for none. Default 7 days
idle_timeout   after that long without a row, time moves the watermark on. Default: never
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue, StreamSQLError
from streamsql.catalog.objects import nearest
from streamsql.sql.durations import parse_duration
from streamsql.sql.statements import CreateStream

RETENTION_DEFAULT_US = 7 * 86_400 * 1_000_000

# options of connectors that are known but not built, so that the error can say so
_CONNECTOR_OPTIONS = {"connector", "format", "topic", "backfill", "path", "url", "on_error"}


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Options of a stream, in microseconds. None: for ever, and never."""

    retention_us: int | None = RETENTION_DEFAULT_US
    idle_timeout_us: int | None = None


def _retention(text: str) -> int | None:
    if text.lower() in {"forever", "infinite", "infinity"}:
        return None
    return 0 if text.strip() == "0" else parse_duration(text)


def _idle_timeout(text: str) -> int | None:
    timeout = parse_duration(text)
    if timeout <= 0:
        raise InvalidParameterValue("must be positive", hint="leave it out to never move time on")
    return timeout


_OPTIONS: dict[str, Callable[[str], int | None]] = {"idle_timeout": _idle_timeout, "retention": _retention}


def stream_options(statement: CreateStream) -> StreamOptions:
    """Read the options of a CREATE STREAM; raises at the option that is wrong."""
    values: dict[str, int | None] = {}
    for name, text in statement.options.items():
        position = statement.option_positions.get(name)
        read = _OPTIONS.get(name)
        if read is None:
            raise _unknown(name, position)
        try:
            values[f"{name}_us"] = read(text)
        except StreamSQLError as error:
            raise InvalidParameterValue(
                f'invalid value for option "{name}": {error.message}', hint=error.hint, position=position
            ) from error
    return StreamOptions(**values)


def _unknown(name: str, position: int | None) -> StreamSQLError:
    if name in _CONNECTOR_OPTIONS:
        return FeatureNotSupported(
            f'the option "{name}" is not supported yet: connectors are not built',
            hint="send rows with INSERT or COPY",
            position=position,
        )
    hint = nearest(name, _OPTIONS) or f"options that there are: {', '.join(_OPTIONS)}"
    return InvalidParameterValue(f'unrecognized option "{name}"', hint=hint, position=position)
