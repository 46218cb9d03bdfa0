"""Numbers that the server counts about itself, in the shapes that Prometheus knows."""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_left
from collections.abc import Iterator

# upper bounds of a histogram of durations, in seconds
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Durations:
    """A histogram of how long something took. One thread measures, any reads."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Measure the body, however it ends."""
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            self._counts[bisect_left(BOUNDS, seconds)] += 1
            self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Give the number of durations up to each bound; the last bound is ``+Inf``."""
        found, sum_up_to = [], 0
        for bound, count in zip([*map(str, BOUNDS), "+Inf"], list(self._counts), strict=True):
            sum_up_to += count
            found.append((bound, float(sum_up_to)))
        return found
