"""The examples of brokers and webhooks do what their expected.txt says; ``--update`` writes that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.connectors.servers.mosquitto import Mosquitto
from tests.connectors.servers.nats import NatsServer
from tests.connectors.servers.process import free_port
from tests.connectors.servers.redis import RedisServer
from tests.house.project import ROOT
from tests.running import RunningServer

EXAMPLES = ROOT / "examples"
SECRET = {"ALERTS_SECRET": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"}


def script(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / name / "run.py"), *arguments]


def statements(name: str, written: str, actual: str, file: str = "setup.sql") -> list[str]:
    """Give the statements of an example, with the address that is used here."""
    text = (EXAMPLES / name / file).read_text().replace(written, actual)
    return [part for part in text.split(";") if part.strip()]


def check(name: str, printed: str, request: pytest.FixtureRequest) -> None:
    expected = EXAMPLES / name / "expected.txt"
    if request.config.getoption("--update"):
        expected.write_text(printed)
    assert printed == expected.read_text()


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.redis
def test_redis(tmp_path: Path, redis_server: RedisServer, request: pytest.FixtureRequest):
    with RunningServer(tmp_path, ["--in-memory"]) as server:
        server.execute(*statements("redis", "redis://127.0.0.1:6379/0", redis_server.url))
        check("redis", run(script("redis", redis_server.url)), request)


@pytest.mark.nats
def test_nats(tmp_path: Path, nats_server: NatsServer, request: pytest.FixtureRequest):
    run(script("nats", nats_server.url, "streams"))
    with RunningServer(tmp_path, ["--in-memory"]) as server:
        server.execute(*statements("nats", "nats://127.0.0.1:4222", nats_server.url))
        check("nats", run(script("nats", nats_server.url)), request)


@pytest.mark.mqtt
def test_mqtt(tmp_path: Path, mosquitto: Mosquitto, request: pytest.FixtureRequest):
    with RunningServer(tmp_path, ["--in-memory"]) as server:
        server.execute(*statements("mqtt", "mqtt://127.0.0.1:1883", mosquitto.url))
        check("mqtt", run(script("mqtt", "127.0.0.1", str(mosquitto.port))), request)


def test_webhook(tmp_path: Path, request: pytest.FixtureRequest):
    port = str(free_port())
    with (
        subprocess.Popen(
            script("webhook", port), stdout=subprocess.PIPE, text=True, env={**os.environ, **SECRET}
        ) as hook,
        RunningServer(tmp_path, ["--in-memory"], SECRET) as server,
    ):
        try:
            server.execute(*statements("webhook", "8099", port))
            server.execute(*statements("webhook", "", "", "readings.sql"))
            printed, _ = hook.communicate(timeout=100)
        finally:
            hook.kill()
        check("webhook", printed, request)
