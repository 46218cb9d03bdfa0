"""A real Redis (Debian's redis-server), which keeps what it has over a kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.connectors.servers.process import ServerProcess, free_port, program


class RedisServer(ServerProcess):
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        command = [
            program("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "",
            "--appendonly", "yes", "--appendfsync", "always",
        ]  # fmt: skip
        super().__init__(command, folder, self._answers_ping)
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def _answers_ping(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, decode_responses=True, protocol=2, socket_timeout=20)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()
