"""Payloads of messages put together, so that they are read as one block, and told apart again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

Indexes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Payloads:
    """Payloads one after the other, with a line end between each two: `lengths` has that of each, `there` which are not None.

    One that is not there takes no room, and has no length.
    """

    data: bytes
    lengths: Indexes
    there: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, payloads: Sequence[bytes | None]) -> Payloads:
        if None not in payloads:
            present = cast("Sequence[bytes]", payloads)
            there = np.ones(len(payloads), np.bool_)
        else:
            present = [p for p in payloads if p is not None]
            there = np.fromiter((p is not None for p in payloads), np.bool_, len(payloads))
        return cls(b"\n".join(present), np.fromiter(map(len, present), np.int64, len(present)), there)

    @classmethod
    def joined(cls, parts: Sequence[Payloads]) -> Payloads:
        """Put some together, in order."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            b"\n".join(p.data for p in parts if len(p.lengths)),
            np.concatenate([p.lengths for p in parts]),
            np.concatenate([p.there for p in parts]),
        )

    def part(self, begin: int, stop: int) -> Payloads:
        """Give those from one index to before another."""
        first, last = (int(np.count_nonzero(self.there[:at])) for at in (begin, stop))
        lengths = self.lengths[first:last]
        at = int(self.lengths[:first].sum()) + first
        size = int(lengths.sum()) + max(len(lengths) - 1, 0)
        return Payloads(self.data[at : at + size], lengths, self.there[begin:stop])

    def __len__(self) -> int:
        return len(self.there)

    @property
    def starts(self) -> Indexes:
        """Where in `data` those begin that are there."""
        return np.cumsum(self.lengths + 1) - self.lengths - 1

    def some(self, indexes: Sequence[int]) -> list[bytes]:
        """Give some of them; nothing for one that is not there."""
        places, starts = np.cumsum(self.there) - 1, self.starts
        found = []
        for index in indexes:
            place = places[index]
            start = int(starts[place]) if self.there[index] else 0
            found.append(self.data[start : start + int(self.lengths[place])] if self.there[index] else b"")
        return found
