"""All relations of the standard schemas by name, and the snapshot that they are made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamsql.catalog import information_schema, objects, pg_catalog
from streamsql.catalog.access import OWNER
from streamsql.catalog.objects import PUBLIC_SCHEMA, Catalog
from streamsql.catalog.relation import NOTHING_OWN, CatalogRelation, OwnObjects, SessionRow, Setting, Snapshot

STANDARD: dict[tuple[str, str], CatalogRelation] = {
    (relation.schema, relation.name): relation
    for relation in sorted((*pg_catalog.RELATIONS, *information_schema.RELATIONS), key=lambda r: (r.schema, r.name))
}


def snapshot(
    catalog: Catalog,
    user: str,
    database: str,
    settings: Callable[[], Sequence[Setting]] = tuple,
    sessions: Callable[[], Sequence[SessionRow]] = tuple,
    rows_in: Callable[[str], int] = lambda _: 0,
    own: OwnObjects = NOTHING_OWN,
    *,
    role: int = OWNER,
    owner: str = "",
    path: tuple[str, ...] = (PUBLIC_SCHEMA,),
    last_number: Callable[[objects.Sequence], tuple[int, bool]] = lambda _: (0, False),
) -> Snapshot:
    """Make a snapshot with all relations in it."""
    return Snapshot(
        catalog, user, database, settings, sessions, rows_in, STANDARD, own, role, owner or user, path, last_number
    )
