"""timetz: a time of day with its offset from UTC, as text ``10:11:12.5+02``; binary is microseconds and seconds west of UTC.

Its canonical Arrow form is the text, which DuckDB writes as PostgreSQL does: Arrow has no such type.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import DatetimeFieldOverflow, InvalidDatetime
from streamsql.pgwire.values import calendar
from streamsql.pgwire.values.column import (
    WHITE_SPACE,
    BadValue,
    BinaryValues,
    Codec,
    Fixed,
    Piece,
    check_width,
    join_fixed,
    read_in_two_speeds,
    strings_of,
)
from streamsql.pgwire.values.datetime import TIME
from streamsql.pgwire.values.text import to_text

_WIRE = np.dtype([("microseconds", ">i8"), ("west", ">i4")])
_PARTS = r"^(?P<time>[0-9:.]+)(?P<sign>[+-])(?P<hours>\d\d)(?::(?P<minutes>\d\d))?(?::(?P<seconds>\d\d))?$"
_INPUT = re.compile(r"(.*?)\s*(z|utc|gmt|[+-]\d{1,2}(?::?\d{2}(?::?\d{2})?)?)?\Z", re.IGNORECASE | re.ASCII | re.DOTALL)


def _to_binary(column: pa.Array) -> Piece:
    parts = pc.extract_regex(pc.fill_null(column, "00:00:00+00"), pattern=_PARTS)
    times = TIME.from_text(parts.field("time"), -1)
    wire = np.empty(len(column), _WIRE)
    wire["microseconds"] = np.asarray(times.view(pa.int64()))
    hours, minutes, seconds = (
        np.asarray(pc.cast(pc.if_else(pc.equal(text, ""), "0", text), pa.int32()))
        for text in (parts.field(name) for name in ("hours", "minutes", "seconds"))
    )
    west = np.where(np.asarray(pc.equal(parts.field("sign"), "-").to_numpy(zero_copy_only=False)), 1, -1)
    wire["west"] = west * ((hours * 60 + minutes) * 60 + seconds)
    return wire


def _careful(text: str) -> str:
    match = _INPUT.match(text.strip(WHITE_SPACE))
    assert match is not None, text  # both parts may be empty
    time, zone = match[1], match[2] or "+00"
    try:
        microseconds = calendar.read_time(time)
    except InvalidDatetime:
        raise InvalidDatetime(f'invalid input syntax for type time with time zone: "{text}"') from None
    seconds = calendar.zone_us(zone, text) // 1_000_000
    return _written(microseconds, seconds)


def _written(microseconds: int, east: int) -> str:
    column = pa.array([microseconds], pa.time64("us"))
    time = strings_of(TIME.to_text(column), column)[0].as_py()
    size = abs(east)
    zone = f"{'-' if east < 0 else '+'}{size // 3600:02}"
    if size % 3600:
        zone += f":{size // 60 % 60:02}" + (f":{size % 60:02}" if size % 60 else "")
    return f"{time}{zone}"


def _fast(strings: pa.Array) -> pa.Array:
    if len(strings) != strings.null_count:
        raise pa.ArrowInvalid("no kernel reads them")
    return strings


def _from_text(strings: pa.Array, _: int) -> pa.Array:
    return read_in_two_speeds(strings, _fast, _careful, pa.string())


def _from_binary(values: BinaryValues | Fixed) -> pa.Array:
    wire, null = join_fixed(values, _WIRE, "time with time zone")
    outside = (
        (wire["microseconds"] < 0) | (wire["microseconds"] > calendar.DAY_US) | (np.abs(wire["west"]) >= 16 * 3600)
    )
    if outside.any():
        raise BadValue(int(outside.argmax()), DatetimeFieldOverflow("time zone displacement out of range"))
    pairs = zip(wire["microseconds"].tolist(), wire["west"].tolist(), null, strict=True)
    return pa.array([None if missing else _written(us, -west) for us, west, missing in pairs], pa.string())


def _value_to_text(value: bytes) -> str:
    check_width(value, 12, "time with time zone")
    try:
        return str(_from_binary([value])[0])
    except BadValue as bad:
        raise bad.error from None


TIMETZ = Codec(to_text, _to_binary, _from_text, _from_binary, _value_to_text, _from_binary)
