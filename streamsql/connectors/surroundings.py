"""What the server lets the connector of a stream or table use, and know of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from streamsql.catalog.objects import Stream, Table
from streamsql.connectors import connector_of, given_of
from streamsql.connectors.source import Companion, SharesOrigins, Surroundings
from streamsql.engine.epoch import Engine
from streamsql.engine.finished import Notes
from streamsql.engine.positions import StreamProgress


def surroundings_of(
    engine: Engine,
    relation: Stream | Table,
    wake: Callable[[], None] = lambda: None,
    allowed_paths: tuple[Path, ...] = (),
    allowed_urls: tuple[str, ...] = (),
) -> Surroundings:
    """Make what a relation's connector is given; it is `woken` by the connector."""
    return Surroundings(
        allowed_paths,
        wake,
        relation.name,
        f"{engine.identity}-{relation.id}",
        engine.limits.record_bytes_max,
        allowed_urls,
        Notes(engine.store, relation.id),
        engine.limits.snapshot_rows_max,
        lambda: companions(engine, relation),
    )


def companions(engine: Engine, relation: Stream | Table) -> Sequence[Companion]:
    """Give the others that share a relation's origin (`source.SharesOrigins`) as they are now."""
    origin = shared_origin(relation)
    if origin is None:
        return ()
    streams = engine.streams
    return [
        Companion(
            given_of(other.connector, {}, table=isinstance(other, Table)), other.name, positions_of(streams, other)
        )
        for other in engine.catalog
        if isinstance(other, (Stream, Table)) and other.id != relation.id and shared_origin(other) == origin
    ]


def positions_of(streams: dict[str, StreamProgress], relation: Stream | Table) -> dict[str, int | str]:
    """Give how far a relation is read."""
    return dict((streams.get(relation.name) or StreamProgress()).positions)


def shared_origin(relation: Stream | Table) -> tuple[object, ...] | None:
    """Give what names the origin that a relation is read from together with others; None where it is read alone."""
    if not relation.is_read:
        return None
    connector = connector_of(relation.connector, {})
    if not isinstance(connector, SharesOrigins):
        return None
    origin = connector.shared_origin(given_of(relation.connector, {}, table=isinstance(relation, Table)))
    return None if origin is None else (relation.connector["connector"], *origin)


def has_begun(streams: dict[str, StreamProgress], relation: Stream | Table) -> bool:
    """Tell whether a relation that shares an origin is read together with the others."""
    connector = connector_of(relation.connector, {})
    assert isinstance(connector, SharesOrigins)
    return connector.has_begun(positions_of(streams, relation))
