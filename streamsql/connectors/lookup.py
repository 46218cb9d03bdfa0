"""The protocol of tables that are looked up: their rows stay at their origin, which is asked for those of a few keys.

    lookup = connector.open(options, columns, key, surroundings)     knows nothing yet, and reaches nobody
    rows = lookup.ask(keys)                                          the rows that there are of these keys, at most one each
    lookup.close()

It is used by one thread at a time (`asking.Asker`), and may wait for the origin, but not for ever. `Unavailable`, as any other
StreamSQLError, says why there is no answer; it is asked again, later and later, for as long as it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from streamsql.connectors.source import Given, Surroundings
from streamsql.sql.statements import ColumnDefinition


class Lookup(Protocol):
    """An open table. Keys are good for `cache_us`, at most `cache_rows` of them."""

    cache_us: int
    cache_rows: int

    def ask(self, keys: pa.Table) -> pa.Table:
        """Give the rows of the keys, with the table's columns; the keys' columns are those of its primary key."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class LookupConnector(Protocol):
    """A kind of table that is looked up."""

    def check(self, given: Given, columns: Sequence[ColumnDefinition], key: Sequence[str]) -> None:
        """Raise StreamSQLError, with a position, where it cannot be such a table."""
        ...

    def open(
        self, given: Given, columns: Sequence[ColumnDefinition], key: Sequence[str], surroundings: Surroundings
    ) -> Lookup:
        """Open one table."""
        ...
