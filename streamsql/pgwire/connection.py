"""The server's side of one conversation, without a socket: bytes in, events out.

The shape is h11's: `receive_data` takes what the socket gave, `next_event` gives the next message or None; what the
server says goes through methods that return the bytes to send and keep the state. A loop looks like this::

    conn = Connection(limits)
    while conn.state is not State.CLOSED:
        try:
            event = conn.next_event()
        except StreamSQLError as error:
            send(conn.error(error))        # FATAL closes the conversation; else it goes on
            if conn.owes_ready: send(conn.ready_for_query(status))
            continue
        if event is None:
            conn.receive_data(read())      # b"" at the end of the stream
        else:
            ...

Rules:

- Any bytes at all end in an event, in None, or in a `StreamSQLError`. An error of severity FATAL has closed the
  conversation (the framing is lost, or the startup failed). Any other leaves it usable: the message at fault was taken
  whole, and is accounted for by `error` as if the server had failed to execute it.
- Receiving is linear in the bytes received, however they are cut. What is unread is bounded by one message
  (`message_bytes_max`) plus one piece.
- While the server owes ReadyForQuery (`State.QUERY`) `next_event` gives None and leaves the buffer as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Literal

from streamsql.base.errors import ProtocolViolation, StreamSQLError
from streamsql.base.limits import Limits, exceeded
from streamsql.pgwire import codec, messages
from streamsql.pgwire.messages import CopyData, FrontendMessage, GSSENCRequest, SSLRequest, Startup, Terminate
from streamsql.pgwire.states import (
    COPY_DATA_KIND,
    COPY_KINDS,
    EXTENDED_KINDS,
    TRANSITIONS,
    Action,
    State,
)

_HEADER = struct.Struct(">BI")
_LENGTH = struct.Struct(">I")
_read_header = _HEADER.unpack_from
# a CopyData message of so many bytes is an event of its own
_LARGE_COPY_BYTES = 1 << 16


class Connection:
    """One conversation. Not for use from two threads at once."""

    __slots__ = (
        "_buffer",
        "_encryption_asked",
        "_extended",
        "_limits",
        "_negotiation",
        "_offset",
        "peer_closed",
        "state",
    )

    def __init__(self, limits: Limits) -> None:
        self.state = State.STARTUP
        self.peer_closed = False  # the end of the stream has been received; the buffer may still hold messages
        self._limits = limits
        self._buffer = bytearray()
        self._offset = 0  # everything before it has been read
        self._extended = False  # the command being executed came by the extended protocol
        self._negotiation = b""
        self._encryption_asked: set[FrontendMessage] = set()

    @property
    def owes_ready(self) -> bool:
        """Whether the server must send ReadyForQuery before the client may expect to be heard again."""
        return self.state is State.QUERY

    @property
    def idle(self) -> bool:
        """Whether the client waits for nothing: it was told ReadyForQuery, and has sent no message of a next command."""
        return self.state is State.READY and not self._extended

    @property
    def bytes_unread(self) -> int:
        """How many bytes are buffered and not yet given out as events."""
        return len(self._buffer) - self._offset

    def receive_data(self, data: bytes) -> None:
        """Add bytes from the socket; b"" is the end of the stream."""
        if not data:
            self.peer_closed = True
            return
        assert not self.peer_closed, "bytes after the end of the stream"
        if self.state is State.CLOSED:
            return
        if self._offset:
            del self._buffer[: self._offset]
            self._offset = 0
        self._buffer += data

    def next_event(self) -> FrontendMessage | None:
        """Give the next message, or None if more bytes (or first a ReadyForQuery) are needed.

        Raises StreamSQLError as described above. At the end of the stream gives one Terminate, after which the state is
        CLOSED; a stream that ends inside a message raises a fatal ProtocolViolation.
        """
        while True:
            state = self.state
            if state is State.QUERY or state is State.CLOSED:
                return None
            if state is State.STARTUP:
                return self._next_startup()
            buffer, offset = self._buffer, self._offset
            if len(buffer) - offset < 5:
                return self._end_of_stream()
            kind, length = _read_header(buffer, offset)
            transition = TRANSITIONS[state].get(kind)
            if transition is None or length < 4:
                raise self._illegal(kind, length)
            if state is State.AUTHENTICATING and length > self._limits.authentication_message_bytes_max:
                raise self._fatal(
                    exceeded(self._limits, "authentication_message_bytes_max", f"a message of {length} bytes")
                )
            if length > self._limits.message_bytes_max:
                raise self._fatal(exceeded(self._limits, "message_bytes_max", f"a message of {length} bytes"))
            stop = offset + 1 + length
            if stop > len(buffer):
                return self._end_of_stream()
            action, after = transition
            if action is Action.DISCARD:
                self._offset = stop
                continue
            if kind == COPY_DATA_KIND:
                return self._copy_data()
            body = bytes(buffer[offset + 5 : stop])
            self._offset = stop
            if kind in COPY_KINDS:
                self.state = State.READY if self._extended else after
            else:
                self.state = after
                self._extended = kind in EXTENDED_KINDS
            return codec.parse(kind, body, self._limits)

    def _copy_data(self) -> CopyData:
        """Take the complete CopyData messages at the front of the buffer, at least one, as one event.

        The loop is tight because psql sends one message a line. The copy of the buffer is linear: all of it but the
        last, incomplete message is taken now, and that one is not copied again before it is complete.
        """
        _, first = _read_header(self._buffer, self._offset)
        if first >= _LARGE_COPY_BYTES:  # what comes behind it can wait, and is not copied meanwhile
            begin, self._offset = self._offset + 5, self._offset + 1 + first
            return CopyData(bytes(memoryview(self._buffer)[begin : self._offset]))
        data = bytes(memoryview(self._buffer)[self._offset :])
        parts: list[bytes] = []
        append = parts.append
        position, end = 0, len(data)
        last_header = end - 5
        length_max = self._limits.message_bytes_max
        while position <= last_header:
            kind, length = _read_header(data, position)
            stop = position + 1 + length
            if kind != COPY_DATA_KIND or stop > end or length < 4 or length > length_max:
                break
            append(data[position + 5 : stop])
            position = stop
        self._offset += position
        return CopyData(b"".join(parts))

    def _next_startup(self) -> FrontendMessage | None:
        unread = len(self._buffer) - self._offset
        if unread < 4:
            return self._end_of_stream()
        (length,) = _LENGTH.unpack_from(self._buffer, self._offset)
        if length > self._limits.startup_message_bytes_max:
            raise self._fatal(
                exceeded(self._limits, "startup_message_bytes_max", f"a startup packet of {length} bytes")
            )
        if length < 8:
            raise self._fatal(ProtocolViolation("invalid length of startup packet"))
        if unread < length:
            return self._end_of_stream()
        body = bytes(self._buffer[self._offset + 4 : self._offset + length])
        self._offset += length
        try:
            event, self._negotiation = codec.parse_startup(body)
        except StreamSQLError as error:
            raise self._fatal(error) from None
        if isinstance(event, Startup):
            self.state = State.AUTHENTICATING
        elif isinstance(event, SSLRequest | GSSENCRequest):
            if event in self._encryption_asked:  # it was refused, or is in use: asking again is nonsense
                raise self._fatal(codec.unsupported_protocol(_LENGTH.unpack_from(body)[0]))
            self._encryption_asked.add(event)
        else:
            self.state = State.CLOSED  # a cancel request is all that its connection carries
        return event

    def _end_of_stream(self) -> FrontendMessage | None:
        if not self.peer_closed:
            return None
        if self.bytes_unread:
            raise self._fatal(ProtocolViolation("unexpected end of the stream inside a message"))
        self.state = State.CLOSED
        return Terminate()

    def _illegal(self, kind: int, length: int) -> StreamSQLError:
        if kind not in codec.PARSERS:
            return self._fatal(ProtocolViolation(f"invalid frontend message type {kind}"))
        if length < 4:
            return self._fatal(ProtocolViolation(f"invalid message length {length}"))
        return self._fatal(
            ProtocolViolation(f'unexpected message "{chr(kind)}"', detail=f"the session is in state {self.state.value}")
        )

    def _fatal(self, error: StreamSQLError) -> StreamSQLError:
        error.severity = "FATAL"
        self._close()
        return error

    def _close(self) -> None:
        self.state = State.CLOSED
        self._buffer = bytearray()
        self._offset = 0

    # what the server says

    def authentication_ok(self) -> bytes:
        """Accept the client; what follows up to ReadyForQuery is the server's (parameters, key for cancelling)."""
        assert self.state is State.AUTHENTICATING, self.state
        self.state = State.QUERY
        return self._take_negotiation() + messages.authentication_ok()

    def authentication_sasl(self, mechanisms: Sequence[str]) -> bytes:
        """Ask the client to prove who it is; its answers come as PasswordMessage."""
        assert self.state is State.AUTHENTICATING, self.state
        return self._take_negotiation() + messages.authentication_sasl(mechanisms)

    def encrypt(self) -> None:
        """Note that all bytes from now on come decrypted: nobody may ask for encryption again.

        Raises a fatal ProtocolViolation if bytes are there that came in the clear: who sent them cannot be known
        (CVE-2021-23214).
        """
        assert self.state is State.STARTUP, self.state
        if self.bytes_unread:
            raise self._fatal(
                ProtocolViolation(
                    "received unencrypted data after SSL request",
                    detail="This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
                )
            )
        self._encryption_asked |= {SSLRequest(), GSSENCRequest()}

    def _take_negotiation(self) -> bytes:
        negotiation, self._negotiation = self._negotiation, b""
        return negotiation

    def ready_for_query(self, status: Literal["I", "T", "E"]) -> bytes:
        """End a command (or the startup): the next message is then taken."""
        assert self.state is State.QUERY, self.state
        self.state = State.READY
        self._extended = False
        return messages.ready_for_query(status)

    def error(self, error: StreamSQLError) -> bytes:
        """Report that the last event, or the message that raised in `next_event`, failed.

        FATAL, and any error before the session has begun, closes the conversation. In the extended protocol all up to
        the next Sync is then discarded; else the server owes ReadyForQuery. A COPY that was going on has ended.
        """
        if self.state in (State.STARTUP, State.AUTHENTICATING):
            error.severity = "FATAL"
        if error.severity in ("FATAL", "PANIC"):
            self._close()
        elif self.state is not State.CLOSED:
            self.state = State.SKIPPING if self._extended else State.QUERY
        return messages.error_response(error.fields())

    def copy_in_response(self, formats: Sequence[int]) -> bytes:
        """Ask for COPY data, one format code a column; CopyData, CopyDone and CopyFail come next."""
        expected = State.READY if self._extended else State.QUERY
        assert self.state is expected, self.state
        self.state = State.COPY_IN
        return messages.copy_in_response(formats)
