"""Ending a running statement at the client's request, or because the client has gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from streamsql.base.errors import AdminShutdown, QueryCanceled, StreamSQLError

T = TypeVar("T")


class Cancellation:
    """The cancel button of a session. Used from the event loop's thread.

    There is one for the life of a session, since a live result goes on over several Executes; `reset` arms it for the next
    event.
    """

    def __init__(self) -> None:
        self._requested: asyncio.Future[None] | None = None
        self._interrupts: list[Callable[[], None]] = []
        self._error: StreamSQLError | None = None

    def reset(self) -> None:
        """Forget a request that came for what has ended since."""
        self._error = None
        self._requested = None

    def cancel(self, error: StreamSQLError | None = None) -> None:
        """Ask for the end: waits end at once, DuckDB's work as soon as it notices."""
        if self._error is None:
            self._error = error or QueryCanceled("canceling statement due to user request")
            if self._requested is not None and not self._requested.done():
                self._requested.set_result(None)
            for interrupt in self._interrupts:
                interrupt()

    def check(self) -> None:
        """Raise if the end was asked for."""
        if self._error is not None:
            raise self._error

    async def wait(self, awaitable: Awaitable[T], timeout: float | None = None) -> T | None:
        """Wait for something, but not longer than `timeout` seconds (then gives None) or until the end is asked for."""
        task = asyncio.ensure_future(awaitable)
        if self._requested is None:
            self._requested = asyncio.get_running_loop().create_future()
            if self._error is not None:
                self._requested.set_result(None)
        await asyncio.wait({task, self._requested}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        self.check()
        return None

    @contextlib.contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Call `interrupt` if the end is asked for while the body runs."""
        self.check()
        self._interrupts.append(interrupt)
        try:
            yield
        except StreamSQLError:
            self.check()
            raise
        finally:
            self._interrupts.remove(interrupt)
        self.check()


def shutdown() -> StreamSQLError:
    """The error that ends what runs when the server stops."""
    return AdminShutdown("terminating connection due to administrator command", severity="FATAL")
