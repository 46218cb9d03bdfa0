"""What is to be sent to one client: gathered, and handed to the socket when the client waits for it or it is much."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

# rows of at least so many bytes go to the socket as they are, instead of being copied behind what waits
PASSED_ON_BYTES_MIN = 1 << 16


class Output:
    """Bytes for a client, in order. `position` counts all that was said, sent or not, and names a place in it."""

    __slots__ = ("_bytes_max", "_send", "_sent", "_waiting")

    def __init__(self, send: Callable[[bytes | bytearray | memoryview], Awaitable[None]], bytes_max: int) -> None:
        self._send = send
        self._bytes_max = bytes_max
        self._waiting = bytearray()
        self._sent = 0

    @property
    def position(self) -> int:
        return self._sent + len(self._waiting)

    @property
    def full(self) -> bool:
        """Tell whether so much waits that it should be sent before more is made."""
        return len(self._waiting) >= self._bytes_max

    def say(self, data: bytes | memoryview) -> None:
        """Add bytes behind what waits."""
        self._waiting += data

    def unsay(self, position: int) -> None:
        """Take back what was said from this position on, as far as it has not been sent."""
        del self._waiting[max(position - self._sent, 0) :]

    async def say_rows(self, data: memoryview) -> None:
        """Add encoded rows; many go to the socket at once, and the caller waits while the client does not read."""
        if len(data) < PASSED_ON_BYTES_MIN:
            self._waiting += data
            if not self.full:
                return
            data = memoryview(b"")
        await self.flush()
        if data:
            self._sent += len(data)
            await self._send(data)

    async def flush(self) -> None:
        """Send what waits; returns when the socket has room again. Raises ConnectionError where the client has gone."""
        if self._waiting:
            waiting, self._waiting = self._waiting, bytearray()
            self._sent += len(waiting)
            await self._send(waiting)
