"""Who asks over HTTP: the users, rules and rights of the wire.

The rules of ``--auth`` say how a client of an address proves who it is. `trust`: not at all; it is the user that HTTP Basic
names, or the first owner. `cert`: by the client's certificate. `scram`: by HTTP Basic with a password that is held against the
SCRAM verifier. As HTTP Basic sends the password itself, it is taken over TLS, from this machine, or where a rule says `plain`.
There are no tokens, so ``Authorization: Bearer`` is refused.

What a browser sends by itself is no proof of what its user wants. So what comes from another page (`Origin`) is refused; and
where nothing is to be proven, also what was sent to a name that is not this machine's own (a name that was made to point here,
DNS rebinding).

Specification: RFC 7617 (Basic), RFC 9110 (401 and WWW-Authenticate), RFC 5802 (what a verifier is)
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import secrets
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import structlog

from streamsql.base.clock import Clock
from streamsql.base.errors import AuthorizationError, InvalidPassword, StreamSQLError, TooManyConnections
from streamsql.base.limits import Limits
from streamsql.catalog.access import OWNER_NAME, Role
from streamsql.pgwire.rules import Method, Rule, is_loopback, rule_for
from streamsql.pgwire.scram import Verifier, matches
from streamsql.server.http.answers import HttpError
from streamsql.server.login import Gate, LoggedIn, PasswordRefused, exceeded_logins, network_of, that_may_log_in

log = structlog.get_logger()

CHALLENGE = 'Basic realm="streamsql", charset="UTF-8"'
# passwords that were right, kept as keyed hashes: a verifier's own work takes milliseconds, on purpose
_RIGHT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Claim:
    """What ``Authorization: Basic`` says."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Asking:
    """A request, as far as it matters for who asks. `certificate_name` is of a certificate that was verified."""

    address: str
    tls: bool
    host: str
    origin: str
    authorization: str
    certificate_name: str | None


def asking(scope: Mapping[str, Any]) -> Asking:
    """Read what an ASGI scope says."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    return Asking(
        (scope.get("client") or ("",))[0], scope.get("scheme") in {"https", "wss"}, headers.get(b"host", ""),
        headers.get(b"origin", ""), headers.get(b"authorization", ""), scope.get("state", {}).get("certificate_name"),
    )  # fmt: skip


class Door:
    """Lets requests in. Used from the event loop's thread."""

    def __init__(self, gate: Gate, clock: Clock, limits: Limits) -> None:
        self._gate = gate
        self._clock, self._limits = clock, limits
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[str, bytes] = OrderedDict()
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._waiting = 0
        # one thread, so that guessing costs one core at the most
        self._executor = ThreadPoolExecutor(1, "passwords")

    def close(self) -> None:
        """Let go of the thread."""
        self._executor.shutdown(wait=False)

    async def admit(self, request: Asking) -> LoggedIn:
        """Say who asks. Raises HttpError."""
        rule = self._rule(request)
        if rule.method is Method.TRUST:
            _check_own_host(request)
        _check_origin(request)
        try:
            return await self._proven(rule, request)
        except PasswordRefused as error:
            log.info(
                "authentication failed", message=error.message, peer=request.address, reason=error.reason, http=True
            )
            raise _unproven(error) from None
        except AuthorizationError as error:
            raise HttpError(403, error) from None

    def _rule(self, request: Asking) -> Rule:
        """Give the rule that counts. Raises HttpError 403 where there is none, or it lets nobody in."""
        rule = rule_for(self._gate.rules, request.address, tls=request.tls)
        where = f'host "{request.address}", {"TLS" if request.tls else "no encryption"}'
        if self._gate.tls_required and not request.tls:
            raise _forbidden(
                f"no authentication rule for {where}", "the server takes encrypted requests only: use https"
            )
        if rule is None:
            raise _forbidden(f"no authentication rule for {where}", "see --auth")
        if rule.method is Method.REJECT:
            raise _forbidden(f"authentication rule rejects {where}", "see --auth")
        return rule

    async def _proven(self, rule: Rule, request: Asking) -> LoggedIn:
        claim = _claim(request.authorization)
        if rule.method is Method.TRUST:
            return self._gate.trusted(OWNER_NAME if claim is None else claim.user)
        if rule.method is Method.CERT:
            name = claim.user if claim is not None else request.certificate_name or ""
            return self._gate.by_certificate(name, request.certificate_name)
        if not (request.tls or rule.tls is False or is_loopback(request.address)):
            raise _forbidden(
                "passwords are taken over TLS only",
                "use https; or a rule that says plain, such as 'scram 10.0.0.5 plain'",
            )
        if claim is None:
            raise _unproven(InvalidPassword("no password given", hint="send user and password by HTTP Basic"))
        return await self._by_password(claim, request.address)

    # ---- passwords ----

    async def _by_password(self, claim: Claim, address: str) -> LoggedIn:
        self._check_address(address)
        if not self._is_known(claim):
            if self._waiting >= self._limits.logins_max:
                raise HttpError(503, _soon(exceeded_logins(self._limits)))
            self._waiting += 1
            try:
                await self._checked(claim, address)
            finally:
                self._waiting -= 1
        role, reason, verifier = self._gate.verifier(claim.user)
        if role is None or verifier is None:  # it has changed while the password was looked at
            raise PasswordRefused(claim.user, reason)
        self._gate.failed.succeeded(address)
        return LoggedIn(claim.user, that_may_log_in(role), Method.SCRAM)

    async def _checked(self, claim: Claim, address: str) -> None:
        """Hold a password against its verifier, those of one address one after the other. Raises PasswordRefused.

        Else a client could make as many guesses at once as requests may run, before the first of them counts.
        """
        async with self._turns.setdefault(network_of(address), asyncio.Lock()):
            self._check_address(address)
            if self._is_known(claim):
                return
            role, reason, verifier = self._gate.verifier(claim.user)
            if verifier is not None and verifier.iterations > self._limits.password_iterations_max:
                reason, verifier = "its verifier has more iterations than password_iterations_max", None
            held = verifier or self._gate.mock(claim.user)
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._executor, matches, claim.password, held)
            if not right or verifier is None or role is None:
                self._gate.failed.failed(address, self._clock.now_us())
                raise PasswordRefused(claim.user, reason)
            self._right[_known_by(role, verifier)] = self._hash(claim)
            if len(self._right) > _RIGHT_MAX:
                self._right.popitem(last=False)

    def _check_address(self, address: str) -> None:
        try:
            self._gate.failed.check(address, self._clock.now_us())
        except AuthorizationError as error:
            headers = {"Retry-After": str(self._limits.failed_logins_seconds)}
            raise HttpError(429, error, headers) from None

    def _is_known(self, claim: Claim) -> bool:
        """Tell whether the password was right before, and still is the user's."""
        role, _, verifier = self._gate.verifier(claim.user)
        if role is None or verifier is None:
            return False
        found = self._right.get(_known_by(role, verifier))
        return found is not None and hmac.compare_digest(found, self._hash(claim))

    def _hash(self, claim: Claim) -> bytes:
        return hmac.digest(self._key, claim.password.encode(), "sha256")


def _known_by(role: Role, verifier: Verifier) -> str:
    return f"{role.oid} {verifier}"


def _claim(authorization: str) -> Claim | None:
    """Read the header; None where there is none. Raises HttpError 401 for what is not Basic."""
    if not authorization:
        return None
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise _unproven(
            InvalidPassword(
                f"authorization by {scheme[:20]} is not there",
                hint="send user and password by HTTP Basic; there are no tokens",
            )
        )
    with contextlib.suppress(binascii.Error, UnicodeDecodeError):
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        if colon and user and "\0" not in user + password:
            return Claim(user, password)
    raise _unproven(
        InvalidPassword("the header Authorization cannot be read", hint="see RFC 7617: base64 of user:password")
    )


def _check_own_host(request: Asking) -> None:
    if request.host and not _is_own(request.host):
        raise _forbidden(
            f'only names of this machine are answered, not "{request.host[:100]}"',
            "where other names are wanted, let the rules ask for passwords: --auth 'scram all'",
        )


def _check_origin(request: Asking) -> None:
    if not request.origin or request.origin.partition("://")[2] == request.host:
        return
    if not (_is_own(request.origin.partition("://")[2]) and _is_own(request.host)):
        raise _forbidden(
            f'pages from elsewhere are not answered: "{request.origin[:100]}"', "the page must come from here"
        )


def _is_own(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name == "localhost":
        return True
    try:
        return is_loopback(name.strip("[]"))
    except ValueError:
        return False


def _forbidden(message: str, hint: str) -> HttpError:
    return HttpError(403, AuthorizationError(message, hint=hint))


def _unproven(error: StreamSQLError) -> HttpError:
    return HttpError(401, error, {"WWW-Authenticate": CHALLENGE})


def _soon(error: TooManyConnections) -> TooManyConnections:
    error.severity = "ERROR"
    return error


def passwords_in_clear(rules: tuple[Rule, ...]) -> bool:
    """Tell whether a rule takes passwords that are not encrypted from other machines, as it says `plain`."""
    return any(rule.method is Method.SCRAM and rule.tls is False for rule in rules)
