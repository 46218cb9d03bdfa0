"""What there is over HTTP, as an OpenAPI 3.1 document, and as a page. See https://spec.openapis.org/oas/v3.1.0."""

from __future__ import annotations

import html
from typing import Any

from streamsql import __version__
from streamsql.server.http.kinds import ACCEPTED, GIVEN

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["sqlstate", "message"],
            "properties": {
                "sqlstate": {"type": "string"}, "message": {"type": "string"}, "detail": {"type": "string"},
                "hint": {"type": "string"}, "position": {"type": "integer"}, "context": {"type": "string"},
            },
        }
    },
}  # fmt: skip
_POSTED = {
    "type": "object",
    "required": ["accepted", "rejected", "rejections", "epoch"],
    "properties": {
        "accepted": {"type": "integer"}, "rejected": {"type": "integer"}, "epoch": {"type": "integer"},
        "rejections": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"position": {"type": "integer"}, "reason": {"type": "string"}},
            },
        },
    },
}  # fmt: skip


_LOGIN = "A user and his password, as on the wire. Passwords of other machines are taken over TLS only."
_UNPROVEN = {
    "_401": "the user or the password is wrong, or missing", "_403": "the user may not do this", "_408": "it took too long",
    "_429": "too many wrong passwords from this address", "_503": "there is no room for another request now",
}  # fmt: skip


def _parameter(name: str, where: str, about: str, *, required: bool = False, kind: str = "string") -> dict[str, Any]:
    return {"name": name, "in": where, "description": about, "required": required, "schema": {"type": kind}}


def _content(kinds: tuple[str, ...], schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {kind: {"schema": schema or {}} for kind in kinds}


def _answers(about: str, content: dict[str, Any], **others: str) -> dict[str, Any]:
    found: dict[str, Any] = {"200": {"description": about, "content": content}}
    for status, why in (_UNPROVEN | others).items():
        found[status.strip("_")] = {"description": why, "content": {"application/json": {"schema": _ERROR}}}
    found["default"] = {"description": "an error", "content": {"application/json": {"schema": _ERROR}}}
    return found


_NAME = _parameter("name", "path", "the name of the stream, table or view", required=True)
_JSON = ("application/json",)


def document() -> dict[str, Any]:
    """Give the document."""
    post = {
        "summary": "Send rows, and be answered when they are durable",
        "operationId": "postRows",
        "parameters": [
            _NAME,
            _parameter("columns", "query", "where in a JSON record columns are: id:user.id,at:meta.time"),
            _parameter("times", "query", "unit of times that are numbers: auto, s, ms, us, ns"),
            _parameter("delimiter", "query", "of CSV; a comma by default"),
            _parameter("Idempotency-Key", "header", "the same request under the same key is written once"),
            _parameter("Content-Encoding", "header", "gzip, or nothing"),
        ],
        "requestBody": {"required": True, "content": _content(ACCEPTED)},
        "responses": {
            **_answers("the rows are written", _content(_JSON, _POSTED), _400="the request is wrong", _404="no such stream",
                       _409="in conflict with another request", _413="too large", _415="no such content type"),
            "422": {"description": "nothing could be read, or another request had this key", "content": _content(_JSON)},
        },
    }  # fmt: skip
    query = {
        "summary": "Run one statement that reads",
        "operationId": "query",
        "parameters": [_parameter("sql", "query", "the statement", required=True)],
        "responses": _answers("the rows", _content(GIVEN), _400="the statement is wrong", _406="no such content type"),
    }
    subscribe = {
        "summary": "Follow a view: its rows, then its changes",
        "operationId": "subscribe",
        "parameters": [
            _NAME,
            _parameter("snapshot", "query", "false: only changes", kind="boolean"),
            _parameter("after", "query", "the last epoch that was seen", kind="integer"),
            _parameter("Last-Event-ID", "header", "as after; browsers send it when they come back"),
        ],
        "responses": _answers(
            "Server-Sent Events, without end", _content(("text/event-stream",)), _404="no such view",
            _410="the changes are not kept any more",
        ),
    }  # fmt: skip
    alive = {"responses": {"200": {"description": "so it is", "content": _content(("text/plain",))}}}
    plain = {"responses": _answers("numbers", _content(("text/plain",)))}
    return {
        "openapi": "3.1.0",
        "info": {"title": "streamsql", "version": __version__, "description": "A streaming SQL server."},
        "components": {"securitySchemes": {"password": {"type": "http", "scheme": "basic", "description": _LOGIN}}},
        # the empty one: where the rules of --auth trust this machine, or the client's certificate is its proof
        "security": [{"password": []}, {}],
        "paths": {
            "/streams/{name}": {"post": post},
            "/query": {"get": query},
            "/subscribe/{name}": {"get": subscribe},
            "/healthz": {"get": {"summary": "Whether the process lives, for everybody", "security": [], **alive}},
            "/readyz": {"get": {"summary": "Whether requests are taken, for everybody", "security": [], **alive}},
            "/metrics": {"get": {"summary": "For Prometheus: of streams and views that the user may read", **plain}},
        },
    }


def page() -> str:
    """Give a page that tells people what the document tells programs."""
    parts = []
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            rows = "".join(
                f"<tr><td><code>{html.escape(p['name'])}</code></td><td>{p['in']}</td><td>{html.escape(p['description'])}</td></tr>"
                for p in operation.get("parameters", [])
            )
            kinds = ", ".join(operation.get("requestBody", {}).get("content", {}))
            takes = f"<p>Takes {html.escape(kinds)}.</p>" if kinds else ""
            head = f"{method.upper()} {html.escape(path)}"
            parts.append(
                f"<h2><code>{head}</code></h2><p>{html.escape(operation['summary'])}.</p><table>{rows}</table>{takes}"
            )
    style = "body{font:16px sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}td{padding:.1rem 1rem .1rem 0}"
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>streamsql</title><style>{style}</style>"
    return (
        f'{head}<h1>streamsql {__version__}</h1><p><a href="/openapi.json">openapi.json</a></p>'
        f"<p>Log in by HTTP Basic. {_LOGIN}</p>{''.join(parts)}</html>"
    )
