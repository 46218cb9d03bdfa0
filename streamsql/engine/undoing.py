"""ROLLBACK of definitions: what a transaction's CREATE statements have made is dropped again.

A definition takes effect at once and for all sessions. So what others have come to use meanwhile stays, and is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from streamsql.base.errors import StreamSQLError
from streamsql.catalog.objects import Catalog, CatalogObject, Sequence, Stream, Table
from streamsql.catalog.rights import kind
from streamsql.engine import indexes, schemas, sequences, sinks, user_types
from streamsql.engine.definitions import drop_objects
from streamsql.engine.epoch import Engine


def made_between(before: Catalog, after: Catalog) -> frozenset[int]:
    """Give the IDs of what is new in a catalog, but for what has taken another's place (CREATE OR REPLACE)."""
    if before is after:
        return frozenset()
    replaced = {made.id for key, made in after.objects.items() if key in before.objects}
    return _ids(after) - _ids(before) - replaced


def _ids(catalog: Catalog) -> frozenset[int]:
    named: Iterable[Iterable[int]] = (
        (made.id for made in catalog),
        (sink.id for sink in catalog.sinks.values()),
        (sequence.id for sequence in catalog.sequences.values()),
        (made.id for made in catalog.types.values()),
        catalog.indexes,
        (schema.id for schema in catalog.schemas.values()),
    )
    return frozenset().union(*named)


def undo(engine: Engine, ids: frozenset[int]) -> list[str]:
    """Drop what has these IDs, as far as nobody else uses it; gives what stays, for people. On the engine's thread."""
    told: list[str] = []
    catalog = engine.catalog
    sinks.drop(engine, tuple(s.name for s in catalog.sinks.values() if s.id in ids), if_exists=True)
    _drop_objects(engine, [made for made in catalog if made.id in ids], told)
    for index in [index for number, index in engine.catalog.indexes.items() if number in ids]:
        _attempt(partial(indexes.drop, engine, [index], cascade=False), f"index {index.name}", told)
    # those that columns own have gone with their tables, or belong to what ALTER TABLE has changed
    for sequence in [s for s in engine.catalog.sequences.values() if s.id in ids and s.owned_by is None]:
        _attempt(partial(_drop_sequence, engine, sequence), f"sequence {sequence.shown}", told)
    for made in sorted((t for t in engine.catalog.types.values() if t.id in ids), key=lambda t: -t.id):
        _attempt(partial(user_types.drop, engine, [made], cascade=False), f"type {made.shown}", told)
    for schema in [s for s in engine.catalog.schemas.values() if s.id in ids]:
        _attempt(partial(schemas.drop_schemas, engine, [schema], cascade=False), f"schema {schema.name}", told)
    return told


def _attempt(drop: Callable[[], object], what: str, told: list[str]) -> None:
    try:
        drop()
    except StreamSQLError as error:
        told.append(f"{what} stays: {error.detail or error.message}")


def _drop_objects(engine: Engine, given: list[CatalogObject], told: list[str]) -> None:
    """Drop streams, tables and views: all at once, or where others use some of them, each that nobody uses."""
    left = [made for made in given if not _has_rows(engine, made)]
    told += [f"{kind(made)} {made.shown} stays: others have written to it" for made in given if made not in left]
    try:
        drop_objects(engine, left, cascade=False)
    except StreamSQLError:
        before, stays = len(left) + 1, [""] * len(left)
        while 0 < len(left) < before:  # what goes may have kept others
            before, stays = len(left), []
            for made in sorted(left, key=lambda made: -made.id):
                _attempt(partial(drop_objects, engine, [made], cascade=False), f"{kind(made)} {made.shown}", stays)
            left = [made for made in left if engine.catalog.of_id(made.id) is not None]
        told += stays


def _has_rows(engine: Engine, made: CatalogObject) -> bool:
    """Tell whether others have written to it: the transaction's own rows are not in it before COMMIT."""
    if not isinstance(made, (Stream, Table)) or made.is_read:
        return False
    progress = engine.streams.get(made.name)
    return (progress is not None and progress.rows_in > 0) or bool(
        engine.store.fetch(f"SELECT 1 FROM {made.rows_table} LIMIT 1")
    )


def _drop_sequence(engine: Engine, sequence: Sequence) -> None:
    schemas.refuse_users(engine.catalog, [sequence], [])
    sequences.drop(engine, [sequence])
