"""A real NATS server with JetStream (Debian's nats-server), which keeps its streams over a kill."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from tests.connectors.servers.process import ServerProcess, free_port, program

T = TypeVar("T")


class NatsServer(ServerProcess):
    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        command = [
            program("nats-server"), "--addr", "127.0.0.1", "--port", str(self.port), "--jetstream",
            "--store_dir", str(folder / "store"), *arguments,
        ]  # fmt: skip
        super().__init__(command, folder, self._greets)
        self.url = f"nats://127.0.0.1:{self.port}"

    def _greets(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as made:
            return made.recv(4096).startswith(b"INFO ")

    def run(self, work: Callable[[JetStreamContext], Awaitable[T]]) -> T:
        """Do something with JetStream, as another client."""

        async def doing() -> T:
            client: Client = await nats.connect(self.url)
            try:
                return await work(client.jetstream(timeout=20))
            finally:
                await client.close()

        return asyncio.run(doing())


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.kill()
