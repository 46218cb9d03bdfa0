"""Redis, NATS and MQTT over TLS: rows come and go, and a server whose certificate is not believed is not talked to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest

from streamsql.base.errors import StreamSQLError
from streamsql.connectors import CONNECTORS, SINKS
from tests.certificates import Certificates
from tests.connectors.by_hand import batches, columns, delivery, given, opened, opened_sink, shape, values
from tests.connectors.servers.process import ServerProcess, free_port, program

COLUMNS = "(k TEXT, n INT)"
# of each: what names a source's, and a sink's, place in the server
PLACES = {
    "redis": ({"stream": "s"}, {"stream": "s"}),
    "mqtt": ({"topic": "s"}, {"topic": "s"}),
    "nats": ({"stream": "S"}, {"stream": "S", "subject": "s"}),
}
SCHEMES = {"redis": "rediss", "mqtt": "mqtts", "nats": "tls"}


def command(kind: str, folder: Path, port: int, certificates: Certificates) -> list[str]:
    certificate, key = (str(path) for path in certificates.of("server"))
    if kind == "redis":
        return [
            program("redis-server"), "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", "",
            "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no",
            "--tls-ca-cert-file", str(certificates.authority),
        ]  # fmt: skip
    if kind == "nats":
        return [
            program("nats-server"), "--addr", "127.0.0.1", "--port", str(port), "--jetstream", "--store_dir",
            str(folder / "store"), "--tls", "--tlscert", certificate, "--tlskey", key,
        ]  # fmt: skip
    lines = [
        "user root",
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        f"certfile {certificate}",
        f"keyfile {key}",
    ]
    (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
    return [program("mosquitto"), "-c", str(folder / "mosquitto.conf")]


@pytest.fixture(params=[pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in PLACES])
def secured(request: pytest.FixtureRequest, tmp_path: Path, certificates: Certificates) -> Iterator[tuple[str, int]]:
    """A server that speaks TLS alone: its kind, and its port."""
    kind, port = str(request.param), free_port()

    def answers() -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            if kind == "nats":
                return plain.recv(4_096).startswith(b"INFO ")  # it greets before TLS begins
            context = ssl.create_default_context(cafile=certificates.authority)
            with context.wrap_socket(plain, server_hostname="localhost"):
                return True

    server = ServerProcess(command(kind, tmp_path, port, certificates), tmp_path, answers)
    server.start()
    yield kind, port
    server.kill()


async def make_stream(url: str, certificates: Certificates) -> None:
    client = await nats.connect(url, tls=ssl.create_default_context(cafile=certificates.authority))
    await client.jetstream().add_stream(name="S", subjects=["s"])
    await client.close()


# paho leaves the socket of a failed handshake to the garbage collector
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_rows_go_and_come_and_certificates_are_looked_at(secured: tuple[str, int], certificates: Certificates):
    kind, port = secured
    source, sink = PLACES[kind]
    options = {"url": f"{SCHEMES[kind]}://localhost:{port}", "tls_ca": str(certificates.authority)}
    if kind == "nats":
        asyncio.run(make_stream(options["url"], certificates))
    folder = certificates.folder
    with contextlib.ExitStack() as open_ones:
        if kind == "mqtt":  # what comes before its session is not kept
            reading = opened(CONNECTORS[kind], given(**options, **source), columns(COLUMNS), folder=folder)
            open_ones.callback(reading.close)
            reading.read(10, 0)
        writing = opened_sink(SINKS[kind], given(**options, **sink), shape(), "test-2", folder)
        open_ones.callback(writing.close)
        writing.deliver(delivery((1, 1, "a", 1), (1, 1, "b", 2)))
        if kind != "mqtt":
            reading = opened(CONNECTORS[kind], given(**options, **source), columns(COLUMNS), folder=folder)
            open_ones.callback(reading.close)
        assert values(batches(reading, 2)) == [("a", 1), ("b", 2)]
    del options["tls_ca"]
    with pytest.raises(StreamSQLError, match="certificate"):
        opened(CONNECTORS[kind], given(**options, **source), columns(COLUMNS), folder=folder).read(10, 0)
