"""The HTTP listener: its routes, its start and its stop. Who asks is found out in `login`, before anything else.

POST /streams/NAME      rows                         `posting`
GET  /query?sql=        rows of a query              `querying`
GET  /subscribe/VIEW    changes of a view            `following`; the same over a WebSocket
GET  /healthz /readyz   alive; ready for requests; for everybody
GET  /metrics           for Prometheus               `metrics`
GET  /openapi.json /    what there is                `openapi`
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from streamsql.base.config import Config, ConfigError
from streamsql.base.errors import FeatureNotSupported, StreamSQLError, UndefinedObject
from streamsql.pgwire.rules import is_loopback
from streamsql.server.http import openapi
from streamsql.server.http.answers import HttpError, answer, from_error, on_error
from streamsql.server.http.following import Keeping, follow, follow_socket
from streamsql.server.http.listening import Listener
from streamsql.server.http.login import Door, asking, passwords_in_clear
from streamsql.server.http.metrics import exposed
from streamsql.server.http.parts import Parts
from streamsql.server.http.posting import Keys, post
from streamsql.server.http.querying import query
from streamsql.server.postgres import PostgresServer

log = structlog.get_logger()

GOODBYE_SECONDS_MAX = 2
# what tells no more than that the server is there, which whoever connects knows
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
# uvicorn complains there of answers that were broken off on purpose
logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)


class HttpServer:
    """Listens for HTTP on the running event loop, beside a Postgres server whose parts it uses."""

    def __init__(self, postgres: PostgresServer, config: Config) -> None:
        assert config.http_port is not None
        elsewhere = config.http_host != "localhost" and not _is_loopback(config.http_host)
        if elsewhere and postgres.credentials is None and not passwords_in_clear(postgres.gate.rules):
            raise ConfigError(
                f"serving HTTP on {config.http_host} needs --tls-cert and --tls-key: passwords go over it as they are; "
                "or listen on 127.0.0.1"
            )
        self._host, self._port = config.http_host, config.http_port
        self._credentials = lambda: postgres.credentials
        self._door = Door(postgres.gate, postgres.engine.clock, postgres.limits)
        self.parts = Parts(
            postgres.engine,
            postgres.reads,
            postgres.known,
            postgres.sessions,
            postgres.session_count,
            postgres.settings,
        )
        postgres.requests_of = self.parts.running_of
        self._ready = False
        self._tasks: list[asyncio.Task[None]] = []
        self._server: _Server | None = None

    async def start(self) -> int:
        """Listen; gives the port. Raises OSError where the address cannot be had."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self._host, self._port))
            listening.listen(self.parts.limits.http_requests_max)  # clients may come before uvicorn does
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
        limits = self.parts.limits
        settings = uvicorn.Config(
            application(self.parts, lambda: self._ready, self._door), lifespan="off", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, limit_concurrency=limits.http_requests_max,
            backlog=limits.http_requests_max, timeout_graceful_shutdown=GOODBYE_SECONDS_MAX,
            ws_max_size=1 << 16, h11_max_incomplete_event_size=1 << 17,
        )  # fmt: skip
        settings.load()
        self._server = _Server(settings)
        listener = Listener(listening, settings, self._server.server_state, self._credentials, limits)
        self._tasks = [asyncio.create_task(self._server.serve([])), asyncio.create_task(listener.run())]
        self._listening = listening
        self._ready = True
        return int(listening.getsockname()[1])

    async def stop(self) -> None:
        """Take no more requests, end subscriptions, and wait for what is being answered."""
        self._ready = False
        if self._server is None:
            return
        serving, listening = self._tasks
        listening.cancel()
        await asyncio.wait([listening])
        self._listening.close()
        self._server.should_exit = True
        self.parts.shut_down()
        await serving
        self._door.close()


class _Server(uvicorn.Server):
    """Uvicorn, but signals are the server's own affair."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def application(parts: Parts, ready: Callable[[], bool], door: Door) -> ASGIApp:
    """Make the application; `door` says who asks."""
    keys, keeping = Keys(), Keeping(parts)

    def route(path: str, respond: Callable[[Request], Awaitable[Response]], method: str) -> Route:
        return Route(path, respond, methods=[method])

    async def posted(request: Request) -> Response:
        return await post(request, parts, keys)

    async def queried(request: Request) -> Response:
        return await query(request, parts)

    async def followed(request: Request) -> Response:
        return await follow(request, parts, keeping)

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readiness(_: Request) -> Response:
        return PlainTextResponse("ready\n") if ready() else PlainTextResponse("not ready\n", 503)

    async def metrics(request: Request) -> Response:
        return Response(
            exposed(parts, request.state.who.role.oid), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    async def document(_: Request) -> Response:
        return answer(openapi.document())

    async def page(_: Request) -> Response:
        return HTMLResponse(openapi.page())

    async def on_socket(connection: WebSocket) -> None:
        await follow_socket(connection, parts, keeping)

    async def missing(request: Request, raised: Exception) -> Response:
        status = getattr(raised, "status_code", 404)
        if status == 405:
            said = f"{request.method} is not for {request.url.path}"
            error: StreamSQLError = FeatureNotSupported(said, hint="see /openapi.json")
        else:
            error = UndefinedObject(f'there is no "{request.url.path}"', hint="see /openapi.json for what there is")
        allowed: dict[str, str] | None = getattr(raised, "headers", None)  # which methods there are, for 405
        return from_error(HttpError(status, error, allowed))

    made = Starlette(
        routes=[
            route("/streams/{name}", posted, "POST"),
            route("/query", queried, "GET"),
            route("/subscribe/{name}", followed, "GET"),
            WebSocketRoute("/subscribe/{name}", on_socket),
            route("/healthz", health, "GET"),
            route("/readyz", readiness, "GET"),
            route("/metrics", metrics, "GET"),
            route("/openapi.json", document, "GET"),
            route("/", page, "GET"),
        ],
        exception_handlers=dict.fromkeys((404, 405), missing)
        | dict.fromkeys((StreamSQLError, HttpError, Exception), on_error),
    )
    return _Admitted(_Caught(made), door)


class _Admitted:
    """Finds out who asks, into ``scope["state"]["who"]``, before anything else of a request is read.

    Where nobody may, the connection is closed behind the answer, as the rest of the request is not wanted.
    """

    def __init__(self, inner: ASGIApp, door: Door) -> None:
        self._inner = inner
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"} and scope["path"] not in OPEN_PATHS:
            try:
                scope["state"]["who"] = await self._door.admit(asking(scope))
            except HttpError as error:
                refused = from_error(error)
                if scope["type"] == "http" and _has_body(scope):
                    refused.headers["Connection"] = "close"
                await refused(scope, receive, send)
                return
        await self._inner(scope, receive, send)


def _has_body(scope: Any) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


class _Caught:
    """Keeps what a handler raised, which has been answered, from uvicorn.

    Where an answer had begun already, the connection is broken off, so that nobody takes it for whole.
    """

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._inner(scope, receive, send)
        except StreamSQLError as error:
            log.info("http answer broken off", path=scope.get("path"), sqlstate=error.sqlstate, message=error.message)
        except ConnectionResetError:
            log.info("http client gone", path=scope.get("path"))
        except Exception as error:  # our own fault, which the log must have
            log.error("http request failed", path=scope.get("path"), exc_info=error)


def _is_loopback(address: str) -> bool:
    try:
        return is_loopback(address)
    except ValueError:
        return False
