"""TLS on a connection: ciphertext in, plaintext out, and back, over `ssl.MemoryBIO`.

The event loop's own ``start_tls`` is not used: with it, what has been read from the socket when it is called is lost (direct
TLS), or is taken for encrypted although it was sent in the clear (CVE-2021-23214). Here every byte of a connection goes
through one of two doors, and which one is decided by `Tls` alone.

A connection becomes encrypted by SSLRequest, or by beginning with TLS's own first byte ("direct", which must name
``postgresql`` by ALPN).

Specification: https://www.postgresql.org/docs/17/protocol-flow.html#PROTOCOL-FLOW-SSL, RFC 5929 (tls-server-end-point)
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamsql.base.config import Config, ConfigError
from streamsql.base.errors import ProtocolViolation

TLS_FIRST_BYTE = 0x16  # a handshake record; no startup packet is so long that it begins with this
ALPN = "postgresql"
HTTP_ALPN = "http/1.1"
_READ_BYTES = 1 << 18

# signature algorithms of certificates, and the hash that stands for the certificate (RFC 5929: SHA-256 in place of SHA-1)
_HASHES: dict[str, str] = {
    "1.2.840.113549.1.1.4": "sha256", "1.2.840.113549.1.1.5": "sha256", "1.2.840.113549.1.1.14": "sha224",
    "1.2.840.113549.1.1.11": "sha256", "1.2.840.113549.1.1.12": "sha384", "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.10045.4.1": "sha256", "1.2.840.10045.4.3.1": "sha224", "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384", "1.2.840.10045.4.3.4": "sha512",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the files hold: the contexts of new connections, and what SCRAM binds to (None: nothing is defined for it)."""

    context: ssl.SSLContext
    http: ssl.SSLContext
    binding: bytes | None


def credentials(config: Config) -> Credentials | None:
    """Read the files of the settings; None where there is no encryption. Raises ConfigError."""
    if config.tls_certificate is None or config.tls_key is None:
        return None
    return load(config.tls_certificate, config.tls_key, config.tls_authority)


def load(certificate: Path, key: Path, authority: Path | None) -> Credentials:
    """Read certificate, key and authorities. Raises ConfigError, in one line, where they cannot be used."""
    try:
        first = ssl.PEM_cert_to_DER_cert(_first_certificate(certificate.read_text("ascii", "replace")))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use {certificate} with {key}: {_reason(error)}") from None
    context, http = (_context(certificate, key, authority, protocol) for protocol in (ALPN, HTTP_ALPN))
    return Credentials(context, http, end_point_hash(first))


def _context(certificate: Path, key: Path, authority: Path | None, protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols([protocol])
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(f"cannot use {certificate} with {key}: {_reason(error)}") from None
    if authority is not None:
        try:
            context.load_verify_locations(authority)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot use {authority}: {_reason(error)}") from None
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _no_passphrase() -> str:
    raise ValueError("the key is protected by a passphrase; there is nobody to ask for it")


def _first_certificate(text: str) -> str:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    if begin not in text or end not in text:
        raise ValueError("there is no certificate in PEM form in it")
    return text[text.index(begin) : text.index(end) + len(end)]


def _reason(error: Exception) -> str:
    return (getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)).lower().replace("_", " ")


def end_point_hash(certificate: bytes) -> bytes | None:
    """Give the channel binding ``tls-server-end-point`` of a certificate (DER); None where its signature has no hash."""
    name = _HASHES.get(_signature_algorithm(certificate))
    return None if name is None else hashlib.new(name, certificate).digest()


def _signature_algorithm(certificate: bytes) -> str:
    """Read the OID: Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, ... }, ... }."""
    _, whole = next(_elements(certificate))
    _, (_, algorithm), *_ = _elements(whole)
    _, oid = next(_elements(algorithm))
    first, *rest = oid
    numbers, value = [first // 40, first % 40], 0
    for byte in rest:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            numbers.append(value)
            value = 0
    return ".".join(map(str, numbers))


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Give the elements of a DER value: tag and content."""
    at = 0
    while at < len(data):
        tag, length, start = data[at], data[at + 1], at + 2
        if length >= 0x80:
            count = length & 0x7F
            length, start = int.from_bytes(data[start : start + count]), start + count
        yield tag, data[start : start + length]
        at = start + length


class Tls:
    """One connection's encryption. What `receive` and `send` leave in `outgoing` is to be written to the socket."""

    def __init__(self, credentials: Credentials, *, direct: bool) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = credentials.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._direct = direct
        self.binding = credentials.binding
        self.established = False
        self.ended = False  # the client has said that nothing more will come

    def receive(self, data: bytes) -> bytes:
        """Take what the socket gave; give the plaintext. Raises ProtocolViolation where it is no TLS that we can speak."""
        self._incoming.write(data)
        try:
            if not self.established and not self._shake_hands():
                return b""
            return self._read_all()
        except ssl.SSLError as error:
            reason = (error.reason or "it cannot be read").lower().replace("_", " ")
            raise ProtocolViolation(f"could not accept SSL connection: {reason}", severity="FATAL") from None

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        if self._direct and self._tls.selected_alpn_protocol() != ALPN:
            raise ProtocolViolation(
                "received direct SSL connection request without ALPN protocol negotiation extension",
                hint='use sslnegotiation=postgres, or a client that sends ALPN "postgresql"',
                severity="FATAL",
            )
        self.established = True
        return True

    def _read_all(self) -> bytes:
        parts: list[bytes] = []
        while True:
            try:
                part = self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                part = b""
            if not part:
                self.ended = True
                break
            parts.append(part)
        return b"".join(parts)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt what is to be sent."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]

    def outgoing(self) -> bytes:
        """Take what is to be written to the socket."""
        return self._outgoing.read()

    def close(self) -> None:
        """Say that nothing more will be sent."""
        if self.established:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # it waits for the client's own word, which nobody needs; ours is in `outgoing`

    @property
    def version(self) -> str:
        return self._tls.version() or ""

    @property
    def cipher(self) -> str:
        found = self._tls.cipher()
        return found[0] if found else ""

    def client_name(self) -> str | None:
        """Give the common name of the client's certificate, which has been verified; None where there is none."""
        return common_name(self._tls.getpeercert())


def common_name(certificate: Mapping[str, Any] | None) -> str | None:
    """Give the common name of a certificate that was verified; None where there is none."""
    pairs = [pair for part in (certificate or {}).get("subject", ()) for pair in part]
    return next((str(value) for name, value in pairs if name == "commonName"), None)
