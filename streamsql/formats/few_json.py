"""A few JSON records, read in Python: DuckDB takes more than a millisecond to set up a query, however little it reads.

Only what is beyond doubt is read here: every record an object, every value plainly of its column's type. Wherever a record
is anything else, all of them are left to DuckDB (`formats.json`), which gives the same rows, and says what is wrong.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from streamsql.formats.format import Field
from streamsql.formats.records import Records

# from so many records on DuckDB is faster
RECORDS_MAX = 150
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?", re.ASCII)


class _DoubtError(Exception):
    """This is for DuckDB to read."""


def _pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    # of a key that comes twice the first counts; one that differs in case only is DuckDB's to tell apart
    if len(found) != len(items) or len({key.lower() for key in found}) != len(items):
        raise _DoubtError
    return found


def _constant(word: str) -> Any:
    raise _DoubtError(word)


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise _DoubtError
    return value


def _number(value: Any) -> float:
    if type(value) not in {int, float} or not math.isfinite(made := float(value)):
        raise _DoubtError
    return made


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _DoubtError
    return value


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise _DoubtError
    return value


def _time(value: Any) -> str:
    if type(value) is not str or _TIME.fullmatch(value) is None:
        raise _DoubtError
    return value


_READS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("SMALLINT", "INTEGER", "BIGINT"), _whole),
    "DOUBLE": _number,
    "VARCHAR": _text,
    "BOOLEAN": _truth,
    "TIMESTAMP": _time,
}


def reads(fields: Sequence[Field]) -> bool:
    """Tell whether records with these fields can be read here at all."""
    return all(field.type in _READS for field in fields)


def plain_rows(records: Records, fields: Sequence[Field], schema: pa.Schema) -> pa.Table | None:
    """Give the rows of records; None where there is any doubt."""
    if b"\\u" in records.data:
        return None
    columns: list[list[Any]] = [[] for _ in fields]
    try:
        for index in range(len(records)):
            found = _DECODER.decode(str(records.bytes_of(index), "utf-8"))
            if type(found) is not dict:
                return None
            for column, field in zip(columns, fields, strict=True):
                column.append(_value(found, field))
        arrays = [_array(c, wanted.type) for c, wanted in zip(columns, schema, strict=True)]
    except (_DoubtError, ValueError, OverflowError, RecursionError):
        return None
    return pa.Table.from_arrays(arrays, schema=schema)


def _value(record: dict[str, Any], field: Field) -> Any:
    value: Any = record
    for key in field.keys:
        if type(value) is not dict:
            raise _DoubtError
        value = value.get(key)
        if value is None:
            break
    if value is not None:
        return _READS[field.type](value)
    if field.not_null:
        raise _DoubtError
    return None


def _array(values: list[Any], wanted: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(wanted):
        return pa.array(values, pa.string()).cast(wanted)
    return pa.array(values, wanted)
