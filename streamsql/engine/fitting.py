"""Values that are written into varchar(n), char(n), timestamp(p) and time(p): what fits is stored, what does not is refused.

As PostgreSQL does, spaces past the end are cut off, and times are rounded. A char(n) is stored without the spaces at its end,
which do not count in comparisons; they are put back where it is shown.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base import types as t
from streamsql.base.errors import StringDataRightTruncation
from streamsql.base.types import Declared, WireType
from streamsql.pgwire.values import BadValue
from streamsql.pgwire.values.enum import check_labels

_EVER = 2**63 - 1  # infinity as DuckDB has it; -infinity is its negative


def fitted(values: pa.ChunkedArray, declared: Declared) -> pa.ChunkedArray:
    """Give a column's values as they are stored. Raises StringDataRightTruncation."""
    if declared.scalar.is_made:
        return _each(values, lambda array: _of_labels(array, declared.scalar))
    size = declared.size
    if declared.scalar in (t.VARCHAR, t.BPCHAR):
        return _each(values, lambda array: _cut(array, declared, size))
    if size is None or size >= 6:
        return values
    return _each(values, lambda array: _rounded(array, 10 ** (6 - size)))


def _each(values: pa.ChunkedArray, change: Callable[[pa.Array], pa.Array]) -> pa.ChunkedArray:
    return pa.chunked_array([_within(chunk, change) for chunk in values.chunks], values.type)


def _within(array: pa.Array, change: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Change the values of an array of arrays, however deep."""
    if not pa.types.is_list(array.type):
        return change(array)
    inner = _within(array.values, change)
    return (
        array
        if inner is array.values
        else pa.ListArray.from_arrays(array.offsets, inner, array.type, mask=array.is_null())
    )


def _of_labels(array: pa.Array, made: WireType) -> pa.Array:
    """Give values whose enums have labels of theirs, also those within records."""
    for place, field in enumerate(made.fields):
        inner = array.field(place)
        while field.type.element is not None and pa.types.is_list(inner.type):
            inner = inner.values
        _of_labels(inner, field.type.scalar)
    if made.labels is None:
        return array
    try:
        return check_labels(array, made)
    except BadValue as bad:
        raise bad.error from None


def _cut(array: pa.Array, declared: Declared, size: int | None) -> pa.Array:
    if declared.scalar is t.BPCHAR:
        array = pc.utf8_rtrim(array, " ")
        if size is not None and (pc.max(pc.utf8_length(array)).as_py() or 0) > size:
            raise too_long(declared)
        return array
    if size is None or (pc.max(pc.utf8_length(array)).as_py() or 0) <= size:
        return array
    if pc.max(pc.utf8_length(pc.utf8_rtrim(array, " "))).as_py() > size:
        raise too_long(declared)
    return pc.utf8_slice_codeunits(array, 0, size)


def too_long(declared: Declared) -> StringDataRightTruncation:
    """Make the error about a value that does not fit."""
    shown = t.shown_type(declared.scalar, declared.modifier)
    return StringDataRightTruncation(f"value too long for type {shown}")


def _rounded(array: pa.Array, unit: int) -> pa.Array:
    """Round microseconds to multiples of a unit; what lies between goes away from zero."""
    numbers = np.asarray(array.fill_null(0).cast(pa.int64()) if array.null_count else array.cast(pa.int64()))
    ever = np.abs(numbers) >= _EVER - 1
    near = np.sign(numbers) * ((np.abs(numbers) + unit // 2) // unit * unit)
    made = pa.array(np.where(ever, numbers, near), pa.int64(), mask=np.asarray(array.is_null()))
    return made.cast(array.type)
