"""How fast a generator goes: so many events a second by the wall clock, or as fast as they are taken."""

from __future__ import annotations

from dataclasses import dataclass

# Events that are due come together in steps of this length: a step costs an epoch.
STEP_US = 20_000
WITHOUT_END = 1 << 62


@dataclass(frozen=True, slots=True)
class Pace:
    """From event number `first` at `began_us` on, `per_second` events come each second; None: all at once."""

    per_second: float | None
    first: int
    began_us: int

    def due(self, now_us: int, events: int | None) -> int:
        """Give the number of events that have come, of `events` in all (None: without end)."""
        end = WITHOUT_END if events is None else events
        if self.per_second is None:
            return end
        return min(end, self.first + int(max(now_us - self.began_us, 0) * self.per_second / 1e6))

    def next_us(self, now_us: int, reached: int, events: int | None) -> int | None:
        """Say when more events come than `reached`; None where none ever will."""
        if (events is not None and self.due(now_us, events) >= events) or self.per_second is None:
            return None
        return max(now_us + STEP_US, self.began_us + int((reached + 1 - self.first) / self.per_second * 1e6))
