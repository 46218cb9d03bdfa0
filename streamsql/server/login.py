"""Logging in: which way a client must prove who it is, the proof, and the role that comes of it.

What is wrong with a password is told to the log alone. A client of whom nothing is known gets the same exchange as any
other, and takes as long: the hard work of SCRAM is the client's.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from streamsql.base.clock import Clock
from streamsql.base.config import Config, ConfigError
from streamsql.base.errors import AuthorizationError, InvalidPassword, ProtocolViolation, TooManyConnections
from streamsql.base.limits import Limits
from streamsql.catalog.access import OWNER, Access, Role
from streamsql.pgwire import messages
from streamsql.pgwire.auth import Asked, initial_response, method_for
from streamsql.pgwire.connection import Connection
from streamsql.pgwire.rules import DEFAULT_RULES, Method, Rule, RuleError, plain_address, read_rules
from streamsql.pgwire.scram import NONCE_BYTES, Exchange, Verifier, mock_verifier, read_verifier
from streamsql.server.tls import Tls

_SECOND_US = 1_000_000


class PasswordRefused(InvalidPassword):
    """A login that failed; `reason` is for the log alone."""

    def __init__(self, user: str, reason: str) -> None:
        super().__init__(f'password authentication failed for user "{user}"', severity="FATAL")
        self.reason = reason


class FailedLogins:
    """Wrong passwords by address: too many, and the address has to wait. IPv6 addresses count by their /64."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._failed: OrderedDict[str, tuple[int, int]] = OrderedDict()  # how many, and when the last one was

    def check(self, address: str, now_us: int) -> None:
        """Raise AuthorizationError while an address has to wait."""
        count, last_us = self._failed.get(network_of(address), (0, 0))
        wait_us = last_us + self._limits.failed_logins_seconds * _SECOND_US - now_us
        if count >= self._limits.failed_logins_max and wait_us > 0:
            raise AuthorizationError(
                f"too many failed logins from {address}",
                hint=f"wait {-(-wait_us // _SECOND_US)} seconds; failed_logins_max = {self._limits.failed_logins_max}, "
                f"failed_logins_seconds = {self._limits.failed_logins_seconds}",
                severity="FATAL",
            )

    def failed(self, address: str, now_us: int) -> None:
        """Count a wrong password."""
        key = network_of(address)
        count, last_us = self._failed.pop(key, (0, 0))
        expired = now_us - last_us > self._limits.failed_logins_seconds * _SECOND_US
        self._failed[key] = (1 if expired else count + 1, now_us)
        if len(self._failed) > self._limits.failed_login_addresses_max:
            self._failed.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """Forget an address: whoever is there knows a password."""
        self._failed.pop(network_of(address), None)


def network_of(address: str) -> str:
    """Give what failed logins are counted by: an IPv4 address, or the /64 of an IPv6 address."""
    found = plain_address(address)
    return str(found) if found.version == 4 else found.exploded[:19]


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Who has logged in: the name that is shown, the role, and how it was proven."""

    name: str
    role: Role
    method: Method


class Caller(Protocol):
    """The connection that logs in."""

    @property
    def connection(self) -> Connection: ...
    @property
    def address(self) -> str: ...
    @property
    def tls(self) -> Tls | None: ...
    async def send(self, data: bytes) -> None: ...
    async def event(self) -> messages.FrontendMessage | None: ...


class Gate:
    """The server's door: its rules, and who has been turned away. Used from the event loop's thread."""

    def __init__(
        self,
        rules: tuple[Rule, ...],
        access: Callable[[], Access],
        clock: Clock,
        limits: Limits,
        *,
        tls_required: bool,
        mock_secret: bytes,
    ) -> None:
        self.rules = rules
        self._access = access
        self._clock = clock
        self.failed = FailedLogins(limits)
        self.tls_required = tls_required
        self._mock_secret = mock_secret

    async def admit(self, wanted: Asked, caller: Caller) -> LoggedIn | None:
        """Let a client in, or raise why not; None where it has gone away. Errors are fatal."""
        tls = caller.tls
        method = method_for(self.rules, wanted, caller.address, tls=tls is not None, tls_required=self.tls_required)
        if method is Method.TRUST:
            return self.trusted(wanted.user)
        if method is Method.CERT:
            return self.by_certificate(wanted.user, None if tls is None else tls.client_name())
        self.failed.check(caller.address, self._clock.now_us())
        try:
            role = await self._by_password(wanted.user, caller)
        except InvalidPassword:
            self.failed.failed(caller.address, self._clock.now_us())
            raise
        if role is None:
            return None
        self.failed.succeeded(caller.address)
        return LoggedIn(wanted.user, that_may_log_in(role), method)

    def trusted(self, name: str) -> LoggedIn:
        """Believe who says to be somebody."""
        role = self._access().named(name)
        if role is None:  # the first owner, under another name
            role = self._access().roles[OWNER]
        return LoggedIn(name, that_may_log_in(role), Method.TRUST)

    def by_certificate(self, user: str, client_name: str | None) -> LoggedIn:
        """Let in whom a certificate names, whose common name is given. Raises AuthorizationError."""
        role = self._access().named(user)
        if client_name != user or role is None:
            raise AuthorizationError(
                f'certificate authentication failed for user "{user}"',
                hint="the certificate must be signed by the authority that the server knows, and its common name be the user's",
                severity="FATAL",
            )
        return LoggedIn(user, that_may_log_in(role), Method.CERT)

    async def _by_password(self, user: str, caller: Caller) -> Role | None:
        role, reason, verifier = self.verifier(user)
        binding = None if caller.tls is None else caller.tls.binding
        nonce = secrets.token_urlsafe(NONCE_BYTES)
        exchange = Exchange(verifier or self.mock(user), nonce, binding, doomed=verifier is None)
        await caller.send(caller.connection.authentication_sasl(exchange.mechanisms))
        answer = await _answer(caller.event)
        if answer is None:
            return None
        await caller.send(messages.authentication_sasl_continue(exchange.first(*initial_response(answer))))
        answer = await _answer(caller.event)
        if answer is None:
            return None
        try:
            signature = exchange.final(answer)
        except InvalidPassword:
            raise PasswordRefused(user, reason) from None
        await caller.send(messages.authentication_sasl_final(signature))
        return role

    def verifier(self, user: str) -> tuple[Role | None, str, Verifier | None]:
        """Give a role, why its login fails if it does, and what is kept of its password: None where it must fail."""
        role = self._access().named(user)
        if role is None:
            return role, "the role does not exist", None
        if role.verifier is None:
            return role, "the role has no password", None
        if role.valid_until is not None and role.valid_until < self._clock.now_us():
            return role, "the password has expired", None
        return role, "the password does not match", read_verifier(role.verifier)

    def mock(self, user: str) -> Verifier:
        """Give what stands for the password of a user who has none."""
        return mock_verifier(user, self._mock_secret)


async def _answer(event: Callable[[], Awaitable[messages.FrontendMessage | None]]) -> bytes | None:
    """Wait for the client's part of an exchange; None where it has gone away."""
    found = await event()
    if found is None or isinstance(found, messages.Terminate):
        return None
    if not isinstance(found, messages.PasswordMessage):
        raise ProtocolViolation("expected SASL response", severity="FATAL")
    return found.data


def that_may_log_in(role: Role) -> Role:
    """Give the role; raises AuthorizationError where it may not log in."""
    if not role.login:
        raise AuthorizationError(f'role "{role.name}" is not permitted to log in', severity="FATAL")
    return role


def auth_rules(config: Config) -> tuple[Rule, ...]:
    """Read the rules of ``--auth``, or of its file. Raises ConfigError."""
    text = config.auth or DEFAULT_RULES
    try:
        if text.startswith("@"):
            text = Path(text[1:]).read_text("utf-8")
        return read_rules(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read authentication rules {text[1:]}: {error}") from None
    except RuleError as error:
        raise ConfigError(str(error)) from None


def exceeded_logins(limits: Limits) -> TooManyConnections:
    """Make the error of one more client that logs in than may."""
    return TooManyConnections(
        "sorry, too many clients are logging in",
        hint=f"logins_max = {limits.logins_max}; start the server with --limit logins_max=N",
        severity="FATAL",
    )
