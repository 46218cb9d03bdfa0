"""The lightest client there is: it asks, and looks at no byte of the answer that it need not look at.

With it a server is measured, and not the client. Protocol: https://www.postgresql.org/docs/15/protocol-message-formats.html
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from benchmarks.servers import Server

READY_FOR_QUERY = b"Z\x00\x00\x00\x05I"
RECEIVE_BYTES = 1 << 20


class RawClient:
    """One connection. Text results come by the simple protocol, binary ones by the extended."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection((server.host, server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        parameters = f"user\0{server.user}\0database\0{server.database}\0\0".encode()
        self.socket.sendall(struct.pack(">ii", len(parameters) + 8, 196_608) + parameters)
        self.drain()

    def drain(self) -> int:
        """Read until the server is ready for the next query; gives the number of bytes. An error is raised."""
        total, tail, head = 0, b"", b""
        while not tail.endswith(READY_FOR_QUERY):
            count = self.socket.recv_into(self._buffer)
            if not count:
                raise ConnectionError("the server closed the connection")
            total += count
            if not head:
                head = bytes(self._buffer[: min(count, 300)])
                if head[:1] == b"E":
                    raise RuntimeError(head)
            tail = (tail + bytes(self._buffer[max(count - 6, 0) : count]))[-6:]
        return total

    def query(self, sql: str) -> int:
        """Run a query with results in text; gives the number of bytes of the answer."""
        self.send_query(sql)
        return self.drain()

    def send_query(self, sql: str) -> None:
        self.socket.sendall(_message(b"Q", sql.encode() + b"\0"))

    def query_binary(self, sql: str) -> int:
        """Run a query with results in binary; gives the number of bytes of the answer."""
        self.socket.sendall(
            _message(b"P", b"\0" + sql.encode() + b"\0\0\0")
            + _message(b"B", b"\0\0" + struct.pack(">hhhh", 0, 0, 1, 1))
            + _message(b"E", b"\0" + struct.pack(">i", 0))
            + _message(b"S", b"")
        )
        return self.drain()

    def pieces(self) -> Iterator[bytes]:
        """Give what comes, as it comes, until the connection ends."""
        while True:
            try:
                count = self.socket.recv_into(self._buffer)
            except OSError:
                return
            if not count:
                return
            yield bytes(self._buffer[:count])

    def close(self) -> None:
        self.socket.close()


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">i", len(body) + 4) + body
