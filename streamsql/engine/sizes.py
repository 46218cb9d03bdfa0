"""How much of the disk relations take, by DuckDB's storage: whole blocks, of which several small relations may share one.

What has not been moved out of the write-ahead log yet counts with the database alone.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from streamsql.catalog.objects import RESULTS_SCHEMA, Catalog, PlainView, View, literal, quoted
from streamsql.catalog.pg_catalog import oids

BLOCK_BYTES = 262_144
DATABASE = 0


def sizes(cursor: duckdb.DuckDBPyConnection, catalog: Catalog, path: Path | None) -> dict[int, int]:
    """Give the bytes of each relation by its OID, and of the database, which lies in the file at `path`."""
    found = {DATABASE: _database_bytes(path)}
    for made in catalog:
        if isinstance(made, PlainView):
            found[oids.relation(made.id)] = 0
            continue
        kept = f"{RESULTS_SCHEMA}.{quoted(made.name)}" if isinstance(made, View) else made.rows_table
        try:
            blocks = cursor.execute(
                "SELECT count(DISTINCT block_id) FROM "
                f"pragma_storage_info({literal(kept)}) WHERE persistent AND block_id >= 0"
            ).fetchall()
        except duckdb.Error:  # what keeps no rows of its own has no table
            blocks = [(0,)]
        found[oids.relation(made.id)] = int(blocks[0][0]) * BLOCK_BYTES
    return found


def _database_bytes(path: Path | None) -> int:
    if path is None:
        return 0
    files = (path, path.with_name(f"{path.name}.wal"))
    return sum(file.stat().st_size for file in files if file.exists())
