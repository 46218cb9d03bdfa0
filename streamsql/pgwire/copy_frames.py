"""Where the rows of the binary COPY format stand, and the values in them, of many rows at once.

A row is a count of fields (16 bits) and for each its length (32 bits, -1 for NULL) and its bytes, so that a row's beginning is
known only when the rows before it have been read. To read them all at once, every place where the count stands may begin a
row (`_candidates`); following the lengths from each of them, all together, tells where that row would end; and the true rows
are those that are reached from the first (`_reached`).

Values that are all of one width stand at one distance from each other, so a row is taken in *stretches*: from its beginning, or
from the end of a value whose length varies, to the length of the next such value. A stretch is one item of a numpy array, and
its fields are views. Which columns have values of one width is learned on the way (`Shape.loosen`): all that could, at
first.

    count | 8 | id | 8 | at | length  name  8 | value | 4 | quality
    '-------- stretch ------------'  varies '------ stretch -------'

See https://www.postgresql.org/docs/15/sql-copy.html, "Binary Format".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import pyarrow as pa

from streamsql.pgwire.values.column import Fixed, Numbers, from_offsets

COUNT, LENGTH = struct.Struct(">h"), struct.Struct(">i")
# so many places that only look like a row's beginning are stepped over one by one
_BREAKS_MAX = 2_000
# so many fields are looked at one by one when a row comes that has another shape than those before
_LOOKED_AT_MAX = 2_000


class Width(IntEnum):
    """What the lengths of a column's values have been so far."""

    ALWAYS = 0
    OR_NULL = 1
    VARIES = 2


@dataclass(frozen=True, slots=True)
class Found:
    """Whole rows that follow each other: how many, the values of each column, and how many bytes they take."""

    count: int
    values: list[Fixed | pa.Array]
    end: int


class _Stretch:
    """Fields of a row at known distances: lengths and values of `columns`, and the length of `last`, whose value varies."""

    def __init__(self, widths: Sequence[tuple[int, int]], last: int | None, *, first: bool) -> None:
        fields: list[tuple[str, str]] = [("count", "<i2")] if first else []
        for column, width in widths:
            fields += [(f"length {column}", "<i4"), (f"value {column}", f"V{width}")]
        if last is not None:
            fields.append(("last", ">i4"))
        self.columns = widths
        self.last = last
        self.dtype = np.dtype(fields)

    def fits(self, records: Numbers, good: Numbers) -> None:
        """Take those out of `good` in which a value has another width."""
        for column, width in self.columns:
            good &= records[f"length {column}"] == _turned(width)


class _Rows:
    """What is known of places where a row may stand: arrays with one item for each.

    Those that turn out not to be one are kept, with a mark, until the last is known: most are rows, and copying costs more.
    """

    def __init__(self, begins: Numbers) -> None:
        self.begins = self.at = begins
        self.good = np.ones(len(begins), bool)
        self.stretches: list[Numbers] = []
        self.loose: list[
            tuple[Numbers, Numbers]
        ] = []  # where values begin that are not in a stretch, and their lengths

    def there(self, beyond: int) -> None:
        """Mark those that go on `beyond` or behind it; they go on from the beginning."""
        out = self.at >= beyond
        if out.any():
            self.good &= ~out
            self.at = np.where(out, 0, self.at)

    def keep(self, places: Numbers) -> None:
        """Keep the rows at these places among them only, in this order."""
        self.begins, self.at = self.begins[places], self.at[places]
        self.stretches = [records.take(places) for records in self.stretches]
        self.loose = [(starts[places], lengths[places]) for starts, lengths in self.loose]


class Shape:
    """How wide the values of each column are; `widths` are what their types say, -1 where that varies."""

    def __init__(self, widths: Sequence[int]) -> None:
        self._widths = tuple(widths)
        self._kinds = [Width.ALWAYS if width > 0 else Width.VARIES for width in widths]
        self._stretches = self._laid_out()

    def _laid_out(self) -> list[_Stretch]:
        made: list[_Stretch] = []
        side_by_side: list[tuple[int, int]] = []
        for column, (width, kind) in enumerate(zip(self._widths, self._kinds, strict=True)):
            if kind is Width.ALWAYS:
                side_by_side.append((column, width))
                continue
            made.append(_Stretch(side_by_side, column, first=not made))
            side_by_side = []
        if side_by_side:
            made.append(_Stretch(side_by_side, None, first=not made))
        return made

    def find(self, data: bytes, start: int) -> Found | None:
        """Find the whole rows from `start` on that have this shape; None where there is none."""
        if len(data) - start < COUNT.size + LENGTH.size * len(self._widths):
            return None
        octets = np.frombuffer(data, np.uint8, offset=start)
        rows = _Rows(self._candidates(octets))
        if not len(rows.begins) or rows.begins[0] != 0:
            return None
        for stretch in self._stretches:
            if not self._follow(octets, rows, stretch):
                return None
        rows.there(len(octets) + 1)
        if not rows.good[0]:
            return None
        if not rows.good.all():
            rows.keep(np.flatnonzero(rows.good))
        reached = _reached_from_first(rows.begins, rows.at)
        if reached is not None:
            rows.keep(np.flatnonzero(reached))
        return Found(len(rows.begins), self._values(octets, rows), int(rows.at[-1]))

    def _candidates(self, octets: Numbers) -> Numbers:
        """Find all places where a row may begin: where the count of columns stands, and the first one's length."""
        high, low = divmod(len(self._widths), 256)
        places = len(octets) - COUNT.size - LENGTH.size + 1
        begins = np.flatnonzero(octets[1 : places + 1] == low)
        begins = begins[octets[begins] == high]
        if self._kinds[0] is Width.ALWAYS:
            begins = begins[octets[begins + (COUNT.size + LENGTH.size - 1)] == self._widths[0]]
        return np.asarray(begins)

    def _follow(self, octets: Numbers, rows: _Rows, stretch: _Stretch) -> bool:
        """Take a stretch of all rows; gives whether the first one has it."""
        windows = strided(octets, f"V{stretch.dtype.itemsize}")
        rows.there(len(windows))
        if not rows.good[0]:
            return False
        records = windows[rows.at]
        rows.stretches.append(records)
        records = records.view(stretch.dtype)
        stretch.fits(records, rows.good)
        rows.at = rows.at + stretch.dtype.itemsize
        if stretch.last is not None:
            lengths = records["last"].astype(np.int64)
            rows.loose.append((rows.at, lengths))
            rows.at = rows.at + np.maximum(lengths, 0)
            if self._kinds[stretch.last] is Width.OR_NULL:
                rows.good &= (lengths == self._widths[stretch.last]) | (lengths == -1)
            else:
                rows.good &= lengths >= -1
        return bool(rows.good[0])

    def _values(self, octets: Numbers, rows: _Rows) -> list[Fixed | pa.Array]:
        buffer = pa.py_buffer(octets)
        made: list[Fixed | pa.Array] = []
        loose = iter(rows.loose)
        for stretch, taken in zip(self._stretches, rows.stretches, strict=True):
            records = taken.view(stretch.dtype)
            made += [Fixed(records[f"value {column}"]) for column, _ in stretch.columns]
            if stretch.last is None:
                continue
            starts, lengths = next(loose)
            if self._kinds[stretch.last] is Width.OR_NULL:
                made.append(_fixed_values(octets, starts, lengths, self._widths[stretch.last]))
            else:
                made.append(values_at(buffer, starts, lengths))
        return made

    def loosen(self, data: bytes, at: int) -> bool:
        """Read the rows at `at` step by step, and note which columns have values of other widths; gives whether any has.

        Ends where a row is not whole, or wrong.
        """
        before = list(self._kinds)
        for _ in range(max(_LOOKED_AT_MAX // len(self._widths), 1)):
            if len(data) < at + COUNT.size or COUNT.unpack_from(data, at)[0] != len(self._widths):
                break
            end = self._loosen_by(data, at + COUNT.size)
            if end is None:
                break
            at = end
        if self._kinds == before:
            return False
        self._stretches = self._laid_out()
        return True

    def _loosen_by(self, data: bytes, at: int) -> int | None:
        """Look at one row; gives where it ends, if it does."""
        for column, width in enumerate(self._widths):
            if len(data) < at + LENGTH.size:
                return None
            (length,) = LENGTH.unpack_from(data, at)
            if length < -1:
                return None
            if length != width:
                found = Width.OR_NULL if length == -1 else Width.VARIES
                self._kinds[column] = max(self._kinds[column], found)
            at += LENGTH.size + max(length, 0)
        return at if at <= len(data) else None


def strided(octets: Numbers, dtype: str) -> Numbers:
    """View the bytes as items that begin at each of them."""
    size = np.dtype(dtype).itemsize
    count = max(len(octets) - size + 1, 0)
    return np.ndarray((count,), dtype, octets.data if count else b"\0" * size, strides=(1,))


def _turned(length: int) -> int:
    """Give the number that a length of the format is, read from its last byte to its first."""
    return int.from_bytes(LENGTH.pack(length), "little", signed=True)


def chained(begins: Numbers, ends: Numbers) -> tuple[Numbers, Numbers]:
    """Of places that may begin something, and where it would end, give those that a chain leads to from the first."""
    reached = _reached_from_first(begins, ends)
    return (begins, ends) if reached is None else (begins[reached], ends[reached])


def _reached_from_first(begins: Numbers, ends: Numbers) -> Numbers | None:
    """Say of each place whether a chain leads to it from the first; None where one leads to all."""
    breaks = np.flatnonzero(begins[1:] != ends[:-1])
    if not len(breaks):
        return None
    return _walked(begins, ends, breaks) if len(breaks) <= _BREAKS_MAX else _reached(begins, ends)


def _walked(begins: Numbers, ends: Numbers, breaks: Numbers) -> Numbers:
    """Say the same as `_reached`, from one of the `breaks` to the next: rows that do not end where the next one begins."""
    reached = np.zeros(len(begins), bool)
    first = 0
    while True:
        after = np.searchsorted(breaks, first)
        if after == len(breaks):
            reached[first:] = True
            return reached
        last = breaks[after]
        reached[first : last + 1] = True
        first = np.searchsorted(begins, ends[last])
        if first == len(begins) or begins[first] != ends[last]:
            return reached


def _reached(begins: Numbers, ends: Numbers) -> Numbers:
    """Say of each candidate whether the rows from the first one on lead to it, in steps that double."""
    count = len(begins)
    following = np.searchsorted(begins, ends)
    leads = following < count
    leads[leads] = begins[following[leads]] == ends[leads]
    step = np.append(np.where(leads, following, count), count)
    reached = np.zeros(count + 1, bool)
    reached[0] = True
    while True:
        before = np.count_nonzero(reached)
        reached[step[reached]] = True
        reached[count] = False
        if np.count_nonzero(reached) == before:
            return reached[:count]
        step = step[step]


def _fixed_values(octets: Numbers, starts: Numbers, lengths: Numbers, width: int) -> Fixed:
    """Take values of one width, some of which are NULL (and have zeros in their place)."""
    null = lengths < 0
    if len(octets) < width:  # all of them NULL, then
        return Fixed(np.zeros(len(starts), f"V{width}"), null)
    values = strided(octets, f"V{width}")[np.minimum(starts, len(octets) - width)]
    values[null] = bytes(width)
    return Fixed(values, null)


def values_at(buffer: pa.Buffer, starts: Numbers, lengths: Numbers) -> pa.Array:
    """Take the values at these places out of the data, as a binary array; a length of -1 is NULL."""
    count = len(starts)
    # each value, and what stands between it and the next one
    offsets = np.empty(2 * count, np.int32)
    offsets[0::2] = starts
    offsets[1::2] = starts + np.maximum(lengths, 0)
    pieces = pa.Array.from_buffers(pa.binary(), 2 * count - 1, [None, pa.py_buffer(offsets), buffer])
    values = pieces.take(pa.array(np.arange(0, 2 * count, 2)))
    null = lengths < 0
    return from_offsets(values, null) if null.any() else values
