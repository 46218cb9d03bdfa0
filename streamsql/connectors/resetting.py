"""Where a stream begins after ALTER STREAM ... RESET TO.

POSITIONS are as ``streamsql.sources`` shows them: JSON, by partition. What else there is, is for a connector to say
(`source.Resets`); those whose rows are a function of their place begin with the first one at EARLIEST.
"""

from __future__ import annotations

from streamsql.base.errors import FeatureNotSupported
from streamsql.catalog.objects import Stream
from streamsql.connectors import connector_of, given_of
from streamsql.connectors.settings import written_positions
from streamsql.connectors.source import Resets, Surroundings
from streamsql.engine.positions import Positions
from streamsql.sql.flow_statements import ResetStream

# connectors that begin with the first row where they have no position, and bear any position that they have given
_FROM_THE_FIRST = ("datagen", "file", "nexmark")
_BY_POSITIONS = (*_FROM_THE_FIRST, "nats", "redis")


def positions_for(stream: Stream, statement: ResetStream, surroundings: Surroundings) -> Positions:
    """Find the positions; may ask the origin. Raises StreamSQLError."""
    name = stream.connector["connector"]
    if "backfill" in stream.connector:
        raise FeatureNotSupported(
            "a stream with a backfill cannot be reset",
            hint="drop the stream and create it again, to begin with history",
        )
    connector = connector_of(stream.connector, {})
    if isinstance(connector, Resets):
        given = given_of(stream.connector, {})
        return connector.positions_at(given, stream.columns, statement.target, statement.value, surroundings)
    if statement.target == "earliest" and name in _FROM_THE_FIRST:
        return {}
    if statement.target == "positions" and name in _BY_POSITIONS:
        assert statement.value is not None
        return written_positions(statement.value)
    raise FeatureNotSupported(
        f'the connector "{name}" cannot be reset to {statement.target}',
        hint="drop the stream and create it again, to begin where its options say",
    )
