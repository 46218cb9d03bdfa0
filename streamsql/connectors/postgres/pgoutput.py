"""What a walsender streams: messages of the plugin ``pgoutput``, protocol version 1, to columns of texts.

    Begin  Relation?  (Insert | Update | Delete | Truncate)*  Commit

A transaction comes once it is committed, whole, and transactions in the order of their commits. Messages are taken apart all
together: their frames by `client.frames`, then column after column over all rows. Relations and truncates, which are rare,
are read one by one; they part what comes before from what comes after.

    +1  for a row that an Insert or an Update brings
    -1  for a row of a Delete, and before that of an Update whose key is another one than before

A value that an Update leaves where it is, out of line (TOAST), is not sent. Where the old row comes with it (REPLICA IDENTITY
FULL) it is taken from there; else `Piece.kept` says so, as `engine.kept_values` wants it.

A *place* is where to go on: after a transaction, (the end of its commit, 0); inside one, (the beginning of its commit, the
number of our table's changes before). A walsender that starts at either, or before it, sends what comes next again, and the
decoder leaves out the changes before.

Follows https://www.postgresql.org/docs/15/protocol-logicalrep-message-formats.html
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import (
    InvalidTableDefinition,
    NotInPrerequisiteState,
    ProgramLimitExceeded,
    Unavailable,
    UndefinedColumn,
)
from streamsql.connectors.postgres.connection import server_error
from streamsql.engine.kept_values import MOVED, SAME
from streamsql.pgwire import client
from streamsql.pgwire.copy_frames import values_at
from streamsql.pgwire.values.column import Numbers

# bytes before a message of pgoutput: CopyData's head, and XLogData's own
_MESSAGE_AT = client.HEAD_BYTES + 25
_PLACE = re.compile(r"([0-9A-F]{1,8})/([0-9A-F]{1,8})(?::(\d+))?\Z")
_LETTERS = {name: ord(name) for name in "BCIUDTRNKOwk"}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in the log (see above)."""

    lsn: int
    number: int = 0

    def __str__(self) -> str:
        return lsn_text(self.lsn) + (f":{self.number}" if self.number else "")


def lsn_text(lsn: int) -> str:
    """Write a log position as PostgreSQL does."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def read_place(text: str) -> Place | None:
    """Read a place, or a log position; None for another text."""
    found = _PLACE.match(text)
    return None if found is None else Place((int(found[1], 16) << 32) | int(found[2], 16), int(found[3] or 0))


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as the log describes it: its columns, and which of them an old row is known by."""

    oid: int
    schema: str
    name: str
    columns: tuple[str, ...]
    identity: frozenset[str]


@dataclass(frozen=True, slots=True)
class Piece:
    """Changes in their order: a string array for each wanted column, a weight for each row, and the place after them.

    `lsns` and `numbers` are the place after each row, if its transaction goes on. `truncated`: all rows of the table went
    before these. `kept` says, of the columns that have any, which rows' values are as before, and not there.
    """

    columns: list[pa.Array]
    weights: Numbers
    lsns: Numbers
    numbers: Numbers
    place: Place
    truncated: bool = False
    kept: dict[int, Numbers] = field(default_factory=dict)


@dataclass(slots=True)
class Wanted:
    """Which table is read, by its OID, the columns that are wanted of it, and those of them that are the key.

    Without a key only inserts are taken.
    """

    oid: int
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


@dataclass(slots=True)
class Frames:
    """Takes a stream of bytes apart into blocks of whole messages."""

    message_bytes_max: int
    _tail: bytes = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, Numbers]]:
        """Take bytes of the stream, cut anywhere; give where CopyData messages begin in some bytes.

        Raises the error that the server tells, and Unavailable where the stream ends.
        """
        data = self._tail + data if self._tail else data
        at = 0
        while len(data) - at >= client.HEAD_BYTES:
            begins, end = client.frames(data, at)
            if len(begins):
                yield data, begins
                at = end
                continue
            kind, length = client.read_head(data, at)
            end = at + client.HEAD_BYTES + length
            if length > self.message_bytes_max:
                raise ProgramLimitExceeded(
                    f"a change of {length} bytes exceeds record_bytes_max = {self.message_bytes_max}"
                )
            if end > len(data):
                break
            _other(kind, data[at + client.HEAD_BYTES : end])
            at = end
        self._tail = data[at:]


def _other(kind: bytes, body: bytes) -> None:
    if kind == b"E":
        raise server_error(client.read_fields(body))
    if kind not in {b"N", b"S", b"A"}:
        raise Unavailable("PostgreSQL has ended the stream of changes")


def after_last_commit(data: bytes, begins: Numbers) -> int:
    """Tell how many of these messages come up to the last commit among them; 0 where there is none."""
    octets = np.frombuffer(data, np.uint8)
    commits = octets[begins + client.HEAD_BYTES] == _LETTERS["w"]
    commits &= octets[np.minimum(begins + _MESSAGE_AT, len(octets) - 1)] == _LETTERS["C"]
    found = np.flatnonzero(commits)
    return int(found[-1]) + 1 if len(found) else 0


@dataclass(slots=True)
class ChangeDecoder:
    """Reads one stream of messages for one table. `start` is its place: the stream begins there or before."""

    wanted: Wanted
    start: Place
    message_bytes_max: int
    # as far as the walsender said that it has read, when there was nothing after that for us; whether it waits for an answer
    heard: int = 0
    reply_wanted: bool = False

    _relation: Relation | None = None
    _checked: bool = False  # that the relation is as it is wanted
    _open: bool = False  # in a transaction, whose commit begins at _commit_lsn, after so many changes of our table
    _commit_lsn: int = 0
    _count: int = 0
    _end_lsn: int = 0  # of the last commit

    _frames: Frames = field(init=False)

    def __post_init__(self) -> None:
        self._end_lsn = self.start.lsn
        self._frames = Frames(self.message_bytes_max)

    @property
    def is_whole(self) -> bool:
        """Tell whether no transaction is open after what was read."""
        return not self._open

    def feed(self, data: bytes) -> list[Piece]:
        """Take bytes of the stream, cut anywhere; give the changes that are complete.

        Raises the error that the server tells, Unavailable where the stream ends, and others for a table that has become
        another one.
        """
        return [piece for data, begins in self._frames.feed(data) for piece in self.block(data, begins)]

    # ---- a block of CopyData messages

    def block(self, data: bytes, begins: Numbers) -> list[Piece]:
        """Take CopyData messages that begin at these places; give the changes."""
        octets = np.frombuffer(data, np.uint8)
        outer = octets[begins + client.HEAD_BYTES]
        messages = begins[outer == _LETTERS["w"]] + _MESSAGE_AT
        pieces = self._messages(data, octets, messages) if len(messages) else []
        alive = begins[outer == _LETTERS["k"]]
        if len(alive):
            self.reply_wanted |= bool(octets[alive + client.HEAD_BYTES + 17].any())
            last_is_alive = outer[-1] == _LETTERS["k"]
            if last_is_alive and not self._open:
                (self.heard,) = struct.unpack_from(">Q", data, int(alive[-1]) + client.HEAD_BYTES + 1)
        return pieces

    def _messages(self, data: bytes, octets: Numbers, messages: Numbers) -> list[Piece]:
        kinds = octets[messages]
        longs = _numbers_at(octets, ">u8")
        oids = _numbers_at(octets, ">u4")
        begin_at = np.flatnonzero(kinds == _LETTERS["B"])
        commit_at = np.flatnonzero(kinds == _LETTERS["C"])
        # the transaction of each message: 0 is the one that was open before
        transaction = np.cumsum(kinds == _LETTERS["B"])
        commit_lsns = np.concatenate(([self._commit_lsn], longs[messages[begin_at] + 1].astype(np.int64)))
        end_lsns = longs[messages[commit_at] + 10].astype(np.int64)

        ours = np.isin(kinds, [_LETTERS[k] for k in "IUD"])
        ours[ours] = oids[messages[ours] + 1] == self.wanted.oid
        truncates = [i for i in np.flatnonzero(kinds == _LETTERS["T"]).tolist() if self._truncates(data, messages[i])]
        relations = np.flatnonzero(kinds == _LETTERS["R"]).tolist()
        changes = ours.copy()
        changes[truncates] = True
        counted = np.cumsum(changes)
        before_begin = np.concatenate(([-self._count], counted[begin_at]))
        numbers = counted - before_begin[transaction]
        lsns = commit_lsns[transaction]
        again = (lsns < self.start.lsn) | ((lsns == self.start.lsn) & (numbers <= self.start.number))
        ours &= ~again
        truncates = [i for i in truncates if not again[i]]
        relations = [i for i in relations if self._is_ours(data, messages[i], before=bool(lsns[i] < self.start.lsn))]

        cuts = sorted({0, *relations, *truncates, *(commit_at[-1:] + 1).tolist(), len(kinds)})
        pieces: list[Piece] = []
        for first, after in pairwise(cuts):
            if first in relations:
                self._relation, self._checked = self._relation_at(data, int(messages[first])), False
            # what is true after the last message of the part
            begun = np.searchsorted(begin_at, after)
            ended = np.searchsorted(commit_at, after)
            if begun:
                self._commit_lsn = int(commit_lsns[begun])
            if ended:
                self._end_lsn = int(end_lsns[ended - 1])
            if begun or ended:
                self._open = bool(begun) and (not ended or begin_at[begun - 1] > commit_at[ended - 1])
            self._count = int(numbers[after - 1]) if self._open else 0
            chosen = first + np.flatnonzero(ours[first:after])
            places = (lsns[chosen], numbers[chosen])
            pieces.append(self._piece(data, octets, messages[chosen], places, truncated=first in truncates))
        return pieces

    def _truncates(self, data: bytes, at: int) -> bool:
        (count,) = struct.unpack_from(">I", data, at + 1)
        return self.wanted.oid in struct.unpack_from(f">{count}I", data, at + 6) and bool(self.wanted.key)

    def _is_ours(self, data: bytes, at: int, *, before: bool) -> bool:
        """Tell whether a description is that of our table; `before`: it belongs to what is left out."""
        found = self._relation_at(data, int(at))
        if f"{found.schema}.{found.name}" == self.wanted.name and found.oid != self.wanted.oid and not before:
            raise NotInPrerequisiteState(
                f'the table "{self.wanted.name}" was dropped and made anew at the origin',
                hint="drop this table and create it again to begin with the new one's rows",
            )
        return found.oid == self.wanted.oid

    def _relation_at(self, data: bytes, at: int) -> Relation:
        (oid,) = struct.unpack_from(">I", data, at + 1)
        schema, at = _string(data, at + 5)
        name, at = _string(data, at)
        (count,) = struct.unpack_from(">H", data, at + 1)
        at += 3
        columns, identity = [], set()
        for _ in range(count):
            flags = data[at]
            column, at = _string(data, at + 1)
            at += 8
            columns.append(column)
            if flags & 1:
                identity.add(column)
        return Relation(oid, schema, name, tuple(columns), frozenset(identity))

    def _check_relation(self) -> None:
        """Check our table's description, once there is a change that is wanted. Raises where it does not have the columns."""
        found = self._relation
        assert found is not None, "a change before the description of its table"
        for column in self.wanted.columns:
            if column not in found.columns:
                raise UndefinedColumn(
                    f'column "{column}" of "{self.wanted.name}" is gone at the origin',
                    detail=f"columns that there are: {', '.join(found.columns)}",
                    hint="bring it back there, or drop this table and create it again without it",
                )
        if self.wanted.key and not found.identity.issuperset(self.wanted.key):
            raise InvalidTableDefinition(
                f'"{self.wanted.name}" does not tell the key of rows that are updated or deleted',
                detail=f"its replica identity is ({', '.join(sorted(found.identity)) or 'nothing'}), "
                f"the primary key here is ({', '.join(self.wanted.key)})",
                hint=f"at the origin: ALTER TABLE {self.wanted.name} REPLICA IDENTITY FULL",
            )
        self._checked = True

    # ---- rows

    @property
    def place(self) -> Place:
        """Give where to go on after what was read."""
        at = Place(self._commit_lsn, self._count) if self._open and self._count else Place(self._end_lsn)
        return max(at, self.start)  # what was taken before is not gone back to

    def _piece(
        self, data: bytes, octets: Numbers, at: Numbers, places: tuple[Numbers, Numbers], *, truncated: bool
    ) -> Piece:
        if not self.wanted.key:
            inserts = octets[at] == _LETTERS["I"]
            at, places = at[inserts], (places[0][inserts], places[1][inserts])
        if not len(at):
            empty = [pa.array([], pa.string()) for _ in self.wanted.columns]
            return Piece(empty, np.zeros(0, np.int8), *places, self.place, truncated)
        if not self._checked:
            self._check_relation()
        columns, weights, kept, message = self._rows(data, octets, at)
        lsns, numbers = places[0][message], places[1][message]
        return Piece(columns, weights, lsns, numbers, self.place, truncated, kept)

    def _rows(
        self, data: bytes, octets: Numbers, at: Numbers
    ) -> tuple[list[pa.Array], Numbers, dict[int, Numbers], Numbers]:
        """Take apart Inserts, Updates and Deletes: columns, weights, what is kept, and which message each row is of."""
        kinds = octets[at]
        has_old = octets[at + 5] != _LETTERS["N"]
        has_new = kinds != _LETTERS["D"]
        old_row = np.cumsum(has_old) - 1
        new_at = at + 6
        old: _Tuples | None = None
        if has_old.any():
            old = self._tuples(data, octets, at[has_old] + 6)
            new_at[has_old] = old.ends + 1
        if old is None:
            new = self._tuples(data, octets, new_at)
            kept = {i: np.where(mask, SAME, 0).astype(np.int8) for i, mask in enumerate(new.kept) if mask.any()}
            return new.columns, np.ones(len(at), np.int8), kept, np.arange(len(at))
        new = self._tuples(data, octets, new_at[has_new])
        both = has_old[has_new]  # of the new rows, those whose old one is known in full or by its key
        full = octets[at[has_new] + 5] == _LETTERS["O"]
        beside = pa.array(np.where(both, old_row[has_new], 0), mask=~both)
        columns = list(new.columns)
        for index, mask in enumerate(new.kept):
            if (mask & full).any():
                columns[index] = pc.if_else(pa.array(mask & full), old.columns[index].take(beside), columns[index])
                mask &= ~full
        moved = np.zeros(len(both), bool)
        for index in (self.wanted.columns.index(name) for name in self.wanted.key):
            differs = pc.fill_null(pc.not_equal(old.columns[index].take(beside), columns[index]), False)
            moved |= np.asarray(differs) & ~new.kept[index]
        went = ~has_new
        went[has_new] = moved
        went_at, came_at = np.flatnonzero(went), np.flatnonzero(has_new)
        order = np.argsort(np.concatenate((2 * went_at, 2 * came_at + 1)), kind="stable")
        places, went_rows = pa.array(order), pa.array(old_row[went_at])
        made = [
            pa.concat_arrays([old.columns[i].take(went_rows), column]).take(places) for i, column in enumerate(columns)
        ]
        weights = np.concatenate((np.full(len(went_at), -1, np.int8), np.ones(len(came_at), np.int8)))[order]
        nothing, how = np.zeros(len(went_at), np.int8), np.where(moved, MOVED, SAME).astype(np.int8)
        kept = {
            i: np.concatenate((nothing, np.where(mask, how, 0)))[order].astype(np.int8)
            for i, mask in enumerate(new.kept)
            if mask.any()
        }
        return made, weights, kept, np.concatenate((went_at, came_at))[order]

    def _tuples(self, data: bytes, octets: Numbers, at: Numbers) -> _Tuples:
        """Read rows that begin with the count of their columns at these places, column after column."""
        assert self._relation is not None
        names = self._relation.columns
        if len(at):
            counts = _numbers_at(octets, ">u2")[at]
            assert (counts == len(names)).all(), "rows of another width than their table"
        lengths_at = _numbers_at(octets, ">i4")
        buffer = pa.py_buffer(data)
        found: dict[str, tuple[pa.Array, Numbers]] = {}
        at = at + 2
        for name in names:
            kind = octets[at]
            there = kind == ord("t")
            lengths = np.where(there, lengths_at[np.minimum(at + 1, len(lengths_at) - 1)], 0).astype(np.int64)
            if name in self.wanted.columns:
                starts = np.where(there, at + 5, at)
                values = (
                    values_at(buffer, starts, np.where(there, lengths, -1)) if len(at) else pa.array([], pa.binary())
                )
                found[name] = (values.view(pa.string()), kind == ord("u"))
            at = at + 1 + np.where(there, 4 + lengths, 0)
        columns = [found[name] for name in self.wanted.columns]
        return _Tuples([c for c, _ in columns], [k for _, k in columns], at)


@dataclass(frozen=True, slots=True)
class _Tuples:
    """Columns of rows, in which rows a value was not sent because it did not change, and where each row ends."""

    columns: list[pa.Array]
    kept: list[Numbers]
    ends: Numbers


def _numbers_at(octets: Numbers, dtype: str) -> Numbers:
    """View the bytes as numbers that begin at each of them."""
    size = np.dtype(dtype).itemsize
    count = max(len(octets) - size + 1, 0)
    return np.ndarray((count,), dtype, octets.data if count else b"\0" * size, strides=(1,))


def _string(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(0, at)
    return data[at:end].decode(), end + 1
