"""Relations without rows: progress of what the server does by itself."""

from __future__ import annotations

from streamsql.catalog.relation import view

RELATIONS = (
    view(
        12297,
        "pg_stat_progress_analyze",
        """pid int4, datid oid, datname name, relid oid, phase text, sample_blks_total int8, sample_blks_scanned int8,
    ext_stats_total int8, ext_stats_computed int8, child_tables_total int8, child_tables_done int8,
    current_child_table_relid oid""",
    ),
    view(
        12317,
        "pg_stat_progress_basebackup",
        """pid int4, phase text, backup_total int8, backup_streamed int8, tablespaces_total int8, tablespaces_streamed
    int8""",
    ),
    view(
        12307,
        "pg_stat_progress_cluster",
        """pid int4, datid oid, datname name, relid oid, command text, phase text, cluster_index_relid oid,
    heap_tuples_scanned int8, heap_tuples_written int8, heap_blks_total int8, heap_blks_scanned int8,
    index_rebuild_count int8""",
    ),
    view(
        12322,
        "pg_stat_progress_copy",
        """pid int4, datid oid, datname name, relid oid, command text, type text, bytes_processed int8, bytes_total int8,
    tuples_processed int8, tuples_excluded int8""",
    ),
    view(
        12312,
        "pg_stat_progress_create_index",
        """pid int4, datid oid, datname name, relid oid, index_relid oid, command text, phase text, lockers_total int8,
    lockers_done int8, current_locker_pid int8, blocks_total int8, blocks_done int8, tuples_total int8,
    tuples_done int8, partitions_total int8, partitions_done int8""",
    ),
    view(
        12302,
        "pg_stat_progress_vacuum",
        """pid int4, datid oid, datname name, relid oid, phase text, heap_blks_total int8, heap_blks_scanned int8,
    heap_blks_vacuumed int8, index_vacuum_count int8, max_dead_tuples int8, num_dead_tuples int8""",
    ),
)
