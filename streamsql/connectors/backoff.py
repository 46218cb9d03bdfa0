"""How long to wait before what was unavailable is tried again: twice as long each time, up to a bound."""

from __future__ import annotations

SECONDS_MIN = 0.1
SECONDS_MAX = 30.0


class Backoff:
    """Waits that grow until `succeeded`."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def failed(self) -> float:
        """Give how many seconds to wait before the next attempt."""
        self._seconds = min(max(2 * self._seconds, SECONDS_MIN), SECONDS_MAX)
        return self._seconds

    def succeeded(self) -> None:
        self._seconds = 0.0
