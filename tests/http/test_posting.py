"""POST /streams/NAME: rows in every format, what is set aside, and requests that are sent again."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from typing import Any

import httpx
import pyarrow as pa
import pytest

from streamsql.formats.arrow_ipc import ArrowIpcFormat
from streamsql.formats.parquet import ParquetFormat
from tests.running import RunningServer

LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def stream(server: RunningServer, request: pytest.FixtureRequest) -> str:
    """A stream of its own for each test."""
    name: str = request.node.name.partition("[")[0][5:60]
    server.execute(
        f"CREATE STREAM IF NOT EXISTS {name} "
        "(ts TIMESTAMP, symbol TEXT NOT NULL, price NUMERIC(18,4), qty INT DEFAULT 7, meta JSONB)"
    )
    return name


def rows(server: RunningServer, stream: str) -> list[tuple[Any, ...]]:
    return server.execute(f"SELECT ts, symbol, price::TEXT, qty, meta::TEXT FROM {stream} ORDER BY symbol")


AT = dt.datetime(2026, 1, 1, 12)
TABLE = pa.table(
    {
        "symbol": ["A", "B"],
        "ts": [AT, None],
        "qty": pa.array([1, None], pa.int64()),
        "price": ["1.5", "12345678901234.1234"],
    }
)
BODIES = {
    "application/x-ndjson": b'{"symbol":"A","ts":"2026-01-01T12:00:00Z","qty":1,"price":1.5}\n'
    b'{"symbol":"B","price":12345678901234.1234}',
    "application/json": b'[{"symbol":"A","ts":1767268800,"qty":"1","price":1.5},\n'
    b'{"symbol":"B","price":"12345678901234.1234"}]',
    "text/csv": b"symbol,ts,qty,price\nA,2026-01-01T12:00:00Z,1,1.5\nB,,,12345678901234.1234\n",
    "application/vnd.apache.arrow.stream": ArrowIpcFormat(()).encode(TABLE),
    "application/vnd.apache.parquet": ParquetFormat(()).encode(TABLE),
}


@pytest.mark.parametrize("kind", BODIES)
def test_rows_come_in_each_format_and_are_answered_when_they_are_there(kind, server, client, stream):
    before = len(rows(server, stream))
    answer = client.post(f"/streams/{stream}", content=BODIES[kind], headers={"Content-Type": kind})
    assert answer.status_code == 200, answer.text
    assert {k: v for k, v in answer.json().items() if k != "epoch"} == {"accepted": 2, "rejected": 0, "rejections": []}
    found = rows(server, stream)
    assert len(found) == before + 2
    assert found[0] == (AT, "A", "1.5000", 1, None)
    assert found[-1] == (None, "B", "12345678901234.1234", 7, None)


def test_records_that_cannot_be_read_are_counted_and_kept(server, client, stream):
    body = b'{"symbol":"A"}\nnonsense\n{"qty":1}\n{"symbol":"B","qty":"x"}\n'
    answer = client.post(f"/streams/{stream}", content=body, headers=LINES)
    assert answer.status_code == 200
    expected = [
        (15, "invalid JSON"),
        (24, 'null value in column "symbol" violates not-null constraint'),
        (34, 'column "qty": invalid input for type int4: "x"'),
    ]
    assert [(r["position"], r["reason"]) for r in answer.json()["rejections"]] == expected
    assert [row[1] for row in rows(server, stream)] == ["A"]
    kept = server.execute(f"SELECT position, reason, bytes FROM streamsql.rejected_rows WHERE stream = '{stream}'")
    assert [row[:2] for row in kept] == expected
    assert bytes(kept[0][2]) == b"nonsense"
    assert server.execute(f"SELECT rows_in, rows_rejected FROM streamsql.streams WHERE name = '{stream}'") == [(1, 3)]


def test_the_ledger_of_rejected_records_is_bounded_and_the_counter_goes_on(server, client, stream):
    answer = client.post(f"/streams/{stream}", content=b"x\n" * 250, headers=LINES)
    assert answer.status_code == 422
    assert (answer.json()["rejected"], len(answer.json()["rejections"])) == (250, 10)
    client.post(f"/streams/{stream}", content=b"y\n", headers=LINES)
    found = server.execute("SELECT count(*), max(bytes::TEXT) FROM streamsql.rejected_rows")
    assert found == [(100, "y")]
    assert server.execute(f"SELECT rows_rejected FROM streamsql.streams WHERE name = '{stream}'") == [(251,)]


def test_columns_are_found_by_paths(server, client, stream):
    body = b'{"user":{"name":"A"},"at":1767268800000}\n'
    answer = client.post(f"/streams/{stream}?columns=symbol:user.name,ts:at&times=ms", content=body, headers=LINES)
    assert answer.status_code == 200, answer.text
    assert rows(server, stream)[0][:2] == (AT, "A")


def test_the_same_request_under_the_same_key_is_written_once(server, client, stream):
    sent = {"content": b'{"symbol":"A"}\nbad\n', "headers": {**LINES, "Idempotency-Key": "once"}}
    first, again = (client.post(f"/streams/{stream}", **sent) for _ in range(2))
    assert first.json() == again.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert len(rows(server, stream)) == 1
    other = client.post(f"/streams/{stream}", content=b'{"symbol":"B"}', headers=sent["headers"])
    assert other.status_code == 422
    assert other.json()["error"]["message"] == "this Idempotency-Key was used for another request"


def error(answer: httpx.Response) -> tuple[int, str, str]:
    found = answer.json()["error"]
    return answer.status_code, found["sqlstate"], found["message"]


def test_what_is_wrong_with_a_request_is_told(server, client, stream):
    post = client.post
    assert error(post("/streams/nothing", content=b"x", headers=LINES)) == (
        404,
        "42P01",
        'relation "nothing" does not exist',
    )
    assert error(post(f"/streams/{stream}", content=b"x", headers={"Content-Type": "image/png"}))[:2] == (415, "0A000")
    assert error(post(f"/streams/{stream}", content=b"x"))[2] == "there is no Content-Type"
    assert error(post(f"/streams/{stream}?columns=nope:a", content=b"x", headers=LINES))[:2] == (400, "42703")
    assert error(post(f"/streams/{stream}?times=hours", content=b"x", headers=LINES))[:2] == (400, "22023")
    assert error(post(f"/streams/{stream}", content=b"x", headers={"Content-Type": "text/plain"}))[:2] == (400, "0A000")
    assert error(post(f"/streams/{stream}", content=b"x" * 100_001, headers=LINES))[:2] == (413, "54000")
    assert error(post(f"/streams/{stream}", content=(b"x" * 50_000 for _ in range(3)), headers=LINES))[:2] == (
        413,
        "54000",
    )
    assert error(post(f"/streams/{stream}", content=b"", headers={**LINES, "Idempotency-Key": "k" * 256}))[:2] == (
        400,
        "22023",
    )
    assert error(client.get(f"/streams/{stream}"))[:2] == (405, "0A000")
    assert rows(server, stream) == []


def test_tables_take_rows_and_tell_of_duplicate_keys(server, client):
    server.execute("CREATE TABLE keyed (id INT PRIMARY KEY, name TEXT)")
    assert client.post("/streams/keyed", content=b'{"id":1,"name":"a"}', headers=LINES).status_code == 200
    assert error(client.post("/streams/keyed", content=b'{"id":1}\n{"id":2}', headers=LINES))[:2] == (409, "23505")
    assert server.execute("SELECT id FROM keyed") == [(1,)]


def test_text_and_bytes_fill_the_one_column_of_a_stream(server, client):
    server.execute("CREATE STREAM log_lines (line TEXT)", "CREATE STREAM blobs (data BYTEA)")
    assert (
        client.post("/streams/log_lines", content=b"a\nb\n", headers={"Content-Type": "text/plain"}).json()["accepted"]
        == 2
    )
    kind = {"Content-Type": "application/octet-stream"}
    assert client.post("/streams/blobs", content=b"a\n\0", headers=kind).json()["accepted"] == 1
    assert server.execute("SELECT data FROM blobs") == [(b"a\n\0",)]


def test_pages_from_elsewhere_are_refused(client, stream):
    sent = {"content": b'{"symbol":"A"}', "headers": {**LINES, "Origin": "https://elsewhere.example"}}
    assert client.post(f"/streams/{stream}", **sent).status_code == 403
    assert client.get("/query?sql=SELECT+1", headers={"Host": "elsewhere.example"}).status_code == 403


def test_many_requests_at_once_are_all_there(server, stream):
    import concurrent.futures

    def send(number: int) -> int:
        body = "\n".join(json.dumps({"symbol": f"{number}-{i}"}) for i in range(20))
        return httpx.post(f"{server.http}/streams/{stream}", content=body, headers=LINES, timeout=60).status_code

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(send, range(40))) == {200}
    assert len({row[1] for row in rows(server, stream)}) == 800


def test_a_body_may_be_gzip(server, client, stream):
    lines = BODIES["application/x-ndjson"] + b"\n"
    packed = gzip.compress(lines) + gzip.compress(lines * 3)  # two members are one body
    gzipped = {**LINES, "Content-Encoding": "gzip"}

    def post(content: bytes, **more: str) -> tuple[int, Any]:
        answer = client.post(f"/streams/{stream}", content=content, headers={**gzipped, **more})
        return answer.status_code, answer.json().get("accepted", answer.text)

    assert post(packed) == (200, 8)
    assert post(packed, **{"Idempotency-Key": "gzip"}) == post(packed, **{"Idempotency-Key": "gzip"}) == (200, 8)
    assert len(rows(server, stream)) == 16
    for wrong, said in ((lines, "not gzip"), (packed[:-1], "ends too early"), (packed + b"x", "ends too early")):
        status, text = post(wrong)
        assert (status, said in text) == (400, True)
    status, text = post(gzip.compress(b" " * 100_001))
    assert (status, "http_body_bytes_max" in text) == (413, True)
    assert post(packed, **{"Content-Encoding": "br"})[0] == 415
    assert len(rows(server, stream)) == 16
