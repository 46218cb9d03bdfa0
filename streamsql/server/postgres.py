"""The Postgres listener: sockets to sessions and back.

One asyncio task a connection executes its events in order. The transport's callbacks only fill the protocol machine's
buffer, and stop reading while more is buffered than `READ_AHEAD_BYTES`; a client that does not read makes its own session
wait, and no other.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
import time
from collections.abc import Callable
from typing import cast

import structlog

from streamsql.base.config import Config, ConfigError
from streamsql.base.errors import (
    CannotConnectNow,
    FeatureNotSupported,
    QueryCanceled,
    StreamSQLError,
    TooManyConnections,
)
from streamsql.base.limits import Limits
from streamsql.catalog.access import Role
from streamsql.catalog.relation import SessionRow
from streamsql.engine.access import secret
from streamsql.engine.epoch import Engine
from streamsql.pgwire import messages
from streamsql.pgwire.auth import asked, check_database
from streamsql.pgwire.connection import Connection
from streamsql.pgwire.states import State
from streamsql.plan.functions import Asker
from streamsql.server.cancellation import shutdown
from streamsql.server.context import Context
from streamsql.server.cursors import SqlCursors
from streamsql.server.identity import Identity
from streamsql.server.known import Known
from streamsql.server.login import Gate, LoggedIn, PasswordRefused, auth_rules, exceeded_logins
from streamsql.server.notifications import Channels, Listener
from streamsql.server.reads import ReadPool, SessionReads
from streamsql.server.results import notice
from streamsql.server.session import Session
from streamsql.server.tls import TLS_FIRST_BYTE, Tls, credentials
from streamsql.server.transactions import SessionTransaction
from streamsql.server.variables import Variables, command_line_options
from streamsql.sql.secrets import redacted

log = structlog.get_logger()

READ_AHEAD_BYTES = 4 << 20
# how long a client may take to read what was being sent when the server stops
GOODBYE_SECONDS_MAX = 2.0
# of the key for cancelling, where the protocol's version lets it be longer than 4
SECRET_BYTES = 32
# startup parameters that are not variables of the session
_NOT_VARIABLES = frozenset({"user", "database", "replication", "options"})


class PostgresServer:
    """Listens, and knows the sessions by their process id and secret, for CancelRequest."""

    def __init__(self, engine: Engine, config: Config) -> None:
        self.engine = engine
        self.limits: Limits = config.limits
        self.reads = ReadPool(engine.store, config.limits)
        self.known = Known(config.limits, self.reads)
        self.channels = Channels()
        self.stopping, self.logging_in = False, 0  # logging in: connections that have not got through yet
        self._config = config
        self.credentials = credentials(config)
        self.gate = Gate(
            auth_rules(config), lambda: engine.catalog.access, engine.clock, config.limits,
            tls_required=config.require_tls,
            mock_secret=secret(engine.store, "mock", lambda: secrets.token_bytes(32)),
        )  # fmt: skip
        self.settings = {
            "ssl": "off" if self.credentials is None else "on",
            "max_connections": str(config.limits.connections_max),
            "memory_limit": config.memory_limit or "",
            "authentication_timeout": f"{config.limits.startup_seconds_max}s",
        }
        self.requests_of: Callable[[int], int] = lambda role_oid: 0  # over HTTP, being answered
        self._server: asyncio.Server | None = None
        self._wires: dict[int, Wire] = {}
        self._next_process_id = 1

    async def start(self) -> int:
        """Listen; gives the port. Raises OSError where the address cannot be had."""
        loop = asyncio.get_running_loop()

        def tell(view: str, epoch: int) -> None:
            if view in self.channels:
                loop.call_soon_threadsafe(self.channels.view_changed, view, epoch)

        self.engine.on_view_change = tell
        self._server = await loop.create_server(
            lambda: Wire(self), self._config.host, self._config.port, backlog=self.limits.connections_max
        )
        return int(self._server.sockets[0].getsockname()[1])

    def reload(self) -> None:
        """Read certificates and rules again; where they are wrong, go on with those that there are."""
        try:
            found, rules = credentials(self._config), auth_rules(self._config)
        except ConfigError as error:
            log.error("not reloaded", message=str(error))
            return
        self.credentials, self.gate.rules = found, rules
        log.info("reloaded", tls=found is not None, rules=len(rules))

    async def stop(self) -> None:
        """Take no more connections, end every session, and wait for them. What is being committed is committed."""
        self.stopping = True
        assert self._server is not None
        self._server.close()
        wires = list(self._wires.values())
        for wire in wires:
            wire.shut_down()
        tasks = [wire.task for wire in wires if wire.task is not None]
        if tasks:
            _, waiting = await asyncio.wait(tasks, timeout=GOODBYE_SECONDS_MAX)
            if waiting:
                for wire in wires:
                    wire.hang_up()
                await asyncio.wait(waiting)
        self.known.close()

    def register(self, wire: Wire, role: Role) -> int:
        """Give a connection its process id; raises TooManyConnections."""
        if self.stopping:
            raise CannotConnectNow("the database system is shutting down", severity="FATAL")
        if len(self._wires) >= self.limits.connections_max:
            raise TooManyConnections(
                "sorry, too many clients already",
                hint=f"connections_max = {self.limits.connections_max}; start the server with --limit connections_max=N",
                severity="FATAL",
            )
        limited = role.connection_limit >= 0 and not role.superuser
        if limited and self.session_count(role.oid) >= role.connection_limit:
            raise TooManyConnections(f'too many connections for role "{role.name}"', severity="FATAL")
        process_id = self._next_process_id
        self._next_process_id += 1
        self._wires[process_id] = wire
        return process_id

    def sessions(self) -> list[SessionRow]:
        """List the sessions, for ``pg_stat_activity``. For any thread."""
        return [row for wire in list(self._wires.values()) if (row := wire.shown()) is not None]

    def forget(self, process_id: int) -> None:
        """Take a connection off the list."""
        self._wires.pop(process_id, None)

    def session_count(self, role_oid: int) -> int:
        """Count the sessions of a role, and its requests over HTTP."""
        return sum(wire.role_oid == role_oid for wire in self._wires.values()) + self.requests_of(role_oid)

    def cancel(self, process_id: int, secret: bytes) -> None:
        """Cancel what the session runs, if the secret is right; says nothing either way."""
        wire = self._wires.get(process_id)
        if wire is not None and wire.session is not None and secrets.compare_digest(wire.secret, secret):
            wire.session.cancel()


class Wire(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._connection = Connection(server.limits)
        self._transport: asyncio.Transport | None = None
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._lost = False
        self._log = log
        self.session: Session | None = None
        self.task: asyncio.Task[None] | None = None
        self.secret = secrets.token_bytes(4)
        self.process_id = 0
        self.tls: Tls | None = None
        self.role_oid = -1
        self._first_bytes = True
        self._broken: StreamSQLError | None = None  # what is wrong with the encryption
        self._context: Context | None = None
        self._began = dt.datetime.min
        self._query, self._busy, self._ended = "", False, False

    # ---- what the transport calls ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are of no such class
        self._transport.set_write_buffer_limits(high=self._server.limits.output_bytes_max)
        self.task = asyncio.get_running_loop().create_task(self._run(self._transport))

    def data_received(self, data: bytes) -> None:
        if self._lost or self._broken is not None:
            return
        if self._first_bytes:
            self._first_bytes = False
            if data[0] == TLS_FIRST_BYTE and self._server.credentials is not None:
                self._connection.encrypt()
                self.tls = Tls(self._server.credentials, direct=True)
        if self.tls is not None:
            data = self._decrypted(self.tls, data)
        if data:
            self._connection.receive_data(data)
        self._arrived.set()
        if not self._paused and self._connection.bytes_unread > READ_AHEAD_BYTES and self._transport is not None:
            self._transport.pause_reading()
            self._paused = True

    def _decrypted(self, tls: Tls, data: bytes) -> bytes:
        try:
            plain = tls.receive(data)
        except StreamSQLError as error:
            self._broken, plain = error, b""
        answer = tls.outgoing()
        if answer and self._transport is not None:
            self._transport.write(answer)
        if tls.ended:
            if plain:
                self._connection.receive_data(plain)
            self._end_of_stream()
            return b""
        return plain

    def eof_received(self) -> bool:
        self._end_of_stream()
        return True  # what is still being sent is sent

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._lost = True
        self._writable.set()
        self._end_of_stream()

    def _end_of_stream(self) -> None:
        if not self._connection.peer_closed:
            self._connection.receive_data(b"")
        self._arrived.set()
        if self.session is not None:
            self.session.leave()  # nobody is there to read what runs

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # ---- what the server calls ----

    def shown(self) -> SessionRow | None:
        """Describe the session; None before it has begun."""
        context = self._context
        if context is None:
            return None
        idle = "idle in transaction" if context.transaction.explicit else "idle"
        found = self._transport.get_extra_info("peername") if self._transport is not None else None
        address, port = found[:2] if isinstance(found, tuple) else (None, None)
        asker = context.asker
        return SessionRow(
            asker.process_id, asker.session_user or asker.user, asker.database,
            context.variables.get("application_name"), address, port, self._began,
            "active" if self._busy else idle, self._query, self.role_oid,
        )  # fmt: skip

    def shut_down(self) -> None:
        """End the conversation, with a word to the client."""
        self._ended = True
        if self.session is not None:
            self.session.shut_down()
        self._arrived.set()

    def hang_up(self) -> None:
        """End it without one: the client does not read."""
        if self._transport is not None:
            self._transport.abort()

    # ---- the conversation ----

    async def _run(self, transport: asyncio.Transport) -> None:
        began = time.monotonic()
        try:
            await self._converse(await self._log_in())
        except (ConnectionError, asyncio.CancelledError):
            pass
        except Exception:  # noqa: BLE001  # our own fault: it ends this connection and no other
            self._log.exception("connection failed")
        finally:
            if self.session is not None:
                await self._close_session(self.session)
                self._log.info("connection closed", seconds=round(time.monotonic() - began, 3))
            self._server.forget(self.process_id)
            if self.tls is not None and not self._lost:
                self.tls.close()
                transport.write(self.tls.outgoing())
            transport.close()

    async def _close_session(self, session: Session) -> None:
        try:
            await session.close()
        except StreamSQLError as error:
            self._log.warning("session not closed cleanly", message=error.message)

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        if self._lost or self._transport is None:
            raise ConnectionResetError
        if self.tls is not None:
            self.tls.send(data)
            data = self.tls.outgoing()
        self._transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()
            if self._lost:
                raise ConnectionResetError

    async def event(self) -> messages.FrontendMessage | None:
        """Give the next event; None at the end of the conversation. Errors of the protocol are raised."""
        while not (self._server.stopping or self._ended):
            if self._broken is not None:
                raise self._broken
            event = self._connection.next_event()
            if event is not None:
                return event
            if self._connection.state is State.CLOSED:
                return None
            if self._paused and self._transport is not None:
                self._transport.resume_reading()
                self._paused = False
            self._arrived.clear()
            if self.session is not None and self.session.has_news:
                await self.session.tell_news()
                continue
            await self._arrived.wait()
        return None

    async def _log_in(self) -> Session | None:
        """Read up to the startup message, let the client in, and begin the session; None where there is none to begin."""
        server = self._server
        server.logging_in += 1
        try:
            if server.logging_in > server.limits.logins_max:
                raise exceeded_logins(server.limits)
            async with asyncio.timeout(server.limits.startup_seconds_max):
                startup = await self._startup()
                if startup is None:
                    return None
                wanted = asked(startup.parameters)
                admitted = await server.gate.admit(wanted, self)
                if admitted is None:
                    return None
            return await self._welcome(startup, admitted, check_database(wanted))
        except StreamSQLError as error:
            error.severity = "FATAL"
            await self._refuse(error)
        except TimeoutError:
            if self._connection.state is State.AUTHENTICATING:
                await self._refuse(QueryCanceled("canceling authentication due to timeout", severity="FATAL"))
            else:
                log.info("connection closed", reason="no startup message", peer=self._peer())
        finally:
            server.logging_in -= 1
        return None

    async def _startup(self) -> messages.Startup | None:
        """Read the startup message, and what may come before it; None where there is no session to begin."""
        while (event := await self.event()) is not None:
            if isinstance(event, messages.SSLRequest) and self._server.credentials is not None:
                self._connection.encrypt()  # nothing is waited for in between, so that no byte gets past
                self._first_bytes = False
                await self.send(b"S")
                self.tls = Tls(self._server.credentials, direct=False)
            elif isinstance(event, messages.SSLRequest | messages.GSSENCRequest):
                await self.send(b"N")
            elif isinstance(event, messages.CancelRequest):
                self._server.cancel(event.process_id, event.secret)
                return None
            elif isinstance(event, messages.Startup):
                return event
        return None

    async def _refuse(self, error: StreamSQLError) -> None:
        failed = isinstance(error, PasswordRefused)
        log.info(
            "authentication failed" if failed else "connection refused",
            sqlstate=error.sqlstate, message=error.message, peer=self._peer(),
            **({"reason": error.reason} if isinstance(error, PasswordRefused) else {}),
        )  # fmt: skip
        said = self._connection.error(error)
        if self.tls is None or self.tls.established:
            await self.send(said)

    async def _welcome(self, startup: messages.Startup, admitted: LoggedIn, database: str) -> Session:
        """Begin the session. Raises StreamSQLError where there is no place for it."""
        server = self._server
        role = admitted.role
        self.process_id = server.register(self, role)
        self.role_oid = role.oid
        access = lambda: server.engine.catalog.access  # noqa: E731
        identity = Identity(admitted.name, role.oid, access, self.process_id, database)
        variables = Variables(admitted.name, identity=identity, server=server.settings)
        notices = _set_variables(variables, dict(role.settings)) + _set_variables(variables, startup.parameters)
        self._log = log.bind(pid=self.process_id)
        self._log.info(
            "connection opened", user=admitted.name, peer=self._peer(), application=variables.get("application_name"),
            method=admitted.method.value, tls=self.tls.version if self.tls is not None else "none",
        )  # fmt: skip
        asker = Asker(admitted.name, self.process_id, database, variables, role.oid)
        transaction = SessionTransaction(server.engine)
        reads = SessionReads(server.reads, lambda: variables.zone)
        context = Context(
            server.engine,
            reads,
            server.known,
            asker,
            transaction,
            variables,
            server.sessions,
            cursors=SqlCursors(server.limits),
            listener=Listener(server.limits, server.channels, self._arrived.set),
            identity=identity,
        )
        if startup.protocol >= (3, 2):
            self.secret = secrets.token_bytes(SECRET_BYTES)
        self._context, self._began, context.cancel.end = context, dt.datetime.now(dt.UTC), self.shut_down
        out = self._connection.authentication_ok()
        out += b"".join(messages.parameter_status(n, v) for n, v in variables.reported())
        out += messages.backend_key_data(self.process_id, self.secret)
        out += b"".join(map(messages.notice, notices))
        out += self._connection.ready_for_query("I")
        self.session = Session(self._connection, context, self.send)
        await self.send(out)
        return self.session

    def _peer(self) -> str:
        found = self._transport.get_extra_info("peername") if self._transport is not None else None
        return f"{found[0]}:{found[1]}" if isinstance(found, tuple) else "unknown"

    @property
    def connection(self) -> Connection:
        return self._connection

    @property
    def address(self) -> str:
        """The client's IP address."""
        found = self._transport.get_extra_info("peername") if self._transport is not None else None
        if isinstance(found, tuple):
            return str(found[0])
        raise ConnectionResetError  # it has gone already

    async def _next(self, session: Session) -> messages.FrontendMessage | None:
        """Give the next event. Raises a fatal error where the client idles for longer than it said it would."""
        limit = session.idle_seconds_max if self._connection.state is State.READY else None
        if limit is None:
            return await self.event()
        try:
            async with asyncio.timeout(limit):
                return await self.event()
        except TimeoutError:
            raise session.idled() from None

    async def _converse(self, session: Session | None) -> None:
        if session is None:
            return
        while True:
            try:
                event = await self._next(session)
            except StreamSQLError as error:
                await session.report(error)
                continue
            if event is None or isinstance(event, messages.Terminate):
                break
            if isinstance(event, messages.Query | messages.Parse):
                self._query = redacted(event.text)
            self._busy = not isinstance(event, messages.Sync)
            await session.handle(event)
            self._busy = self._busy and not isinstance(event, messages.Query)
        if (self._server.stopping or self._ended) and self._connection.state is not State.CLOSED:
            await self.send(self._connection.error(shutdown()))


def _set_variables(variables: Variables, parameters: dict[str, str]) -> list[dict[str, str]]:
    """Set what the client asked for at the start; give the warnings.

    A value that cannot be had is no reason to refuse the client: JDBC sends its machine's time zone whether it matters or
    not. What is in force is reported, and a warning says so.
    """
    notices = []
    given = [item for item in parameters.items() if item[0] not in _NOT_VARIABLES]
    for name, value in [*command_line_options(parameters.get("options", "")), *given]:
        try:
            variables.set(name, value)
        except FeatureNotSupported as error:
            notices.append(notice(error.message, severity="WARNING", sqlstate=error.sqlstate, hint=error.hint))
    return notices
