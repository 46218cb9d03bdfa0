"""Who may connect from where, and how they prove who they are: the rules of ``--auth``, in the manner of ``pg_hba.conf``.

    trust loopback, scram all                     the default
    cert 10.0.0.0/8 tls, scram all tls            certificates within, passwords from elsewhere, encryption for all

A rule is a method, addresses, and ``tls`` or ``plain`` where it is for one kind of connection only. The first rule that fits a
connection counts; where none fits it is refused. Methods:

trust    the name that is given is believed; for addresses of this machine only
scram    a password, by SCRAM-SHA-256
cert     a client's certificate, signed by --tls-ca, whose common name is the user's
reject   nobody

Addresses: ``loopback``, ``all``, an address, or a network such as ``10.0.0.0/8``.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_RULES = "trust loopback, scram all"


class Method(enum.Enum):
    """How a user proves who he is."""

    TRUST = "trust"
    SCRAM = "scram"
    CERT = "cert"
    REJECT = "reject"


class RuleError(ValueError):
    """A rule cannot be read; the message is one line."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; `networks` empty means all addresses, `tls` None both kinds of connection."""

    method: Method
    networks: tuple[Network, ...] = ()
    tls: bool | None = None

    def fits(self, address: str, *, tls: bool) -> bool:
        if self.tls is not None and self.tls is not tls:
            return False
        if not self.networks:
            return True
        found = plain_address(address)
        return any(found in network for network in self.networks if network.version == found.version)


def plain_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an IP address, without its zone; an IPv4 address in IPv6's clothes is an IPv4 address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def is_loopback(address: str) -> bool:
    """Tell whether an IP address is this machine's own."""
    return plain_address(address).is_loopback


_LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def read_rules(text: str) -> tuple[Rule, ...]:
    """Read rules, divided by commas or lines; what stands behind # is a comment. Raises RuleError."""
    lines = [line.partition("#")[0] for line in text.splitlines()]
    rules = tuple(_rule(item.split()) for line in lines for item in line.split(",") if item.strip())
    if not rules:
        raise RuleError("there is no authentication rule")
    return rules


def _rule(words: list[str]) -> Rule:
    written = " ".join(words)
    methods = {method.value: method for method in Method}
    if words[0] not in methods:
        raise RuleError(f"authentication rule {written!r}: the method must be one of {', '.join(methods)}")
    if not 2 <= len(words) <= 3 or (len(words) == 3 and words[2] not in ("tls", "plain")):
        raise RuleError(f"authentication rule {written!r} must be: METHOD ADDRESS [tls|plain]")
    rule = Rule(methods[words[0]], _networks(words[1], written), None if len(words) == 2 else words[2] == "tls")
    if rule.method is Method.TRUST and not (rule.networks and all(n.is_loopback for n in rule.networks)):
        raise RuleError(f"authentication rule {written!r}: trust is for addresses of this machine only")
    return Rule(rule.method, rule.networks, True) if rule.method is Method.CERT else rule


def _networks(word: str, written: str) -> tuple[Network, ...]:
    if word == "all":
        return ()
    if word == "loopback":
        return _LOOPBACK
    try:
        return (ipaddress.ip_network(word),)
    except ValueError as error:
        raise RuleError(f"authentication rule {written!r}: {error}") from None


def rule_for(rules: tuple[Rule, ...], address: str, *, tls: bool) -> Rule | None:
    """Give the first rule that fits a connection."""
    return next((rule for rule in rules if rule.fits(address, tls=tls)), None)
