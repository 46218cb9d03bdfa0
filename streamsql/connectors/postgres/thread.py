"""A thread that talks with an origin, and keeps what it has read ready.

What it has read waits in a queue of bounded size. While that is full, nothing is received, but the walsender is still told
every few seconds that we live, so that it does not end the connection (``wal_sender_timeout``).
"""

from __future__ import annotations

import os
import select
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from streamsql.base.errors import StreamSQLError, Unavailable
from streamsql.connectors.postgres.connection import Connection
from streamsql.connectors.postgres.options import Address

QUEUE_BYTES_MAX = 32 << 20
STATUS_SECONDS_MAX = 10.0


class Sized(Protocol):
    """What waits in the queue."""

    @property
    def byte_count(self) -> int: ...


T = TypeVar("T", bound=Sized)


class OriginThread(threading.Thread, ABC, Generic[T]):
    """A thread that reads from one origin. `take` what it has; `close` it."""

    def __init__(self, name: str, address: Address, wake: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._address = address
        self._wake = wake
        self._queue: deque[T] = deque()
        self._queue_bytes = 0
        self._failure: StreamSQLError | None = None
        self._lock = threading.Lock()
        self._closing = False
        self._waker, self._wakes = os.pipe()
        os.set_blocking(self._waker, False)
        os.set_blocking(self._wakes, False)
        self._connections: list[Connection] = []
        self._status_seconds = STATUS_SECONDS_MAX
        self._done = False
        self.has_ended = False

    # ---- for the reader

    def take(self) -> T | None:
        """Give what comes next, None where there is nothing now, or it `has_ended`. Raises what it failed with."""
        with self._lock:
            if self._queue:
                found = self._queue.popleft()
                full = self._queue_bytes >= QUEUE_BYTES_MAX
                self._queue_bytes -= found.byte_count
            elif self._failure is not None:
                raise self._failure
            else:
                self.has_ended = self._done
                return None
        if full:
            self._stir()
        return found

    def close(self) -> None:
        """End it."""
        self._closing = True
        self._stir()
        for connection in list(self._connections):
            connection.close()
        self.join()
        os.close(self._waker)
        os.close(self._wakes)

    def _stir(self) -> None:
        try:
            os.write(self._wakes, b"x")
        except BlockingIOError:
            pass  # it is awake

    # ---- the thread

    def run(self) -> None:
        try:
            self._read()
            self._done = True
            self._wake()
        except Closing:
            return
        except StreamSQLError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001  # our own fault must not pass unnoticed in a thread
            self._fail(StreamSQLError(f"an internal error: {error!r}"))
        finally:
            for connection in self._connections:
                connection.close()

    def _fail(self, error: StreamSQLError) -> None:
        if not self._closing:
            with self._lock:
                self._failure = error
            self._wake()

    def _connect(self, *, replication: bool = False) -> Connection:
        made = Connection(self._address, replication=replication)
        self._connections.append(made)
        if self._closing:
            raise Closing
        return made

    def _wait(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._waker, select.POLLIN)
        poll.poll(seconds * 1_000)
        self._calm()

    def _calm(self) -> None:
        try:
            os.read(self._waker, 4_096)
        except BlockingIOError:
            pass
        if self._closing:
            raise Closing

    def _put(self, found: T, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Put something into the queue, once there is room; `meanwhile` is done every few seconds while there is none."""
        while self._queue_bytes >= QUEUE_BYTES_MAX:
            self._wait(self._status_seconds)
            meanwhile()
        with self._lock:
            self._queue.append(found)
            self._queue_bytes += found.byte_count
        self._wake()

    @abstractmethod
    def _read(self) -> None:
        """Do it: put what is read, until there will be no more, or `Closing` is raised."""


class Closing(Unavailable):
    """The thread is to end."""

    def __init__(self) -> None:
        super().__init__("the capture ends")
