"""Changes on their way to sinks, kept in memory beside the outbox, so that a deliverer that keeps up need not read them back.

The outbox is what counts: it is written in the epoch's transaction, and after a restart it alone is there. What is here are the
newest of its epochs, put here once they are committed. Who has delivered everything before them takes them from here; anyone
else reads the outbox. Memory is bounded: what is too much is forgotten, and read from there.
"""

from __future__ import annotations

import threading
from collections import deque

import pyarrow as pa

# Rows and bytes of one sink that are kept; a deliverer that keeps up has a few epochs before it.
ROWS_MAX = 50_000
BYTES_MAX = 16 << 20


class Handed:
    """The newest epochs of one sink's outbox. The engine's thread adds to them, the deliverer's takes them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._epochs: deque[tuple[int, pa.Table]] = deque()
        self._since: int | None = None  # what is of later epochs is all here; None: not begun
        self._rows = self._bytes = 0

    def add(self, epoch: int, changes: pa.Table) -> None:
        """Keep an epoch's changes, as the outbox has them; every epoch that has any is added, in order."""
        with self._lock:
            if self._since is None:
                self._since = epoch - 1
            self._epochs.append((epoch, changes))
            self._rows += changes.num_rows
            self._bytes += changes.nbytes
            if self._rows > ROWS_MAX or self._bytes > BYTES_MAX:
                self._epochs.clear()
                self._since, self._rows, self._bytes = epoch, 0, 0

    def after(self, epoch: int, rows_max: int) -> list[pa.Table] | None:
        """Give the oldest epochs after this one, as many as `rows_max` allows, but one at least; None: ask the outbox.

        Earlier ones are forgotten.
        """
        with self._lock:
            while self._epochs and self._epochs[0][0] <= epoch:
                _, changes = self._epochs.popleft()
                self._rows -= changes.num_rows
                self._bytes -= changes.nbytes
            if self._since is None or self._since > epoch:
                return None
            found: list[pa.Table] = []
            rows = 0
            for _, changes in self._epochs:
                rows += changes.num_rows
                if found and rows > rows_max:
                    break
                found.append(changes)
            return found


class Handing:
    """The epochs of all sinks that somebody takes from."""

    def __init__(self) -> None:
        self._taken: dict[int, Handed] = {}
        self._staged: dict[int, pa.Table] = {}
        self._epoch = 0

    def taken(self, sink_id: int) -> Handed:
        """Keep the changes of a sink from the next epoch on. For any thread."""
        return self._taken.setdefault(sink_id, Handed())

    def leave(self, sink_id: int) -> None:
        """Keep a sink's changes no longer. For any thread."""
        self._taken.pop(sink_id, None)

    def begin(self, epoch: int) -> None:
        """Start an epoch; what was staged and not committed was rolled back."""
        self._staged, self._epoch = {}, epoch

    def stage(self, sink_id: int, changes: list[pa.Table]) -> None:
        """Note what an epoch puts into a sink's outbox, within its transaction."""
        if changes and sink_id in self._taken:
            self._staged[sink_id] = pa.concat_tables(changes)

    def commit(self) -> None:
        """Hand over what was staged: its epoch is committed."""
        for sink_id, changes in self._staged.items():
            handed = self._taken.get(sink_id)
            if handed is not None:
                handed.add(self._epoch, changes)
        self._staged = {}
