"""A connection to NATS, with an event loop of its own in the thread that uses it, and its errors as ours."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from streamsql.base.errors import ExternalError, InvalidParameterValue, StreamSQLError, Unavailable
from streamsql.connectors.incoming import require
from streamsql.connectors.settings import Option, allowed_path
from streamsql.connectors.source import Surroundings

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext
    from nats.js.api import StreamInfo

T = TypeVar("T")

ANSWER_SECONDS_MAX = 10.0
_LEAVE_SECONDS_MAX = 1.0


def _urls(text: str) -> list[str]:
    found = [url.strip() for url in text.split(",") if url.strip()]
    for url in found:
        if not url.startswith(("nats://", "tls://", "ws://", "wss://")):
            raise InvalidParameterValue(f'"{url.rpartition("@")[2]}" does not begin with nats:// or tls://')
    return found


CLIENT_OPTIONS: dict[str, Option] = {
    "url": Option(
        _urls, ["nats://127.0.0.1:4222"], synonyms=("servers",),
        says="where NATS is: `nats://host:port`, `tls://...`; several divided by commas",
    ),
    "username": Option(str, None, says="who to log in as"),
    "password": Option(str, None, secret=True, says="the password, by reference"),
    "token": Option(str, None, secret=True, says="a token instead, by reference"),
    "credentials": Option(str, None, says="a .creds file (JWT and seed), below --allow-path"),
    "tls_ca": Option(str, None, says="a file of authorities to believe, as PEM, below --allow-path; else the system's"),
}  # fmt: skip


def require_package() -> None:
    """Raise FeatureNotSupported where nats-py is not installed."""
    require("nats", "nats-py", "nats")


class Connection:
    """An open connection; not for several threads. Where it breaks it stays broken: the reader opens another."""

    def __init__(self, options: Mapping[str, Any], surroundings: Surroundings) -> None:
        require_package()
        self._loop = asyncio.new_event_loop()
        try:
            with asking():
                self.client: Client = self._loop.run_until_complete(_connected(options, surroundings))
        except BaseException:
            self._end()
            raise
        self.jetstream: JetStreamContext = self.client.jetstream(timeout=ANSWER_SECONDS_MAX)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run what talks to the server. Raises Unavailable, ExternalError."""
        with asking():
            return self._loop.run_until_complete(work)

    def stream(self, name: str) -> StreamInfo:
        """Ask what a stream is. Raises ExternalError where there is none."""
        from nats.js.errors import NotFoundError

        try:
            return self.run(self.jetstream.stream_info(name))
        except ExternalError as error:
            if isinstance(error.__cause__, NotFoundError):
                raise ExternalError(f'NATS has no stream "{name}"', hint="make it: nats stream add") from error
            raise

    def close(self) -> None:
        """Close it; it may be broken, and may be closed again."""
        if self._loop.is_closed():
            return
        try:
            with contextlib.suppress(StreamSQLError):
                self.run(asyncio.wait_for(self.client.close(), ANSWER_SECONDS_MAX))
        finally:
            self._end()

    def _end(self) -> None:
        """End what the library still does, and the loop."""
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
        if pending:
            self._loop.run_until_complete(asyncio.wait(pending, timeout=1))
        self._loop.close()


async def _connected(options: Mapping[str, Any], surroundings: Surroundings) -> Client:
    from nats import errors
    from nats.aio.client import Client

    said = {"user": options["username"], "password": options["password"], "token": options["token"]}
    settings: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    if options["credentials"] is not None:
        settings["user_credentials"] = str(allowed_path(options["credentials"], surroundings))
    if options["tls_ca"] is not None:
        settings["tls"] = ssl.create_default_context(cafile=allowed_path(options["tls_ca"], surroundings))

    refused: list[Exception] = []

    async def note(error: Exception) -> None:
        refused.append(error)

    client = Client()
    try:
        await client.connect(
            options["url"], name=f"streamsql {surroundings.name}", allow_reconnect=False, connect_timeout=5,
            error_cb=note, max_reconnect_attempts=1, **settings,
        )  # fmt: skip
    except errors.NoServersError:
        await _left(client)
        raise (refused[-1] if refused else ConnectionRefusedError("no server answers")) from None
    except BaseException:
        await _left(client)
        raise
    return client


async def _left(client: Client) -> None:
    """Close what a client that could not log in has left open."""
    with contextlib.suppress(asyncio.TimeoutError):  # after a TLS handshake that failed it waits for ever
        await asyncio.wait_for(client.close(), _LEAVE_SECONDS_MAX)
    transport: Any = client._transport  # the library keeps it
    if transport is not None:
        transport.close()
        await asyncio.sleep(0)


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Let the library's errors be ours: Unavailable for what may pass, ExternalError for what will not."""
    from nats import errors
    from nats.js.errors import APIError, NoStreamResponseError, ServerError, ServiceUnavailableError

    try:
        yield
    except TimeoutError as error:  # several of the library's are of these kinds
        raise Unavailable("nats: no answer in time") from error
    except (ServerError, ServiceUnavailableError, NoStreamResponseError) as error:
        raise Unavailable(f"nats: {error}") from error
    except APIError as error:
        raise ExternalError(f"nats: {error.description or error}") from error
    except errors.Error as error:
        if "authorization" in str(error).lower() or isinstance(error, errors.AuthorizationError):
            raise ExternalError(f"nats refuses the login: {error}") from error
        if isinstance(error, errors.MaxPayloadError | errors.BadSubjectError | errors.BadHeaderError):
            raise ExternalError(f"nats: {error}") from error
        raise Unavailable(f"nats: {error}") from error
    except ssl.SSLCertVerificationError as error:
        raise ExternalError(f"the certificate of the NATS server is not believed: {error.verify_message}") from error
    except OSError as error:
        raise Unavailable(f"nats: {error}") from error
