"""Relations without rows: statistics that PostgreSQL keeps and this server does not."""

from __future__ import annotations

from streamsql.catalog.relation import table, view

RELATIONS = (
    view(
        12183,
        "pg_stat_all_indexes",
        """relid oid, indexrelid oid, schemaname name, relname name, indexrelname name, idx_scan int8, idx_tup_read int8,
    idx_tup_fetch int8""",
    ),
    view(
        12285,
        "pg_stat_archiver",
        """archived_count int8, last_archived_wal text, last_archived_time timestamptz, failed_count int8,
    last_failed_wal text, last_failed_time timestamptz, stats_reset timestamptz""",
    ),
    view(
        12289,
        "pg_stat_bgwriter",
        """checkpoints_timed int8, checkpoints_req int8, checkpoint_write_time float8, checkpoint_sync_time float8,
    buffers_checkpoint int8, buffers_clean int8, maxwritten_clean int8, buffers_backend int8,
    buffers_backend_fsync int8, buffers_alloc int8, stats_reset timestamptz""",
    ),
    view(
        12271,
        "pg_stat_database_conflicts",
        """datid oid, datname name, confl_tablespace int8, confl_lock int8, confl_snapshot int8, confl_bufferpin int8,
    confl_deadlock int8""",
    ),
    view(
        12253,
        "pg_stat_gssapi",
        """pid int4, gss_authenticated bool, principal text, encrypted bool""",
    ),
    view(
        12240,
        "pg_stat_recovery_prefetch",
        """stats_reset timestamptz, prefetch int8, hit int8, skip_init int8, skip_new int8, skip_fpw int8, skip_rep int8,
    wal_distance int4, block_distance int4, io_depth int4""",
    ),
    view(
        12232,
        "pg_stat_slru",
        """name text, blks_zeroed int8, blks_hit int8, blks_read int8, blks_written int8, blks_exists int8, flushes int8,
    truncates int8, stats_reset timestamptz""",
    ),
    view(
        12249,
        "pg_stat_ssl",
        """pid int4, ssl bool, version text, cipher text, bits int4, client_dn text, client_serial numeric, issuer_dn
    text""",
    ),
    view(
        12188,
        "pg_stat_sys_indexes",
        """relid oid, indexrelid oid, schemaname name, relname name, indexrelname name, idx_scan int8, idx_tup_read int8,
    idx_tup_fetch int8""",
    ),
    view(
        12152,
        "pg_stat_sys_tables",
        """relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, idx_scan int8, idx_tup_fetch int8,
    n_tup_ins int8, n_tup_upd int8, n_tup_del int8, n_tup_hot_upd int8, n_live_tup int8, n_dead_tup int8,
    n_mod_since_analyze int8, n_ins_since_vacuum int8, last_vacuum timestamptz, last_autovacuum timestamptz,
    last_analyze timestamptz, last_autoanalyze timestamptz, vacuum_count int8, autovacuum_count int8,
    analyze_count int8, autoanalyze_count int8""",
    ),
    view(
        12275,
        "pg_stat_user_functions",
        """funcid oid, schemaname name, funcname name, calls int8, total_time float8, self_time float8""",
    ),
    view(
        12192,
        "pg_stat_user_indexes",
        """relid oid, indexrelid oid, schemaname name, relname name, indexrelname name, idx_scan int8, idx_tup_read int8,
    idx_tup_fetch int8""",
    ),
    view(
        12293,
        "pg_stat_wal",
        """wal_records int8, wal_fpi int8, wal_bytes numeric, wal_buffers_full int8, wal_write int8, wal_sync int8,
    wal_write_time float8, wal_sync_time float8, stats_reset timestamptz""",
    ),
    view(
        12147,
        "pg_stat_xact_all_tables",
        """relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, idx_scan int8, idx_tup_fetch int8,
    n_tup_ins int8, n_tup_upd int8, n_tup_del int8, n_tup_hot_upd int8""",
    ),
    view(
        12157,
        "pg_stat_xact_sys_tables",
        """relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, idx_scan int8, idx_tup_fetch int8,
    n_tup_ins int8, n_tup_upd int8, n_tup_del int8, n_tup_hot_upd int8""",
    ),
    view(
        12280,
        "pg_stat_xact_user_functions",
        """funcid oid, schemaname name, funcname name, calls int8, total_time float8, self_time float8""",
    ),
    view(
        12166,
        "pg_stat_xact_user_tables",
        """relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, idx_scan int8, idx_tup_fetch int8,
    n_tup_ins int8, n_tup_upd int8, n_tup_del int8, n_tup_hot_upd int8""",
    ),
    view(
        12196,
        "pg_statio_all_indexes",
        """relid oid, indexrelid oid, schemaname name, relname name, indexrelname name, idx_blks_read int8, idx_blks_hit
    int8""",
    ),
    view(
        12209,
        "pg_statio_all_sequences",
        """relid oid, schemaname name, relname name, blks_read int8, blks_hit int8""",
    ),
    view(
        12170,
        "pg_statio_all_tables",
        """relid oid, schemaname name, relname name, heap_blks_read int8, heap_blks_hit int8, idx_blks_read int8,
    idx_blks_hit int8, toast_blks_read int8, toast_blks_hit int8, tidx_blks_read int8, tidx_blks_hit int8""",
    ),
    view(
        12201,
        "pg_statio_sys_indexes",
        """relid oid, indexrelid oid, schemaname name, relname name, indexrelname name, idx_blks_read int8, idx_blks_hit
    int8""",
    ),
    view(
        12214,
        "pg_statio_sys_sequences",
        """relid oid, schemaname name, relname name, blks_read int8, blks_hit int8""",
    ),
    view(
        12175,
        "pg_statio_sys_tables",
        """relid oid, schemaname name, relname name, heap_blks_read int8, heap_blks_hit int8, idx_blks_read int8,
    idx_blks_hit int8, toast_blks_read int8, toast_blks_hit int8, tidx_blks_read int8, tidx_blks_hit int8""",
    ),
    view(
        12205,
        "pg_statio_user_indexes",
        """relid oid, indexrelid oid, schemaname name, relname name, indexrelname name, idx_blks_read int8, idx_blks_hit
    int8""",
    ),
    view(
        12218,
        "pg_statio_user_sequences",
        """relid oid, schemaname name, relname name, blks_read int8, blks_hit int8""",
    ),
    view(
        12179,
        "pg_statio_user_tables",
        """relid oid, schemaname name, relname name, heap_blks_read int8, heap_blks_hit int8, idx_blks_read int8,
    idx_blks_hit int8, toast_blks_read int8, toast_blks_hit int8, tidx_blks_read int8, tidx_blks_hit int8""",
    ),
    table(
        2619,
        "pg_statistic",
        """starelid oid, staattnum int2, stainherit bool, stanullfrac float4, stawidth int4, stadistinct float4, stakind1
    int2, stakind2 int2, stakind3 int2, stakind4 int2, stakind5 int2, staop1 oid, staop2 oid, staop3 oid, staop4
    oid, staop5 oid, stacoll1 oid, stacoll2 oid, stacoll3 oid, stacoll4 oid, stacoll5 oid, stanumbers1 float4[],
    stanumbers2 float4[], stanumbers3 float4[], stanumbers4 float4[], stanumbers5 float4[], stavalues1 anyarray,
    stavalues2 anyarray, stavalues3 anyarray, stavalues4 anyarray, stavalues5 anyarray""",
    ),
    table(
        3381,
        "pg_statistic_ext",
        """oid oid, stxrelid oid, stxname name, stxnamespace oid, stxowner oid, stxstattarget int4, stxkeys int2vector,
    stxkind char[], stxexprs pg_node_tree""",
    ),
    table(
        3429,
        "pg_statistic_ext_data",
        """stxoid oid, stxdinherit bool, stxdndistinct pg_ndistinct, stxddependencies pg_dependencies, stxdmcv
    pg_mcv_list, stxdexpr anyarray""",
    ),
    view(
        12053,
        "pg_stats",
        """schemaname name, tablename name, attname name, inherited bool, null_frac float4, avg_width int4, n_distinct
    float4, most_common_vals anyarray, most_common_freqs float4[], histogram_bounds anyarray, correlation float4,
    most_common_elems anyarray, most_common_elem_freqs float4[], elem_count_histogram float4[]""",
    ),
    view(
        12058,
        "pg_stats_ext",
        """schemaname name, tablename name, statistics_schemaname name, statistics_name name, statistics_owner name,
    attnames name[], exprs text[], kinds char[], inherited bool, n_distinct pg_ndistinct, dependencies
    pg_dependencies, most_common_vals text[], most_common_val_nulls bool[], most_common_freqs float8[],
    most_common_base_freqs float8[]""",
    ),
    view(
        12063,
        "pg_stats_ext_exprs",
        """schemaname name, tablename name, statistics_schemaname name, statistics_name name, statistics_owner name, expr
    text, inherited bool, null_frac float4, avg_width int4, n_distinct float4, most_common_vals anyarray,
    most_common_freqs float4[], histogram_bounds anyarray, correlation float4, most_common_elems anyarray,
    most_common_elem_freqs float4[], elem_count_histogram float4[]""",
    ),
)
