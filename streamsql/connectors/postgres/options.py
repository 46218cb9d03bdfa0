"""What a connection to a PostgreSQL needs to be told: the options that source and sink share."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streamsql.base.errors import InvalidParameterValue
from streamsql.connectors.settings import Option, allowed_path, integer, one_of
from streamsql.connectors.source import Surroundings

SSL_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")


def text(value: str) -> str:
    """Read any text but the empty one."""
    if not value:
        raise InvalidParameterValue("it is empty")
    return value


CONNECTION_OPTIONS: Mapping[str, Option] = {
    "host": Option(text, "localhost", ("hostname",), says="where the server is: a name or an address"),
    "port": Option(integer(1, 65_535), 5432, says="its port"),
    "database": Option(text, None, ("dbname", "database.name"), says="the database", required=True),
    "user": Option(text, None, ("username",), says="who connects", required=True),
    "password": Option(text, None, says="the password, if the server asks for one", secret=True),
    "sslmode": Option(
        one_of(*SSL_MODES), "prefer",
        says="`disable`, `prefer`, `require`, `verify-ca` or `verify-full`, as for libpq",
    ),
    "sslrootcert": Option(text, None, says="a file of certificates to trust, below `--allow-path`; else the system's"),
    "connect_timeout": Option(integer(1, 3_600), 10, says="seconds that connecting and logging in may take"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and who connects to it."""

    host: str
    port: int
    database: str
    user: str
    password: str | None
    sslmode: str
    sslrootcert: str | None
    connect_seconds: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def tls(self) -> ssl.SSLContext | None:
        """Make what a connection is encrypted with; None where it is not to be. Raises StreamSQLError."""
        if self.sslmode == "disable":
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.sslmode == "verify-full"
        if not self.sslmode.startswith("verify"):
            context.verify_mode = ssl.CERT_NONE
        elif self.sslrootcert is None:
            context.load_default_certs()
        else:
            try:
                context.load_verify_locations(self.sslrootcert)
            except OSError as error:
                raise InvalidParameterValue(f'cannot read "{self.sslrootcert}": {error}') from error
        return context


def address_of(values: Mapping[str, Any], surroundings: Surroundings) -> Address:
    """Take the address out of options that were read. Raises InsufficientPrivilege for a file outside of `--allow-path`."""
    root = values["sslrootcert"]
    return Address(
        values["host"], values["port"], values["database"], values["user"], values["password"], values["sslmode"],
        None if root is None else str(allowed_path(root, surroundings)), values["connect_timeout"],
    )  # fmt: skip


def qualified(name: str) -> tuple[str, str]:
    """Part ``schema.table``; without a schema it is ``public``. Names are taken as they are, quotes around them off."""
    parts: list[str] = []
    rest = name
    while rest:
        if rest.startswith('"'):
            end = rest.find('"', 1)
            while end > 0 and rest[end + 1 : end + 2] == '"':
                end = rest.find('"', end + 2)
            if end < 0:
                raise InvalidParameterValue(f"{name} is not the name of a table")
            part, rest = rest[1:end].replace('""', '"'), rest[end + 1 :]
        else:
            part, _, _ = rest.partition(".")
            rest = rest[len(part) :]
        if not part or (rest and not rest.startswith(".")) or rest == ".":
            raise InvalidParameterValue(f"{name} is not the name of a table")
        parts.append(part)
        rest = rest[1:]
    if not 1 <= len(parts) <= 2:
        raise InvalidParameterValue(f"{name} is not the name of a table", hint="write it as schema.table")
    return (parts[0], parts[1]) if len(parts) == 2 else ("public", parts[0])


def table_name(value: str) -> str:
    """Read the name of a table."""
    qualified(value)
    return value


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Quote a text for SQL (standard_conforming_strings is set on every connection)."""
    return "'" + value.replace("'", "''") + "'"
