"""Many binary records read side by side: numpy takes the same field of all of them at once.

A `Cursor` is a place in each of many records of one block. What reads a field moves all places behind it. A record that ends
too early, or holds what cannot be, is marked as wrong with the first reason, and its place goes to its end, where nothing more
is read: so no record is ever read beyond its own bytes, and none costs another anything.

Whole numbers of variable length (base 128, lowest bits first) are those of Avro and of Protocol Buffers alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

# so many bytes must stand behind the last record, for words that are read over its end
PADDING = 16
_VARINT_BYTES_MAX = 10
_HIGH_BITS = np.uint64(0x8080808080808080)
# pairs of seven, fourteen and twenty-eight bits are moved together
_STEPS = (
    (np.uint64(0x7F007F007F007F00), np.uint64(1), np.uint64(0x007F007F007F007F)),
    (np.uint64(0x3FFF00003FFF0000), np.uint64(2), np.uint64(0x00003FFF00003FFF)),
    (np.uint64(0x0FFFFFFF00000000), np.uint64(4), np.uint64(0x000000000FFFFFFF)),
)
_LOW_BITS = np.uint64(0x7F7F7F7F7F7F7F7F)
_ONE = np.uint64(1)

TOO_SHORT = "the record ends too early"
TOO_LONG_NUMBER = "a whole number of more than 64 bits"
BAD_LENGTH = "a length that is negative or reaches over the end of the record"
NOT_UTF8 = "text that is not UTF-8"


class Block:
    """The bytes of many records, and views of them as numbers that begin anywhere."""

    def __init__(self, data: bytes) -> None:
        padded = data + bytes(PADDING)
        self.buffer = pa.py_buffer(padded)
        self.octets = np.frombuffer(padded, np.uint8)
        self._padded = padded

    def words(self, kind: str, places: Integers) -> npt.NDArray[np.generic]:
        """Give the little-endian numbers of a numpy type that begin at these places."""
        size = np.dtype(kind).itemsize
        view: npt.NDArray[np.generic] = np.ndarray((len(self._padded) - size + 1,), kind, self._padded, strides=(1,))
        return view[places]


@dataclass(slots=True)
class Cursor:
    """A place in each record: the next byte, where the record ends, and what is wrong with it (0: nothing yet)."""

    block: Block
    places: Integers
    stops: Integers
    wrong: npt.NDArray[np.int16]
    reasons: list[str]

    @classmethod
    def of(cls, block: Block, starts: Integers, stops: Integers) -> Cursor:
        return cls(block, starts.copy(), stops, np.zeros(len(starts), np.int16), [""])

    def __len__(self) -> int:
        return len(self.places)

    def mark(self, mask: Mask, reason: str) -> None:
        """Note that records are wrong, unless they are already, and go to their ends."""
        if not mask.any():
            return
        if reason not in self.reasons:
            self.reasons.append(reason)
        self.wrong[mask & (self.wrong == 0)] = self.reasons.index(reason)
        self.places[mask] = self.stops[mask]

    def some(self, index: Integers) -> Cursor:
        """Give a cursor over some of the records; `back` brings its outcome home."""
        return Cursor(self.block, self.places[index], self.stops[index], self.wrong[index], self.reasons)

    def back(self, index: Integers, part: Cursor) -> None:
        self.places[index] = part.places
        self.wrong[index] = part.wrong

    def take(self, size: int | Integers) -> Integers:
        """Move on by so many bytes; give where they begin. Records without so many are marked."""
        begins, ends = self.places, self.places + size
        self.places = ends
        short = ends > self.stops
        if short.any():
            self.mark(short, TOO_SHORT)
            begins = np.where(short, self.stops, begins)
        return begins

    def varints(self) -> Words:
        """Read an unsigned whole number of each record; 0 of those that are wrong."""
        begins = self.places
        first = self.block.octets[begins]
        short = begins >= self.stops
        if (first < 128).all() and not short.any():
            self.places = begins + 1
            return first.astype(np.uint64)
        words = self.block.words("<u8", begins).view(np.uint64)
        ends = ~words & _HIGH_BITS
        kept = ends ^ (ends - _ONE)  # all bits up to the end of the last byte
        lengths = (np.bitwise_count(kept) >> 3).astype(np.int64)
        values = words & kept & _LOW_BITS
        for high, shift, low in _STEPS:
            values = ((values & high) >> shift) | (values & low)
        long = ends == 0
        over = self._long(np.flatnonzero(long), values, lengths) if long.any() else None
        self.places = begins + lengths
        short |= self.places > self.stops
        if over is not None and over.any():
            self.mark(over & ~short, TOO_LONG_NUMBER)
        if short.any():
            self.mark(short, TOO_SHORT)
            values[short] = 0
        return values

    def _long(self, index: Integers, values: Words, lengths: Integers) -> Mask:
        """Read the ninth and tenth bytes of numbers that have them; tell which numbers have too many bits."""
        begins = self.places[index]
        ninth, tenth = (self.block.octets[begins + i].astype(np.uint64) for i in (8, 9))
        words = self.block.words("<u8", begins).view(np.uint64) & _LOW_BITS
        for high, shift, low in _STEPS:
            words = ((words & high) >> shift) | (words & low)
        ends = ninth < 128
        found = words | ((ninth & np.uint64(0x7F)) << np.uint64(56))
        found = np.where(ends, found, found | (tenth << np.uint64(63)))
        values[index] = found
        lengths[index] = np.where(ends, 9, _VARINT_BYTES_MAX)
        too_many = np.zeros(len(self), np.bool_)
        too_many[index] = ~ends & (tenth > 1)
        values[too_many] = 0
        return too_many

    def zigzags(self) -> Integers:
        """Read a signed whole number of each record, zigzag-coded."""
        words = self.varints()
        found: Integers = ((words >> _ONE) ^ (~(words & _ONE) + _ONE)).view(np.int64)
        return found

    def slices(self, lengths: Integers) -> tuple[Integers, Integers]:
        """Move on by lengths that stood in the records; give where the bytes begin and end."""
        begins = self.places
        bad = (lengths < 0) | (lengths > self.stops - begins)
        if bad.any():
            self.mark(bad & (self.wrong == 0), BAD_LENGTH)
            begins = np.where(bad, self.stops, begins)
            lengths = np.where(bad, 0, lengths)
        self.places = begins + lengths
        return begins, self.places


def cut(block: Block, starts: Integers, stops: Integers) -> pa.Array:
    """Give the bytes between places that go up as a binary array."""
    count = len(starts)
    if not count:
        return pa.array([], pa.large_binary())
    offsets = np.empty(2 * count + 1, np.int64)
    offsets[0:-1:2], offsets[1::2], offsets[-1] = starts, stops, stops[-1]
    parts = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 2 * count, [None, pa.py_buffer(offsets), block.buffer])
    return parts.take(pa.array(np.arange(0, 2 * count, 2)))


def texts(block: Block, starts: Integers, stops: Integers, cursor: Cursor) -> pa.Array:
    """Give the text between places that go up; records whose bytes are no text are marked."""
    found = cut(block, starts, stops)
    try:
        return found.cast(pa.large_string())
    except pa.ArrowInvalid:
        bad = np.zeros(len(found), np.bool_)
        for index, value in enumerate(found.to_pylist()):
            try:
                value.decode()
            except UnicodeDecodeError:
                bad[index] = True
        cursor.mark(bad, NOT_UTF8)
        ends = np.where(bad, starts, stops)
        return cut(block, starts, ends).cast(pa.large_string())


def spread(values: pa.Array, present: Mask) -> pa.Array:
    """Give an array with a null where there is no value; `values` are those that there are."""
    if len(values) == len(present):
        return values
    return values.take(pa.array(np.cumsum(present) - 1, mask=~present))


def gathered(parts: Sequence[tuple[Integers, pa.Array]], count: int) -> pa.Array:
    """Make a list a record of the parts of it: each has at most one item a record, given with the records' numbers."""
    owners = np.concatenate([owner for owner, _ in parts])
    items = pa.concat_arrays([values for _, values in parts])
    if (np.diff(owners) < 0).any():
        items = items.take(pa.array(np.argsort(owners, kind="stable")))
    return pa.LargeListArray.from_arrays(offsets_of(owners, count), items)


def offsets_of(owners: Integers, count: int) -> pa.Array:
    """Give the offsets of lists whose items belong to these records."""
    return pa.array(np.concatenate(([0], np.cumsum(np.bincount(owners, minlength=count)))), pa.int64())


def as_map(keys: pa.Array, values: pa.Array) -> pa.Array:
    """Make maps of the lists of their keys and values. Of a key that comes twice the last counts."""
    owners = np.repeat(np.arange(len(keys)), np.diff(np.asarray(keys.offsets)))
    names = np.asarray(keys.values.dictionary_encode().indices).astype(np.int64)
    pair = owners * (int(names.max()) + 1 if len(names) else 1) + names
    _, last = np.unique(pair[::-1], return_index=True)
    items = keys.values, values.values
    if len(last) < len(pair):
        kept = np.sort(len(pair) - 1 - last)
        owners = owners[kept]
        items = tuple(i.take(pa.array(kept)) for i in items)
    offsets = np.concatenate(([0], np.cumsum(np.bincount(owners, minlength=len(keys)))))
    return pa.MapArray.from_arrays(pa.array(offsets, pa.int32()), items[0], items[1])


# ---- writing ----


@dataclass(frozen=True, slots=True)
class Pieces:
    """Bytes of each record: `lengths` bytes each, one record's after the other's in `octets`."""

    octets: npt.NDArray[np.uint8]
    lengths: Integers

    @classmethod
    def constant(cls, data: bytes, count: int) -> Pieces:
        return cls(np.tile(np.frombuffer(data, np.uint8), count), np.full(count, len(data), np.int64))


def varint_pieces(values: Words) -> Pieces:
    """Write unsigned whole numbers."""
    bits = 64 - _leading_zeros(values)
    lengths = np.maximum((bits + 6) // 7, 1).astype(np.int64)
    most = int(lengths.max()) if len(lengths) else 1
    shifts = np.arange(most, dtype=np.uint64) * np.uint64(7)
    groups = ((values[:, None] >> shifts) & np.uint64(0x7F)).astype(np.uint8)
    steps = np.arange(most)
    groups |= (steps < (lengths - 1)[:, None]).astype(np.uint8) << 7
    return Pieces(groups[steps < lengths[:, None]], lengths)


def zigzag(values: Integers) -> Words:
    """Code signed whole numbers as unsigned ones."""
    found: Words = ((values << 1) ^ (values >> 63)).view(np.uint64)
    return found


def _leading_zeros(values: Words) -> Integers:
    filled = values.copy()
    for shift in (1, 2, 4, 8, 16, 32):
        filled |= filled >> np.uint64(shift)
    return 64 - np.bitwise_count(filled).astype(np.int64)


def joined_pieces(parts: Sequence[Pieces], count: int) -> Pieces:
    """Put the pieces of each record behind each other."""
    parts = [p for p in parts if len(p.octets)]
    if len(parts) == 1:
        return parts[0]
    lengths = np.sum([p.lengths for p in parts], axis=0) if parts else np.zeros(count, np.int64)
    begins = np.cumsum(lengths) - lengths
    octets = np.empty(int(lengths.sum()), np.uint8)
    for part in parts:
        own = np.cumsum(part.lengths) - part.lengths
        octets[np.repeat(begins - own, part.lengths) + np.arange(len(part.octets))] = part.octets
        begins = begins + part.lengths
    return Pieces(octets, lengths)


def binary_pieces(values: pa.Array) -> Pieces:
    """Give the bytes of a binary or text array without nulls, as they are."""
    values = values.cast(pa.large_binary()) if not pa.types.is_large_binary(values.type) else values
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
    octets = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return Pieces(octets[ends[0] : ends[-1]] if len(ends) else octets[:0], np.diff(ends))


def as_array(pieces: Pieces) -> pa.Array:
    """Give each record's bytes as a binary array."""
    offsets = np.concatenate(([0], np.cumsum(pieces.lengths)))
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(pieces.lengths), [None, pa.py_buffer(offsets), pa.py_buffer(pieces.octets)]
    )
