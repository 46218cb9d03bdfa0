"""A connection to a PostgreSQL, for one thread: simple queries, COPY, and replication. It blocks.

Texts of values come and go in one form, whatever the server's settings are (`_SETTINGS`). What goes wrong is an
`Unavailable` where trying again may help (a connection that breaks or is refused, a server that stops or starts, a slot
that another process still has), else an error with the server's own words, or the class for its SQLSTATE where we have it.

See docs/decisions for why this is not a library's.
"""

from __future__ import annotations

import contextlib
import secrets
import select
import socket
import ssl
import struct
from collections.abc import Iterable, Iterator

from streamsql.base import errors
from streamsql.base.errors import FeatureNotSupported, InvalidPassword, ProtocolViolation, StreamSQLError, Unavailable
from streamsql.connectors.postgres.options import Address
from streamsql.pgwire import client

Row = tuple[str | None, ...]

_RECEIVE_BYTES = 256 << 10
_RECEIVE_ALL_BYTES_MAX = _SENT_BYTES_MAX = 1 << 20
# Values in one form: what `pgwire.values` reads, and to the last digit.
_SETTINGS = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "application_name": "streamsql",
}
# SQLSTATEs (or classes of them) that may be gone when one tries again
_PASSING = ("08", "57P0", "53", "55006", "55P03", "25P03", "40")
_NOT_PASSING = ("57P04",)  # the database was dropped
_BY_SQLSTATE = {
    found.sqlstate: found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, StreamSQLError) and found is not StreamSQLError
}


class OriginError(StreamSQLError):
    """An error of the other side whose SQLSTATE has no class of its own here: it is named in the message."""

    sqlstate = "58000"


def server_error(fields: dict[str, str]) -> StreamSQLError:
    """Make the error for an ErrorResponse."""
    state, said = fields.get("C", "XX000"), fields.get("M", "an error without words")
    message = f"PostgreSQL: {said}"
    if state.startswith(_PASSING) and not state.startswith(_NOT_PASSING):
        return Unavailable(message, detail=fields.get("D"), hint=fields.get("H"))
    known = _BY_SQLSTATE.get(state)
    if known is None or known is errors.InternalError:
        return OriginError(f"{message} ({state})", detail=fields.get("D"), hint=fields.get("H"))
    return known(message, detail=fields.get("D"), hint=fields.get("H"))


class Connection:
    """A session. `replication` opens one that takes replication commands besides SQL. `close` may come from any thread."""

    def __init__(self, address: Address, *, replication: bool = False) -> None:
        self.address = address
        self._data = b""
        self._at = 0
        self._is_broken = False
        try:
            self._socket: socket.socket = socket.create_connection(
                (address.host, address.port), timeout=address.connect_seconds
            )
        except OSError as error:
            raise self._unreachable(error) from error
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._encrypt()
            self._log_in(replication=replication)
            self._socket.settimeout(None)
        except OSError as error:
            self.close()
            raise self._unreachable(error) from error
        except StreamSQLError:
            self.close()
            raise

    def _unreachable(self, error: OSError) -> StreamSQLError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return errors.AuthorizationError(f"the certificate of {self.address} is not to be trusted: {error.reason}")
        return Unavailable(f"cannot reach PostgreSQL at {self.address}: {error.strerror or error}")

    def _encrypt(self) -> None:
        context = self.address.tls()
        if context is None:
            return
        self._socket.sendall(client.SSL_REQUEST)
        answer = self._socket.recv(1)
        if answer == b"S":
            self._socket = context.wrap_socket(self._socket, server_hostname=self.address.host)
        elif not answer:
            raise ConnectionResetError("the connection was closed")
        elif self.address.sslmode != "prefer":
            raise errors.AuthorizationError(f"PostgreSQL at {self.address} does not support SSL")

    def _log_in(self, *, replication: bool) -> None:
        parameters = {"user": self.address.user, "database": self.address.database, **_SETTINGS}
        if replication:
            parameters["replication"] = "database"
        self.send(client.startup(parameters))
        scram: client.ScramLogin | None = None
        while True:
            kind, body = self._message()
            if kind == b"Z":
                return
            if kind != b"R":
                continue
            (method,) = struct.unpack_from(">I", body)
            rest = body[4:]
            if method in {3, 5}:  # in clear, or MD5
                password = self._password()
                if method == 5:
                    password = client.md5_password(self.address.user, password, rest)
                self.send(client.password_message(password))
            elif method == 10:
                scram = client.ScramLogin(self._password(), secrets.token_urlsafe(18))
                self.send(scram.begin(rest))
            elif method == 11 and scram is not None:
                self.send(scram.proof(rest))
            elif method == 12 and scram is not None:
                scram.check(rest)
            elif method != 0:
                raise FeatureNotSupported(f"PostgreSQL asks for a login by a method that is not supported ({method})")

    def _password(self) -> str:
        if self.address.password is None:
            raise InvalidPassword("PostgreSQL asks for a password", hint="give the option password = secret 'env:NAME'")
        return self.address.password

    # ---- bytes

    def send(self, data: bytes) -> None:
        """Send bytes. Raises Unavailable."""
        try:
            self._socket.sendall(data)
        except (OSError, ValueError) as error:
            raise self._broken(error) from error

    def receive(self, timeout_seconds: float, waker: int) -> bytes:
        """Give bytes that have come; b"" where none did in that time, or the file descriptor `waker` could be read.

        For replication: `query` and its like take what they need themselves. Raises Unavailable.
        """
        if self._at < len(self._data):
            data, self._data, self._at = self._data[self._at :], b"", 0
            return data
        try:
            if not (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
                poll = select.poll()
                poll.register(self._socket, select.POLLIN)
                poll.register(waker, select.POLLIN)
                ready = {number for number, _ in poll.poll(timeout_seconds * 1_000)}
                if self._socket.fileno() not in ready:
                    return b""
            return self._receive_all()
        except (OSError, ValueError, TypeError) as error:
            raise self._broken(error) from error

    def _receive_all(self) -> bytes:
        """Give all that has come, up to a bound: over TLS a walsender's messages come one by one."""
        pieces: list[bytes] = []
        have = 0
        self._socket.settimeout(0)
        try:
            while have < _RECEIVE_ALL_BYTES_MAX:
                piece = self._socket.recv(_RECEIVE_BYTES)
                if not piece:
                    if not pieces:
                        raise ConnectionResetError("the connection was closed")
                    break  # the next call meets it again
                pieces.append(piece)
                have += len(piece)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        finally:
            self._socket.settimeout(None)
        return b"".join(pieces)

    def _broken(self, error: Exception) -> Unavailable:
        self._is_broken = True
        said = (error.strerror if isinstance(error, OSError) else None) or error
        return Unavailable(f"the connection to PostgreSQL at {self.address} broke: {said}")

    def _fill(self, wanted: int) -> None:
        """Have so many bytes at `_at`."""
        pieces, have = [self._data[self._at :]], len(self._data) - self._at
        while have < wanted:
            data = self._socket.recv(_RECEIVE_BYTES)
            if not data:
                raise ConnectionResetError("the connection was closed")
            pieces.append(data)
            have += len(data)
        self._data, self._at = b"".join(pieces), 0

    def _message(self) -> tuple[bytes, bytes]:
        """Give the next message but notices. Raises the error that the server tells, and Unavailable."""
        while True:
            try:
                self._fill(client.HEAD_BYTES)
                kind, length = client.read_head(self._data, self._at)
                self._fill(client.HEAD_BYTES + length)
            except TimeoutError as error:
                raise Unavailable(f"PostgreSQL at {self.address} does not answer") from error
            except (OSError, ValueError) as error:
                raise self._broken(error) from error
            start = self._at + client.HEAD_BYTES
            body, self._at = self._data[start : start + length], start + length
            if kind == b"E":
                raise server_error(client.read_fields(body))
            if kind not in {b"N", b"S", b"A"}:
                return kind, body

    def give_up_after(self, seconds: float) -> None:
        """Take a server for unavailable that does not say anything for so long while it is asked. For SQL alone."""
        self._socket.settimeout(seconds)

    # ---- SQL

    def query(self, text: str) -> list[Row]:
        """Run statements; give the rows of them all, as text. Raises what the server says, or Unavailable."""
        self.send(client.query(text))
        rows: list[Row] = []
        with self._until_ready():
            while True:
                kind, body = self._message()
                if kind == b"Z":
                    return rows
                if kind == b"D":
                    rows.append(client.read_row(body))

    def query_if_possible(self, text: str) -> None:
        """Run a statement that undoes something, on a connection that may be broken."""
        with contextlib.suppress(StreamSQLError):
            self.query(text)

    @contextlib.contextmanager
    def _until_ready(self) -> Iterator[None]:
        """After an error of a statement, read on to where the next one may be sent."""
        try:
            yield
        except StreamSQLError:
            if self._is_broken:
                self.close()
                raise
            try:
                while self._message()[0] != b"Z":
                    pass
            except StreamSQLError:
                self.close()
            raise

    def copy_out(self, text: str) -> Iterator[bytes]:
        """Run a COPY ... TO STDOUT; give its bytes, in pieces of whole messages."""
        self.send(client.query(text))
        with self._until_ready():
            kind, _ = self._message()
            if kind != b"H":
                raise ProtocolViolation("a COPY was expected")
            while True:
                if self._at:
                    self._data, self._at = self._data[self._at :], 0
                begins, end = client.frames(self._data)
                if len(begins):
                    yield client.without_heads(self._data, begins, end)
                    self._at = end
                    continue
                self._receive_frame()
                if self._data[:1] != b"d":
                    kind, _ = self._message()
                    if kind == b"Z":
                        return

    def _receive_frame(self) -> None:
        """Have a whole message, and whatever more has come."""
        try:
            self._fill(client.HEAD_BYTES)
            _, length = client.read_head(self._data)
            self._fill(client.HEAD_BYTES + length)
        except (OSError, ValueError) as error:
            raise self._broken(error) from error

    def copy_in(self, text: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Run a COPY ... FROM STDIN with CopyData messages that are framed already."""
        self.send(client.query(text))
        with self._until_ready():
            kind, _ = self._message()
            if kind != b"G":
                raise ProtocolViolation("a COPY was expected")
            for piece in pieces:
                for start in range(0, len(piece), _SENT_BYTES_MAX):
                    self.send(bytes(piece[start : start + _SENT_BYTES_MAX]))
            self.send(client.COPY_DONE)
            while self._message()[0] != b"Z":
                pass

    def begin_streaming(self, text: str) -> None:
        """Run a START_REPLICATION; from then on bytes come by `receive` and go by `send`."""
        self.send(client.query(text))
        with self._until_ready():
            kind, _ = self._message()
            if kind != b"W":
                raise ProtocolViolation("the server does not stream")

    def close(self) -> None:
        """End it; a thread that waits in it gets Unavailable."""
        if not isinstance(self._socket, ssl.SSLSocket):  # which two threads must not write to
            with contextlib.suppress(OSError, ValueError):
                self._socket.settimeout(1.0)
                self._socket.sendall(client.TERMINATE)
        with contextlib.suppress(OSError, ValueError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        with contextlib.suppress(OSError, ValueError):
            self._socket.close()
