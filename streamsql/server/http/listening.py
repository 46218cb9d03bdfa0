"""The HTTP listener's sockets: plain and encrypted connections on one port, as on the wire.

The first byte of a connection tells whether TLS begins; it is looked at without being taken. So certificates that are read
again (SIGHUP) count from the next connection on. A connection on which no request begins within `startup_seconds_max` is
closed, and so is one whose request does not get to the end of its headers by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from streamsql.base.limits import Limits
from streamsql.server.tls import TLS_FIRST_BYTE, Credentials, common_name

log = structlog.get_logger()

# after the system gave no socket, for want of file descriptors
_PAUSE_SECONDS = 0.5


class Connection(H11Protocol):
    """One connection as uvicorn sees it, which knows a certificate's name and does not wait for a request for ever."""

    def __init__(self, config: uvicorn.Config, state: Any, head_seconds_max: float) -> None:
        super().__init__(config, state, {})
        self._head_seconds_max = head_seconds_max
        self._head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in its base
        super().connection_made(transport)
        self.app_state = {"certificate_name": common_name(transport.get_extra_info("peercert"))}
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        self._wait_for_head()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        """Give what has not begun yet its time, once."""
        if self._head_due is None and self._between_requests:
            self._head_due = self.loop.call_later(self._head_seconds_max, self._overdue)

    @property
    def _between_requests(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is None or cycle.response_complete

    def _overdue(self) -> None:
        self._head_due = None
        if self._between_requests and self.transport.get_protocol() is self:  # it is no WebSocket by now
            self.transport.close()

    def _stop_waiting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def handle_events(self) -> None:
        super().handle_events()
        if not self._between_requests:
            self._stop_waiting()


class Listener:
    """A socket that listens. `run` it until it is cancelled; it makes connections of uvicorn's."""

    def __init__(
        self,
        listening: socket.socket,
        settings: uvicorn.Config,
        state: Any,
        credentials: Callable[[], Credentials | None],
        limits: Limits,
    ) -> None:
        self._listening = listening
        self._settings, self._state = settings, state
        self._credentials = credentials
        self._limits = limits
        self._beginning: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Take connections."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    accepted, _ = await loop.sock_accept(self._listening)
                except OSError as error:
                    log.error("cannot take HTTP connections", reason=error.strerror)
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                if len(self._beginning) >= self._limits.logins_max:
                    accepted.close()
                    continue
                task = loop.create_task(self._begin(accepted))
                self._beginning.add(task)
                task.add_done_callback(self._beginning.discard)
        finally:
            for task in self._beginning:
                task.cancel()

    async def _begin(self, accepted: socket.socket) -> None:
        loop, limits = asyncio.get_running_loop(), self._limits
        taken = False
        try:
            accepted.setblocking(False)
            credentials = self._credentials()
            encrypted = False
            if credentials is not None:
                async with asyncio.timeout(limits.startup_seconds_max):
                    encrypted = await _first_byte(accepted) == TLS_FIRST_BYTE
            context = credentials.http if credentials is not None and encrypted else None
            await loop.connect_accepted_socket(
                lambda: Connection(self._settings, self._state, limits.startup_seconds_max),
                accepted, ssl=context, ssl_handshake_timeout=None if context is None else limits.startup_seconds_max,
            )  # fmt: skip
            taken = True
        except (OSError, TimeoutError) as error:  # of TLS, too: ssl.SSLError is an OSError
            log.info("http connection refused", reason=str(error) or "nothing came")
        finally:
            if not taken:
                with contextlib.suppress(OSError):
                    accepted.close()


async def _first_byte(accepted: socket.socket) -> int:
    """Wait for the first byte that a client sends, and leave it there; -1 where it has gone."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(accepted.fileno(), readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(accepted.fileno())
    found = accepted.recv(1, socket.MSG_PEEK)
    return found[0] if found else -1
