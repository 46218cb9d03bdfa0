"""pg_cursors and pg_prepared_statements: what the asking session holds open. pg_listening_channels(): what it listens to."""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.catalog.relation import Row, Snapshot, view


def _cursors(snapshot: Snapshot) -> Iterator[Row]:
    yield from snapshot.own.cursors()


def _prepared(snapshot: Snapshot) -> Iterator[Row]:
    yield from snapshot.own.prepared()


def _channels(snapshot: Snapshot) -> Iterator[Row]:
    for channel in snapshot.own.channels():
        yield {"pg_listening_channels": channel}


RELATIONS = (
    view(
        12077,
        "pg_cursors",
        """name text, statement text, is_holdable bool, is_binary bool, is_scrollable bool, creation_time timestamptz""",
        _cursors,
        lasting=False,
    ),
    view(
        12095,
        "pg_prepared_statements",
        """name text, statement text, prepare_time timestamptz, parameter_types regtype[], from_sql bool, generic_plans
    int8, custom_plans int8""",
        _prepared,
        lasting=False,
    ),
)
PG_LISTENING_CHANNELS = view(0, "pg_listening_channels", "pg_listening_channels text", _channels, lasting=False)
