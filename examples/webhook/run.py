"""Takes webhooks as a program that wants each row once does: by its signature and its name."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import os
import sys

KEY = base64.b64decode(os.environ["ALERTS_SECRET"].removeprefix("whsec_"))
seen: set[str] = set()
rows: list[dict[str, object]] = []
tried: list[str] = []


class Hook(http.server.BaseHTTPRequestHandler):
    """The address."""

    def do_POST(self) -> None:
        """Take one request."""
        name, body = self.headers["webhook-id"], self.rfile.read(int(self.headers["Content-Length"]))
        signed = f"{name}.{self.headers['webhook-timestamp']}.".encode() + body
        expected = "v1," + base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
        if not hmac.compare_digest(expected, self.headers["webhook-signature"]):
            self.answer(401)
            return
        tried.append(name)
        if len(tried) == 1:
            print("the first request is refused for now")
            self.answer(503)
            return
        self.answer(200)
        if name not in seen:
            seen.add(name)
            for row in json.loads(body)["rows"]:
                rows.append(row)
                print(json.dumps(row), flush=True)

    def answer(self, status: int) -> None:
        """Answer without a body."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # as its base has it
        """Say nothing."""


with http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Hook) as server:
    while len(rows) < 2:
        server.handle_request()
if tried[0] in seen:
    print("and came again under its name")
