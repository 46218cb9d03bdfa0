"""What currval and lastval tell a session: the numbers that it got itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamsql.catalog.objects import Sequence


@dataclass(slots=True)
class OwnNumbers:
    """The last number that the session got of each sequence, and of which the last one was."""

    last: dict[int, int] = field(default_factory=dict)
    latest: int | None = None

    def note(self, sequence: Sequence, value: int) -> None:
        self.last[sequence.id] = value
        self.latest = sequence.id

    def clear(self) -> None:
        self.last.clear()
        self.latest = None
