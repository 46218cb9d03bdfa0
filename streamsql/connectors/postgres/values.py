"""Texts of PostgreSQL's values to columns of the declared types; a row with a value that does not fit is set aside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.types import WireType, canonical_arrow, column_elsewhere
from streamsql.formats.format import NOTHING_REJECTED, rejected
from streamsql.pgwire.values import BadValue, parse_text
from streamsql.pgwire.values.column import Numbers
from streamsql.sql.statements import ColumnDefinition


def typed(
    texts: Sequence[pa.Array], columns: Sequence[ColumnDefinition], positions: Numbers
) -> tuple[pa.Table, Numbers | None, pa.Table]:
    """Read string arrays, one a column; give the rows, a mask of those that stay (None: all), and the rejected records.

    A rejected record's bytes are its values with tabs between them; `positions` has a number for each row.
    """
    bad: dict[int, str] = {}
    arrays: list[pa.Array] = []
    for column, strings in zip(columns, texts, strict=True):
        shown = column_elsewhere(column.type)
        read, errors = _read(strings, shown.type, shown.modifier)
        arrays.append(read)
        for row, reason in errors:
            bad.setdefault(row, f'column "{column.name}": {reason}')
    rows = pa.table(arrays, names=[c.name for c in columns])
    if not bad:
        return rows, None, NOTHING_REJECTED
    stay = np.ones(rows.num_rows, bool)
    stay[list(bad)] = False
    order = sorted(bad)
    shown_texts = [pc.fill_null(t.take(pa.array(order)), "\\N").to_pylist() for t in texts]
    records = ["\t".join(values).encode() for values in zip(*shown_texts, strict=True)]
    return (
        rows.filter(pa.array(stay)),
        stay,
        rejected([int(positions[r]) for r in order], [bad[r] for r in order], records),
    )


def _read(strings: pa.Array, wire_type: WireType, modifier: int) -> tuple[pa.Array, list[tuple[int, str]]]:
    """Read texts; those that cannot be read become NULL, and are given with their rows and the reasons."""
    parts: list[pa.Array] = []
    errors: list[tuple[int, str]] = []
    start = 0
    while True:
        rest = strings.slice(start)
        try:
            parts.append(parse_text(rest, wire_type, modifier))
            break
        except BadValue as bad:
            errors.append((start + bad.row, bad.error.message))
            if bad.row:
                parts.append(parse_text(rest.slice(0, bad.row), wire_type, modifier))
            parts.append(pa.nulls(1, canonical_arrow(wire_type, modifier)))
            start += bad.row + 1
    return (parts[0] if len(parts) == 1 else pa.concat_arrays(parts)), errors
