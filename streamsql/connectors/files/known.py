"""Which files are known, and how far each one is read.

Files in use stand in the position, which is committed with their rows; so it stays short. Of the others, which are read to
their end, the engine keeps a table (`engine.finished`), and the source a number for each name and each state in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from streamsql.connectors.files.places import Found

_MERGED_FROM = 10_000
# of files that are read to their end, so many stay in the position before they go into the table
KEPT_FILES = 16
KEPT_GROWING_FILES = 256


@dataclass(frozen=True, slots=True)
class FileState:
    """How far a file is read: the place, so many rows from there on; the mark of its bytes up to `upto`; its inode; and
    its size and last change when it was read to its end (-1 before)."""

    place: int = 0
    skip: int = 0
    upto: int = 0
    mark: str = ""
    inode: int = 0
    size: int = -1
    changed_ns: int = -1

    def text(self) -> str:
        return ":".join(map(str, (self.place, self.skip, self.upto, self.mark, self.inode, self.size, self.changed_ns)))

    @staticmethod
    def of(text: str) -> FileState:
        place, skip, upto, mark, inode, size, changed_ns = text.split(":")
        return FileState(int(place), int(skip), int(upto), mark, int(inode), int(size), int(changed_ns))

    @property
    def settled(self) -> bool:
        """Tell whether it was read to its end."""
        return self.size >= 0

    def unchanged(self, found: Found) -> bool:
        return self.size == found.size and self.changed_ns == found.changed_ns


def number_of(text: str) -> int:
    """Give a number of 63 bits that stands for a text."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big") >> 1


@dataclass(slots=True)
class Finished:
    """Files that are read to their end and stand in the table: numbers for names and states, and how to look one up."""

    look_up: Callable[[str], str | None]
    _names: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    _states: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    _new: dict[int, int] = field(default_factory=dict)

    def add(self, items: Iterable[tuple[str, FileState]]) -> None:
        for name, state in items:
            self._new[number_of(name)] = _stamp(state.size, state.changed_ns)
        if len(self._new) >= _MERGED_FROM:
            self._merge()

    def _merge(self) -> None:
        names = np.fromiter(self._new, np.int64, len(self._new))
        kept = ~np.isin(self._names, names)
        names = np.concatenate((self._names[kept], names))
        states = np.concatenate((self._states[kept], np.fromiter(self._new.values(), np.int64, len(self._new))))
        order = np.argsort(names)
        self._names, self._states = names[order], states[order]
        self._new.clear()

    def stamp(self, name: str) -> int | None:
        """Give the number of a file's state; None if it is not there."""
        number = number_of(name)
        found = self._new.get(number)
        if found is None and len(self._names):
            index = int(np.searchsorted(self._names, number))
            if index < len(self._names) and self._names[index] == number:
                found = int(self._states[index])
        return found

    def state(self, name: str) -> FileState:
        text = self.look_up(name)
        return FileState() if text is None else FileState.of(text)


def _stamp(size: int, changed_ns: int) -> int:
    return (size * 0x9E3779B97F4A7C15 ^ changed_ns) & ((1 << 63) - 1)


@dataclass(slots=True)
class Known:
    """All files that are known."""

    finished: Finished
    files: dict[str, FileState] = field(default_factory=dict)
    growing: set[str] = field(default_factory=set)

    @staticmethod
    def of(position: str | None, finished: Finished) -> Known:
        texts: Mapping[str, str] = json.loads(position) if position else {}
        return Known(finished, {name: FileState.of(text) for name, text in texts.items()})

    def position(self) -> str:
        return json.dumps({name: state.text() for name, state in self.files.items()}, separators=(",", ":"))

    def is_news(self, found: Found) -> bool:
        """Tell whether a file is there that is not read to the end that it has now."""
        state = self.files.get(found.name)
        if state is not None:
            return not state.unchanged(found)
        return self.finished.stamp(found.name) != _stamp(found.size, found.changed_ns)

    def state(self, name: str) -> FileState | None:
        """Give how far a file is read, None if nothing is known of it."""
        found = self.files.get(name)
        if found is None and self.finished.stamp(name) is not None:
            found = self.finished.state(name)
        return found

    def note(self, name: str, state: FileState) -> None:
        """Note how far a file is read; it becomes the one that was read last."""
        before = self.files.pop(name, None)
        if before is not None and before.settled and before.place != state.place:
            self.growing.add(name)
        self.files[name] = state

    def settle(self, name: str, found: Found) -> None:
        """Note that a file is read to the end that it had when it was found."""
        self.files[name] = replace(self.files[name], size=found.size, changed_ns=found.changed_ns)

    def retired(self, gone: Callable[[str], bool]) -> dict[str, str]:
        """Take out of the position what need not stand there; gives the states of those files."""
        settled = [name for name, state in self.files.items() if state.settled]
        quiet = [name for name in settled if name not in self.growing]
        leave = quiet[: max(0, len(quiet) - KEPT_FILES)]
        rest = [name for name in settled if name not in set(leave)]
        leave += rest[: max(0, len(rest) - KEPT_GROWING_FILES)]
        leave += [name for name in self.files if name not in set(leave) and gone(name)]
        taken = {name: self.files.pop(name) for name in leave}
        self.growing.difference_update(leave)
        self.finished.add(taken.items())
        return {name: state.text() for name, state in taken.items()}
