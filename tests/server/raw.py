"""A client that speaks the protocol message by message, for what no driver does."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.pgwire.wire import client_message, server_messages, startup

ANSWER_SECONDS_MAX = 20.0


class RawClient:
    """One connection. `said` is what the server has sent and nobody has looked at yet."""

    def __init__(
        self, port: int, parameters: dict[str, str] | None = None, *, log_in: bool = True, receive_bytes: int = 0
    ) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(ANSWER_SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.connect(("127.0.0.1", port))
        self.said = b""
        self.greeting: list[str] = []
        self.process_id, self.secret = 0, b""
        if log_in:
            self.socket.sendall(startup({"user": "tester", "database": "streamsql", **(parameters or {})}))
            self.greeting = self.greeted()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *names_and_fields: Any, by_byte: bool = False) -> None:
        """Send messages: their names, each followed by its fields if it has any."""
        self.send_bytes(
            b"".join(client_message(name, fields) for name, fields in _paired(names_and_fields)), by_byte=by_byte
        )

    def send_bytes(self, data: bytes, *, by_byte: bool = False) -> None:
        for piece in (data[i : i + 1] for i in range(len(data))) if by_byte else [data]:
            self.socket.sendall(piece)

    def message(self) -> tuple[str, bytes]:
        """Read one message: its kind and its bytes. Raises EOFError where the server has closed the connection."""
        while len(self.said) < 5 or len(self.said) < 1 + struct.unpack_from(">I", self.said, 1)[0]:
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            self.said += data
        length = 1 + struct.unpack_from(">I", self.said, 1)[0]
        whole, self.said = self.said[:length], self.said[length:]
        return chr(whole[0]), whole

    def lines(self, count: int) -> list[str]:
        """Read so many messages, and give each as a line; of a column, not the table that it comes from."""
        found = [server_messages(self.message()[1])[0] for _ in range(count)]
        return [_without_origins(line) if line.startswith("RowDescription") else line for line in found]

    def until_ready(self) -> list[str]:
        """Read up to the next ReadyForQuery, and give each message as a line."""
        found = self.lines(1)
        while not found[-1].startswith("ReadyForQuery"):
            found += self.lines(1)
        return found

    def query(self, text: str) -> list[str]:
        """Send a query by the simple protocol and give the answer."""
        self.send("Query", {"text": text})
        return self.until_ready()

    def at_end(self) -> bool:
        """Tell whether the server has closed the connection and said nothing more."""
        return self.said == b"" and self.socket.recv(1) == b""

    def greeted(self) -> list[str]:
        """Read what the server says to one who has logged in; keep the key for cancelling."""
        found: list[str] = []
        while not found or not found[-1].startswith("ReadyForQuery"):
            kind, whole = self.message()
            if kind == "K":
                self.process_id, self.secret = struct.unpack_from(">I", whole, 5)[0], whole[9:]
                continue
            found += server_messages(whole)
        return found


def _without_origins(line: str) -> str:
    name, _, fields = line.partition(" ")
    columns = [column[:5] for column in json.loads(fields)["columns"]]
    return f"{name} {json.dumps({'columns': columns}, ensure_ascii=False)}"


def _paired(items: tuple[Any, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, item in enumerate(items):
        if isinstance(item, str):
            following = items[index + 1] if index + 1 < len(items) else None
            yield item, following if isinstance(following, dict) else {}


def cancel_request(port: int, process_id: int, secret: bytes) -> None:
    """Ask for the end of what a session runs, and wait until the server has taken the request."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS_MAX) as connection:
        connection.sendall(struct.pack(">III", 12 + len(secret), 80877102, process_id) + secret)
        assert connection.recv(1) == b""


def play(client: RawClient, path: Path, *, by_byte: bool) -> None:
    """Hold a conversation as a file has it; fail where the server answers otherwise."""
    lines = iter(line for line in path.read_text("utf-8").splitlines() if not line.startswith("#"))
    for directive in lines:
        if not directive:
            continue
        assert directive in ("send", "until"), directive
        body = list(iter(lambda: next(lines), "----"))
        if directive == "until":
            assert client.lines(len(body)) == body
            continue
        for line in body:
            name, _, fields = line.partition(" ")
            client.send(name, json.loads(fields or "{}"), by_byte=by_byte)
    assert client.query("")[-2:] == ["EmptyQueryResponse", 'ReadyForQuery {"status": "I"}']
