"""Arrow IPC and Parquet: tables whose columns are found by name and brought into the wanted types.

What both have in common. The position of a rejected row is its number, from 0; its bytes are the row as JSON. Bytes that are
no such file are one rejected record. A value is cast where nothing is lost by it, else read from its text as in `casts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from streamsql.formats import casts
from streamsql.formats.casts import FLOATS, INTEGERS, TIMES, is_nested, quote
from streamsql.formats.format import NOTHING_REJECTED, Decoded, Field, rejected

# what reading bytes of any kind may raise in Arrow; the messages are for people
UNREADABLE = (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError)
_REASON_CHARACTERS_MAX = 300


@dataclass(slots=True)
class WholeDecoder:
    """Gathers all bytes, and reads them at the end."""

    read: Callable[[bytes], Decoded]
    bytes_max: int
    _pieces: list[bytes] = field(default_factory=list)
    _size: int = 0

    def feed(self, data: bytes) -> list[Decoded]:
        from streamsql.base.errors import ProgramLimitExceeded

        self._size += len(data)
        if self._size > self.bytes_max:
            raise ProgramLimitExceeded(
                f"a record of more than {self.bytes_max} bytes", hint="record_bytes_max bounds what is read as a whole"
            )
        self._pieces.append(data)
        return []

    def finish(self) -> list[Decoded]:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return [self.read(data)] if data else []


def decoded(read: Callable[[bytes], pa.Table], data: bytes, fields: Sequence[Field], what: str) -> Decoded:
    """Read bytes as a table, and the table as rows of these fields."""
    try:
        return typed(read(data), fields)
    except (*UNREADABLE, duckdb.Error) as error:
        said = str(error).partition("\n")[0][:_REASON_CHARACTERS_MAX]
        return Decoded(casts.empty_rows(fields), rejected([0], [f"invalid {what}: {said}"], [data]))


def typed(table: pa.Table, fields: Sequence[Field]) -> Decoded:
    """Bring a table's columns into the fields' types, by name; rows that do not fit are rejected."""
    names = table.column_names
    reads = []
    for wanted in fields:
        if wanted.name not in names:
            nothing = f"CAST(NULL AS {casts.carried_type(wanted.type)})"
            reads.append(casts.Read("NULL", nothing, nothing))
            continue
        index = names.index(wanted.name)
        reads.append(_read(f"c{index}", table.schema.field(index).type, wanted))
    named = table.rename_columns([f"c{i}" for i in range(table.num_columns)])
    if not table.num_columns:
        return Decoded(casts.empty_rows(fields), NOTHING_REJECTED)
    reading = casts.Reading(fields, reads, refuse_nul=True, quick=False)
    rows, reasons = reading.run("__records", named)
    rows = rows.rename_columns([f.name for f in fields])
    if reasons.null_count == len(reasons):
        return Decoded(rows, NOTHING_REJECTED)
    wrong = reasons.is_valid()
    items = ", ".join(f"{quote(f'c{i}')} AS {quote(name)}" for i, name in enumerate(names))
    shown = casts.query(
        f"SELECT CAST(to_json(r) AS VARCHAR) AS r FROM (SELECT {items} FROM __records) AS r",
        {"__records": named.filter(wrong)},
    )
    positions = [i for i, w in enumerate(wrong.to_pylist()) if w]
    said = rejected(positions, reasons.drop_null().to_pylist(), [r.encode() for r in shown.column("r").to_pylist()])
    return Decoded(rows.filter(reasons.is_null()), said)


def _read(source: str, given: pa.DataType, wanted: Field) -> casts.Read:
    """Say how a column of an Arrow type is read."""
    kinds, name = pa.types, wanted.type
    if kinds.is_string(given) or kinds.is_large_string(given) or kinds.is_string_view(given):
        if name == "JSON":
            value = f"CAST(TRY_CAST({source} AS JSON) AS VARCHAR)"
            return casts.Read(source, value, value)
        return casts.text_read(source, wanted, "auto")
    number = kinds.is_integer(given) or kinds.is_floating(given) or kinds.is_decimal(given)
    same = (
        (kinds.is_integer(given) and (name in INTEGERS or name in FLOATS or name.startswith("DECIMAL(")))
        or (number and (name in FLOATS or name.startswith("DECIMAL(")))
        or ((kinds.is_timestamp(given) or kinds.is_date(given)) and (name in TIMES or name == "DATE"))
        or (
            (kinds.is_binary(given) or kinds.is_large_binary(given) or kinds.is_fixed_size_binary(given))
            and name == "BLOB"
        )
        or (kinds.is_boolean(given) and name == "BOOLEAN")
        or (kinds.is_time(given) and name == "TIME")
        or (kinds.is_interval(given) and name == "INTERVAL")
        or (kinds.is_nested(given) and is_nested(name))
    )
    if same:
        value = f"TRY_CAST({source} AS {name})"
    elif name == "JSON":
        value = f"CAST(to_json({source}) AS VARCHAR)"
    elif name == "VARCHAR":
        value = f"CAST({source} AS VARCHAR)"
    else:
        return casts.text_read(f"CAST({source} AS VARCHAR)", wanted, "auto")
    return casts.Read(source, value, value)
