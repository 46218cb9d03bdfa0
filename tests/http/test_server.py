"""How HTTP is started and stopped, and that a request is written once whatever happens to the server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.running import RunningServer

LINES = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "the one"}
BODY = b'{"a":1}\nbad\n{"a":2}\n'
FAULTS = ["epoch.begun:1", "epoch.rows_written:1", "epoch.receipts_written:1", "epoch.before_commit:2", "epoch.after_commit:2"]


def test_it_is_off_unless_it_is_asked_for_and_refuses_other_addresses(tmp_path):
    command = [sys.executable, "-m", "streamsql", "serve", "--port", "0", "--in-memory", "--http-port", "0", "--http-host", "0.0.0.0"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert found.returncode == 1
    assert "HTTP listens on this machine's own addresses only" in found.stderr


def test_the_server_stops_while_somebody_subscribes(tmp_path):
    with RunningServer(tmp_path, ["--http-port", "0"]) as server:
        server.execute("CREATE STREAM s (a INT)", "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM s EMIT UPDATE")
        with httpx.stream("GET", f"{server.http}/subscribe/v", timeout=30) as answer:
            lines = answer.iter_lines()
            next(lines)
            assert server.stop() == 0
            assert any("57P01" in line for line in lines)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_that_is_sent_again_after_a_crash_is_written_once(tmp_path: Path, fault: str):
    with RunningServer(tmp_path, ["--http-port", "0"]) as server:
        server.execute("CREATE STREAM s (a INT)")
    with RunningServer(tmp_path, ["--http-port", "0"], {"STREAMSQL_FAULT": fault}) as server:
        assert server.process is not None
        with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)):
            for _ in range(3):
                httpx.post(f"{server.http}/streams/s", content=BODY, headers=LINES, timeout=30)
                LINES["Idempotency-Key"] += "+"
        server.process.wait()
    with RunningServer(tmp_path, ["--http-port", "0"]) as server:
        answers = [httpx.post(f"{server.http}/streams/s", content=BODY, headers=LINES, timeout=30) for _ in range(2)]
        assert [a.json()["accepted"] for a in answers] == [2, 2]
        sent = LINES["Idempotency-Key"].count("+") + 1
        assert server.execute("SELECT count(*), count(*) FILTER (WHERE a = 1) FROM s") == [(2 * sent, sent)]
        assert server.execute("SELECT count(*) FROM streamsql.rejected_rows") == [(sent,)]
        assert server.execute("SELECT rows_in, rows_rejected FROM streamsql.streams") == [(2 * sent, sent)]
    LINES["Idempotency-Key"] = "the one"
