"""Where a stream begins after ALTER STREAM ... RESET TO.

POSITIONS are as ``streamsql.sources`` shows them: JSON, by partition. What else there is, is for a connector to say
(`source.Resets`); those whose rows are a function of their place begin with the first one at EARLIEST.
"""

from __future__ import annotations

import json

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue
from streamsql.catalog.objects import Stream
from streamsql.connectors import connector_of, given_of
from streamsql.connectors.settings import written_positions
from streamsql.connectors.source import Connector, Resets, Surroundings
from streamsql.engine.positions import Positions
from streamsql.sql.flow_statements import ResetStream

# connectors that begin with the first row where they have no position, and bear any position that they have given
_FROM_THE_FIRST = ("datagen", "file", "nexmark")
_BY_POSITIONS = (*_FROM_THE_FIRST, "nats", "redis")


def positions_for(stream: Stream, statement: ResetStream, surroundings: Surroundings, now: Positions) -> Positions:
    """Find the positions; may ask the origin. `now` is where the stream is. Raises StreamSQLError."""
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
        return _checked(stream, connector, written_positions(statement.value), now, surroundings)
    raise FeatureNotSupported(
        f'the connector "{name}" cannot be reset to {statement.target}',
        hint="drop the stream and create it again, to begin where its options say",
    )


def _checked(
    stream: Stream, connector: Connector, wanted: Positions, now: Positions, surroundings: Surroundings
) -> Positions:
    """Give positions that a source can begin with: of partitions that there are, and such as it gives itself."""
    name, shown = stream.connector["connector"], ", ".join(f'"{partition}"' for partition in now)
    wrong = [
        p for p, at in wanted.items()
        if (isinstance(at, int) and at < 0) or (now and (p not in now or type(at) is not type(now[p])))
    ]  # fmt: skip
    if wrong or not wanted:
        what = f'"{wrong[0]}": {json.dumps(wanted[wrong[0]])} is no position' if wrong else "these are no positions"
        raise InvalidParameterValue(
            f'{what} of the connector "{name}"',
            hint=f"take them from streamsql.sources, or streamsql.partitions: of {shown or 'what it says there'}",
        )
    if any(isinstance(at, str) for at in wanted.values()):  # which may say anything
        try:
            connector.open(given_of(stream.connector, {}), stream.columns, wanted, 0, surroundings).close()
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise InvalidParameterValue(
                f'the connector "{name}" cannot begin at these positions', hint="take them from streamsql.sources"
            ) from error
    return wanted
