"""Random texts as Arrow columns, made from arrays of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

INTEGERS = npt.NDArray[np.int64]

WORD_LETTERS_MIN = 3
# one letter in so many is the special one
_SPECIAL_STEP = 13


def words(chance: np.random.Generator, count: int, longest: int | INTEGERS, special: str) -> pa.Array:
    """Draw texts of lower-case letters, with the special one here and there.

    `longest` is the bound on their length (at least three, below it), or their lengths themselves.
    """
    if isinstance(longest, int):
        lengths = chance.integers(WORD_LETTERS_MIN, longest, count, dtype=np.int64)
    else:
        lengths = longest
    offsets = np.zeros(count + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    letters = chance.integers(0, 26 * _SPECIAL_STEP, int(offsets[-1]), dtype=np.uint16)
    data = (letters % 26 + ord("a")).astype(np.uint8)
    data[letters // 26 == 0] = ord(special)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(data))


def picked(choices: Sequence[str], numbers: INTEGERS) -> pa.Array:
    """Take texts by their numbers."""
    return pa.array(choices).take(pa.array(numbers))


def numbered(prefix: str, numbers: INTEGERS) -> pa.Array:
    """Make texts of a prefix and a number."""
    return joined("", prefix, pc.cast(pa.array(numbers), pa.string()))


def joined(separator: str, *parts: pa.Array | str) -> pa.Array:
    """Join columns and constants, text by text."""
    return pc.binary_join_element_wise(*parts, separator)
