"""What sources of the smaller brokers (MQTT, NATS, Redis) have in common: messages, options checked in one order, a sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streamsql.connectors.incoming import refuse_password, require_columns
from streamsql.connectors.messages import check_format
from streamsql.connectors.sampling import EARLIEST, infer_columns
from streamsql.connectors.settings import Option, read_options, refuse_table
from streamsql.connectors.source import Given, Metadata, Source, Surroundings
from streamsql.engine.positions import Positions
from streamsql.sql.statements import ColumnDefinition


class BrokerConnector(ABC):
    """A kind of source whose rows are messages. What differs is said by the class, and by the methods that it overrides."""

    name: str
    options: Mapping[str, Option]
    metadata: Mapping[str, Metadata]
    require_package: Callable[[], None]

    def columns(self, given: Given, declared: Sequence[ColumnDefinition]) -> tuple[ColumnDefinition, ...]:
        """Check the options, then the columns. Connects to nothing. Raises StreamSQLError with a position."""
        self.require_package()
        refuse_table(given, self.name)
        options = read_options(given, self.options, self.name)
        refuse_password(given, "url")
        self.check_options(given, options)
        require_columns(given, declared, self.name)
        self.check_messages(given, options, declared)
        return tuple(declared)

    def check_options(self, given: Given, options: Mapping[str, Any]) -> None:  # noqa: B027  # not every broker has any
        """Check what is this broker's own. Raises StreamSQLError with a position."""

    def check_messages(self, given: Given, options: Mapping[str, Any], declared: Sequence[ColumnDefinition]) -> None:
        """Check how messages are read."""
        check_format(given, options, declared)

    def infer(self, given: Given, surroundings: Surroundings) -> tuple[ColumnDefinition, ...]:
        """Tell the columns by the first messages. Raises StreamSQLError where there is no telling."""
        self.require_package()
        options = read_options(given, self.options, self.name, surroundings)
        self.check_sampled(given, options)
        return infer_columns(self, given, options, surroundings, self.sampled())

    def check_sampled(self, given: Given, options: Mapping[str, Any]) -> None:  # noqa: B027  # most samples are messages
        """Check whether columns can be told by a sample."""

    def sampled(self) -> Mapping[str, str]:
        """Give the options of the source that a sample is read from, in place of those that are given."""
        return EARLIEST

    def open(
        self,
        given: Given,
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        now_us: int,
        surroundings: Surroundings,
    ) -> Source:
        """Connect, and read from `positions` on."""
        options = read_options(given, self.options, self.name, surroundings)
        return self.source(options, columns, positions, surroundings)

    @abstractmethod
    def source(
        self,
        options: Mapping[str, Any],
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        surroundings: Surroundings,
    ) -> Source:
        """Open the source itself."""
