"""What relations and the database take on disk, as rows that ``pg_relation_size`` and its kin look up. No client can name them.

Relations are known by their OIDs; 0 is the database.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.catalog.relation import PG_CATALOG, CatalogRelation, Row, Snapshot, columns

SIZED, BYTES = "__sized", "__bytes"


def _rows(snapshot: Snapshot) -> Iterator[Row]:
    return ({SIZED: oid, BYTES: size} for oid, size in snapshot.sizes().items())


SIZES = CatalogRelation(PG_CATALOG, "sizes", 0, "v", columns(f"{SIZED} int8, {BYTES} int8"), _rows, lasting=False)
