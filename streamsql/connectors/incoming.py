"""What the sources of brokers have in common: options, and how a gap is told.

A gap is what the broker does not have any more although it was not read. By default it stops the stream, once: the position
behind the gap is committed before the stream stops, so that ALTER STREAM ... RESUME goes on behind it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import pyarrow as pa

from streamsql.base.errors import (
    DataCorrupted,
    FeatureNotSupported,
    InvalidParameterValue,
    InvalidTableDefinition,
    StreamSQLError,
)
from streamsql.connectors.settings import Option, duration, one_of
from streamsql.connectors.source import Batch, Given
from streamsql.engine.positions import Position
from streamsql.formats.format import rejected
from streamsql.sql.secrets import SecretReference
from streamsql.sql.statements import ColumnDefinition

ON_GAP = Option(
    one_of("fail", "skip"), "fail",
    says="when the broker has dropped what was not read yet: `fail` stops the stream and says so, ALTER STREAM ... RESUME "
    "goes on behind the gap; `skip` notes it in `streamsql.rejected_rows` and goes on",
)  # fmt: skip
POLL = Option(duration, 20_000, says="how often to look for new rows while there are none")


def require_columns(given: Given, declared: Sequence[ColumnDefinition], connector: str) -> None:
    """Raise where a stream declares no column that a message's value could go to."""
    if not declared:
        raise InvalidTableDefinition(
            f'a stream of the connector "{connector}" needs its columns',
            hint="CREATE STREAM name (column type, ...) WITH (...)", position=given.places.get("connector"),
        )  # fmt: skip


def refuse_password(given: Given, option: str) -> None:
    """Raise where an address that stands in the definition has a password in it."""
    text = given.values.get(option, "")
    if not isinstance(text, SecretReference) and urlsplit(text).password is not None:
        raise InvalidParameterValue(
            f'invalid value for option "{option}": a secret does not stand in a definition',
            hint="use the options username and password, or secret 'env:NAME' for the whole address",
            position=given.places.get(option),
        )


def require(module: str, package: str, extra: str, needing: str | None = None) -> None:
    """Raise FeatureNotSupported where the package of a module is not installed; our `extra` of that name brings it."""
    if importlib.util.find_spec(module) is None:
        needing = needing or f'the connector "{extra}"'
        raise FeatureNotSupported(f"{needing} needs the package {package}", hint=f"pip install 'streamsql[{extra}]'")


@dataclass(slots=True)
class Gaps:
    """Tells of gaps in the way that `on_gap` says."""

    on_gap: str
    _error: StreamSQLError | None = None

    def found(self, partition: str, rows: pa.Table, position: Position, message: str) -> Batch:
        """Give what moves the position behind a gap; where the stream is to stop, the next `check` raises."""
        nothing = rows.slice(0, 0)
        if self.on_gap == "skip":
            return Batch(partition, nothing, position, rejected([0], [message], [b""]))
        self._error = DataCorrupted(
            message, hint="ALTER STREAM ... RESUME goes on behind the gap; on_gap = 'skip' does so by itself"
        )
        return Batch(partition, nothing, position)

    def check(self) -> None:
        """Raise what was found before."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
