"""VACUUM, ANALYZE, CLUSTER, CHECKPOINT and REINDEX, as clients and scripts send them; and the storage parameters of tables.

See https://www.postgresql.org/docs/15/sql-vacuum.html and the pages beside it. Options are read, and what they ask of
PostgreSQL's own storage has no meaning for DuckDB's.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamsql.base.errors import SQLSyntaxError
from streamsql.sql.changes import expect_columns
from streamsql.sql.statements import Statement
from streamsql.sql.tokens import Cursor

_VACUUM_OPTIONS = {
    "full", "freeze", "verbose", "analyze", "disable_page_skipping", "skip_locked", "index_cleanup", "process_main",
    "process_toast", "truncate", "analyse", "parallel", "skip_database_stats", "only_database_stats", "buffer_usage_limit",
}  # fmt: skip
_ANALYZE_OPTIONS = {"verbose", "skip_locked", "buffer_usage_limit"}
_REINDEX_OPTIONS = {"concurrently", "tablespace", "verbose"}

# of a table in PostgreSQL; all of them are about how its rows lie on the disk, and when VACUUM looks at them
STORAGE_PARAMETERS = {
    "fillfactor", "toast_tuple_target", "parallel_workers", "user_catalog_table", "vacuum_index_cleanup", "vacuum_truncate",
    "log_autovacuum_min_duration", "oids",
}  # fmt: skip
_STORAGE_PREFIXES = ("autovacuum_", "toast.")


@dataclass(frozen=True, slots=True)
class Upkeep(Statement):
    """VACUUM, ANALYZE, CLUSTER, CHECKPOINT or REINDEX (`verb`), of relations or of everything (no `names`).

    `of`: what REINDEX is of, TABLE, INDEX, SCHEMA, DATABASE or SYSTEM; TABLE for the others.
    """

    verb: str
    names: tuple[str, ...] = ()
    name_positions: tuple[int, ...] = ()
    of: str = "table"


def is_storage_parameter(name: str) -> bool:
    """Tell whether this is an option by which PostgreSQL stores a table."""
    return name in STORAGE_PARAMETERS or name.startswith(_STORAGE_PREFIXES)


def parse_vacuum(cursor: Cursor) -> Upkeep:
    """Read VACUUM [(options) | FULL FREEZE VERBOSE ANALYZE] [table [(columns)] [, ...]]."""
    cursor.expect("vacuum")
    if not _accept_options(cursor, "VACUUM", _VACUUM_OPTIONS):
        for words in (("full",), ("freeze",), ("verbose",), ("analyze", "analyse")):
            cursor.accept_any(*words)
    return _of_tables(cursor, "VACUUM")


def parse_analyze(cursor: Cursor) -> Upkeep:
    """Read ANALYZE [(options) | VERBOSE] [table [(columns)] [, ...]]."""
    cursor.advance()
    if not _accept_options(cursor, "ANALYZE", _ANALYZE_OPTIONS):
        cursor.accept("verbose")
    return _of_tables(cursor, "ANALYZE")


def parse_cluster(cursor: Cursor) -> Upkeep:
    """Read CLUSTER [VERBOSE] [table [USING index]]."""
    cursor.expect("cluster")
    if not _accept_options(cursor, "CLUSTER", {"verbose"}):
        cursor.accept("verbose")
    if cursor.peek is None:
        return Upkeep(*cursor.source, verb="CLUSTER")
    position, name = cursor.position, cursor.expect_object_name()
    if cursor.accept("using"):
        cursor.expect_name()
    cursor.expect_end()
    return Upkeep(*cursor.source, verb="CLUSTER", names=(name,), name_positions=(position,))


def parse_checkpoint(cursor: Cursor) -> Upkeep:
    """Read CHECKPOINT."""
    cursor.expect("checkpoint")
    cursor.expect_end()
    return Upkeep(*cursor.source, verb="CHECKPOINT")


def parse_reindex(cursor: Cursor) -> Upkeep:
    """Read REINDEX [(options)] TABLE | INDEX | SCHEMA | DATABASE | SYSTEM [CONCURRENTLY] [name]."""
    cursor.expect("reindex")
    _accept_options(cursor, "REINDEX", _REINDEX_OPTIONS)
    of = cursor.accept_any("table", "index", "schema", "database", "system")
    if of is None:
        raise cursor.error()
    cursor.accept("concurrently")
    position = cursor.position
    if of in ("database", "system") and cursor.peek is None:
        return Upkeep(*cursor.source, verb="REINDEX", of=of)
    name = cursor.expect_object_name() if of in ("table", "index") else cursor.expect_name()
    cursor.expect_end()
    return Upkeep(*cursor.source, verb="REINDEX", names=(name,), name_positions=(position,), of=of)


def _of_tables(cursor: Cursor, verb: str) -> Upkeep:
    names: list[tuple[str, int]] = []
    while cursor.peek is not None:
        position = cursor.position
        names.append((cursor.expect_object_name(), position))
        if cursor.sees("("):
            expect_columns(cursor)
        if not cursor.accept(","):
            break
    cursor.expect_end()
    return Upkeep(
        *cursor.source, verb=verb, names=tuple(n for n, _ in names), name_positions=tuple(p for _, p in names)
    )


def _accept_options(cursor: Cursor, verb: str, known: set[str]) -> bool:
    """Read ``(name [value], ...)``."""
    if not cursor.accept("("):
        return False
    while True:
        position, name = cursor.position, cursor.accept_word()
        if name is None:
            raise cursor.error()
        if name not in known:
            raise SQLSyntaxError(f'unrecognized {verb} option "{name}"', position=position + 1)
        if not cursor.sees_any(",", ")"):
            cursor.advance()
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return True
