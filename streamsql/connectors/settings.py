"""A connector's options: text to values, with errors that name the option and stand where it stands."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streamsql.base.errors import FeatureNotSupported, InsufficientPrivilege, InvalidParameterValue, StreamSQLError
from streamsql.catalog.objects import nearest
from streamsql.connectors.source import Given, Surroundings
from streamsql.engine.positions import Positions
from streamsql.sql.durations import parse_duration
from streamsql.sql.secrets import SecretReference

INTEGER_MAX = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Option:
    """How an option's text is read, its default, and other names by which people know it.

    `says` is what docs/connectors.md tells of it. A `secret` is given by reference alone, so that it stands in no
    definition; any other option may be, too.
    """

    read: Callable[[str], Any]
    default: Any
    synonyms: tuple[str, ...] = ()
    says: str = ""
    required: bool = False
    secret: bool = False


def integer(low: int, high: int = INTEGER_MAX) -> Callable[[str], int]:
    """Read a whole number between two bounds."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise InvalidParameterValue(f'"{text}" is not a whole number') from None
        if not low <= value <= high:
            raise InvalidParameterValue(f"{value} is not between {low} and {high}")
        return value

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    """Read a number between two bounds."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise InvalidParameterValue(f'"{text}" is not a number') from None
        if not low <= value <= high:
            raise InvalidParameterValue(f"{text} is not between {low:g} and {high:g}")
        return value

    return read


def one_of(*words: str) -> Callable[[str], str]:
    """Read one of these words, in any case."""

    def read(text: str) -> str:
        if text.lower() not in words:
            raise InvalidParameterValue(f'"{text}" is none of {", ".join(words)}')
        return text.lower()

    return read


def boolean(text: str) -> bool:
    """Read ``true`` or ``false``, as SQL writes them or as a word."""
    if text.lower() not in {"true", "false", "on", "off", "yes", "no"}:
        raise InvalidParameterValue(f'"{text}" is neither true nor false')
    return text.lower() in {"true", "on", "yes"}


def duration(text: str) -> int:
    """Read a length of time, in microseconds."""
    return parse_duration(text)


def timestamp(text: str) -> int:
    """Read a time, in UTC where it names no zone, as microseconds since 1970."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidParameterValue(f'"{text}" is not a timestamp', hint="write it as '2015-07-15 00:00:00'") from None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return round((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6)


def read_options(
    given: Given, options: Mapping[str, Option], connector: str, surroundings: Surroundings | None = None
) -> dict[str, Any]:
    """Give a value for every option. Raises InvalidParameterValue at the option that is wrong.

    Secrets are looked up where the server's `surroundings` are given; before that, a reference is not read and its value
    is None.
    """
    known = {synonym: name for name, option in options.items() for synonym in (name, *option.synonyms)}
    values = {name: option.default for name, option in options.items()}
    said: dict[str, str] = {}
    for written, text in given.values.items():
        position, name = given.places.get(written), known.get(written)
        if name is None:
            raise InvalidParameterValue(
                f'unrecognized option "{written}" of the connector "{connector}"',
                hint=nearest(written, known) or f"options that there are: {', '.join(options)}",
                position=position,
            )
        if name in said:
            raise InvalidParameterValue(f'"{written}" and "{said[name]}" are the same option', position=position)
        said[name] = written
        try:
            values[name] = _value(text, options[name], surroundings)
        except StreamSQLError as error:
            raise InvalidParameterValue(
                f'invalid value for option "{written}": {error.message}', hint=error.hint, position=position
            ) from error
    for name, option in options.items():
        if option.required and name not in said:
            raise InvalidParameterValue(
                f'the connector "{connector}" needs the option "{name}"', position=given.places.get("connector")
            )
    return values


def _value(text: str, option: Option, surroundings: Surroundings | None) -> Any:
    if isinstance(text, SecretReference):
        return None if surroundings is None else _read_secret(text, option, surroundings)
    if option.secret:
        raise InvalidParameterValue(
            "a secret does not stand in a definition",
            hint="write secret 'env:NAME' for an environment variable of the server, or secret 'file:PATH'",
        )
    return option.read(text)


def _read_secret(reference: SecretReference, option: Option, surroundings: Surroundings) -> Any:
    value = _secret(reference, surroundings)
    try:
        return option.read(value)
    except StreamSQLError:
        if option.secret:
            raise  # it is read as one, and shows nothing of it
        # what is wrong with it would show it
        raise InvalidParameterValue(f"it cannot be what {reference} holds", hint=f"it is {option.says}") from None


def refuse_references(given: Given, connector: str) -> None:
    """Raise FeatureNotSupported where an option is a reference to a secret: of connectors that have none."""
    for name, text in given.values.items():
        if isinstance(text, SecretReference):
            raise FeatureNotSupported(
                f'the connector "{connector}" has no secrets', hint="write the value", position=given.places.get(name)
            )


def _secret(reference: SecretReference, surroundings: Surroundings) -> str:
    kind, _, name = reference.partition(":")
    if kind == "env":
        value = os.environ.get(name)
        if value is None:
            raise InvalidParameterValue(f'the server has no environment variable "{name}"')
        return value
    try:
        return allowed_path(name, surroundings).read_text().rstrip("\n")
    except OSError as error:
        raise InvalidParameterValue(f'cannot read "{name}": {error.strerror}') from error


def refuse_table(given: Given, connector: str) -> None:
    """Raise for a connector that tells of no row that goes."""
    if given.table:
        raise FeatureNotSupported(
            f'the connector "{connector}" cannot fill a table', hint="use CREATE STREAM",
            position=given.places.get("connector"),
        )  # fmt: skip


def allowed_path(text: str, surroundings: Surroundings) -> Path:
    """Give a path with its links followed, if it lies below a folder of ``--allow-path``. Raises InsufficientPrivilege."""
    path = Path(text).resolve()
    if not any(path.is_relative_to(folder) for folder in surroundings.allowed_paths):
        raise InsufficientPrivilege(
            f'"{text}" is not below a folder that the server may use',
            hint="start the server with --allow-path FOLDER",
        )
    return path


def written_positions(text: str) -> Positions:
    """Read positions by partition, as ``streamsql.sources`` shows them. Raises InvalidParameterValue."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(p, (int, str)) for p in found.values()):
        raise InvalidParameterValue(
            f'"{text}" does not tell positions', hint="""write them as in streamsql.sources: '{"0": 42, "1": 7}'"""
        )
    return found
