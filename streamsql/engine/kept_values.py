"""Values that a change of a table leaves out, since they stay as they were (a TOASTed value that an UPDATE does not touch).

`KeyedChange.kept` has for a column a number a row: 0 for a value that is there, `SAME` where it is the one that the row with
the same key had before, `MOVED` where the row had another key before, which is that of the row in front of it::

    place  weight  key  value      from
    0      +1      a    long       (there)
    1      +1      a    (SAME)     place 0
    2      -1      a
    3      +1      b    (MOVED)    place 2, whose key's last value is that of place 1
    4      +1      c    (SAME)     the table's row with the key c
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.base.errors import NotInPrerequisiteState

SAME, MOVED = 1, 2
Kept = Mapping[str, npt.NDArray[np.int8]]
_Integers = npt.NDArray[np.int64]


def filled(
    rows: pa.Table, weights: npt.NDArray[np.int8], kept: Kept, key: Sequence[str], there: pa.Table, name: str
) -> pa.Table:
    """Put in what is left out; `there` are the rows of the table with any of these keys. Raises where there is none."""
    count = rows.num_rows
    codes, code_count = _codes(rows, there, key)
    lines = _lines(codes[:count], code_count, kept)
    row_of_line = np.full(max(int(lines.max(initial=0)) + 1, code_count), -1)
    row_of_line[codes[count:]] = np.arange(there.num_rows)
    order = np.lexsort((np.arange(count), lines))
    starts = np.searchsorted(lines[order], lines[order])  # where in `order` the line of each begins
    for column, numbers in kept.items():
        given = (numbers == 0) & (weights > 0)
        latest = np.maximum.accumulate(np.where(given[order], np.arange(count), -1))
        source = np.empty(count, np.int64)
        source[order] = np.where(latest >= starts, order[latest], -1)
        outside = source < 0
        source[outside] = np.where(row_of_line[lines[outside]] >= 0, count + row_of_line[lines[outside]], -1)
        wanted = numbers > 0
        if (source[wanted] < 0).any():
            raise NotInPrerequisiteState(
                f'an update of "{name}" keeps a value of the column "{column}" that is not known here',
                hint=f"at the origin: ALTER TABLE {name} REPLICA IDENTITY FULL; then drop this table and create it again",
            )
        places = np.where(wanted, source, np.arange(count))
        field = rows.schema.field(column)
        values = pa.concat_tables([rows.select([column]), there.select([column]).cast(pa.schema([field]))])
        index = rows.schema.get_field_index(column)
        rows = rows.set_column(index, field, values.column(0).take(pa.array(places)))
    return rows


def _codes(rows: pa.Table, there: pa.Table, key: Sequence[str]) -> tuple[_Integers, int]:
    """Number the keys: those of `rows`, and then those of `there`."""
    fields = pa.schema([rows.schema.field(name) for name in key])
    both = pa.concat_tables([rows.select(fields.names), there.select(fields.names).cast(fields)])
    codes = np.zeros(both.num_rows, np.int64)
    for column in both.columns:
        own = np.asarray(column.combine_chunks().dictionary_encode().indices).astype(np.int64)
        _, codes = np.unique(codes * (int(own.max(initial=0)) + 1) + own, return_inverse=True)
    return codes, int(codes.max(initial=0)) + 1


def _lines(codes: _Integers, code_count: int, kept: Kept) -> _Integers:
    """Tell which rows are states of one: those of a key, from where it was given to another key on those of that one."""
    lines = codes.copy()
    moves = np.flatnonzero(np.any([numbers == MOVED for numbers in kept.values()], axis=0))
    for fresh, place in enumerate(moves.tolist(), code_count):
        later = np.arange(len(lines)) >= place
        old, new = lines[place - 1], lines[place]
        lines[later & (lines == old)] = fresh  # its key is free for another row
        lines[later & (lines == new)] = old
    return lines
