"""How HTTP is started and stopped, and that a request is written once whatever happens to the server."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest

from tests.running import RunningServer

BODY = b'{"a":1}\nbad\n{"a":2}\n'
# a point, and at which request it is reached
FAULTS = [
    ("epoch.begun:1", 1),
    ("epoch.receipts_written:2", 2),
    # creating the stream is a transaction of the server before
    ("epoch.before_commit:1", 1),
    ("epoch.after_commit:2", 2),
]


def test_the_server_stops_while_somebody_subscribes(tmp_path):
    with RunningServer(tmp_path, ["--http-port", "0"]) as server:
        server.execute(
            "CREATE STREAM s (a INT)", "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM s EMIT UPDATE"
        )
        with httpx.stream("GET", f"{server.http}/subscribe/v", timeout=30) as answer:
            lines = answer.iter_lines()
            next(lines)
            assert server.stop() == 0
            assert any("57P01" in line for line in lines)


def post(server: RunningServer, key: int) -> httpx.Response:
    kind = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f"request {key}"}
    return httpx.post(f"{server.http}/streams/s", content=BODY, headers=kind, timeout=30)


@pytest.mark.parametrize(("fault", "sent"), FAULTS)
def test_a_request_that_is_sent_again_after_a_crash_is_written_once(tmp_path: Path, fault: str, sent: int):
    with RunningServer(tmp_path, ["--http-port", "0"]) as server:
        server.execute("CREATE STREAM s (a INT)")
    with RunningServer(tmp_path, ["--http-port", "0"], {"STREAMSQL_FAULT": fault}) as server:
        assert [post(server, number).status_code for number in range(1, sent)] == [200] * (sent - 1)
        with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)):
            post(server, sent)
        assert server.wait() == -signal.SIGKILL
    with RunningServer(tmp_path, ["--http-port", "0"]) as server:
        answers = [post(server, sent) for _ in range(2)]
        assert [a.json()["accepted"] for a in answers] == [2, 2]
        assert answers[1].headers["idempotency-replayed"] == "true"
        assert server.execute("SELECT count(*), count(*) FILTER (WHERE a = 1) FROM s") == [(2 * sent, sent)]
        assert server.execute("SELECT count(*) FROM streamsql.rejected_rows") == [(sent,)]
        assert server.execute("SELECT rows_in, rows_rejected FROM streamsql.streams") == [(2 * sent, sent)]
