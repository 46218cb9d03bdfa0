"""Sequences: numbers that are given once, whatever becomes of the transaction, the session or the server.

A number may be used only when it is durable that it is gone. So that this does not cost a commit each time, some are marked
as gone ahead: what `_engine.sequences` says is at or past the last number that anybody has. After a crash the ones between are
skipped; a server that is stopped writes down where it really is.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from streamsql.base.errors import DuplicateTable, NumericOutOfRange, SequenceLimitExceeded
from streamsql.catalog.access import OWNER
from streamsql.catalog.objects import PUBLIC_SCHEMA, Sequence, Stream, Table
from streamsql.engine.commits import commit
from streamsql.engine.store import Store
from streamsql.sql.constraints import free_name
from streamsql.sql.names import key_of, parted
from streamsql.sql.sequence_statements import SequenceOptions

if TYPE_CHECKING:
    from streamsql.engine.epoch import Engine

TABLE = (
    "CREATE TABLE IF NOT EXISTS _engine.sequences (id BIGINT, key VARCHAR, schema VARCHAR, name VARCHAR, options VARCHAR, "
    "owner_table BIGINT, owner_column VARCHAR, last_value BIGINT, is_called BOOLEAN)"
)
# so many numbers are marked as gone ahead, as in PostgreSQL
AHEAD = 32

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sequence is: its last number, and whether that has been given."""

    last: int
    called: bool

    def shown(self) -> tuple[int, bool]:
        return self.last, self.called


@dataclass(slots=True)
class _State:
    place: Place
    left: int = 0  # so many more numbers are marked as gone


def advanced(sequence: Sequence, place: Place, count: int) -> tuple[Place, Numbers]:
    """Give the next numbers of a sequence, and where it is then. Raises SequenceLimitExceeded."""
    options, parts = sequence.options, []
    step, low, high = options.increment, options.lowest, options.highest
    following = place.last + step if place.called else place.last
    while count:
        room = (high - following) // step + 1 if step > 0 else (following - low) // -step + 1
        if room <= 0:
            if not options.cycle:
                word, bound = ("maximum", high) if step > 0 else ("minimum", low)
                raise SequenceLimitExceeded(f'nextval: reached {word} value of sequence "{sequence.bare}" ({bound})')
            following = low if step > 0 else high
            continue
        taken = min(room, count)
        parts.append(following + step * np.arange(taken, dtype=np.int64))
        place = Place(following + step * (taken - 1), called=True)
        following, count = place.last + step, count - taken
    return place, np.concatenate(parts) if parts else np.empty(0, np.int64)


class SequencePlaces:
    """Where all sequences are. For any thread; what is to be durable is done on the engine's."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        rows = store.fetch("SELECT id, last_value, is_called FROM _engine.sequences")
        self._states = {i: _State(Place(last, called)) for i, last, called in rows}

    def place(self, sequence: Sequence) -> Place:
        return self._states[sequence.id].place

    def take(self, sequence: Sequence, count: int) -> Numbers | None:
        """Give numbers that are marked as gone already; None where there are not so many."""
        with self._lock:
            state = self._states[sequence.id]
            if state.left < count:
                return None
            state.place, numbers = advanced(sequence, state.place, count)
            state.left -= count
            return numbers

    def take_durably(self, sequence: Sequence, count: int) -> Numbers:
        """Give numbers, and mark some more as gone. On the engine's thread, outside of a transaction."""
        with self._lock:
            state = self._states[sequence.id]
            place, numbers = advanced(sequence, state.place, count)
            mark, ahead = place, AHEAD
            try:
                mark, _ = advanced(sequence, place, AHEAD)
            except SequenceLimitExceeded:
                ahead = 0
            self._save(sequence.id, mark)
            state.place, state.left = place, ahead
            return numbers

    def set(self, sequence: Sequence, value: int, *, called: bool = True) -> None:
        """Put a sequence somewhere else. Raises NumericOutOfRange. On the engine's thread, outside of a transaction."""
        low, high = sequence.options.lowest, sequence.options.highest
        if not low <= value <= high:
            raise NumericOutOfRange(
                f'setval: value {value} is out of bounds for sequence "{sequence.bare}" ({low}..{high})'
            )
        with self._lock:
            self._save(sequence.id, Place(value, called))
            self._states[sequence.id] = _State(Place(value, called))

    def _save(self, sequence_id: int, place: Place) -> None:
        with self._store.transaction():
            self._store.execute(
                "UPDATE _engine.sequences SET last_value = ?, is_called = ? WHERE id = ?",
                [place.last, place.called, sequence_id],
            )

    def add(self, sequence: Sequence) -> None:
        """Begin to number; the row that makes it durable is written by `save`."""
        self._states[sequence.id] = _State(Place(sequence.options.first, called=False))

    def settle(self) -> None:
        """Write down where each sequence really is. At the end, when nobody takes any more."""
        for sequence_id, state in self._states.items():
            if state.left:
                self._save(sequence_id, state.place)
                state.left = 0


def save(store: Store, sequence: Sequence) -> None:
    """Make a new sequence durable, within the caller's transaction."""
    owner = sequence.owned_by or (None, None)
    store.execute(
        "INSERT INTO _engine.sequences VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [sequence.id, sequence.name, sequence.schema, sequence.bare, json.dumps(dataclasses.asdict(sequence.options)),
         *owner, sequence.options.first, False],
    )  # fmt: skip


def read(store: Store) -> dict[str, Sequence]:
    """Read the sequences back, by key."""
    rows = store.fetch(
        "SELECT id, key, schema, name, options, owner_table, owner_column FROM _engine.sequences ORDER BY id"
    )
    return {
        key: Sequence(
            i, key, SequenceOptions(**json.loads(options)), None if table is None else (table, column),
            schema=schema, label=name,
        )
        for i, key, schema, name, options, table, column in rows
    }  # fmt: skip


def owned(engine: Engine, made: Stream | Table) -> list[Sequence]:
    """Make the sequences that number a new relation's columns."""
    found: list[Sequence] = []

    def is_taken(name: str) -> bool:
        return any(s.bare == name for s in found) or engine.catalog.is_taken(made.schema, name)

    for column in made.columns:
        if column.numbered is not None:
            label = column.numbered.name or free_name(made.bare, column.name, "seq", is_taken)
            if column.numbered.name and is_taken(label):
                raise DuplicateTable(f'relation "{label}" already exists')
            found.append(_made(engine, made.schema, label, column.numbered.options, (made.id, column.name)))
    return found


def _made(engine: Engine, schema: str, label: str, options: SequenceOptions, owner: tuple[int, str] | None) -> Sequence:
    number = engine.next_id()
    key = key_of(schema, label)
    if key in engine.catalog.sequences:
        key = f"{key} ({number})"
    return Sequence(number, key, options, owner, schema=schema, label=label)


def create(
    engine: Engine, name: str, options: SequenceOptions, owner: int, owned_by: tuple[int, str] | None
) -> Sequence:
    """CREATE SEQUENCE. Raises DuplicateTable."""
    schema, label = parted(name)
    schema = schema or PUBLIC_SCHEMA
    if engine.catalog.is_taken(schema, label):
        raise DuplicateTable(f'relation "{label}" already exists')
    made = _made(engine, schema, label, options, owned_by)
    before = engine.catalog
    catalog = before.with_sequences([made])
    if owner != OWNER:
        catalog = catalog.with_access(catalog.access.with_owner(made.id, owner))
    commit(engine, catalog, lambda: save(engine.store, made))
    engine.sequences.add(made)
    return made


def drop(engine: Engine, gone: list[Sequence]) -> None:
    """DROP SEQUENCE."""
    ids = [s.id for s in gone]
    catalog = engine.catalog.without_sequences(ids)
    catalog = catalog.with_access(catalog.access.without_objects(ids))
    commit(engine, catalog, lambda: forget(engine.store, ids))


def own(engine: Engine, sequence: Sequence, owner: tuple[int, str] | None) -> None:
    """ALTER SEQUENCE ... OWNED BY."""
    made = replace(sequence, owned_by=owner)

    def change() -> None:
        engine.store.execute(
            "UPDATE _engine.sequences SET owner_table = ?, owner_column = ? WHERE id = ?",
            [*(owner or (None, None)), sequence.id],
        )

    commit(engine, engine.catalog.with_sequences([made]), change)


def forget(store: Store, ids: list[int]) -> None:
    """Drop sequences, within the caller's transaction."""
    for sequence_id in ids:
        store.execute("DELETE FROM _engine.sequences WHERE id = ?", [sequence_id])
