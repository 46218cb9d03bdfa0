"""A sink that keeps what it is given, and fails when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streamsql.connectors.settings import read_options
from streamsql.connectors.sink import Delivery, Guarantee, Shape
from streamsql.connectors.source import Given, Surroundings


@dataclass
class OtherSide:
    """What is delivered to, for one sink: rows as (epoch, weight, values), and the note of the last epoch."""

    rows: list[tuple[int, int, tuple[Any, ...]]] = field(default_factory=list)
    epoch: int = 0
    notes: bool = True
    # called before a delivery is taken, and after it, so that a test can fail it
    before: Callable[[Delivery], None] = field(default=lambda delivery: None)
    after: Callable[[Delivery], None] = field(default=lambda delivery: None)
    opened: int = 0
    shape: Shape | None = None
    surroundings: Surroundings | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def values(self) -> list[tuple[Any, ...]]:
        return [values for _, _, values in self.rows]

    @property
    def weighted(self) -> list[tuple[int, tuple[Any, ...]]]:
        return [(weight, values) for _, weight, values in self.rows]


class MemorySink:
    """One opening of it."""

    def __init__(self, side: OtherSide) -> None:
        self.side = side
        self.closed = False

    def delivered(self) -> int | None:
        return self.side.epoch if self.side.notes else None

    def deliver(self, delivery: Delivery) -> None:
        assert not self.closed
        self.side.before(delivery)
        rows = zip(*(column.to_pylist() for column in delivery.rows.columns), strict=True)
        with self.side.lock:
            self.side.rows += zip(delivery.epochs.tolist(), delivery.weights.tolist(), rows, strict=True)
            self.side.epoch = delivery.last_epoch
        self.side.after(delivery)

    def close(self) -> None:
        self.closed = True


class MemoryConnector:
    """``connector = 'memory'``: every sink delivers to `side`."""

    def __init__(self, side: OtherSide) -> None:
        self.side = side

    def check(self, given: Given, shape: Shape) -> Guarantee:
        read_options(given, {}, "memory")
        return Guarantee.EXACTLY_ONCE if self.side.notes else Guarantee.AT_LEAST_ONCE

    def open(self, given: Given, shape: Shape, surroundings: Surroundings) -> MemorySink:
        self.side.opened += 1
        self.side.shape, self.side.surroundings = shape, surroundings
        return MemorySink(self.side)
