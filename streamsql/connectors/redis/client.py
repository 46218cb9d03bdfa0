"""A connection to Redis: its options, its making, and its errors as ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from streamsql.base.errors import ExternalError, InvalidParameterValue, Unavailable
from streamsql.connectors.incoming import require
from streamsql.connectors.settings import Option, allowed_path
from streamsql.connectors.source import Surroundings

ANSWER_SECONDS_MAX = 10.0


def _url(text: str) -> str:
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise InvalidParameterValue(f'"{text.partition("@")[2] or text}" does not begin with redis:// or rediss://')
    return text


CLIENT_OPTIONS: dict[str, Option] = {
    "url": Option(
        _url, "redis://127.0.0.1:6379/0", synonyms=("address",),
        says="where Redis is: `redis://host:port/database`, `rediss://...` for TLS, `unix:///path` for a socket",
    ),
    "username": Option(str, None, says="who to log in as"),
    "password": Option(str, None, secret=True, says="the password, by reference"),
    "tls_ca": Option(str, None, says="a file of authorities to believe, as PEM, below --allow-path; else the system's"),
}  # fmt: skip


def require_package() -> None:
    """Raise FeatureNotSupported where redis-py is not installed."""
    require("redis", "redis", "redis")


def connect(options: Mapping[str, Any], surroundings: Surroundings) -> Any:
    """Make a client, which connects when it is first used. What is sent is never repeated by itself.

    It is a `redis.Redis`, whose own types say of every answer that it may be a coroutine.
    """
    require_package()
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    said: dict[str, Any] = {"username": options["username"], "password": options["password"]}
    settings = {name: value for name, value in said.items() if value is not None}
    if options["url"].startswith("rediss:") and options["tls_ca"] is not None:
        settings["ssl_ca_certs"] = str(allowed_path(options["tls_ca"], surroundings))
    try:
        return redis.Redis.from_url(
            options["url"], socket_timeout=ANSWER_SECONDS_MAX, socket_connect_timeout=ANSWER_SECONDS_MAX,
            retry=Retry(NoBackoff(), 0), protocol=2, client_name=f"streamsql {surroundings.name}".replace(" ", "-"),
            **settings,
        )  # fmt: skip
    except ValueError as error:
        raise InvalidParameterValue(f'invalid value for option "url": {error}') from None


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Let the library's errors be ours: Unavailable for what may pass, ExternalError for what will not."""
    from redis import exceptions

    passing = (
        exceptions.ConnectionError, exceptions.TimeoutError, exceptions.BusyLoadingError, exceptions.ReadOnlyError,
        exceptions.TryAgainError, exceptions.ClusterDownError, exceptions.WatchError, exceptions.OutOfMemoryError,
    )  # fmt: skip
    refused = (exceptions.AuthenticationError, exceptions.AuthorizationError)
    try:
        yield
    except refused as error:
        raise ExternalError(f"redis refuses the login: {error}") from error
    except passing as error:
        raise Unavailable(f"redis: {error}") from error
    except OSError as error:
        raise Unavailable(f"redis: {error}") from error
    except exceptions.RedisError as error:
        raise ExternalError(f"redis: {error}") from error
