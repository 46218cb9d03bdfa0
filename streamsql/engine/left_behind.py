"""What origins may still keep for streams and tables that were dropped: a replication slot, a subscription.

An origin is told only after the DROP is durable, and a server that is killed in between, or cannot reach it, tells it later. So
the definition stays in ``_engine.left_behind`` from the DROP's own transaction on until the origin has let go.
"""

from __future__ import annotations

from streamsql.base.limits import Limits
from streamsql.catalog.objects import Stream, Table
from streamsql.engine.recovery import read_relation
from streamsql.engine.store import Store


def note(store: Store, item: Stream | Table) -> None:
    """Keep the definition of what is being dropped, within the caller's transaction and before it goes from the catalog."""
    if item.is_read:
        store.execute(
            "INSERT INTO _engine.left_behind SELECT id, name, definition, place FROM _engine.objects "
            f"WHERE id = {item.id}"
        )


def found(store: Store, limits: Limits) -> list[Stream | Table]:
    """Give what was dropped, and whose origin has not let go of it."""
    rows = store.fetch("SELECT id, name, definition, place FROM _engine.left_behind ORDER BY id")
    return [read_relation(limits, *row) for row in rows]


def settled(store: Store, item: Stream | Table) -> None:
    """Note that the origin has let go. On the engine's thread."""
    with store.transaction():
        store.execute(f"DELETE FROM _engine.left_behind WHERE id = {item.id}")
