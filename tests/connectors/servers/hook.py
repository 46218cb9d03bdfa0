"""A real HTTP server that takes webhooks, and answers as a test wants it: well, badly, late, not at all, or half."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import ssl
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any


@dataclass
class Taken:
    """A request as it came."""

    headers: dict[str, str]
    body: bytes

    def is_signed(self, key: bytes) -> bool:
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return self.headers["webhook-signature"] == f"v1,{expected}"


@dataclass
class Answer:
    """What is answered: a status, or nothing for so long, or the connection is cut after some bytes."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    hang_seconds: float = 0.0
    cut: bool = False


class HookServer:
    """Takes requests; `answers` are given in turn, then 200."""

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.taken: list[Taken] = []
        self.answers: deque[Answer] = deque()
        self._released = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server.handle(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://localhost:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def handle(self, request: http.server.BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        self.taken.append(Taken({k.lower(): v for k, v in request.headers.items()}, body))
        answer = self.answers.popleft() if self.answers else Answer()
        if answer.hang_seconds:
            self._released.wait(answer.hang_seconds)
        if answer.cut:
            request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Le")
            request.close_connection = True
            return
        request.send_response(answer.status)
        for name, value in answer.headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(answer.body)))
        request.end_headers()
        request.wfile.write(answer.body)

    def __enter__(self) -> HookServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
