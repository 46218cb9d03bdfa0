"""Wall-clock time enters the engine here and nowhere else, so that a test can set it by hand."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now_us(self) -> int:
        """Microseconds since the Unix epoch. May go back, as wall clocks do."""
        ...


class SystemClock:
    """The machine's wall clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now_us: int = 0) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        return self._now_us

    def advance(self, microseconds: int) -> None:
        self._now_us += microseconds


class Stopwatch:
    """How long ago it was made, on the machine's own clocks.

    It counts while the machine sleeps, and a pause of a virtual machine as soon as its wall clock has been set right: of two
    clocks the one that has gone on for longer.
    """

    def __init__(self) -> None:
        self._began = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)), time.time()

    def seconds(self) -> float:
        return max(now - began for now, began in zip(self._now(), self._began, strict=True))
