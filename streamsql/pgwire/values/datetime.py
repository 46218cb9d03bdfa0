"""date, time, timestamp, timestamptz: ISO 8601 as PostgreSQL writes it; binary counts from 2000-01-01.

A fraction of a second loses its trailing zeros, years before the first are marked BC, timestamptz is shown in UTC with
``+00``. ``infinity`` is DuckDB's extreme of the integer; see `calendar`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.pgwire.values import calendar
from streamsql.pgwire.values.calendar import DATE_INFINITY, DAY_US, TIMESTAMP_INFINITY
from streamsql.pgwire.values.column import (
    BinaryValues,
    Codec,
    Fixed,
    Numbers,
    Piece,
    check_width,
    from_numbers,
    join_fixed,
    raw,
    read_in_two_speeds,
    strings_of,
    valid,
)

_EPOCH_DAYS = 10_957  # 2000-01-01
_EPOCH_US = _EPOCH_DAYS * DAY_US
_INT64_MIN, _INT32_MIN = -(2**63), -(2**31)
# years 1 to 9999, which Arrow writes as PostgreSQL does
_USUAL_DAYS = (-719_162, 2_932_897)
USUAL_US = (_USUAL_DAYS[0] * DAY_US, _USUAL_DAYS[1] * DAY_US)
_TIMESTAMP = pa.timestamp("us")
_TIMESTAMPTZ = pa.timestamp("us", tz="UTC")
_TIME = pa.time64("us")
# a zone after a time; a date alone must not lose its day
_ZONE_AFTER_TIME = r"(:\d\d(?:\.\d+)?) ?(?:Z|[+-]\d\d(?::?\d\d)?)$"


def _with_odd(
    column: pa.Array,
    numbers: Numbers,
    usual: tuple[int, int],
    write: Callable[[pa.Array], pa.Array],
    odd_text: Callable[[Numbers], pa.Array],
) -> pa.Array:
    """Write the values inside `usual` with a kernel, and the others, if there are any, with `odd_text`."""
    odd = (numbers < usual[0]) | (numbers >= usual[1])
    if column.null_count:
        odd &= valid(column)
    if not odd.any():
        return write(column)
    mask = pa.array(odd)
    filled = from_numbers(np.where(odd, 0, numbers), column.type, None if not column.null_count else ~valid(column))
    return pc.replace_with_mask(write(filled), mask, odd_text(numbers[odd]))


def _trimmed(strings: pa.Array) -> pa.Array:
    """Drop the zeros that end a fraction, and the point that then ends the string."""
    return pc.ascii_rtrim(pc.ascii_rtrim(strings, "0"), ".")


def _digits(numbers: Numbers, width: int) -> pa.Array:
    return pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), width, "0")


def _odd_date_parts(days: Numbers) -> tuple[pa.Array, pa.Array]:
    """Give the dates, and `` BC`` or nothing, of years outside 1 to 9999."""
    year, month, day = calendar.civil_from_days(days)
    shown = np.where(year > 0, year, 1 - year)
    dates = pc.binary_join_element_wise(_digits(shown, 4), _digits(month, 2), _digits(day, 2), "-")
    return dates, pc.if_else(pa.array(year > 0), "", " BC")


def _with_infinity(strings: pa.Array, numbers: Numbers, infinity: int) -> pa.Array:
    strings = pc.if_else(pa.array(numbers == infinity), "infinity", strings)
    return pc.if_else(pa.array(numbers == -infinity), "-infinity", strings)


def _odd_dates(days: Numbers) -> pa.Array:
    dates, era = _odd_date_parts(days)
    return _with_infinity(pc.binary_join_element_wise(dates, era, ""), days, DATE_INFINITY)


def _odd_timestamps(zone: str) -> Callable[[Numbers], pa.Array]:
    def write(numbers: Numbers) -> pa.Array:
        days = numbers // DAY_US
        dates, era = _odd_date_parts(days)
        times = _trimmed(pc.cast(from_numbers(numbers - days * DAY_US, _TIME), pa.string()))
        strings = pc.binary_join_element_wise(dates, pa.scalar(" "), times, pa.scalar(zone), era, "")
        return _with_infinity(strings, numbers, TIMESTAMP_INFINITY)

    return write


# date


def _date_to_text(column: pa.Array) -> Piece:
    days = raw(column, np.int32)
    return _with_odd(column, days, _USUAL_DAYS, lambda usual: pc.cast(usual, pa.string()), _odd_dates)


def _date_to_binary(column: pa.Array) -> Piece:
    days = raw(column, np.int32)
    shifted = np.maximum(days.astype(np.int64) - _EPOCH_DAYS, _INT32_MIN)
    shifted[days == DATE_INFINITY] = DATE_INFINITY
    shifted[days == -DATE_INFINITY] = _INT32_MIN
    return shifted.astype(">i4")


def _date_from_text(strings: pa.Array, _: int) -> pa.Array:
    return read_in_two_speeds(strings, lambda s: pc.cast(s, pa.date32()), calendar.read_date, pa.date32())


def _date_from_binary(values: BinaryValues | Fixed) -> pa.Array:
    wire, null = join_fixed(values, ">i4", "date")
    days = np.minimum(wire.astype(np.int64) + _EPOCH_DAYS, DATE_INFINITY)
    days[wire == _INT32_MIN] = -DATE_INFINITY
    return from_numbers(days.astype(np.int32), pa.date32(), null)


# time


def _time_to_text(column: pa.Array) -> Piece:
    def last(numbers: Numbers) -> pa.Array:
        return pa.array(["24:00:00"] * len(numbers))

    return _with_odd(
        column, raw(column, np.int64), (0, DAY_US), lambda usual: _trimmed(pc.cast(usual, pa.string())), last
    )


def _time_to_binary(column: pa.Array) -> Piece:
    return raw(column, np.int64).astype(">i8")


def _fast_time(strings: pa.Array) -> pa.Array:
    moments = pc.binary_join_element_wise(pa.scalar("1970-01-01 "), strings, "")  # no kernel reads times alone
    return pc.cast(moments, _TIMESTAMP).view(pa.int64()).view(_TIME)


def _time_from_text(strings: pa.Array, _: int) -> pa.Array:
    return read_in_two_speeds(strings, _fast_time, calendar.read_time, _TIME)


def _time_from_binary(values: BinaryValues | Fixed) -> pa.Array:
    wire, null = join_fixed(values, ">i8", "time")
    return from_numbers(wire.astype(np.int64), _TIME, null)


# timestamp, timestamptz


def _timestamp_to_binary(column: pa.Array) -> Piece:
    numbers = raw(column, np.int64)
    if len(numbers) and numbers.min() > _INT64_MIN + _EPOCH_US and numbers.max() != TIMESTAMP_INFINITY:
        return (numbers - _EPOCH_US).astype(">i8")
    shifted = np.maximum(numbers, _INT64_MIN + _EPOCH_US + 1) - _EPOCH_US
    shifted[numbers == TIMESTAMP_INFINITY] = TIMESTAMP_INFINITY
    shifted[numbers == -TIMESTAMP_INFINITY] = _INT64_MIN
    return shifted.astype(">i8")


def _microseconds_from_binary(values: BinaryValues | Fixed, name: str) -> tuple[Numbers, Numbers]:
    wire, null = join_fixed(values, ">i8", name)
    native = wire.astype(np.int64)
    numbers = np.minimum(native, TIMESTAMP_INFINITY - _EPOCH_US) + _EPOCH_US
    numbers[native == _INT64_MIN] = -TIMESTAMP_INFINITY
    return numbers, null


def _fast_timestamp(strings: pa.Array) -> pa.Array:
    try:
        return pc.cast(strings, _TIMESTAMP)
    except pa.ArrowInvalid:
        pass
    strings = pc.replace_substring_regex(strings, pattern=_ZONE_AFTER_TIME, replacement=r"\1")
    try:
        return pc.cast(strings, _TIMESTAMP)
    except pa.ArrowInvalid:
        return _rounded(pc.cast(strings, pa.timestamp("ns")), _TIMESTAMP)


def _fast_timestamptz(strings: pa.Array) -> pa.Array:
    try:
        return pc.cast(strings, _TIMESTAMPTZ)
    except pa.ArrowInvalid:
        pass
    try:
        return pc.cast(strings, _TIMESTAMP).view(_TIMESTAMPTZ)
    except pa.ArrowInvalid:
        return _rounded(pc.cast(strings, pa.timestamp("ns", tz="UTC")), _TIMESTAMPTZ)


def _rounded(nanoseconds: pa.Array, arrow_type: pa.DataType) -> pa.Array:
    """Round to microseconds, as PostgreSQL does with longer fractions."""
    null = ~valid(nanoseconds) if nanoseconds.null_count else None
    return from_numbers((raw(nanoseconds, np.int64) + 500) // 1000, arrow_type, null)


def _write_timestamp(column: pa.Array) -> pa.Array:
    return _trimmed(pc.cast(column, pa.string()))


def _write_timestamptz(column: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(_write_timestamp(column.view(_TIMESTAMP)), pa.scalar("+00"), "")


def _timestamp_codec(
    sql_name: str,
    arrow_type: pa.DataType,
    zone: str,
    write: Callable[[pa.Array], pa.Array],
    fast: Callable[[pa.Array], pa.Array],
) -> Codec:
    odd_text = _odd_timestamps(zone)

    def to_text(column: pa.Array) -> Piece:
        return _with_odd(column, raw(column, np.int64), USUAL_US, write, odd_text)

    def from_text(strings: pa.Array, _: int) -> pa.Array:
        return read_in_two_speeds(
            strings, fast, lambda text: calendar.read_timestamp(text, sql_name, use_zone=bool(zone)), arrow_type
        )

    def from_binary(values: BinaryValues | Fixed) -> pa.Array:
        numbers, null = _microseconds_from_binary(values, sql_name)
        return from_numbers(numbers, arrow_type, null)

    def value_to_text(value: bytes) -> str:
        check_width(value, 8, sql_name)
        microseconds = int.from_bytes(value, "big", signed=True) + _EPOCH_US
        if USUAL_US[0] <= microseconds < USUAL_US[1]:
            moment = datetime(1970, 1, 1) + timedelta(microseconds=microseconds)
            text = moment.isoformat(" ")
            return (text.rstrip("0") if moment.microsecond else text) + zone
        return str(odd_text(raw(from_binary([value]), np.int64))[0])

    return Codec(to_text, _timestamp_to_binary, from_text, from_binary, value_to_text, from_binary)


def _date_value(value: bytes) -> str:
    check_width(value, 4, "date")
    column = _date_from_binary([value])
    return str(strings_of(_date_to_text(column), column)[0])


def _time_value(value: bytes) -> str:
    check_width(value, 8, "time")
    column = _time_from_binary([value])
    return str(strings_of(_time_to_text(column), column)[0])


DATE = Codec(_date_to_text, _date_to_binary, _date_from_text, _date_from_binary, _date_value, _date_from_binary)
TIME = Codec(_time_to_text, _time_to_binary, _time_from_text, _time_from_binary, _time_value, _time_from_binary)
TIMESTAMP = _timestamp_codec("timestamp", _TIMESTAMP, "", _write_timestamp, _fast_timestamp)
TIMESTAMPTZ = _timestamp_codec("timestamp with time zone", _TIMESTAMPTZ, "+00", _write_timestamptz, _fast_timestamptz)
