"""What a secret holds is shown nowhere: not in definitions, states, errors, logs or metrics, nor kept in the server's files."""

from __future__ import annotations

from pathlib import Path

import httpx
import psycopg
import pytest

from streamsql.connectors import SINKS
from tests.running import RunningServer, until

HIDDEN = "hunter2"
ENVIRONMENT = {
    "PLAIN": HIDDEN,
    "REDIS": f"redis://u:{HIDDEN}@127.0.0.1:1",
    "NATS": f"nats://u:{HIDDEN}@127.0.0.1:1",
    "MQTT": f"mqtt://u:{HIDDEN}@127.0.0.1:1",
    "HOOK": f"http://u:{HIDDEN}@127.0.0.1:1/x?token={HIDDEN}",
    "QUERY": f"http://127.0.0.1:1/x?token={HIDDEN}",
    "BROKERS": f"127.0.0.1:{HIDDEN}",
}
SOURCES = {
    "redis": "stream = 'x', url = secret 'env:REDIS'",
    "redis_password": "stream = 'x', url = 'redis://127.0.0.1:1', username = 'u', password = secret 'env:PLAIN'",
    "redis_wrong": "stream = 'x', url = secret 'env:PLAIN'",
    "nats": "stream = 'x', url = secret 'env:NATS'",
    "nats_wrong": "stream = 'x', url = secret 'env:PLAIN'",
    "mqtt": "topic = 'x', url = secret 'env:MQTT'",
    "mqtt_wrong": "topic = 'x', url = secret 'env:PLAIN'",
    "kafka_wrong": "topic = 'x', brokers = secret 'env:BROKERS'",
    "kafka_also_wrong": "topic = 'x', brokers = '127.0.0.1:1', ssl_ca = secret 'env:PLAIN'",
    "kafka": "topic = 'x', brokers = '127.0.0.1:1', sasl_username = 'u', sasl_password = secret 'env:PLAIN'",
    "postgres": "host = '127.0.0.1', port = 1, database = 'd', user = 'u', password = secret 'env:PLAIN'",
    "postgres_wrong": "host = '127.0.0.1', port = secret 'env:PLAIN', database = 'd', user = 'u'",
    "file_wrong": "path = '/nowhere/x.json', endpoint = secret 'env:PLAIN'",
}
TO = {
    "webhook": "url = secret 'env:HOOK'",
    "webhook_query": "url = secret 'env:QUERY', signing_secret = secret 'env:PLAIN', authorization = secret 'env:PLAIN'",
    "webhook_wrong": "url = secret 'env:PLAIN'",
    "redis": "stream = 'x', url = secret 'env:REDIS'",
    "kafka": "topic = 'x', brokers = '127.0.0.1:1', sasl_username = 'u', sasl_password = secret 'env:PLAIN'",
    "mqtt": "topic = 'x', url = secret 'env:MQTT'",
    "nats": "stream = 'x', subject = 'x', url = secret 'env:NATS'",
    "postgres": "table = 't', host = '127.0.0.1', port = 1, database = 'd', user = 'u', password = secret 'env:PLAIN'",
}


@pytest.mark.timeout(120)
def test_what_a_secret_holds_is_shown_nowhere(tmp_path: Path):
    with RunningServer(tmp_path, ["--http-port", "0"], ENVIRONMENT) as server:
        for name, options in SOURCES.items():
            connector = name.partition("_")[0]
            server.execute(f"CREATE STREAM {name} (n INT) WITH (connector = '{connector}', {options})")
        server.execute("CREATE STREAM s (n INT)", "CREATE MATERIALIZED VIEW v AS SELECT n FROM s EMIT APPEND")
        for name, options in TO.items():
            connector = name.partition("_")[0]
            assert connector in SINKS
            server.execute(f"CREATE SINK to_{name} FROM v WITH (connector = '{connector}', {options})")
        server.execute("INSERT INTO s VALUES (1)")
        until(lambda: not server.execute("SELECT name FROM streamsql.sources WHERE status = 'reading'"), 60)
        until(lambda: not server.execute("SELECT name FROM streamsql.sinks WHERE status = 'delivering'"), 60)
        shown = ""
        for schema, relation in server.execute(
            "SELECT schemaname, viewname FROM pg_views UNION SELECT table_schema, table_name FROM information_schema.tables"
        ):
            try:
                shown += str(server.execute(f'SELECT * FROM "{schema}"."{relation}"'))
            except psycopg.Error as error:
                shown += str(error)
        for name in SOURCES:
            shown += str(server.execute(f"EXPLAIN SELECT * FROM {name} EMIT APPEND"))
        shown += str(server.execute("SHOW SINKS")) + str(server.execute("SHOW STREAMS"))
        shown += httpx.get(f"{server.http}/metrics").text + httpx.get(f"{server.http}/openapi.json").text
        statuses: dict[str, str] = dict(server.execute("SELECT name, status FROM streamsql.sources"))
        assert "env:PLAIN" in statuses["redis_wrong"]
        assert HIDDEN not in shown
        assert HIDDEN not in server.log()
    for file in (tmp_path / "data").rglob("*"):
        assert not file.is_file() or HIDDEN.encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    "options", ["connector = 'datagen', rows = secret 'env:PLAIN'", "connector = 'nexmark', table = secret 'env:PLAIN'"]
)
def test_made_rows_have_no_secrets(tmp_path: Path, options: str):
    with RunningServer(tmp_path) as server:
        columns = "(n INT)" if "datagen" in options else ""
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="has no secrets"):
            server.execute(f"CREATE STREAM s {columns} WITH ({options})")
