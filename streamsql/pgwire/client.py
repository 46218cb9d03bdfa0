"""The protocol from the client's side, without a socket: what a connector that reads another PostgreSQL sends and is told.

`messages` and `codec` are the server's side of the same. Here are the messages that a blocking client needs: startup, the ways
to prove a password, simple queries, COPY, and what a standby says on a replication connection.

    https://www.postgresql.org/docs/current/protocol-message-formats.html
    https://www.postgresql.org/docs/current/protocol-replication.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Mapping, Sequence

import numpy as np

from streamsql.base.errors import AuthorizationError, FeatureNotSupported, ProtocolViolation
from streamsql.pgwire.copy_frames import chained
from streamsql.pgwire.messages import message, text_bytes
from streamsql.pgwire.saslprep import saslprep
from streamsql.pgwire.scram import SCRAM, SCRAM_PLUS
from streamsql.pgwire.values.column import Numbers

SSL_REQUEST = struct.pack(">II", 8, 80877103)
HEAD_BYTES = 5  # a kind and a length
COPY_DATA, COPY_DONE, COPY_FAIL = ord("d"), message(b"c", b""), b"f"
TERMINATE = message(b"X", b"")

_PROTOCOL = 196608
_HEAD = struct.Struct(">cI")
_COUNT, _INT = struct.Struct(">H"), struct.Struct(">i")
_STATUS = struct.Struct(">cQQQqB")
_NO_FRAMES = np.empty(0, np.int64)
# microseconds from the Unix epoch to 2000-01-01, from which PostgreSQL counts
POSTGRES_EPOCH_US = 946_684_800_000_000


def startup(parameters: Mapping[str, str]) -> bytes:
    """Begin a session."""
    body = b"".join(text_bytes(name) + text_bytes(value) for name, value in parameters.items()) + b"\0"
    return struct.pack(">II", len(body) + 8, _PROTOCOL) + body


def query(text: str) -> bytes:
    """Run the statements of a text."""
    return message(b"Q", text_bytes(text))


def standby_status(flushed: int, now_us: int) -> bytes:
    """Tell a walsender up to where all is durable here, as CopyData; it keeps what comes after."""
    body = _STATUS.pack(b"r", flushed, flushed, flushed, now_us - POSTGRES_EPOCH_US, 0)
    return message(b"d", body)


def read_head(data: bytes, at: int = 0) -> tuple[bytes, int]:
    """Give a message's kind and the length of its body. Raises ProtocolViolation."""
    kind, length = _HEAD.unpack_from(data, at)
    if length < 4:
        raise ProtocolViolation("the server sent a message of a wrong length")
    return kind, length - 4


def read_fields(body: bytes) -> dict[str, str]:
    """Read the fields of ErrorResponse or NoticeResponse by their letters."""
    fields: dict[str, str] = {}
    for part in body.split(b"\0"):
        if part:
            fields[chr(part[0])] = part[1:].decode("utf-8", "replace")
    return fields


def read_row(body: bytes) -> tuple[str | None, ...]:
    """Read a DataRow in the text format."""
    (count,) = _COUNT.unpack_from(body)
    position = _COUNT.size
    values: list[str | None] = []
    for _ in range(count):
        (length,) = _INT.unpack_from(body, position)
        position += _INT.size
        if length < 0:
            values.append(None)
            continue
        values.append(body[position : position + length].decode())
        position += length
    return tuple(values)


def frames(data: bytes, start: int = 0) -> tuple[Numbers, int]:
    """Find the whole CopyData messages that stand one behind the other from `start` on.

    Gives where each begins, and where the last one ends: there stands another message, or the beginning of one. Every
    place that could begin one is looked at, and those are taken that a chain of lengths leads to from the first.
    """
    octets = np.frombuffer(data, np.uint8, offset=start)
    if len(octets) < HEAD_BYTES or octets[0] != COPY_DATA:
        return _NO_FRAMES, start
    # a length of 16 MiB and more is not looked for, but taken where it comes first
    begins = np.flatnonzero((octets[:-4] == COPY_DATA) & (octets[1:-3] == 0))
    if not len(begins) or begins[0] != 0:
        _, length = read_head(data, start)
        end = start + HEAD_BYTES + length
        return (np.array([start]), end) if end <= len(data) else (_NO_FRAMES, start)
    lengths_at = np.ndarray((len(octets) - 4,), ">u4", octets.data, offset=1, strides=(1,))
    ends = begins + 1 + lengths_at[begins].astype(np.int64)
    there = (ends <= len(octets)) & (ends >= begins + HEAD_BYTES)
    begins, ends = begins[there], ends[there]
    if not len(begins) or begins[0] != 0:
        return _NO_FRAMES, start
    begins, ends = chained(begins, ends)
    return begins + start, int(ends[-1]) + start


def without_heads(data: bytes, begins: Numbers, end: int) -> bytes:
    """Join the bodies of CopyData messages that stand one behind the other from the first of `begins` to `end`."""
    start = int(begins[0])
    octets = np.frombuffer(data, np.uint8, count=end - start, offset=start)
    kept = np.ones(len(octets), bool)
    for place in range(HEAD_BYTES):
        kept[begins - start + place] = False
    return octets[kept].tobytes()


# ---- proving a password


def password_message(secret: str) -> bytes:
    """Send a password, or what was made of one, as it is."""
    return message(b"p", text_bytes(secret))


def md5_password(user: str, password: str, salt: bytes) -> str:
    """Give the answer to AuthenticationMD5Password."""
    inner = hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
    return "md5" + hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest()


class ScramLogin:
    """The client's side of SCRAM-SHA-256 (`scram` has the server's). `nonce` is our own, in letters and digits."""

    def __init__(self, password: str, nonce: str) -> None:
        self._password = password
        self._nonce = nonce
        self._signature = b""

    def begin(self, body: bytes) -> bytes:
        """Answer the list of mechanisms. Raises FeatureNotSupported if ours is not among them."""
        offered = [name.decode("latin-1") for name in body.split(b"\0") if name]
        if SCRAM not in offered:
            wanted = f"{SCRAM} with channel binding" if SCRAM_PLUS in offered else ", ".join(offered)
            raise FeatureNotSupported(f"the server asks for a login by {wanted}")
        first = f"n,,{self._bare()}".encode()
        return message(b"p", text_bytes(SCRAM) + _INT.pack(len(first)) + first)

    def _bare(self) -> str:
        return f"n=,r={self._nonce}"

    def proof(self, body: bytes) -> bytes:
        """Answer the server's nonce and salt. Raises ProtocolViolation for what cannot be read."""
        parts = _attributes(body)
        nonce = parts.get("r", "")
        try:
            salt, iterations = base64.b64decode(parts["s"], validate=True), int(parts["i"])
        except (KeyError, ValueError, binascii.Error):
            raise ProtocolViolation("the server's SCRAM message cannot be read") from None
        if not nonce.startswith(self._nonce) or nonce == self._nonce or iterations < 1:
            raise ProtocolViolation("the server's SCRAM message does not fit ours")
        salted = hashlib.pbkdf2_hmac("sha256", saslprep(self._password).encode(), salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        last = f"c={base64.b64encode(b'n,,').decode()},r={nonce}"
        transcript = f"{self._bare()},{body.decode()},{last}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), transcript, "sha256")
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), transcript, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True)))
        return message(b"p", f"{last},p=".encode() + proof)

    def check(self, body: bytes) -> None:
        """Check that the server knows the password too. Raises AuthorizationError."""
        try:
            given = base64.b64decode(_attributes(body).get("v", ""), validate=True)
        except binascii.Error:
            given = b""
        if not self._signature or not hmac.compare_digest(given, self._signature):
            raise AuthorizationError("the server could not prove that it knows the password")


def _attributes(body: bytes) -> dict[str, str]:
    return {part[:1]: part[2:] for part in body.decode("utf-8", "replace").split(",") if part[1:2] == "="}


def array_literal(values: Sequence[str | None]) -> str:
    """Write values as the text of an array: ``{"a","b",NULL}``."""
    quoted = ("NULL" if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values)
    return "{" + ",".join(quoted) + "}"
