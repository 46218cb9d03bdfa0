"""The change log of a query, and those who read it, each at its own pace.

The engine publishes a query's changes after the commit and never waits: changes are kept in memory until the slowest
subscriber has taken them, up to `subscription_rows_max` and `subscription_bytes_max`; one who falls behind that is told.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence

from streamsql.base.errors import StreamSQLError, SubscriptionTooSlow
from streamsql.base.limits import Limits
from streamsql.engine.changes import Change


class ChangeLog:
    """Changes of one query in epoch order. Thread-safe: one engine publishes, any thread reads."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.name = name
        self._limits = limits
        self._lock = threading.Lock()
        self._changes: deque[Change] = deque()
        self._first = 0  # the number of the oldest change kept; the newest has number _first + len - 1
        self._rows = 0
        self._bytes = 0
        self._subscriptions: set[Subscription] = set()
        self._at: Counter[int] = Counter()  # how many subscriptions read on from a change's number
        self._failure: StreamSQLError | None = None
        self._epoch = 0
        self.followed = False  # whether a query above is kept by these changes, within the epoch
        self.delivered = False  # whether the changes go to a sink, within the epoch
        self._kept_rows = 0  # so many rows of changes stay for readers who come back
        self._floor = 0  # all changes of later epochs are kept

    @property
    def wanted(self) -> bool:
        """Tell whether anybody reads, or may come back to read."""
        return self.followed or self.delivered or bool(self._subscriptions) or self._kept_rows > 0

    @property
    def kept_rows(self) -> int:
        """How many rows of changes are kept."""
        return self._rows

    @property
    def readers(self) -> int:
        """How many read."""
        return len(self._subscriptions)

    def subscriptions(self) -> list[Subscription]:
        """List those who read."""
        with self._lock:
            return list(self._subscriptions)

    @property
    def wants_whole(self) -> bool:
        """Tell whether anybody reads the whole result each time (EMIT COMPLETE)."""
        return any(s.whole for s in list(self._subscriptions))

    def subscribe(
        self, wake: Callable[[], None], *, whole: bool = False, before: Sequence[Change] = ()
    ) -> Subscription:
        """Start reading after the changes published so far, which `before` stands for.

        `wake` is called, from any thread, when there is more.
        """
        with self._lock:
            made = Subscription(self, self._first + len(self._changes), wake, whole, before)
            self._subscriptions.add(made)
            self._at[made.position] += 1
            return made

    def keep(self, rows_max: int, epoch: int) -> None:
        """From now, at `epoch`, keep the last so many rows of changes also when they are read; 0: no more."""
        with self._lock:
            if not self._kept_rows:
                self._floor = epoch
            self._kept_rows = rows_max
            if not rows_max:
                self._drop_read()

    def resume(self, epoch: int, wake: Callable[[], None]) -> Subscription | None:
        """Start reading after an epoch that a reader has seen; None where changes since are not kept any more."""
        with self._lock:
            if not self._kept_rows or epoch < self._floor:
                return None
            later = (i for i, change in enumerate(self._changes) if change.epoch > epoch)
            made = Subscription(self, self._first + next(later, len(self._changes)), wake, False, ())
            self._subscriptions.add(made)
            self._at[made.position] += 1
            return made

    def publish(self, changes: list[Change], epoch: int) -> None:
        """Add an epoch's changes, and wake the subscribers. An epoch without changes is progress, too."""
        with self._lock:
            self._epoch = epoch
            if self._subscriptions or self._kept_rows:
                for change in changes:
                    self._changes.append(change)
                    self._rows += change.rows.num_rows
                    self._bytes += change.rows.nbytes
            while len(self._changes) > 1 and (
                self._rows > self._limits.subscription_rows_max or self._bytes > self._limits.subscription_bytes_max
            ):
                self._drop_oldest()
            readers = list(self._subscriptions)
        for reader in readers:
            reader.wake()

    def fail(self, error: StreamSQLError) -> None:
        """End every subscription with this error: the query has stopped."""
        with self._lock:
            self._failure = error
            readers = list(self._subscriptions)
        for reader in readers:
            reader.wake()

    def _drop_read(self) -> None:
        """Drop what nobody will read any more, but for what is kept; who has fallen behind reads none. The lock is held."""
        while self._changes and not self._at[self._first] and self._rows > self._kept_rows:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        gone = self._changes.popleft()
        self._floor = max(self._floor, gone.epoch)
        self._first += 1
        self._rows -= gone.rows.num_rows
        self._bytes -= gone.rows.nbytes

    def _take(self, reader: Subscription) -> tuple[list[Change], int]:
        with self._lock:
            if reader.failure is not None:
                raise reader.failure
            if reader.position < self._first:
                raise SubscriptionTooSlow(
                    f'the subscription fell behind the changes of "{self.name}" that are kept',
                    detail=f"subscription_rows_max = {self._limits.subscription_rows_max}, "
                    f"subscription_bytes_max = {self._limits.subscription_bytes_max}",
                    hint="subscribe anew to start from a snapshot, read faster, or start the server with "
                    "--limit subscription_rows_max=N",
                )
            start = reader.position - self._first
            taken = [self._changes[i] for i in range(start, len(self._changes))]
            self._leave(reader)
            reader.position = self._first + len(self._changes)
            if reader in self._subscriptions:
                self._at[reader.position] += 1
            self._drop_read()
            if not taken and self._failure is not None:
                raise self._failure
            return taken, self._epoch

    def _close(self, reader: Subscription) -> None:
        with self._lock:
            self._leave(reader)
            self._subscriptions.discard(reader)
            self._drop_read()

    def _leave(self, reader: Subscription) -> None:
        """Count a reader off its position."""
        if reader in self._subscriptions:
            self._at[reader.position] -= 1
            if self._at[reader.position] <= 0:
                del self._at[reader.position]


class Subscription:
    """One reader of a change log."""

    def __init__(
        self, log: ChangeLog, position: int, wake: Callable[[], None], whole: bool, before: Sequence[Change]
    ) -> None:
        self._log = log
        self._before = before
        self.position = position
        self.wake = wake
        self.whole = whole
        self.role: int | None = None  # with whose rights it reads; None: they do not matter
        self.failure: StreamSQLError | None = None

    def take(self) -> tuple[list[Change], int]:
        """Give the changes since the last call, which may be none, and the last epoch that they are complete to.

        Raises SubscriptionTooSlow where changes were dropped unread, and the query's own error where it has stopped.
        """
        changes, epoch = self._log._take(self)
        before, self._before = self._before, ()
        return [change.sorted() for change in (*before, *changes)], epoch

    @property
    def waiting_rows(self) -> int:
        """Tell how many rows of changes wait for it at the most. For any thread."""
        return self._log.kept_rows

    def end(self, error: StreamSQLError) -> None:
        """End it with this error, whatever the query does. For any thread."""
        self.failure = error
        self.wake()

    def close(self) -> None:
        """Stop reading. May be called again."""
        self._log._close(self)
