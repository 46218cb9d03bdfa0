"""COPY FROM STDIN in the binary format: bytes, cut anywhere, to canonical Arrow batches.

A row is a count of fields (16 bits) and for each its length (32 bits, -1 for NULL) and its bytes, in the type's own binary
form, so that a row's beginning is known only when the rows before it have been read. To read them all at once, every place
where the count stands may begin a row (`_candidates`); following the lengths from each of them, all together, tells where that
row would end; and the true rows are those that are reached from the first (`_reached`). What does not fit in is read step by
step, for the error's place.

See https://www.postgresql.org/docs/15/sql-copy.html, "Binary Format". Errors name the line (the row) and the column.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from streamsql.base.errors import BadCopyFormat, InvalidBinaryRepresentation, ProtocolViolation, StreamSQLError
from streamsql.base.limits import Limits, exceeded
from streamsql.base.types import canonical_arrow
from streamsql.pgwire.copy import CopyColumn
from streamsql.pgwire.copy_out import SIGNATURE
from streamsql.pgwire.values import BadValue, decode_binary
from streamsql.pgwire.values.column import Numbers, binary_of_fixed, from_offsets

_COUNT, _LENGTH = struct.Struct(">h"), struct.Struct(">i")
_HEAD_BYTES = len(SIGNATURE) + 8
_CRITICAL_FLAGS = 0xFFFF0000
# widths of values that are taken as numbers -> what they are taken as
_WIDTHS = {1: "u1", 2: "u2", 4: "u4", 8: "u8", 16: "V16"}
_NO_ROWS = np.empty(0, np.int64)
# so many places that only look like a row's beginning are stepped over one by one
_BREAKS_MAX = 2_000


class BinaryCopyDecoder:
    """Turns the bytes of one binary COPY into batches; `feed` and `finish` as in `copy.CopyDecoder`."""

    def __init__(self, columns: Sequence[CopyColumn], limits: Limits, table: str) -> None:
        assert columns, "COPY of no columns"
        self._columns = tuple(columns)
        self._limits = limits
        self._table = table
        self._schema = pa.schema([(c.name, canonical_arrow(c.type, c.modifier)) for c in columns])
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._wanted = limits.copy_batch_bytes_max
        self._head_read = self._ended = False
        self._rows = 0

    def feed(self, data: bytes) -> list[pa.RecordBatch]:
        """Take a piece of the data, of any size."""
        if data:
            self._pieces.append(data)
            self._gathered += len(data)
        if self._gathered < self._wanted:
            return []
        batches = self._read(b"".join(self._pieces), last=False)
        if self._gathered > self._limits.message_bytes_max:
            raise exceeded(self._limits, "message_bytes_max", f"a COPY row of {self._gathered} bytes")
        # a row longer than a batch is not looked at again before it has doubled, so that the work stays linear
        self._wanted = max(self._limits.copy_batch_bytes_max, 2 * self._gathered)
        return batches

    def finish(self) -> list[pa.RecordBatch]:
        """Say that the data has ended."""
        return self._read(b"".join(self._pieces), last=True)

    def _read(self, data: bytes, *, last: bool) -> list[pa.RecordBatch]:
        at = 0 if self._head_read else self._head(data, last=last)
        if at is None:
            return []
        batches: list[pa.RecordBatch] = []
        if not self._ended:
            starts, at = _rows(data, at, [_width(column) for column in self._columns])
            if len(starts):
                batches.append(self._batch(data, starts))
            at = self._behind(data, at, last=last)
        if self._ended and at < len(data):
            raise BadCopyFormat("received copy data after EOF marker", context=self._context())
        self._pieces, self._gathered = [data[at:]], len(data) - at
        return batches

    def _head(self, data: bytes, *, last: bool) -> int | None:
        """Read the signature, flags and extension; None where more must come first."""
        if data[: len(SIGNATURE)] != SIGNATURE[: len(data)] or (last and len(data) < len(SIGNATURE)):
            raise BadCopyFormat("COPY file signature not recognized")
        if len(data) < _HEAD_BYTES:
            if last:
                missing = "flags" if len(data) < _HEAD_BYTES - 4 else "length"
                raise BadCopyFormat(f"invalid COPY file header (missing {missing})")
            self._keep(data)
            return None
        flags, extension = struct.unpack_from(">II", data, len(SIGNATURE))
        if flags & 1 << 16:
            raise BadCopyFormat("invalid COPY file header (WITH OIDS)")
        if flags & _CRITICAL_FLAGS:
            raise BadCopyFormat("unrecognized critical flags in COPY file header")
        if extension > self._limits.message_bytes_max:
            raise BadCopyFormat("invalid COPY file header (wrong length)")
        if len(data) < _HEAD_BYTES + extension:
            if last:
                raise BadCopyFormat("invalid COPY file header (wrong length)")
            self._keep(data)
            return None
        self._head_read = True
        return int(_HEAD_BYTES + extension)

    def _keep(self, data: bytes) -> None:
        self._pieces, self._gathered = [data], len(data)

    def _behind(self, data: bytes, at: int, *, last: bool) -> int:
        """Look at what stands behind the rows that were read: the end, part of a row, or something wrong."""
        if len(data) - at < _COUNT.size:
            return len(data) if last else at  # PostgreSQL takes the end of the data for the trailer
        (count,) = _COUNT.unpack_from(data, at)
        if count == -1:
            self._ended = True
            return at + _COUNT.size
        if count != len(self._columns):
            raise self._error(
                BadCopyFormat(f"row field count is {count}, expected {len(self._columns)}"), line=self._rows + 1
            )
        position = at + _COUNT.size
        for column in self._columns:
            if position + _LENGTH.size > len(data):
                if last:
                    raise self._error(BadCopyFormat("unexpected EOF in COPY data"), column, self._rows + 1)
                break
            (length,) = _LENGTH.unpack_from(data, position)
            if length < -1:
                raise self._error(BadCopyFormat("invalid field size"), column, self._rows + 1)
            position += _LENGTH.size + max(length, 0)
            if position > len(data) and last:
                raise self._error(BadCopyFormat("unexpected EOF in COPY data"), column, self._rows + 1)
        return at

    def _batch(self, data: bytes, starts: Numbers) -> pa.RecordBatch:
        octets = np.frombuffer(data, np.uint8)
        lengths_at = _strided(octets, "<i4")
        positions = starts + _COUNT.size
        buffer = pa.py_buffer(data)
        arrays: list[pa.Array] = []
        failure: tuple[int, StreamSQLError, CopyColumn] | None = None
        for column in self._columns:
            raw = lengths_at[positions]
            positions = positions + _LENGTH.size
            width = _width(column)
            if width > 0 and bool((raw == _turned(width)).all()):
                values = binary_of_fixed(_strided(octets, _WIDTHS[width])[positions])
                positions = positions + width
            else:
                lengths = raw.byteswap().astype(np.int64)
                if width > 0 and bool(((lengths == width) | (lengths == -1)).all()):
                    values = _fixed_values(octets, positions, lengths, width)
                else:
                    values = values_at(buffer, positions, lengths)
                positions = positions + np.maximum(lengths, 0)
            if failure is not None:
                values = values.slice(0, failure[0])  # after a bad value only the rows before it matter
            try:
                arrays.append(decode_binary(values, column.type, column.modifier))
            except BadValue as bad:
                failure = (bad.row, _reworded(bad.error, column, len(values[bad.row].as_py())), column)
        if failure is not None:
            row, error, column = failure
            raise self._error(error, column, self._rows + row + 1)
        self._rows += len(starts)
        return pa.record_batch(arrays, schema=self._schema)

    def _context(self, line: int | None = None) -> str:
        return f"COPY {self._table}, line {self._rows + 1 if line is None else line}"

    def _error(
        self, error: StreamSQLError, column: CopyColumn | None = None, line: int | None = None
    ) -> StreamSQLError:
        error.context = self._context(line) + (f", column {column.name}" if column is not None else "")
        return error


def _reworded(error: StreamSQLError, column: CopyColumn, length: int) -> StreamSQLError:
    """Say of a value of a wrong length what PostgreSQL says of it here."""
    if not isinstance(error, InvalidBinaryRepresentation) or column.type.size <= 0 or length == column.type.size:
        return error
    if length < column.type.size:
        return ProtocolViolation("insufficient data left in message", detail=error.detail)
    return InvalidBinaryRepresentation("incorrect binary data format", detail=error.detail)


def _strided(octets: Numbers, dtype: str) -> Numbers:
    """View the bytes as numbers that begin at each of them."""
    size = np.dtype(dtype).itemsize
    count = max(len(octets) - size + 1, 0)
    return np.ndarray((count,), dtype, octets.data if count else b"\0" * size, strides=(1,))


def _rows(data: bytes, start: int, widths: Sequence[int]) -> tuple[Numbers, int]:
    """Find the complete rows from `start` on: where each begins, and where the last one ends.

    `widths` are those of the columns' values, -1 where they vary. Rows in which all values are as wide as they should be are
    found first: hardly anything else looks like one. What comes behind them is looked at again without asking for that.
    """
    found = []
    for wanted in (widths, (-1,) * len(widths)):
        begins, ends = _candidates(np.frombuffer(data, np.uint8, offset=start), wanted)
        if len(begins) and begins[0] == 0:
            begins, ends = chained(begins, ends)
            found.append(begins + start)
            start += int(ends[-1])
    return (np.concatenate(found) if found else _NO_ROWS), start


def _candidates(octets: Numbers, widths: Sequence[int]) -> tuple[Numbers, Numbers]:
    """Find all places where a whole row might stand, and where each would end."""
    high, low = len(widths) >> 8, len(widths) & 0xFF
    begins = np.flatnonzero(octets[1:] == low) if len(octets) else _NO_ROWS
    begins = begins[octets[begins] == high]
    ends = begins + _COUNT.size
    lengths_at = _strided(octets, "<i4")  # turned around only where they are not compared with one number
    for width in widths:
        there = ends < len(lengths_at)
        if not there.all():
            begins, ends = begins[there], ends[there]
        lengths = lengths_at[ends]
        if width > 0:
            good = lengths == _turned(width)
            if not good.all():
                good |= lengths == -1
                begins, ends, lengths = begins[good], ends[good], lengths[good]
                ends = ends + np.where(lengths == -1, _LENGTH.size, _LENGTH.size + width)
                continue
            ends = ends + (_LENGTH.size + width)
            continue
        lengths = lengths.byteswap()
        good = lengths >= -1
        if not good.all():
            begins, ends, lengths = begins[good], ends[good], lengths[good]
        ends = ends + (np.maximum(lengths, 0).astype(np.int64) + _LENGTH.size)
    there = ends <= len(octets)
    return begins[there], ends[there]


def _width(column: CopyColumn) -> int:
    """Give the number of bytes that each value of a column has; -1 where it varies."""
    return column.type.size if column.type.size in _WIDTHS else -1


def _turned(length: int) -> int:
    """Give the number that a length of the format is, read from its last byte to its first."""
    return int.from_bytes(_LENGTH.pack(length), "little", signed=True)


def chained(begins: Numbers, ends: Numbers) -> tuple[Numbers, Numbers]:
    """Of places that may begin something, and where it would end, give those that a chain leads to from the first."""
    breaks = np.flatnonzero(begins[1:] != ends[:-1])
    if not len(breaks):
        return begins, ends
    reached = _walked(begins, ends, breaks) if len(breaks) <= _BREAKS_MAX else _reached(begins, ends)
    return begins[reached], ends[reached]


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


def _fixed_values(octets: Numbers, starts: Numbers, lengths: Numbers, width: int) -> pa.Array:
    """Take values of one width, as `values_at` does, in a tenth of its time."""
    if len(octets) < width:  # all of them NULL, then
        return pa.nulls(len(starts), pa.binary())
    null = lengths < 0
    any_null = bool(null.any())
    if any_null:
        starts = np.minimum(starts, len(octets) - width)
    values = binary_of_fixed(_strided(octets, _WIDTHS[width])[starts])
    return from_offsets(values, null) if any_null else values


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
