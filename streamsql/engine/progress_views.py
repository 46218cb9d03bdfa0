"""The tables of schema ``streamsql`` that show progress: DuckDB views over what each epoch saves as JSON (`engine.recovery`).

Values are taken out of the JSON one by one, as a query needs them: to read lists of structs with `from_json` takes DuckDB twice
as long, most of it before it begins, and people ask for these often.
"""

from __future__ import annotations

from collections.abc import Mapping

from streamsql.engine.watermark import NEVER

Columns = Mapping[str, str]

_SOURCES: Columns = {
    "name": "VARCHAR", "connector": "VARCHAR", "positions": "JSON", "rows_in": "BIGINT", "rows_rejected": "BIGINT",
    "paused": "BOOLEAN", "error": "VARCHAR", "retrying": "BOOLEAN", "finished": "BOOLEAN",
}  # fmt: skip
_PARTITIONS: Columns = {
    "name": "VARCHAR", "positions": "JSON",
    "partitions": '[{"partition":"VARCHAR","last_arrival":"BIGINT","largest":"BIGINT"}]',
}  # fmt: skip
_STREAMS: Columns = {
    "name": "VARCHAR", "rows_in": "BIGINT", "last_arrival": "BIGINT", "rows_rejected": "BIGINT",
}  # fmt: skip
_WATERMARKS: Columns = {
    "name": "VARCHAR", "source": "VARCHAR", "kind": "VARCHAR", "event_time_column": "VARCHAR", "largest": "BIGINT",
    "delay": "BIGINT",
}  # fmt: skip
_LOOKUPS: Columns = {
    "name": "VARCHAR", "connector": "VARCHAR", "keys_cached": "BIGINT", "rows_waiting": "BIGINT", "since": "BIGINT",
    "streams": '["VARCHAR"]', "error": "VARCHAR",
}  # fmt: skip
_BACKFILL = (
    '{"last_time":"BIGINT","row_count":"BIGINT","bytes_total":"BIGINT","bytes_read":"BIGINT","began_at":"BIGINT",'
    '"noted_at":"BIGINT","finished":"BOOLEAN"}'
)
_BUILDS: Columns = {
    "name": "VARCHAR", "rows_done": "BIGINT", "rows_total": "BIGINT", "began_at": "BIGINT", "noted_at": "BIGINT",
}  # fmt: skip
_VIEWS: Columns = {
    "name": "VARCHAR", "source": "VARCHAR", "mode": "VARCHAR", "rows_in": "BIGINT", "rows_out": "BIGINT",
    "rows_late": "BIGINT", "state_rows": "BIGINT", "last_epoch": "BIGINT", "error": "VARCHAR", "largest": "BIGINT",
    "delay": "BIGINT", "state_ttl": "BIGINT", "rows_kept": "BIGINT", "stalled": "VARCHAR",
}  # fmt: skip
_SINKS: Columns = {
    "name": "VARCHAR", "view": "VARCHAR", "connector": "VARCHAR", "guarantee": "VARCHAR", "delivered_epoch": "BIGINT",
    "rows_in": "BIGINT", "rows_delivered": "BIGINT", "paused": "BOOLEAN", "error": "VARCHAR", "retrying": "BOOLEAN",
}  # fmt: skip


def _listed(key: str, columns: Columns) -> str:
    """Give the SQL of a relation with a row for each entry of one of progress' lists.

    A type is DuckDB's, or a JSON structure as `from_json` takes it; what is absent or null is NULL.
    """
    items = ", ".join(f"{_value(name, kind)} AS {name}" for name, kind in columns.items())
    return f"(SELECT {items} FROM (SELECT unnest(json_extract(progress, '$.{key}[*]')) AS entry FROM _engine.epoch))"


def _value(name: str, kind: str) -> str:
    if kind == "VARCHAR":
        return f"entry->>'{name}'"
    if kind == "JSON":
        return f"entry->'{name}'"
    if kind.startswith(("[", "{")):
        return f"from_json(entry->'{name}', '{kind}')"
    return f"CAST(entry->>'{name}' AS {kind})"


def _time(us: str) -> str:
    return f"CASE WHEN {us} > {NEVER} THEN make_timestamp({us}) END"


VIEWS = (
    "CREATE OR REPLACE VIEW streamsql.watermarks AS SELECT w.name, w.kind, w.source, w.event_time_column, "
    f"{_time('w.largest')} AS largest_event_time, to_microseconds(w.delay) AS delay, "
    f"CASE WHEN w.largest > {NEVER} THEN make_timestamp(w.largest - w.delay) END AS watermark "
    f"FROM {_listed('watermarks', _WATERMARKS)} AS w",
    "CREATE OR REPLACE VIEW streamsql.streams AS SELECT w.name, w.rows_in, "
    f"{_time('w.last_arrival')} AS last_arrival, coalesce(w.rows_rejected, 0) AS rows_rejected "
    f"FROM {_listed('streams', _STREAMS)} AS w",
    "CREATE OR REPLACE VIEW streamsql.sources AS SELECT w.name, w.connector, w.positions, w.rows_in, w.rows_rejected, "
    "CASE WHEN w.paused THEN 'paused' WHEN w.finished THEN 'finished' WHEN w.error IS NULL THEN 'reading' "
    "WHEN w.retrying THEN 'retrying: ' || w.error ELSE 'stopped: ' || w.error END AS status "
    f"FROM {_listed('streams', _SOURCES)} AS w WHERE w.connector IS NOT NULL",
    "CREATE OR REPLACE VIEW streamsql.lookups AS SELECT w.name, w.connector, w.keys_cached, w.rows_waiting, w.streams, "
    "make_timestamp(w.since) AS waiting_since, CASE WHEN w.error IS NOT NULL THEN 'retrying: ' || w.error "
    "WHEN w.rows_waiting > 0 THEN 'asking' ELSE 'ready' END AS status "
    f"FROM {_listed('lookups', _LOOKUPS)} AS w",
    "CREATE OR REPLACE VIEW streamsql.backfills AS SELECT name, b.row_count AS rows_read, NULL::BIGINT AS rows_total, "
    "b.bytes_read, b.bytes_total, "
    "make_timestamp(b.last_time) AS history_end, make_timestamp(nullif(b.began_at, 0)) AS began_at, "
    "CASE WHEN NOT b.finished AND b.bytes_read > 0 THEN to_microseconds(CAST((b.noted_at - b.began_at) "
    "* (b.bytes_total - b.bytes_read) / b.bytes_read AS BIGINT)) END AS time_left, "
    "CASE WHEN b.finished AND b.began_at = 0 THEN 'left out' WHEN b.finished THEN 'finished' ELSE status END AS status "
    f"FROM (SELECT name, status, from_json(positions->>'backfill', '{_BACKFILL}') AS b FROM streamsql.sources) "
    "WHERE b IS NOT NULL UNION ALL BY NAME SELECT b.name, b.rows_done AS rows_read, b.rows_total, "
    "make_timestamp(b.began_at) AS began_at, CASE WHEN b.rows_done > 0 THEN to_microseconds(CAST((b.noted_at - b.began_at) "
    "* (b.rows_total - b.rows_done) / b.rows_done AS BIGINT)) END AS time_left, 'building' AS status "
    f"FROM {_listed('builds', _BUILDS)} AS b",
    "CREATE OR REPLACE VIEW streamsql.partitions AS SELECT name, p.partition, "
    f"json_extract(positions, p.partition) AS position, {_time('p.last_arrival')} AS last_arrival, "
    f"{_time('p.largest')} AS largest_event_time FROM (SELECT w.name, w.positions, unnest(w.partitions) AS p "
    f"FROM {_listed('streams', _PARTITIONS)} AS w)",
    "CREATE OR REPLACE VIEW streamsql.views AS SELECT v.name, v.source, v.mode, v.rows_in, v.rows_out, v.rows_late, "
    "coalesce(v.rows_kept, v.state_rows) AS state_rows, to_microseconds(v.state_ttl) AS state_ttl, "
    f"CASE WHEN v.largest > {NEVER} THEN make_timestamp(v.largest - v.delay) END AS watermark, "
    "v.last_epoch, CASE WHEN v.error IS NOT NULL THEN 'failed: ' || v.error "
    "WHEN v.stalled IS NOT NULL THEN 'stalled: ' || v.stalled ELSE 'running' END AS status, "
    "(SELECT min(h.number) FROM _engine.shared_states AS h WHERE h.view = v.name) AS shared_state "
    f"FROM {_listed('views', _VIEWS)} AS v",
    "CREATE OR REPLACE VIEW streamsql.sinks AS SELECT s.name, s.view, s.connector, s.guarantee, s.delivered_epoch, "
    "s.rows_delivered, s.rows_in - s.rows_delivered AS rows_waiting, "
    "CASE WHEN s.paused THEN 'paused' WHEN s.error IS NULL THEN 'delivering' "
    "WHEN s.retrying THEN 'retrying: ' || s.error ELSE 'stopped: ' || s.error END AS status "
    f"FROM {_listed('sinks', _SINKS)} AS s",
    "CREATE OR REPLACE VIEW streamsql.late_rows AS SELECT view, stream, reason, event_time, watermark, late_by, "
    "arrived_at, epoch, row_json::JSON AS row FROM _engine.late_rows",
    "CREATE OR REPLACE VIEW streamsql.epoch AS SELECT epoch, committed_at, next_sequence FROM _engine.epoch",
)
