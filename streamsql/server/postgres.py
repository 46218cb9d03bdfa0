"""The Postgres listener: sockets to sessions and back.

One asyncio task a connection executes its events in order. The transport's callbacks only fill the protocol machine's
buffer, and stop reading while more is buffered than a message may hold; a client that does not read makes its own
session wait, and no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
from typing import cast

import structlog

from streamsql.base.config import Config
from streamsql.base.errors import CannotConnectNow, StreamSQLError, TooManyConnections
from streamsql.base.limits import Limits
from streamsql.engine.epoch import Engine
from streamsql.pgwire import messages
from streamsql.pgwire.auth import authenticate
from streamsql.pgwire.connection import Connection
from streamsql.pgwire.states import State
from streamsql.server.context import Context
from streamsql.server.reads import ReadPool
from streamsql.server.session import Session
from streamsql.server.transactions import SessionTransaction
from streamsql.server.variables import Variables

log = structlog.get_logger("postgres")

READ_AHEAD_BYTES = 4 << 20


class PostgresServer:
    """Listens, and knows the sessions by their process id and secret, for CancelRequest."""

    def __init__(self, engine: Engine, config: Config) -> None:
        self.engine = engine
        self.limits: Limits = config.limits
        self.reads = ReadPool(engine.store, config.limits)
        self._config = config
        self._server: asyncio.Server | None = None
        self._wires: dict[int, Wire] = {}
        self._next_pid = 1
        self.stopping = False

    async def start(self) -> int:
        """Listen; gives the port. Raises OSError where the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Wire(self), self._config.host, self._config.port, backlog=self.limits.connections_max
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Take no more connections, end every session, and wait for them."""
        self.stopping = True
        assert self._server is not None
        self._server.close()
        wires = list(self._wires.values())
        for wire in wires:
            wire.shut_down()
        tasks = [w.task for w in wires if w.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=10)
        self.reads.close()

    def register(self, wire: Wire) -> int:
        """Give a connection its process id; raises TooManyConnections."""
        if self.stopping:
            raise CannotConnectNow("the database system is shutting down", severity="FATAL")
        if len(self._wires) >= self.limits.connections_max:
            raise TooManyConnections(
                "sorry, too many clients already",
                hint=f"connections_max = {self.limits.connections_max}; start the server with --limit connections_max=N",
                severity="FATAL",
            )
        pid = self._next_pid
        self._next_pid += 1
        self._wires[pid] = wire
        return pid

    def forget(self, pid: int) -> None:
        self._wires.pop(pid, None)

    def cancel(self, pid: int, secret: bytes) -> None:
        """Cancel what the session runs, if the secret is right; says nothing either way."""
        wire = self._wires.get(pid)
        if wire is not None and secrets.compare_digest(wire.secret, secret) and wire.session is not None:
            wire.session.cancel()


class Wire(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._connection = Connection(server.limits)
        self._transport: asyncio.Transport | None = None
        self._data = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._lost = False
        self.session: Session | None = None
        self.task: asyncio.Task[None] | None = None
        self.secret = secrets.token_bytes(4)
        self.pid = 0

    # ---- what the transport calls ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are of no such class
        self._transport.set_write_buffer_limits(high=self._server.limits.output_bytes_max)
        self.task = asyncio.get_running_loop().create_task(self._run())

    def data_received(self, data: bytes) -> None:
        if self._lost:
            return
        self._connection.receive_data(data)
        self._data.set()
        if not self._paused and self._connection.bytes_unread > READ_AHEAD_BYTES and self._transport is not None:
            self._transport.pause_reading()
            self._paused = True

    def eof_received(self) -> bool:
        self._end_of_stream()
        return True  # what is still being sent is sent

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._writable.set()
        self._end_of_stream()

    def _end_of_stream(self) -> None:
        if not self._connection.peer_closed:
            self._connection.receive_data(b"")
        self._data.set()
        if self.session is not None:
            self.session.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # ---- the conversation ----

    def shut_down(self) -> None:
        """End the conversation because the server stops."""
        if self.session is not None:
            self.session.shut_down()
        self._connection.peer_closed = True
        self._data.set()

    async def _run(self) -> None:
        assert self._transport is not None
        try:
            await self._log_in()
            if self.session is not None:
                await self._converse(self.session)
        except (ConnectionError, asyncio.CancelledError):
            pass
        except Exception:
            log.exception("connection failed", pid=self.pid)
        finally:
            if self.session is not None:
                with contextlib.suppress(StreamSQLError):
                    await self.session.close()
            if self.pid:
                self._server.forget(self.pid)
            self._transport.close()

    async def _send(self, data: bytes) -> None:
        if self._lost or self._transport is None:
            raise ConnectionResetError
        self._transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()
            if self._lost:
                raise ConnectionResetError

    async def _event(self) -> messages.FrontendMessage | None:
        """Give the next event; None at the end of the conversation. Errors of the protocol are raised."""
        while True:
            event = self._connection.next_event()
            if event is not None:
                return event
            if self._connection.state is State.CLOSED:
                return None
            if self._paused and self._transport is not None:
                self._transport.resume_reading()
                self._paused = False
            self._data.clear()
            if self._server.stopping:
                return None
            await self._data.wait()

    async def _log_in(self) -> None:
        limits = self._server.limits
        try:
            async with asyncio.timeout(limits.startup_seconds_max):
                while True:
                    event = await self._event()
                    if event is None:
                        return
                    if isinstance(event, messages.SSLRequest | messages.GSSENCRequest):
                        await self._send(b"N")
                    elif isinstance(event, messages.CancelRequest):
                        self._server.cancel(event.process_id, event.secret)
                        return
                    elif isinstance(event, messages.Startup):
                        break
        except StreamSQLError as error:
            await self._send(self._connection.error(error))
            return
        except TimeoutError:
            return
        try:
            user = authenticate(event.parameters, self._is_loopback())
            self.pid = self._server.register(self)
            variables = Variables(user)
            for name, value in event.parameters.items():
                if name not in {"user", "database", "replication", "options"} and not name.startswith("_pq_."):
                    variables.set(name, value)
        except StreamSQLError as error:
            error.severity = "FATAL"
            await self._send(self._connection.error(error))
            return
        await self._welcome(user, variables)

    async def _welcome(self, user: str, variables: Variables) -> None:
        engine = self._server.engine
        context = Context(
            engine, self._server.reads, self._server.limits, user, SessionTransaction(engine), variables
        )
        variables.take_changed()
        out = self._connection.authentication_ok()
        out += b"".join(messages.parameter_status(n, v) for n, v in variables.reported())
        out += messages.backend_key_data(self.pid, self.secret)
        out += self._connection.ready_for_query("I")
        self.session = Session(self._connection, context, self._send)
        await self._send(out)

    def _is_loopback(self) -> bool:
        assert self._transport is not None
        peer = self._transport.get_extra_info("peername")
        return isinstance(peer, tuple) and ipaddress.ip_address(peer[0]).is_loopback

    async def _converse(self, session: Session) -> None:
        while True:
            try:
                event = await self._event()
            except StreamSQLError as error:
                await session.report(error)
                if error.severity == "FATAL":
                    return
                continue
            if event is None or isinstance(event, messages.Terminate):
                if self._server.stopping and not self._lost:
                    await self._say_goodbye()
                return
            await session.handle(event)

    async def _say_goodbye(self) -> None:
        from streamsql.server.cancellation import shutdown

        if self._connection.state is not State.CLOSED:
            await self._send(self._connection.error(shutdown()))


