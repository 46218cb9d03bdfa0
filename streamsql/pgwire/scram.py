"""SCRAM-SHA-256, the server's side, without a socket: what a client says in, what the server answers out.

    client  n,,n=,r=<client's nonce>
    server  r=<both nonces>,s=<salt>,i=<iterations>
    client  c=<channel binding>,r=<both nonces>,p=<proof>
    server  v=<the server's own signature>

The server keeps a verifier, from which the password cannot be had: ``SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey``, in
PostgreSQL's own format. Who is unknown, or has no password, gets the same exchange with numbers that look the same each
time (`mock_verifier`), and fails at its end like a wrong password.

Specification: RFC 5802, RFC 7677 (SHA-256), RFC 5929 (tls-server-end-point),
https://www.postgresql.org/docs/15/sasl-authentication.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass

from streamsql.base.errors import InvalidPassword, ProtocolViolation
from streamsql.pgwire.saslprep import saslprep

SCRAM, SCRAM_PLUS = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
ITERATIONS = 4_096
SALT_BYTES, KEY_BYTES, NONCE_BYTES = 16, 32, 18

_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d{1,9}):([A-Za-z0-9+/]+={0,2})\$([A-Za-z0-9+/]+=):([A-Za-z0-9+/]+=)\Z")
_BINDING_TYPE = "tls-server-end-point"
_FIRST = re.compile(r"([ny]|p=([A-Za-z0-9.-]+)),(a=[^,]*)?,((?:m=[^,]*,)?n=[^,]*,r=([!-+\--~]+)(?:,.*)?)\Z", re.DOTALL)
_FINAL = re.compile(r"(c=([A-Za-z0-9+/=]*),r=([!-+\--~]+)(?:,[A-Za-oq-z]=[^,]*)*),p=([A-Za-z0-9+/=]+)\Z")


@dataclass(frozen=True, slots=True)
class Verifier:
    """What is kept of a password."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def __str__(self) -> str:
        salt, stored, server = (_text(b) for b in (self.salt, self.stored_key, self.server_key))
        return f"{SCRAM}${self.iterations}:{salt}${stored}:{server}"


def verifier_of(password: str, salt: bytes, iterations: int = ITERATIONS) -> Verifier:
    """Make what is kept of a password. It takes milliseconds, on purpose."""
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), salt, iterations)
    client_key = _hmac(salted, b"Client Key")
    return Verifier(iterations, salt, hashlib.sha256(client_key).digest(), _hmac(salted, b"Server Key"))


def read_verifier(text: str) -> Verifier | None:
    """Read a verifier as PostgreSQL writes it; None for any other text, which is then a password."""
    found = _VERIFIER.match(text)
    if found is None or int(found[1]) < 1:
        return None
    try:
        salt, stored, server = (base64.b64decode(part, validate=True) for part in found.group(2, 3, 4))
    except binascii.Error:
        return None
    if len(stored) != KEY_BYTES or len(server) != KEY_BYTES:
        return None
    return Verifier(int(found[1]), salt, stored, server)


def matches(password: str, verifier: Verifier) -> bool:
    """Tell whether this is the password that a verifier was made of."""
    return hmac.compare_digest(
        verifier_of(password, verifier.salt, verifier.iterations).stored_key, verifier.stored_key
    )


def mock_verifier(user: str, secret: bytes) -> Verifier:
    """Make the verifier of a user who has none: for one name always the same, and no proof is right for it."""
    salt = hashlib.sha256(secret + user.encode()).digest()[:SALT_BYTES]
    return Verifier(ITERATIONS, salt, bytes(KEY_BYTES), bytes(KEY_BYTES))


class Exchange:
    """One authentication. `nonce` is the server's, in letters that may stand in the messages.

    `binding` is the hash of the server's certificate, None where the connection has none to bind to. `doomed` says that it
    must fail at its end, whatever the client proves.
    """

    def __init__(self, verifier: Verifier, nonce: str, binding: bytes | None = None, *, doomed: bool = False) -> None:
        self._verifier = verifier
        self._own_nonce = nonce
        self._binding = binding
        self._doomed = doomed
        self._header = ""
        self._nonce = ""
        self._transcript = ""
        self._plus = False

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What the client may choose from, the best first."""
        return (SCRAM,) if self._binding is None else (SCRAM_PLUS, SCRAM)

    def first(self, mechanism: str, data: bytes) -> bytes:
        """Take the client's first message; give the server's. Raises ProtocolViolation."""
        if mechanism not in self.mechanisms:
            raise ProtocolViolation("client selected an invalid SASL authentication mechanism")
        self._plus = mechanism == SCRAM_PLUS
        found = _FIRST.match(_decoded(data))
        if found is None:
            raise _malformed("the client's first message cannot be read")
        flag, binding_type, authorization, bare, client_nonce = found.groups()
        self._check_flag(flag[0], binding_type)
        if authorization:
            raise ProtocolViolation("client uses authorization identity, but it is not supported")
        if bare.startswith("m="):
            raise ProtocolViolation("client requires an unsupported SCRAM extension")
        self._header = f"{flag},,"
        self._nonce = client_nonce + self._own_nonce
        answer = f"r={self._nonce},s={_text(self._verifier.salt)},i={self._verifier.iterations}"
        self._transcript = f"{bare},{answer}"
        return answer.encode()

    def _check_flag(self, flag: str, binding_type: str | None) -> None:
        if flag == "p":
            if not self._plus:
                raise _malformed(
                    "the client selected SCRAM-SHA-256 without channel binding, but the message includes it"
                )
            if binding_type != _BINDING_TYPE:
                raise ProtocolViolation(f'unsupported SCRAM channel-binding type "{binding_type}"')
        elif self._plus:
            raise _malformed("the client selected SCRAM-SHA-256-PLUS, but the message has no channel binding")
        elif flag == "y" and self._binding is not None:
            # somebody between has taken SCRAM-SHA-256-PLUS off the list
            raise ProtocolViolation(
                "SCRAM channel binding negotiation error",
                detail="the client supports SCRAM channel binding but thinks the server does not; this server does",
            )

    def final(self, data: bytes) -> bytes:
        """Take the client's proof; give the server's signature.

        Raises ProtocolViolation for what cannot be read, and InvalidPassword, without a word that a client may see, for a
        wrong proof.
        """
        found = _FINAL.match(_decoded(data))
        if found is None:
            raise _malformed("the client's final message cannot be read")
        without_proof, bound, nonce, proof_text = found.groups()
        expected = self._header.encode() + (self._binding or b"" if self._plus else b"")
        if not hmac.compare_digest(_bytes(bound), expected):
            raise ProtocolViolation(
                "SCRAM channel binding check failed"
                if self._plus
                else "unexpected SCRAM channel-binding attribute in client-final-message"
            )
        if nonce != self._nonce:
            raise ProtocolViolation("invalid SCRAM response", detail="nonce does not match")
        proof = _bytes(proof_text)
        if len(proof) != KEY_BYTES:
            raise _malformed("the proof has a wrong length")
        transcript = f"{self._transcript},{without_proof}".encode()
        signature = _hmac(self._verifier.stored_key, transcript)
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        right = hmac.compare_digest(hashlib.sha256(client_key).digest(), self._verifier.stored_key)
        if not right or self._doomed:
            raise InvalidPassword("password authentication failed")
        return b"v=" + base64.b64encode(_hmac(self._verifier.server_key, transcript))


def _decoded(data: bytes) -> str:
    if len(data) > 4_096:
        raise _malformed("the message is too long")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _malformed("the message is no text") from None


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _malformed("a value is no base64") from None


def _malformed(detail: str) -> ProtocolViolation:
    return ProtocolViolation("malformed SCRAM message", detail=detail)


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
