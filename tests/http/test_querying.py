"""GET /query, health, metrics and the description of the interface."""

from __future__ import annotations

import httpx
import pyarrow as pa
import pytest

from tests.running import RunningServer

SQL = (
    "SELECT 1 AS n, 'a,\"' AS t, NULL::INT AS nothing, 1.50::NUMERIC(10,2) AS d, '{\"x\": [1]}'::JSON AS j, "
    "TIMESTAMP '2026-01-01 12:00:00' AS at"
)
OBJECT = '{"n":1,"t":"a,\\"","nothing":null,"d":1.50,"j":{"x": [1]},"at":"2026-01-01T12:00:00"}'
RECORD = 'n,t,nothing,d,j,at\n1,"a,""",,1.50,"{""x"": [1]}",2026-01-01T12:00:00\n'


def query(client: httpx.Client, sql: str, accept: str = "*/*") -> httpx.Response:
    return client.get("/query", params={"sql": sql}, headers={"Accept": accept})


@pytest.mark.parametrize(
    ("accept", "kind", "body"),
    [
        ("*/*", "application/json", f"[{OBJECT}]\n"),
        ("application/x-ndjson", "application/x-ndjson", f"{OBJECT}\n"),
        ("text/html;q=0.9, text/csv", "text/csv; header=present; charset=utf-8", RECORD),
    ],
)
def test_rows_come_in_the_content_type_that_is_accepted(client, accept, kind, body):
    answer = query(client, SQL, accept)
    assert (answer.status_code, answer.headers["content-type"], answer.text) == (200, kind, body)


def test_rows_come_as_arrow(client):
    answer = query(client, "SELECT i, i::TEXT AS t FROM range(50000) AS r(i)", "application/vnd.apache.arrow.stream")
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.num_rows == 50_000
    assert table.slice(49_999).to_pylist() == [{"i": 49_999, "t": "49999"}]


def test_structs_and_maps_are_objects(client):
    found = query(client, "SELECT {'x': 1, 'y': 'q'} AS a, MAP(['k'], [1]) AS m, [{'x': 2}] AS l").json()
    assert found == [{"a": {"x": 1, "y": "q"}, "m": {"k": 1}, "l": [{"x": 2}]}]


def test_no_rows_have_a_head_all_the_same(client):
    empty = "SELECT 1 AS n WHERE FALSE"
    assert query(client, empty).text == "[]\n"
    assert query(client, empty, "text/csv").text == "n\n"
    table = pa.ipc.open_stream(query(client, empty, "application/vnd.apache.arrow.stream").content).read_all()
    assert (table.column_names, table.num_rows) == (["n"], 0)


def test_a_large_result_is_whole(client):
    found = query(client, "SELECT i FROM range(100000) AS r(i)").json()
    assert [row["i"] for row in found] == list(range(100_000))


@pytest.mark.parametrize(
    ("sql", "status", "sqlstate"),
    [
        ("SELECT 1/0", 400, "22012"), ("SELEC 1", 400, "42601"), ("SELECT * FROM nothing", 404, "42P01"),
        ("SELECT 1; SELECT 2", 400, "22023"),
        ("CREATE STREAM x (a INT)", 409, "25006"), ("DROP TABLE x", 409, "25006"), ("INSERT INTO x VALUES (1)", 409, "25006"),
        ("SET work_mem = '1'", 409, "25006"), ("SELECT * FROM read_csv('/etc/passwd')", 400, "42883"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_statement_is_told(client, sql, status, sqlstate):
    answer = query(client, sql)
    assert (answer.status_code, answer.json()["error"]["sqlstate"]) == (status, sqlstate), answer.text


def test_a_missing_statement_and_a_strange_accept_are_told(client):
    assert client.get("/query").json()["error"]["hint"] == "GET /query?sql=SELECT ..."
    assert query(client, "SELECT 1", "image/png").status_code == 406


def test_it_is_alive_and_ready(client):
    assert (client.get("/healthz").text, client.get("/readyz").text) == ("ok\n", "ready\n")


def test_metrics_count_what_happened(server: RunningServer, client):
    server.execute(
        "CREATE STREAM measured (a INT)",
        "CREATE MATERIALIZED VIEW measured_view AS SELECT count(*) AS n FROM measured EMIT UPDATE",
    )
    client.post("/streams/measured", content=b'{"a":1}\n{"a":"x"}', headers={"Content-Type": "application/x-ndjson"})
    found = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#"))
    assert found['streamsql_stream_rows_in_total{stream="measured"}'] == "1.0"
    assert found['streamsql_stream_rows_rejected_total{stream="measured"}'] == "1.0"
    assert found['streamsql_view_rows_in_total{view="measured_view"}'] == "1.0"
    assert float(found["streamsql_epoch_seconds_count"]) >= 1
    assert float(found["streamsql_epochs_total"]) == server.execute("SELECT epoch FROM streamsql.epoch")[0][0]


def test_the_description_names_every_route(client):
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/streams/{name}",
        "/query",
        "/subscribe/{name}",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    page = client.get("/").text
    assert all(path in page for path in document["paths"])
    assert client.get("/nothing").json()["error"]["message"] == 'there is no "/nothing"'
