"""Logging in, without a socket: what Startup asks for, and the messages of the SASL exchange.

The rules say how a user proves who he is (`pgwire.rules`); the exchange itself is in `pgwire.scram`. Errors say to a client
no more than PostgreSQL does: not whether the user exists, has no password, or had one until yesterday.

Specification: https://www.postgresql.org/docs/15/sasl-authentication.html
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from streamsql.base.errors import AuthorizationError, ProtocolViolation, UndefinedDatabase
from streamsql.pgwire.rules import Method, Rule, rule_for

DATABASE_NAMES = ("streamsql", "postgres")

_LENGTH = struct.Struct(">i")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks for when it connects. A database that is missing is ours."""

    user: str
    database: str


def asked(parameters: Mapping[str, str]) -> Asked:
    """Read the user and the database of Startup. Raises AuthorizationError or UndefinedDatabase, with severity FATAL."""
    user = parameters.get("user", "")
    if not user:
        raise AuthorizationError("no PostgreSQL user name specified in startup packet", severity="FATAL")
    return Asked(user, parameters.get("database") or DATABASE_NAMES[0])


def check_database(wanted: Asked) -> str:
    """Give the database's name, once the user is known. Raises UndefinedDatabase, with severity FATAL."""
    # libpq sends the user's name where the user has given no database, so that name must lead to ours too
    if wanted.database not in DATABASE_NAMES and wanted.database != wanted.user:
        raise UndefinedDatabase(
            f'database "{wanted.database}" does not exist',
            hint=f"connect to database {DATABASE_NAMES[0]}",
            severity="FATAL",
        )
    return wanted.database if wanted.database in DATABASE_NAMES else DATABASE_NAMES[0]


def method_for(rules: tuple[Rule, ...], wanted: Asked, address: str, *, tls: bool, tls_required: bool) -> Method:
    """Tell how the user must prove who he is. Raises AuthorizationError where he may not connect from there, or so."""
    encryption = "SSL encryption" if tls else "no encryption"
    where = f'host "{address}", user "{wanted.user}", database "{wanted.database}", {encryption}'
    rule = rule_for(rules, address, tls=tls)
    if tls_required and not tls:
        raise AuthorizationError(
            f"no authentication rule for {where}",
            hint="the server takes encrypted connections only: connect with sslmode=require",
            severity="FATAL",
        )
    if rule is None:
        raise AuthorizationError(f"no authentication rule for {where}", severity="FATAL")
    if rule.method is Method.REJECT:
        raise AuthorizationError(f"authentication rule rejects connection for {where}", severity="FATAL")
    return rule.method


def initial_response(body: bytes) -> tuple[str, bytes]:
    """Read SASLInitialResponse: the mechanism, and the first message. Raises ProtocolViolation."""
    end = body.find(b"\0")
    if end < 0 or len(body) < end + 5:
        raise ProtocolViolation("invalid message format", detail="SASLInitialResponse")
    try:
        mechanism = body[:end].decode("ascii")
    except UnicodeDecodeError:
        raise ProtocolViolation("client selected an invalid SASL authentication mechanism") from None
    (length,) = _LENGTH.unpack_from(body, end + 1)
    data = body[end + 5 :]
    if length < 0 and not data:
        raise ProtocolViolation("the client sent no initial response", detail="SCRAM begins with the client's message")
    if length != len(data):
        raise ProtocolViolation("invalid message format", detail="SASLInitialResponse")
    return mechanism, data
