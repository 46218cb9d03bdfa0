"""The server's settings: command line first, then environment (``STREAMSQL_...``), then the default."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamsql.base.limits import Limits, names

LOG_LEVELS = ("debug", "info", "warning", "error")


class ConfigError(Exception):
    """A setting is wrong; the message is one line."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of ``streamsql serve``. `data_directory` None keeps everything in memory, `http_port` None is no HTTP."""

    host: str = "127.0.0.1"
    port: int = 5433
    data_directory: Path | None = Path("streamsql-data")
    http_host: str = "127.0.0.1"
    http_port: int | None = None
    log_level: str = "info"
    threads: int | None = None
    memory_limit: str | None = None
    password: str | None = field(default=None, repr=False)
    auth: str | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_authority: Path | None = None
    require_tls: bool = False
    allowed_paths: tuple[Path, ...] = ()
    allowed_urls: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``serve``."""
    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", metavar="N", help="port to listen on, 0 picks a free one (default 5433)")
    parser.add_argument(
        "--http-host",
        metavar="ADDRESS",
        help="address for HTTP; others than this machine's take TLS (default 127.0.0.1)",
    )
    parser.add_argument("--http-port", metavar="N", help="port for HTTP, 0 picks a free one (default: no HTTP)")
    parser.add_argument("--data-dir", metavar="DIR", help="folder that holds all state (default ./streamsql-data)")
    parser.add_argument("--in-memory", action="store_true", help="keep no state on disk: all is lost at the end")
    parser.add_argument("--log-level", choices=LOG_LEVELS, help="least severe log line that is shown (default info)")
    parser.add_argument("--threads", metavar="N", help="threads that DuckDB may use (default: one a core)")
    parser.add_argument("--memory-limit", metavar="SIZE", help="memory that DuckDB may use, such as 4GB")
    parser.add_argument(
        "--password-file", metavar="FILE", help="file that holds the first owner's password (or STREAMSQL_PASSWORD)"
    )
    parser.add_argument(
        "--auth",
        metavar="RULES",
        help="who may connect from where (default 'trust loopback, scram all'); @FILE reads them",
    )
    parser.add_argument(
        "--tls-cert", metavar="FILE", help="the server's certificate and those up to its authority, as PEM"
    )
    parser.add_argument("--tls-key", metavar="FILE", help="the certificate's key, as PEM")
    parser.add_argument("--tls-ca", metavar="FILE", help="authorities whose clients' certificates are believed, as PEM")
    parser.add_argument("--require-tls", action="store_true", help="refuse connections that are not encrypted")
    parser.add_argument(
        "--allow-path",
        action="append",
        default=None,
        metavar="FOLDER",
        help="connectors may read and write files below this folder, or below an address as s3://bucket/prefix (again for "
        "more; default: none)",
    )
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=N", help="set a bound of base/limits.py")


def config_of(arguments: argparse.Namespace, environment: Mapping[str, str]) -> Config:
    """Make the settings; raises ConfigError."""

    def setting(name: str) -> str | None:
        given = getattr(arguments, name, None)
        return given if given is not None else environment.get(f"STREAMSQL_{name.upper()}")

    def switch(name: str) -> bool:
        return getattr(arguments, name) or environment.get(f"STREAMSQL_{name.upper()}", "").lower() in _TRUE

    in_memory = switch("in_memory")
    if in_memory and arguments.data_dir is not None:
        raise ConfigError("--in-memory and --data-dir exclude each other")
    log_level = setting("log_level") or "info"
    if log_level not in LOG_LEVELS:
        raise ConfigError(f"log level must be one of {', '.join(LOG_LEVELS)}, not {log_level!r}")
    threads, http_port = setting("threads"), setting("http_port")
    certificate, key, authority = (_path(setting(f"tls_{what}")) for what in ("cert", "key", "ca"))
    if (certificate is None) is not (key is None):
        raise ConfigError("--tls-cert and --tls-key go together")
    if certificate is None and (authority is not None or switch("require_tls")):
        raise ConfigError("--tls-ca and --require-tls need --tls-cert and --tls-key")
    allowed = _allowed(arguments.allow_path, environment)
    return Config(
        host=setting("host") or "127.0.0.1",
        port=_number(setting("port") or "5433", "port", 0, 65_535),
        data_directory=None if in_memory else Path(setting("data_dir") or "streamsql-data"),
        http_host=setting("http_host") or "127.0.0.1",
        http_port=None if http_port is None else _number(http_port, "HTTP port", 0, 65_535),
        log_level=log_level,
        threads=None if threads is None else _number(threads, "threads", 1, 1_024),
        memory_limit=setting("memory_limit"),
        password=_password(setting("password_file"), environment),
        auth=setting("auth"),
        tls_certificate=certificate,
        tls_key=key,
        tls_authority=authority,
        require_tls=switch("require_tls"),
        allowed_paths=allowed[0],
        allowed_urls=allowed[1],
        limits=_limits(arguments.limit, environment),
    )


_TRUE = frozenset({"1", "true", "yes", "on"})


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _allowed(given: Sequence[str] | None, environment: Mapping[str, str]) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Give the folders below which connectors may use files, with their links followed, and addresses of object stores."""
    texts = _parted(environment.get("STREAMSQL_ALLOW_PATH", "")) if given is None else given
    folders = tuple(Path(text).resolve() for text in texts if text and "://" not in text)
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"--allow-path {folder} is not a folder")
    return folders, tuple(text for text in texts if "://" in text)


def _parted(text: str) -> list[str]:
    """Part folders and addresses: what stands between folders stands in addresses as well."""
    return [part.replace("\0", "://") for part in text.replace("://", "\0").split(os.pathsep)]


def _password(file: str | None, environment: Mapping[str, str]) -> str | None:
    """Read the first owner's password; the file counts before the environment."""
    if file is None:
        return environment.get("STREAMSQL_PASSWORD") or None
    try:
        found = Path(file).read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"cannot read password file {file}: {reason}") from None
    if not found:
        raise ConfigError(f"password file {file} is empty")
    return found


def _number(text: str, what: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ConfigError(f"{what} must be a number, not {text!r}") from None
    if not low <= value <= high:
        raise ConfigError(f"{what} must be between {low} and {high}, not {value}")
    return value


def _limits(given: Sequence[str], environment: Mapping[str, str]) -> Limits:
    known = set(names())
    values = {
        n: environment[f"STREAMSQL_LIMIT_{n.upper()}"] for n in known if f"STREAMSQL_LIMIT_{n.upper()}" in environment
    }
    for pair in given:
        name, _, value = pair.partition("=")
        if name not in known:
            raise ConfigError(f"there is no limit {name!r}; limits: {', '.join(sorted(known))}")
        values[name] = value
    return dataclasses.replace(Limits(), **{n: _number(v, f"limit {n}", 1, 1 << 40) for n, v in values.items()})
