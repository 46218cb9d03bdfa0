"""Where a stream begins after ALTER STREAM ... RESET TO.

POSITIONS are as ``streamsql.sources`` shows them: JSON, by partition. What else there is, is for a connector to say
(`source.Resets`); those whose rows are a function of their place begin with the first one at EARLIEST.

A stream with a backfill begins with its history at EARLIEST and TIMESTAMP, without it at LATEST and POSITIONS (`backfilling`).
"""

from __future__ import annotations

import dataclasses
import json

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue
from streamsql.catalog.objects import Stream
from streamsql.connectors import connector_of, given_of
from streamsql.connectors.backfilling import BACKFILL, Progress, live_options
from streamsql.connectors.settings import timestamp, written_positions
from streamsql.connectors.source import Connector, Resets, Surroundings
from streamsql.engine.positions import Position, Positions
from streamsql.sql.flow_statements import ResetStream

# connectors that begin with the first row where they have no position, and bear any position that they have given
_FROM_THE_FIRST = ("datagen", "file", "nexmark")
_BY_POSITIONS = (*_FROM_THE_FIRST, "nats", "redis")


def positions_for(stream: Stream, statement: ResetStream, surroundings: Surroundings, now: Positions) -> Positions:
    """Find the positions; may ask the origin. `now` is where the stream is. Raises StreamSQLError."""
    if BACKFILL in stream.connector:
        return _with_history(stream, statement, surroundings, now)
    name = stream.connector["connector"]
    connector = connector_of(stream.connector, {})
    if isinstance(connector, Resets):
        given = given_of(stream.connector, {})
        return connector.positions_at(given, stream.columns, statement.target, statement.value, surroundings)
    if statement.target == "earliest" and name in _FROM_THE_FIRST:
        return {}
    if statement.target == "positions" and name in _BY_POSITIONS:
        assert statement.value is not None
        return _checked(stream, connector, written_positions(statement.value), now, surroundings)
    raise _refused(name, statement.target)


def _refused(name: str, target: str) -> FeatureNotSupported:
    return FeatureNotSupported(
        f'the connector "{name}" cannot be reset to {target}',
        hint="drop the stream and create it again, to begin where its options say",
    )


def _with_history(stream: Stream, statement: ResetStream, surroundings: Surroundings, now: Positions) -> Positions:
    """Find the positions of a stream with a backfill, of which its history is one."""
    live = dataclasses.replace(stream, connector=live_options(stream.connector))
    name = live.connector["connector"]
    if statement.target in {"earliest", "timestamp"}:
        if name not in _FROM_THE_FIRST and not isinstance(connector_of(live.connector, {}), Resets):
            raise _refused(name, statement.target)
        since = timestamp(statement.value or "") if statement.target == "timestamp" else None
        return {BACKFILL: Progress(from_earliest=True, since=since).text()}
    history = Progress(finished=True)
    if statement.target == "positions":
        wanted = dict(written_positions(statement.value or ""))
        if BACKFILL in wanted:
            history = _read_history(wanted.pop(BACKFILL))
        statement = dataclasses.replace(statement, value=json.dumps(wanted))
    others = {partition: position for partition, position in now.items() if partition != BACKFILL}
    return {**positions_for(live, statement, surroundings, others), BACKFILL: history.text()}


def _read_history(position: Position) -> Progress:
    """Read how far history was read where the other positions are from: all of it."""
    try:
        progress = Progress.of(position)
    except (AttributeError, TypeError, ValueError):
        progress = Progress()
    if not progress.finished:
        raise InvalidParameterValue(
            "history is read from its beginning, or not at all",
            hint="RESET TO EARLIEST reads it; leave it out of the positions, or give it as it is when it is finished",
        )
    return progress


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
