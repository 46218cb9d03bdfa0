"""Ending a running statement at the client's request, because the client has gone, or because the server stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from streamsql.base.errors import AdminShutdown, QueryCanceled, StreamSQLError


class Cancellation:
    """The cancel button of a session. Used from the event loop's thread.

    There is one for the life of a session, since a live result goes on over several Executes; `reset` arms it for the next
    event. `end` ends the session itself, where it can be ended.
    """

    __slots__ = ("_error", "_interrupts", "_left", "end")

    def __init__(self) -> None:
        self._error: StreamSQLError | None = None
        self._interrupts: list[Callable[[], None]] = []
        self._left = False
        self.end: Callable[[], None] | None = None

    def reset(self) -> None:
        """Forget a request that came for what has ended since."""
        self._error = None

    def cancel(self, error: StreamSQLError | None = None) -> None:
        """Ask for the end: waits end at once, DuckDB's work as soon as it notices."""
        if self._error is None:
            self._error = error or QueryCanceled("canceling statement due to user request")
            for interrupt in self._interrupts:
                interrupt()

    def leave(self) -> None:
        """Note that the client has gone: what runs ends, and what it has asked for besides does not wait for anything."""
        self._left = True
        self.cancel()

    def check(self) -> None:
        """Raise if the end was asked for."""
        if self._error is not None:
            raise self._error

    async def wait(self, event: asyncio.Event, timeout_seconds: float | None) -> None:
        """Wait for an event, but not longer than the timeout; raise if the end is asked for."""
        if self._left:
            self.cancel()
        self.check()
        self._interrupts.append(event.set)
        try:
            if timeout_seconds is None:  # which is a third of the time of a change's way to a subscriber
                await event.wait()
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout_seconds):
                        await event.wait()
        finally:
            self._interrupts.remove(event.set)
        self.check()

    @contextlib.contextmanager
    def withdrawing(self, withdraw: Callable[[], None]) -> Iterator[None]:
        """Call `withdraw` if the end is asked for while the body runs, which fails then, or is done all the same."""
        self._interrupts.append(withdraw)
        try:
            yield
        except Exception:
            self.check()
            raise
        finally:
            self._interrupts.remove(withdraw)

    @contextlib.contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Call `interrupt` if the end is asked for while the body runs; raise if it was."""
        self.check()
        self._interrupts.append(interrupt)
        try:
            yield
        except Exception:
            self.check()  # what the body says about being interrupted is not what was asked for
            raise
        finally:
            self._interrupts.remove(interrupt)
        self.check()


def shutdown() -> StreamSQLError:
    """Make the error that ends what runs when the server stops."""
    return AdminShutdown("terminating connection due to administrator command", severity="FATAL")
