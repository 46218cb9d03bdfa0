"""Advisory locks: numbers that clients lock to keep each other apart, as migration tools do while they change a schema.

A lock belongs to a session, or to its transaction, with whose end it goes. Several sessions may share one; who cannot have a
lock waits behind all who came before. A wait that would never end, since each waits for the other, is refused. Nothing of it
is on disk: sessions, and so their locks, end with the server. Used from the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from streamsql.base.errors import DeadlockDetected, LockNotAvailable
from streamsql.base.limits import Limits, exceeded
from streamsql.server.cancellation import Cancellation


@dataclass(frozen=True, slots=True)
class Wanted:
    """A lock as somebody wants or has it: `key` as text, of which session, `shared` with others, for its transaction only."""

    key: str
    session: int
    shared: bool = False
    transaction: bool = False

    def excludes(self, other: Wanted) -> bool:
        return self.session != other.session and not (self.shared and other.shared)


@dataclass(slots=True, eq=False)
class _Turn:
    """Somebody's wait, which ends when the lock is `given`, or else."""

    given: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Lock:
    """What is held of one key, how many times, and who waits for it, in their order."""

    held: dict[Wanted, int] = field(default_factory=dict)
    waiting: dict[_Turn, Wanted] = field(default_factory=dict)


class AdvisoryLocks:
    """The locks of all sessions."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._locks: dict[str, _Lock] = {}
        self._keys: dict[int, set[str]] = {}  # of what each session has

    def take(self, wanted: Wanted) -> bool:
        """Take a lock if nobody else has it; tell whether it was taken. Raises ProgramLimitExceeded."""
        lock = self._locks.get(wanted.key)
        if lock is None:
            if len(self._locks) >= self._limits.advisory_locks_max:
                raise exceeded(self._limits, "advisory_locks_max", "the number of advisory locks")
            lock = self._locks[wanted.key] = _Lock()
        if any(wanted.excludes(other) for other in lock.held):
            return False
        self._hold(lock, wanted)
        return True

    def _hold(self, lock: _Lock, wanted: Wanted) -> None:
        lock.held[wanted] = lock.held.get(wanted, 0) + 1
        self._keys.setdefault(wanted.session, set()).add(wanted.key)

    async def wait(self, wanted: Wanted, cancellation: Cancellation, seconds_max: float | None) -> None:
        """Take a lock once everybody has left it who has it, or came before.

        Raises DeadlockDetected, LockNotAvailable after `seconds_max`, ProgramLimitExceeded, and what the cancellation says.
        """
        lock = self._locks.get(wanted.key)
        ahead = lock is not None and any(wanted.excludes(other) for other in lock.waiting.values())
        has_it = lock is not None and any(held.session == wanted.session for held in lock.held)
        if (has_it or not ahead) and self.take(wanted):
            return
        lock = self._locks[wanted.key]
        if wanted.session in self._waited_for(wanted):
            raise DeadlockDetected("deadlock detected", hint="take locks in the same order everywhere")
        turn = _Turn()
        lock.waiting[turn] = wanted
        try:
            await cancellation.wait(turn.over, seconds_max)
        except BaseException:
            if turn.given:
                self._give_back(wanted)
            raise
        finally:
            lock.waiting.pop(turn, None)
            self._settle(wanted.key)
        if not turn.given:
            raise LockNotAvailable("canceling statement due to lock timeout")

    def _waited_for(self, wanted: Wanted) -> set[int]:
        """Give the sessions that have to go on before this one can."""
        found: set[int] = set()
        left = [wanted]
        while left:
            for session in self._before(left.pop()):
                if session not in found:
                    found.add(session)
                    left += [w for lock in self._locks.values() for w in lock.waiting.values() if w.session == session]
        return found

    def _before(self, wanted: Wanted) -> Iterator[int]:
        lock = self._locks[wanted.key]
        yield from (other.session for other in lock.held if wanted.excludes(other))
        for other in lock.waiting.values():
            if other == wanted:
                return
            if wanted.excludes(other):
                yield other.session

    def release(self, wanted: Wanted) -> bool:
        """Let a lock of a session go, once; tell whether the session had it."""
        lock = self._locks.get(wanted.key)
        if lock is None or wanted not in lock.held:
            return False
        self._give_back(wanted)
        self._settle(wanted.key)
        return True

    def _give_back(self, wanted: Wanted) -> None:
        held = self._locks[wanted.key].held
        held[wanted] -= 1
        if not held[wanted]:
            del held[wanted]
            self._forget(wanted.session, wanted.key)

    def _forget(self, session: int, key: str) -> None:
        if any(other.session == session for other in self._locks[key].held):
            return
        keys = self._keys[session]
        keys.discard(key)
        if not keys:
            del self._keys[session]

    def release_all(self, session: int, *, transaction: bool) -> None:
        """Let all locks go that a session has, or that its transaction has."""
        for key in list(self._keys.get(session, ())):
            lock = self._locks[key]
            gone = [w for w in lock.held if w.session == session and w.transaction == transaction]
            for wanted in gone:
                del lock.held[wanted]
            self._forget(session, key)
            if gone:
                self._settle(key)

    def _settle(self, key: str) -> None:
        """Give a lock to those who wait for it, as far as they can have it."""
        lock = self._locks.get(key)
        if lock is None:
            return
        for turn, wanted in lock.waiting.items():
            if turn.given:
                continue
            if any(wanted.excludes(other) for other in lock.held):
                break
            self._hold(lock, wanted)
            turn.given = True
            turn.over.set()
        if not lock.held and not lock.waiting:
            del self._locks[key]
