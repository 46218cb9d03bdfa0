"""A real MQTT broker (Debian's mosquitto), which keeps sessions over an orderly restart."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt import publish, subscribe

from tests.connectors.servers.process import ServerProcess, free_port, program


class Mosquitto(ServerProcess):
    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = free_port()
        lines = [
            "user root", f"listener {self.port} 127.0.0.1", "persistence true", f"persistence_location {folder}/",
            "max_queued_messages 0",
            *(settings or ("allow_anonymous true",)),
        ]  # fmt: skip
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        super().__init__([program("mosquitto"), "-c", str(folder / "mosquitto.conf")], folder, self._listens)
        self.url = f"mqtt://127.0.0.1:{self.port}"

    def _listens(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True

    def publish(self, *messages: tuple[str, bytes | str], qos: int = 1, retain: bool = False) -> None:
        """Publish messages, and return when the broker has them."""
        publish.multiple([(topic, body, qos, retain) for topic, body in messages], "127.0.0.1", self.port)

    def take(self, topic: str, count: int, *, retained: bool = True) -> list[tuple[str, bytes, bool]]:
        """Take so many messages of a topic."""
        found = subscribe.simple(topic, qos=1, msg_count=count, retained=retained, hostname="127.0.0.1", port=self.port)
        return [(m.topic, m.payload, m.retain) for m in (found if isinstance(found, list) else [found])]


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    server = Mosquitto(tmp_path_factory.mktemp("mosquitto"))
    server.start()
    yield server
    server.kill()
