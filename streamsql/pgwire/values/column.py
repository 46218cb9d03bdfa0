"""What the type families share: the form of an encoded column, the reading of text in two speeds, raw Arrow buffers.

An encoded column ("piece") is one of two things, and never holds the lengths that the wire puts before each value:

- a numpy array whose items all have the same number of bytes (``>i8``, ``u1``, ``S36``): a fixed piece. Where the column
  is NULL its item is anything.
- an Arrow string or binary array: a variable piece. Where the column is NULL it is null.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import InvalidBinaryRepresentation, StreamSQLError

Numbers = np.ndarray[Any, np.dtype[Any]]
Piece: TypeAlias = "Numbers | pa.Array"
# values in the binary format: one by one as messages bring them, or a binary array
BinaryValues: TypeAlias = "Sequence[bytes | None] | pa.Array"


@dataclass(frozen=True, slots=True)
class Fixed:
    """Values in the binary format that all have one width: an array of items of so many bytes, and which are NULL, if any."""

    values: Numbers
    null: Numbers | None = None

    def slice(self, offset: int, length: int) -> Fixed:
        """Give some of them, as Arrow's arrays do."""
        part = slice(offset, offset + length)
        return Fixed(self.values[part], None if self.null is None else self.null[part])


WHITE_SPACE = " \t\n\r\v\f"  # PostgreSQL's; Python's str.strip takes more away
CAREFUL_ROWS_MAX = 64  # at this size a slice that the fast path cannot read is read value by value


class BadValue(Exception):  # noqa: N818  # it is not for the client: its `error` is
    """A value of a column cannot be read.

    `row` is its 0-based index in the array or sequence that was given, `error` the error for the client.
    """

    def __init__(self, row: int, error: StreamSQLError) -> None:
        super().__init__(row, error)
        self.row = row
        self.error = error


@dataclass(frozen=True, slots=True)
class Codec:
    """How the values of one wire type are written and read.

    `to_text` and `to_binary` take a canonical Arrow array and give a piece. `from_text` takes a string array and a type
    modifier, `from_binary` values of the binary format; both give canonical Arrow and raise BadValue. `value_to_text`
    turns one binary value into its text; it raises StreamSQLError. `from_fixed` reads as `from_binary` does, where all
    values of the type have one width.
    """

    to_text: Callable[[pa.Array], Piece]
    to_binary: Callable[[pa.Array], Piece]
    from_text: Callable[[pa.Array, int], pa.Array]
    from_binary: Callable[[BinaryValues], pa.Array]
    value_to_text: Callable[[bytes], str]
    from_fixed: Callable[[Fixed], pa.Array] | None = None


def read_in_two_speeds(
    strings: pa.Array,
    fast: Callable[[pa.Array], pa.Array],
    careful: Callable[[str], object],
    result_type: pa.DataType,
) -> pa.Array:
    """Read all strings with `fast`, and those that it cannot read (it raises ArrowInvalid) with `careful`.

    A slice that fails is halved until the trouble is cornered, so that a few odd values cost little and a vectorised
    kernel, which does not say where it failed, need not be imitated. `careful` gives what `pa.array(..., result_type)`
    takes, or raises StreamSQLError, which becomes a BadValue with its row.
    """
    parts: list[pa.Array] = []
    waiting = [(0, len(strings))]
    while waiting:
        start, count = waiting.pop()
        piece = strings.slice(start, count)
        try:
            parts.append(fast(piece))
            continue
        except pa.ArrowInvalid:
            pass
        if count > CAREFUL_ROWS_MAX:
            half = count // 2
            waiting += [(start + half, count - half), (start, half)]  # a stack: the first half is read first
        else:
            parts.append(_read_each(piece, start, careful, result_type))
    if len(parts) == 1:
        return parts[0]
    return pa.concat_arrays(parts) if parts else pa.array([], result_type)


def _read_each(strings: pa.Array, start: int, careful: Callable[[str], object], result_type: pa.DataType) -> pa.Array:
    values: list[object] = []
    for index, text in enumerate(strings.to_pylist()):
        try:
            values.append(None if text is None else careful(text))
        except StreamSQLError as error:
            raise BadValue(start + index, error) from None
    return pa.array(values, result_type)


def raw(array: pa.Array, dtype: Any) -> Numbers:
    """View the values of a fixed-width array as numpy, nulls included (their items are anything). Never copies."""
    dtype = np.dtype(dtype)
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array), dtype)
    return np.frombuffer(buffer, dtype, count=len(array), offset=array.offset * dtype.itemsize)


def valid(array: pa.Array) -> Numbers:
    """Say of each value whether it is there."""
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False), dtype=bool)


def from_numbers(values: Numbers, arrow_type: pa.DataType, null: Numbers | None = None) -> pa.Array:
    """Make a fixed-width Arrow array out of its raw values and a mask of the nulls."""
    validity = None
    if null is not None and null.any():
        validity = pa.py_buffer(np.packbits(~null, bitorder="little"))
    return pa.Array.from_buffers(arrow_type, len(values), [validity, pa.py_buffer(np.ascontiguousarray(values))])


def strings_of(piece: Piece, column: pa.Array) -> pa.Array:
    """Turn a text piece of `column` into a string array with the column's nulls."""
    if isinstance(piece, np.ndarray):
        piece = pc.cast(binary_of_fixed(piece), pa.string())
        if column.null_count:
            piece = pc.if_else(column.is_valid(), piece, pa.scalar(None, pa.string()))
    return piece


def binary_of_fixed(values: Numbers) -> pa.Array:
    """View a fixed piece as a binary array."""
    width = values.dtype.itemsize
    offsets = np.arange(0, (len(values) + 1) * width, width, dtype=np.int32)
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.binary(), len(values), [None, pa.py_buffer(offsets), data])


def binary_of_offsets(offsets: Numbers, data: Any, length: int) -> pa.Array:
    """Make a binary array out of offsets (`length` + 1 of them) and a buffer."""
    return pa.Array.from_buffers(
        pa.binary(), length, [None, pa.py_buffer(offsets.astype(np.int32, copy=False)), pa.py_buffer(data)]
    )


def as_values(values: BinaryValues) -> Sequence[bytes | None]:
    """Give binary values one by one, for a type whose values have no one form."""
    return values.to_pylist() if isinstance(values, pa.Array) else values


def join_fixed(values: BinaryValues | Fixed, dtype: Any, type_name: str) -> tuple[Numbers, Numbers]:
    """Join binary values of one width into a numpy array, which may be a view; give it and the mask of the nulls.

    Raises BadValue with InvalidBinaryRepresentation for a value of another width.
    """
    dtype = np.dtype(dtype)
    if isinstance(values, Fixed):
        null = np.zeros(len(values.values), bool) if values.null is None else values.null
        return values.values.view(dtype), null
    if isinstance(values, pa.Array):
        return _join_array(values, dtype, type_name)
    zero = bytes(dtype.itemsize)
    filled = [zero if value is None else value for value in values]
    null = np.fromiter((value is None for value in values), dtype=bool, count=len(values))
    for row, value in enumerate(filled):
        if len(value) != dtype.itemsize:
            raise BadValue(row, wrong_width(type_name, len(value), dtype.itemsize))
    return np.frombuffer(b"".join(filled), dtype), null


def _join_array(values: pa.Array, dtype: Any, type_name: str) -> tuple[Numbers, Numbers]:
    if not len(values):
        return np.zeros(0, dtype), np.zeros(0, bool)
    check_widths(values, dtype.itemsize, type_name)
    null = ~valid(values)
    if null.any():
        values = pc.fill_null(values, bytes(dtype.itemsize))
    _, offsets, data = values.buffers()
    start = np.frombuffer(offsets, np.int32, 1, values.offset * 4)[0]
    return np.frombuffer(data, dtype, count=len(values), offset=start), null


def octets_of(values: pa.Array) -> Numbers:
    """View the bytes of a binary array from its first value to its last, one behind the other."""
    _, offsets, data = values.buffers()
    if data is None or not len(values):
        return np.zeros(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32, len(values) + 1, values.offset * 4)
    return np.frombuffer(data, np.uint8, count=ends[-1] - ends[0], offset=ends[0])


def check_widths(values: pa.Array, width: int, type_name: str) -> None:
    """Raise BadValue where a value of a binary array has not `width` bytes."""
    wrong = pc.not_equal(pc.binary_length(values), width)
    row = pc.index(wrong, True).as_py()
    if row >= 0:
        raise BadValue(row, wrong_width(type_name, len(values[row].as_py()), width))


def from_offsets(values: pa.Array, null: Numbers) -> pa.Array:
    """Make a binary array that was made without nulls null where the mask says so."""
    _, offsets, data = values.buffers()
    validity = pa.py_buffer(np.packbits(~null, bitorder="little"))
    return pa.Array.from_buffers(pa.binary(), len(values), [validity, offsets, data], offset=values.offset)


def wrong_width(type_name: str, found: int, expected: int) -> InvalidBinaryRepresentation:
    """Make the error for a binary value of a wrong number of bytes."""
    return InvalidBinaryRepresentation(
        f"incorrect binary data format for type {type_name}", detail=f"got {found} bytes, expected {expected}"
    )


def check_width(value: bytes, width: int, type_name: str) -> None:
    """Refuse a binary value that has not `width` bytes."""
    if len(value) != width:
        raise wrong_width(type_name, len(value), width)
