"""The messages of the Postgres protocol: what a client sends as frozen values, what the server sends as encoders.

`codec` reads the frontend messages; `connection` decides when each is legal. The encoders here know no state: the ones
that change the state of a conversation (authentication, ReadyForQuery, errors, COPY) are called through
`connection.Connection`.

Follows https://www.postgresql.org/docs/current/protocol-message-formats.html, version 3.0 and 3.2.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

DescribedKind = Literal["S", "P"]


@dataclass(frozen=True, slots=True)
class FrontendMessage:
    """Anything that a client sends; the base of all events of `Connection.next_event`."""


@dataclass(frozen=True, slots=True)
class SSLRequest(FrontendMessage):
    """The client asks for TLS. Answer one byte: ``S`` and a handshake, or ``N``."""


@dataclass(frozen=True, slots=True)
class GSSENCRequest(FrontendMessage):
    """The client asks for GSSAPI encryption. Answer ``G`` or ``N``."""


@dataclass(frozen=True, slots=True)
class CancelRequest(FrontendMessage):
    """The client asks, on a connection made for this alone, to cancel another connection's query. Never answered."""

    process_id: int
    secret: bytes


@dataclass(frozen=True, slots=True)
class Startup(FrontendMessage):
    """The first message of a session.

    `protocol` is the version agreed on, (3, 0) to (3, 2): what the client asked for, or the newest that we speak.
    `parameters` holds no ``_pq_.`` options: none is known, and the client is told so.
    """

    protocol: tuple[int, int]
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class PasswordMessage(FrontendMessage):
    """The answer to an authentication request: a password with its closing zero byte, or a SASL message."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Query(FrontendMessage):
    """Run the statements of a text (the simple protocol)."""

    text: str


@dataclass(frozen=True, slots=True)
class Parse(FrontendMessage):
    """Prepare a statement; `parameter_oids` may be shorter than the statement's parameters, and 0 means unsaid."""

    name: str
    text: str
    parameter_oids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bind(FrontendMessage):
    """Give a statement its parameters.

    Format codes are 0 (text) or 1 (binary). `parameter_formats` has no element (all text), one (for all), or as many as
    there are `values`. `result_formats` has none, one, or as many as there are result columns, which only the server
    can check.
    """

    portal: str
    statement: str
    parameter_formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Describe(FrontendMessage):
    """Ask what a statement (S) or a portal (P) takes and gives."""

    kind: DescribedKind
    name: str


@dataclass(frozen=True, slots=True)
class Execute(FrontendMessage):
    """Run a portal; `max_rows` 0 means all rows."""

    portal: str
    max_rows: int


@dataclass(frozen=True, slots=True)
class Close(FrontendMessage):
    """Forget a statement (S) or a portal (P)."""

    kind: DescribedKind
    name: str


@dataclass(frozen=True, slots=True)
class Sync(FrontendMessage):
    """End a group of extended messages; the server answers ReadyForQuery."""


@dataclass(frozen=True, slots=True)
class Flush(FrontendMessage):
    """Ask for what the server has said so far."""


@dataclass(frozen=True, slots=True)
class Terminate(FrontendMessage):
    """The client leaves: it said so, or it closed the socket between two messages."""


@dataclass(frozen=True, slots=True)
class CopyData(FrontendMessage):
    """Bytes of a COPY; the data of all the CopyData messages that had arrived, joined."""

    data: bytes


@dataclass(frozen=True, slots=True)
class CopyDone(FrontendMessage):
    """The end of the COPY data."""


@dataclass(frozen=True, slots=True)
class CopyFail(FrontendMessage):
    """The client gives up its COPY, and says why."""

    message: str


@dataclass(frozen=True, slots=True)
class FunctionCall(FrontendMessage):
    """A call of a function by OID (the "fast path"). Its arguments are not read: the server refuses it."""

    function_oid: int


@dataclass(frozen=True, slots=True)
class FieldDescription:
    """One column of a RowDescription: `size` in bytes (-1: variable), `format` 0 text or 1 binary."""

    name: str
    type_oid: int
    size: int
    modifier: int = -1
    format: int = 0


_LENGTH = struct.Struct(">I")
_FIELD = struct.Struct(">IHIhih")


def message(kind: bytes, body: bytes) -> bytes:
    """Frame a body: the kind, the length (which counts itself), the body."""
    return kind + _LENGTH.pack(len(body) + 4) + body


def text_bytes(text: str) -> bytes:
    """Encode a zero-terminated string; a zero inside it cannot be sent and is shown as U+FFFD."""
    return text.encode("utf-8", "replace").replace(b"\0", b"\xef\xbf\xbd") + b"\0"


def authentication_ok() -> bytes:
    """Say that the client is let in."""
    return b"R\0\0\0\x08\0\0\0\0"


def authentication_sasl(mechanisms: Sequence[str]) -> bytes:
    """Ask for a SASL exchange by one of these mechanisms, the best first."""
    return message(b"R", b"\0\0\0\x0a" + b"".join(text_bytes(name) for name in mechanisms) + b"\0")


def authentication_sasl_continue(data: bytes) -> bytes:
    """Go on with a SASL exchange."""
    return message(b"R", b"\0\0\0\x0b" + data)


def authentication_sasl_final(data: bytes) -> bytes:
    """End a SASL exchange that has succeeded."""
    return message(b"R", b"\0\0\0\x0c" + data)


def negotiate_protocol_version(minor: int, unrecognized: Sequence[str]) -> bytes:
    """Tell the client the newest minor version of protocol 3 that we speak and which ``_pq_.`` options we do not know.

    The version goes out whole (3 << 16 | minor), as PostgreSQL sends it and libpq checks it.
    """
    options = b"".join(text_bytes(option) for option in unrecognized)
    return message(b"v", struct.pack(">II", 3 << 16 | minor, len(unrecognized)) + options)


def parameter_status(name: str, value: str) -> bytes:
    """Report a setting, at the start or when it has changed."""
    return message(b"S", text_bytes(name) + text_bytes(value))


def backend_key_data(process_id: int, secret: bytes) -> bytes:
    """Give the key for cancelling: 4 bytes of secret in protocol 3.0, 4 to 256 in 3.2."""
    assert 4 <= len(secret) <= 256, len(secret)
    return message(b"K", _LENGTH.pack(process_id) + secret)


def ready_for_query(status: Literal["I", "T", "E"]) -> bytes:
    """Say that the next command may come: I outside a transaction, T inside one, E inside a failed one."""
    return b"Z\0\0\0\x05" + status.encode()


def row_description(columns: Sequence[FieldDescription]) -> bytes:
    """Describe the columns of the rows that follow."""
    parts = [struct.pack(">H", len(columns))]
    for column in columns:
        parts.append(text_bytes(column.name))
        parts.append(_FIELD.pack(0, 0, column.type_oid, column.size, column.modifier, column.format))
    return message(b"T", b"".join(parts))


def parameter_description(oids: Sequence[int]) -> bytes:
    """Give the types of a statement's parameters."""
    return message(b"t", struct.pack(f">H{len(oids)}I", len(oids), *oids))


def no_data() -> bytes:
    """Say that a statement gives no rows."""
    return b"n\0\0\0\x04"


def parse_complete() -> bytes:
    """Answer Parse."""
    return b"1\0\0\0\x04"


def bind_complete() -> bytes:
    """Answer Bind."""
    return b"2\0\0\0\x04"


def close_complete() -> bytes:
    """Answer Close."""
    return b"3\0\0\0\x04"


def portal_suspended() -> bytes:
    """Say that Execute stopped at its `max_rows`."""
    return b"s\0\0\0\x04"


def empty_query_response() -> bytes:
    """Take the place of CommandComplete for an empty query text."""
    return b"I\0\0\0\x04"


def command_complete(tag: str) -> bytes:
    """End a command; the tag is such as ``SELECT 3`` or ``INSERT 0 1``."""
    return message(b"C", text_bytes(tag))


def notification_response(process_id: int, channel: str, payload: str) -> bytes:
    """Tell one who listens of a NOTIFY by the session with this process id."""
    return message(b"A", _LENGTH.pack(process_id) + text_bytes(channel) + text_bytes(payload))


def error_response(fields: Mapping[str, str]) -> bytes:
    """Encode the fields that `StreamSQLError.fields` gives."""
    return message(b"E", _fields(fields))


def notice(fields: Mapping[str, str]) -> bytes:
    """Encode a warning or a notice, with the fields of an error."""
    return message(b"N", _fields(fields))


def _fields(fields: Mapping[str, str]) -> bytes:
    return b"".join(code.encode() + text_bytes(value) for code, value in fields.items()) + b"\0"


def copy_in_response(formats: Sequence[int]) -> bytes:
    """Ask for COPY data; one format code a column, and binary as a whole if any is."""
    return _copy_response(b"G", formats)


def copy_out_response(formats: Sequence[int]) -> bytes:
    """Say that COPY data follows; one format code a column."""
    return _copy_response(b"H", formats)


def _copy_response(kind: bytes, formats: Sequence[int]) -> bytes:
    return message(kind, struct.pack(f">bH{len(formats)}H", int(any(formats)), len(formats), *formats))


def copy_data(data: bytes) -> bytes:
    """Frame a piece of COPY data for the client."""
    return message(b"d", data)


def copy_done() -> bytes:
    """End the COPY data that the server sends."""
    return b"c\0\0\0\x04"
