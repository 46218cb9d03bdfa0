"""A schema registry for tests: the documented part of Confluent's REST API that streamsql asks, in memory.

It is not a real registry: none is among the packages that can be installed here. It answers as the documentation says, with its
error codes, asks for a name and password where it has them, counts what it is asked, and can be made to be out of order.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class Registry:
    """Subjects with versions, and schemas by id."""

    def __init__(self) -> None:
        self.schemas: dict[int, dict[str, Any]] = {}
        self.subjects: dict[str, list[int]] = {}
        self.asked: list[str] = []
        self.out_of_order = False
        self.refuses: str | None = None
        self.login: tuple[str, str] | None = None
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self, body: Any) -> None:
                registry.asked.append(f"{self.command} {self.path}")
                status, found = registry.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
                data = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if not self._thread.is_alive():
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def register(self, subject: str, schema: str, **more: Any) -> int:
        """Take a schema; give its id."""
        body = {"schema": schema, **more}
        number = next((n for n, known in self.schemas.items() if known == body), len(self.schemas) + 1)
        self.schemas[number] = body
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    def answer(self, method: str, path: str, authorization: str, body: Any) -> tuple[int, dict[str, Any]]:
        if self.out_of_order:
            return 500, {"error_code": 50001, "message": "Error in the backend data store"}
        if self.login is not None:
            wanted = "Basic " + base64.b64encode(":".join(self.login).encode()).decode()
            if authorization != wanted:
                return 401, {"error_code": 401, "message": "Unauthorized"}
        parts = [unquote(p) for p in urlsplit(path).path.strip("/").split("/")]
        match method, parts:
            case "GET", ["schemas", "ids", number]:
                found = self.schemas.get(int(number))
                return (200, found) if found else (404, {"error_code": 40403, "message": f"Schema {number} not found"})
            case "GET", ["subjects", subject, "versions", version]:
                versions = self.subjects.get(subject)
                if versions is None:
                    return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
                place = len(versions) if version == "latest" else int(version)
                chosen = versions[place - 1]
                return 200, {"subject": subject, "version": place, "id": chosen, **self.schemas[chosen]}
            case "POST", ["subjects", subject, "versions"]:
                if self.refuses is not None:
                    return 409, {"error_code": 409, "message": self.refuses}
                schema = body.pop("schema")
                return 200, {"id": self.register(subject, schema, **body)}
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}


def running() -> Iterator[Registry]:
    registry = Registry()
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()
