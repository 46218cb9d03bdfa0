"""Webhooks: changes sent to an address by POST, as JSON, each part of an epoch with a name of its own.

    POST /hook                           webhook-id: 9f...-7-8.0         (also as Idempotency-Key)
    webhook-timestamp: 1700000000        webhook-signature: v1,K5oZ...   (HMAC-SHA256 of "id.timestamp.body")

    {"sink": "alerts", "epoch": 8, "rows": [{...}, ...]}                                  mode append
    {"sink": "alerts", "epoch": 8, "rows": [{...}], "deleted": [{...}]}                   mode upsert; the deleted by their key
    {"sink": "alerts", "epoch": 8, "changes": [{"weight": -1, "row": {...}}, ...]}        mode changelog

An epoch is cut into parts of `batch_rows`, always at the same places. So whoever notes the ids of what he has seen takes each
part once, although it may come again: at least once with a stable key. A server's 429 and 5xx, no answer, and no connection are
tried again, not before `Retry-After`; any other answer than 2xx stops the sink. Redirects are not followed.

The client is httpx. Signatures are those of https://www.standardwebhooks.com.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import email.utils
import hashlib
import hmac
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pyarrow as pa

from streamsql.base.clock import Clock, SystemClock
from streamsql.base.errors import ExternalError, InvalidParameterValue, Unavailable
from streamsql.connectors.incoming import refuse_password, require
from streamsql.connectors.outgoing import MODE, Mode, by_epoch, mode_of, part_of, told
from streamsql.connectors.settings import Option, allowed_path, duration, integer, one_of, read_options
from streamsql.connectors.sink import Delivery, Guarantee, Shape, Sink
from streamsql.connectors.source import Given, Surroundings
from streamsql.formats.format import Field
from streamsql.formats.json import objects

if TYPE_CHECKING:
    import httpx

SECRET_PREFIX = "whsec_"  # noqa: S105  # what such a secret begins with
_SECRET_BYTES_MIN, _SECRET_BYTES_MAX = 16, 512
_ANSWER_SHOWN_CHARACTERS_MAX = 200
# besides 5xx: too early, too many, and a time-out
_PASSING = frozenset({408, 425, 429})
_RETRY_AFTER_SECONDS_MAX = 3600.0


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidParameterValue("it does not begin with https:// or http://")
    return text


def _secret(text: str) -> bytes:
    """Read the key of signatures: base64, with or without ``whsec_`` before it."""
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidParameterValue("it is no base64, as of a secret that begins with whsec_") from None
    if not _SECRET_BYTES_MIN <= len(key) <= _SECRET_BYTES_MAX:
        raise InvalidParameterValue(f"a key of signatures has {_SECRET_BYTES_MIN} to {_SECRET_BYTES_MAX} bytes")
    return key


OPTIONS: dict[str, Option] = {
    "url": Option(_url, None, required=True, says="where to send: `https://...`"),
    "signing_secret": Option(
        _secret, None, secret=True, says="the key of signatures, by reference: base64, as `whsec_...`"
    ),
    "authorization": Option(str, None, secret=True, says="what the header Authorization says, by reference: `Bearer ...`"),
    "batch_rows": Option(integer(1, 1_000_000), 1_000, says="how many rows of an epoch go into one request"),
    "timeout": Option(duration, 10_000_000, says="how long an answer may take before the request is sent again"),
    "format": Option(
        one_of("json", "ndjson"), "json",
        says="`json` (an object that holds the rows), or `ndjson` (a row a line, as another streamsql takes it at "
        "/streams/NAME, exactly once by the Idempotency-Key)",
    ),
    "tls_ca": Option(str, None, says="a file of authorities to believe, as PEM, below --allow-path; else the system's"),
    "mode": MODE,
}  # fmt: skip


class WebhookConnector:
    """Sends changes to an address."""

    def check(self, given: Given, shape: Shape) -> Guarantee:
        require_package()
        options = read_options(given, OPTIONS, "webhook")
        refuse_password(given, "url")
        _mode(given, shape, options)
        return Guarantee.AT_LEAST_ONCE

    def open(self, given: Given, shape: Shape, surroundings: Surroundings) -> Sink:
        options = read_options(given, OPTIONS, "webhook", surroundings)
        return WebhookSink(options, shape, _mode(given, shape, options), surroundings)


def require_package() -> None:
    """Raise FeatureNotSupported where httpx is not installed."""
    require("httpx", "httpx", "webhook")


def _mode(given: Given, shape: Shape, options: Mapping[str, Any]) -> Mode:
    mode = mode_of(given, shape, options["mode"])
    if options["format"] == "ndjson" and mode is not Mode.APPEND:
        raise InvalidParameterValue(
            "format ndjson sends rows, which must never go",
            hint="use format = 'json'",
            position=given.places.get("format"),
        )
    return mode


class WebhookSink:
    """An open sink. Its connection is kept between requests."""

    def __init__(
        self,
        options: Mapping[str, Any],
        shape: Shape,
        mode: Mode,
        surroundings: Surroundings,
        clock: Clock | None = None,
    ) -> None:
        import httpx

        self._shape, self._mode, self._surroundings = shape, mode, surroundings
        self._url: str = options["url"]
        self._key: bytes | None = options["signing_secret"]
        self._batch_rows: int = options["batch_rows"]
        self._lines = options["format"] == "ndjson"
        self._clock = clock or SystemClock()
        self._fields = [Field(c.name, c.type) for c in shape.columns]
        self._key_fields = [f for f in self._fields if f.name in shape.key]
        kind = "application/x-ndjson" if self._lines else "application/json"
        headers = {"Content-Type": kind, "User-Agent": "streamsql"}
        if options["authorization"] is not None:
            headers["Authorization"] = options["authorization"]
        verify: ssl.SSLContext | bool = True
        if options["tls_ca"] is not None:
            verify = ssl.create_default_context(cafile=allowed_path(options["tls_ca"], surroundings))
        self._client = httpx.Client(
            headers=headers, timeout=options["timeout"] / 1e6, verify=verify, follow_redirects=False, trust_env=False
        )

    def delivered(self) -> int | None:
        return None

    def deliver(self, delivery: Delivery) -> None:
        for epoch in by_epoch(delivery):
            changes = told(epoch, self._shape, self._mode)
            for start in range(0, changes.rows.num_rows, self._batch_rows):
                part = part_of(changes, start, min(start + self._batch_rows, changes.rows.num_rows))
                self._send(f"{self._surroundings.identity}-{epoch.first_epoch}.{start}", self._body(part))

    def _body(self, part: Delivery) -> bytes:
        if self._lines:
            return b"".join(line.encode() + b"\n" for line in objects(part.rows, self._fields).to_pylist())
        head = f'{{"sink": {json.dumps(self._surroundings.name)}, "epoch": {part.first_epoch}, '
        if self._mode is Mode.CHANGELOG:
            rows = objects(part.rows, self._fields).to_pylist()
            weighted = zip(part.weights.tolist(), rows, strict=True)
            changes = ", ".join(f'{{"weight": {weight}, "row": {row}}}' for weight, row in weighted)
            return f'{head}"changes": [{changes}]}}'.encode()
        came, went = pa.array(part.weights > 0), pa.array(part.weights < 0)
        body = f'{head}"rows": [{", ".join(objects(part.rows.filter(came), self._fields).to_pylist())}]'
        if self._mode is Mode.UPSERT:
            keys = part.rows.filter(went).select([f.name for f in self._key_fields])
            body += f', "deleted": [{", ".join(objects(keys, self._key_fields).to_pylist())}]'
        return f"{body}}}".encode()

    def _send(self, name: str, body: bytes) -> None:
        seconds = self._clock.now_us() // 1_000_000
        headers = {"webhook-id": name, "webhook-timestamp": str(seconds), "Idempotency-Key": name}
        if self._key is not None:
            headers["webhook-signature"] = f"v1,{signature(self._key, name, seconds, body)}"
        with self._asking():
            answer = self._client.post(self._url, content=body, headers=headers)
        if answer.is_success:
            return
        said = f"{_host(self._url)} answered {answer.status_code} {answer.reason_phrase}"
        if answer.status_code in _PASSING or answer.is_server_error:
            error = Unavailable(said)
            error.after_seconds = _retry_after(answer, self._clock.now_us())
            raise error
        if answer.is_redirect:
            raise ExternalError(f"{said}: redirects are not followed", hint=f"is it {answer.headers.get('location')}?")
        shown = re.sub(r"\s+", " ", answer.text[:_ANSWER_SHOWN_CHARACTERS_MAX]).strip()
        raise ExternalError(f"{said}: {shown}" if shown else said)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        import httpx

        where = _host(self._url)
        try:
            yield
        except httpx.TimeoutException as error:
            raise Unavailable(f"{where} did not answer in time") from error
        except httpx.TransportError as error:
            if isinstance(error.__cause__ or error.__context__, ssl.SSLCertVerificationError) or "CERTIFICATE" in str(
                error
            ):
                raise ExternalError(
                    f"the certificate of {where} is not believed: {error}", hint="tls_ca names another authority"
                ) from error
            raise Unavailable(f"{where} cannot be reached: {error}") from error
        except httpx.InvalidURL as error:
            raise ExternalError(f"the url cannot be used: {error}") from error

    def close(self) -> None:
        self._client.close()


def signature(key: bytes, name: str, seconds: int, body: bytes) -> str:
    """Sign a request, in base64."""
    signed = f"{name}.{seconds}.".encode() + body
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _host(url: str) -> str:
    """Name a server as errors may: without what stands behind, which may be secret."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _retry_after(answer: httpx.Response, now_us: int) -> float | None:
    """Read Retry-After: seconds, or a date."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return min(float(text), _RETRY_AFTER_SECONDS_MAX)
    try:
        at = email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None
    return min(max(at - now_us / 1e6, 0.0), _RETRY_AFTER_SECONDS_MAX)
