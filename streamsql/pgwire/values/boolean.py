"""bool: ``t`` and ``f`` as text, one byte as binary.

Input is that of https://www.postgresql.org/docs/current/datatype-boolean.html: unique prefixes of true, false, yes, no,
on, off, and 1, 0; in any case and with white space around.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import InvalidTextRepresentation
from streamsql.pgwire.values.column import (
    BadValue,
    BinaryValues,
    Codec,
    Fixed,
    Piece,
    check_width,
    from_numbers,
    join_fixed,
)

_TRUE = ("t", "tr", "tru", "true", "y", "ye", "yes", "on", "1")
_FALSE = ("f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0")
_WORDS = pa.array([*_TRUE, *_FALSE])
_MEANINGS = pa.array([True] * len(_TRUE) + [False] * len(_FALSE))


def _to_text(column: pa.Array) -> Piece:
    return np.where(_bits(column), np.uint8(ord("t")), np.uint8(ord("f")))


def _to_binary(column: pa.Array) -> Piece:
    return _bits(column).astype(np.uint8)


def _bits(column: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    filled = pc.fill_null(column, False) if column.null_count else column
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=bool)


def _from_text(strings: pa.Array, _: int) -> pa.Array:
    words = pc.ascii_lower(pc.ascii_trim_whitespace(strings))
    found = pc.index_in(words, _WORDS)
    if found.null_count != strings.null_count:
        row = pc.index(pc.and_(strings.is_valid(), found.is_null()), True).as_py()
        text = strings[row].as_py()
        raise BadValue(row, InvalidTextRepresentation(f'invalid input syntax for type boolean: "{text}"'))
    return _MEANINGS.take(found)


def _from_binary(values: BinaryValues | Fixed) -> pa.Array:
    numbers, null = join_fixed(values, np.uint8, "boolean")
    return pc.cast(from_numbers(numbers, pa.uint8(), null), pa.bool_())


def _value_to_text(value: bytes) -> str:
    check_width(value, 1, "boolean")
    return "t" if value[0] else "f"


BOOLEAN = Codec(_to_text, _to_binary, _from_text, _from_binary, _value_to_text, _from_binary)
