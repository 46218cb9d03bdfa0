"""pg_stat_activity and pg_stat_database, pg_stat_*_tables: the sessions, and what the server counts of each relation."""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.catalog.access import READ_ALL_STATS
from streamsql.catalog.objects import PlainView, View
from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.relation import Row, Snapshot, view


def _sessions(snapshot: Snapshot) -> Iterator[Row]:
    access = snapshot.catalog.access
    sees_all = access.has_rights_of(snapshot.role, READ_ALL_STATS)
    for session in snapshot.sessions():
        known: Row = {
            "datid": oids.DATABASES.get(session.database, 0), "datname": session.database, "pid": session.process_id,
            "usesysid": session.role, "usename": session.user, "application_name": session.application_name,
        }  # fmt: skip
        if not (sees_all or access.has_rights_of(snapshot.role, session.role)):
            yield {**known, "query": "<insufficient privilege>"}
            continue
        yield {
            **known,
            "client_addr": session.address, "client_port": session.port, "backend_start": session.began,
            "state": session.state, "query": session.query, "backend_type": "client backend",
        }  # fmt: skip


def _relations(snapshot: Snapshot) -> Iterator[Row]:
    for made in snapshot.catalog:
        count = 0 if isinstance(made, (PlainView, View)) else snapshot.rows_in(made.name)
        yield {
            "relid": oids.relation(made.id), "schemaname": made.schema, "relname": made.bare, "n_tup_ins": count,
            "n_live_tup": count, **_NOT_COUNTED,
        }  # fmt: skip


_NOT_COUNTED: dict[str, object] = dict.fromkeys(
    (
        "seq_scan", "seq_tup_read", "n_tup_upd", "n_tup_del", "n_tup_hot_upd", "n_dead_tup", "n_mod_since_analyze",
        "n_ins_since_vacuum", "vacuum_count", "autovacuum_count", "analyze_count", "autoanalyze_count",
    ),
    0,
)  # fmt: skip


def _databases(snapshot: Snapshot) -> Iterator[Row]:
    for name, oid in oids.DATABASES.items():
        yield {"datid": oid, "datname": name, "numbackends": sum(s.database == name for s in snapshot.sessions())}


RELATIONS = (
    view(
        12222,
        "pg_stat_activity",
        """datid oid, datname name, pid int4, leader_pid int4, usesysid oid, usename name, application_name text,
    client_addr inet, client_hostname text, client_port int4, backend_start timestamptz, xact_start timestamptz,
    query_start timestamptz, state_change timestamptz, wait_event_type text, wait_event text, state text,
    backend_xid xid, backend_xmin xid, query_id int8, query text, backend_type text""",
        _sessions,
        lasting=False,
    ),
    view(
        12142,
        "pg_stat_all_tables",
        """relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, idx_scan int8, idx_tup_fetch int8,
    n_tup_ins int8, n_tup_upd int8, n_tup_del int8, n_tup_hot_upd int8, n_live_tup int8, n_dead_tup int8,
    n_mod_since_analyze int8, n_ins_since_vacuum int8, last_vacuum timestamptz, last_autovacuum timestamptz,
    last_analyze timestamptz, last_autoanalyze timestamptz, vacuum_count int8, autovacuum_count int8,
    analyze_count int8, autoanalyze_count int8""",
        _relations,
        lasting=False,
    ),
    view(
        12161,
        "pg_stat_user_tables",
        """relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, idx_scan int8, idx_tup_fetch int8,
    n_tup_ins int8, n_tup_upd int8, n_tup_del int8, n_tup_hot_upd int8, n_live_tup int8, n_dead_tup int8,
    n_mod_since_analyze int8, n_ins_since_vacuum int8, last_vacuum timestamptz, last_autovacuum timestamptz,
    last_analyze timestamptz, last_autoanalyze timestamptz, vacuum_count int8, autovacuum_count int8,
    analyze_count int8, autoanalyze_count int8""",
        _relations,
        lasting=False,
    ),
    view(
        12266,
        "pg_stat_database",
        """datid oid, datname name, numbackends int4, xact_commit int8, xact_rollback int8, blks_read int8, blks_hit
    int8, tup_returned int8, tup_fetched int8, tup_inserted int8, tup_updated int8, tup_deleted int8, conflicts
    int8, temp_files int8, temp_bytes int8, deadlocks int8, checksum_failures int8, checksum_last_failure
    timestamptz, blk_read_time float8, blk_write_time float8, session_time float8, active_time float8,
    idle_in_transaction_time float8, sessions int8, sessions_abandoned int8, sessions_fatal int8, sessions_killed
    int8, stats_reset timestamptz""",
        _databases,
        lasting=False,
    ),
)
