"""From the body of a frontend message to its value.

A body arrives here whole, so its framing is intact whatever it holds: every error below leaves the session usable
(severity ERROR). Errors of framing and of the startup phase are fatal (severity FATAL), as in PostgreSQL.

=========================================== ======================================= ========
what is wrong                               error                                   severity
=========================================== ======================================= ========
a body that is too short or too long        ProtocolViolation                       ERROR
counts in Bind that do not fit together     ProtocolViolation                       ERROR
a format code that is not 0 or 1            InvalidParameterValue                   ERROR
text that is not UTF-8                      CharacterNotInRepertoire                ERROR
a query or statement text that is too long  ProgramLimitExceeded                    ERROR
too many parameters                         ProgramLimitExceeded                    ERROR
anything in the startup packet              ProtocolViolation, FeatureNotSupported  FATAL
=========================================== ======================================= ========
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import cast

from streamsql.base.errors import (
    CharacterNotInRepertoire,
    FeatureNotSupported,
    InvalidParameterValue,
    ProtocolViolation,
    StreamSQLError,
)
from streamsql.base.limits import Limits, exceeded
from streamsql.pgwire import messages as m
from streamsql.pgwire import states as s

PROTOCOL_MAJOR = 3
PROTOCOL_MINOR_MAX = 2
CANCEL_REQUEST_CODE = 80877102
SSL_REQUEST_CODE = 80877103
GSSENC_REQUEST_CODE = 80877104
CANCEL_SECRET_BYTES_MAX = 256

_COUNT = struct.Struct(">H")
_INT = struct.Struct(">i")
_UNSIGNED = struct.Struct(">I")
_COUNTS = tuple(struct.Struct(f">{count}H") for count in range(17))  # formats of the usual, short messages

_read_count = _COUNT.unpack_from
_read_int = _INT.unpack_from


def parse(kind: int, body: bytes, limits: Limits) -> m.FrontendMessage:
    """Read one message's body; `kind` must be in `PARSERS`. Raises as the table above says."""
    try:
        return PARSERS[kind](body, limits)
    except (struct.error, IndexError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise _not_utf8(error) from None
        raise ProtocolViolation("invalid message format", detail=f'message "{chr(kind)}"') from None


def _not_utf8(error: UnicodeDecodeError) -> CharacterNotInRepertoire:
    wrong = " ".join(f"0x{byte:02x}" for byte in error.object[error.start : max(error.end, error.start + 1)])
    return CharacterNotInRepertoire(f'invalid byte sequence for encoding "UTF8": {wrong}')


def _expect_end(body: bytes, position: int) -> None:
    if position != len(body):
        raise ValueError("bytes after the end of the message")


def _string(body: bytes, position: int) -> tuple[str, int]:
    """Read a zero-terminated string; give it and the position after its zero."""
    end = body.index(0, position)
    return body[position:end].decode(), end + 1


def _only_string(body: bytes) -> str:
    text, position = _string(body, 0)
    _expect_end(body, position)
    return text


def _formats(body: bytes, position: int) -> tuple[tuple[int, ...], int]:
    (count,) = _read_count(body, position)
    position += 2
    if not count:
        return (), position
    codes = (_COUNTS[count] if count < len(_COUNTS) else struct.Struct(f">{count}H")).unpack_from(body, position)
    if max(codes) > 1:
        raise InvalidParameterValue(f"unsupported format code: {max(codes)}")
    return codes, position + 2 * count


def _query(body: bytes, limits: Limits) -> m.Query:
    if len(body) - 1 > limits.query_text_bytes_max:
        raise exceeded(limits, "query_text_bytes_max", "the query text")
    return m.Query(_only_string(body))


def _parse(body: bytes, limits: Limits) -> m.Parse:
    name, position = _string(body, 0)
    if body.index(0, position) - position > limits.query_text_bytes_max:
        raise exceeded(limits, "query_text_bytes_max", "the query text")
    text, position = _string(body, position)
    (count,) = _read_count(body, position)
    if count > limits.parameters_max:
        raise exceeded(limits, "parameters_max", f"a statement with {count} parameters")
    oids = struct.unpack_from(f">{count}I", body, position + 2)
    _expect_end(body, position + 2 + 4 * count)
    return m.Parse(name, text, oids)


def _bind(body: bytes, limits: Limits) -> m.Bind:
    if body.startswith(b"\0\0"):  # both unnamed, as most drivers have it
        portal = statement = ""
        position = 2
    else:
        portal, position = _string(body, 0)
        statement, position = _string(body, position)
    formats, position = _formats(body, position)
    (count,) = _read_count(body, position)
    position += 2
    if count > limits.parameters_max:
        raise exceeded(limits, "parameters_max", f"a portal with {count} parameters")
    values: list[bytes | None] = []
    append = values.append
    for _ in range(count):
        (length,) = _read_int(body, position)
        position += 4
        if length >= 0:
            append(body[position : position + length])
            position += length
        elif length == -1:
            append(None)
        else:
            raise ValueError("negative length of a value")
    result_formats, position = _formats(body, position)
    _expect_end(body, position)
    if len(formats) > 1 and len(formats) != count:
        raise ProtocolViolation(f"bind message has {len(formats)} parameter formats but {count} parameters")
    return m.Bind(portal, statement, formats, tuple(values), result_formats)


def _kind_and_name(body: bytes) -> tuple[m.DescribedKind, str]:
    kind = body[:1].decode("latin-1")
    name = _only_string(body[1:])
    if kind not in ("S", "P"):
        raise ValueError("neither a statement nor a portal")
    return cast(m.DescribedKind, kind), name


def _describe(body: bytes, _: Limits) -> m.Describe:
    return m.Describe(*_kind_and_name(body))


def _close(body: bytes, _: Limits) -> m.Close:
    return m.Close(*_kind_and_name(body))


def _execute(body: bytes, _: Limits) -> m.Execute:
    portal, position = _string(body, 0)
    (max_rows,) = _read_int(body, position)
    _expect_end(body, position + 4)
    return m.Execute(portal, max(max_rows, 0))  # PostgreSQL takes a negative count for "all" too


def _function_call(body: bytes, _: Limits) -> m.FunctionCall:
    (oid,) = _UNSIGNED.unpack_from(body)
    return m.FunctionCall(oid)


def _empty(make: Callable[[], m.FrontendMessage]) -> Callable[[bytes, Limits], m.FrontendMessage]:
    instance = make()

    def read(body: bytes, _: Limits) -> m.FrontendMessage:
        _expect_end(body, 0)
        return instance

    return read


PARSERS: dict[int, Callable[[bytes, Limits], m.FrontendMessage]] = {
    s.QUERY_KIND: _query,
    s.PARSE_KIND: _parse,
    s.BIND_KIND: _bind,
    s.DESCRIBE_KIND: _describe,
    s.EXECUTE_KIND: _execute,
    s.CLOSE_KIND: _close,
    s.SYNC_KIND: _empty(m.Sync),
    s.FLUSH_KIND: _empty(m.Flush),
    s.TERMINATE_KIND: _empty(m.Terminate),
    s.FUNCTION_CALL_KIND: _function_call,
    s.COPY_DATA_KIND: lambda body, _: m.CopyData(body),
    s.COPY_DONE_KIND: _empty(m.CopyDone),
    s.COPY_FAIL_KIND: lambda body, _: m.CopyFail(_only_string(body)),
    s.PASSWORD_KIND: lambda body, _: m.PasswordMessage(body),
}


def parse_startup(body: bytes) -> tuple[m.FrontendMessage, bytes]:
    """Read a packet of the startup phase, without its length.

    Gives the message and what must be sent before authentication: a NegotiateProtocolVersion if the client asked for a
    newer minor version or for an option that is unknown, else nothing. Raises only fatal errors.
    """
    try:
        (code,) = _UNSIGNED.unpack_from(body)
        if code in _STARTUP_REQUESTS:
            _expect_end(body, 4)
            return _STARTUP_REQUESTS[code], b""
        if code == CANCEL_REQUEST_CODE:
            (process_id,) = _UNSIGNED.unpack_from(body, 4)
            secret = body[8:]
            if not 1 <= len(secret) <= CANCEL_SECRET_BYTES_MAX:
                raise ValueError("length of the secret")
            return m.CancelRequest(process_id, secret), b""
        return _startup(code, body)
    except StreamSQLError as error:
        error.severity = "FATAL"
        raise
    except UnicodeDecodeError as error:
        fatal = _not_utf8(error)
        fatal.severity = "FATAL"
        raise fatal from None
    except (struct.error, IndexError, ValueError):
        raise ProtocolViolation("invalid startup packet layout", severity="FATAL") from None


_STARTUP_REQUESTS: dict[int, m.FrontendMessage] = {
    SSL_REQUEST_CODE: m.SSLRequest(),
    GSSENC_REQUEST_CODE: m.GSSENCRequest(),
}


def _startup(code: int, body: bytes) -> tuple[m.Startup, bytes]:
    major, minor = code >> 16, code & 0xFFFF
    if major != PROTOCOL_MAJOR:
        raise unsupported_protocol(code)
    parameters: dict[str, str] = {}
    unrecognized: list[str] = []
    position = 4
    while body[position]:
        name, position = _string(body, position)
        value, position = _string(body, position)
        if name.startswith("_pq_."):
            unrecognized.append(name)
        else:
            parameters[name] = value
    _expect_end(body, position + 1)
    agreed = min(minor, PROTOCOL_MINOR_MAX)
    negotiation = b""
    if agreed != minor or unrecognized:
        negotiation = m.negotiate_protocol_version(agreed, unrecognized)
    return m.Startup((major, agreed), parameters), negotiation


def unsupported_protocol(code: int) -> FeatureNotSupported:
    """Make the fatal error for a version, given as the startup packet gives it."""
    return FeatureNotSupported(
        f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}: "
        f"server supports {PROTOCOL_MAJOR}.0 to {PROTOCOL_MAJOR}.{PROTOCOL_MINOR_MAX}",
        severity="FATAL",
    )
