"""int2vector and oidvector: arrays that ``pg_catalog`` has, shown with blanks between the elements and counted from 0."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base import types
from streamsql.base.types import WireType
from streamsql.pgwire.values import array, integers
from streamsql.pgwire.values.column import Codec, Piece

_LOWER_BOUND_AT = 16  # in the binary form of an array of one dimension


def _codec(element_type: WireType, element: Codec) -> Codec:
    of_array = array.codec(element_type.array, element)

    def to_text(column: pa.Array) -> Piece:
        return pc.binary_join(pc.cast(column, pa.list_(pa.string())), " ")

    def to_binary(column: pa.Array) -> Piece:
        found = of_array.to_binary(column)
        assert not isinstance(found, np.ndarray)
        values = [None if v is None else _from_zero(v) for v in found.to_pylist()]
        return pa.array(values, pa.binary())

    def braced(strings: pa.Array) -> pa.Array:
        return pc.binary_join_element_wise("{", pc.replace_substring_regex(strings, r"\s+", ","), "}", "")

    def from_text(strings: pa.Array, modifier: int) -> pa.Array:
        return of_array.from_text(braced(strings), modifier)

    return Codec(to_text, to_binary, from_text, of_array.from_binary, of_array.value_to_text)


def _from_zero(value: bytes) -> bytes:
    if len(value) <= _LOWER_BOUND_AT:
        return value
    return value[:_LOWER_BOUND_AT] + bytes(4) + value[_LOWER_BOUND_AT + 4 :]


INT2VECTOR = _codec(types.INT2, integers.SMALLINT)
OIDVECTOR = _codec(types.OID, integers.INTEGER)
