"""The proleptic Gregorian calendar, and the reading of dates and times that Arrow's kernels cannot read.

Days count from 1970-01-01, times in microseconds. Years are astronomical (0 is 1 BC). The conversions are Howard Hinnant's
(https://howardhinnant.github.io/date_algorithms.html). What is read is the usual part of
https://www.postgresql.org/docs/current/datatype-datetime.html: ISO 8601 in its forms, ``infinity``, ``epoch``, BC, AM and
PM, offsets from UTC. Names of months and zones, and words such as ``now`` are refused.
"""

from __future__ import annotations

import calendar
import re

import numpy as np

from streamsql.base.errors import DatetimeFieldOverflow, InvalidDatetime
from streamsql.pgwire.values.column import WHITE_SPACE, Numbers

DAY_US = 86_400_000_000
DATE_INFINITY = 2**31 - 1  # DuckDB's, as are the next; the negative ones are their opposites
TIMESTAMP_INFINITY = 2**63 - 1
DATE_MIN, DATE_MAX = -2440588, 106751991  # 4713 BC, PostgreSQL's first day; 294247 AD, DuckDB's last timestamp

_DATE = r"(?P<year>\d{4,6})(?P<separator>[-/])(?P<month>\d{1,2})(?P=separator)(?P<day>\d{1,2})|(?P<compact>\d{8})"
_TIME = r"(?P<hour>\d{1,2}):(?P<minute>\d{1,2})(?::(?P<second>\d{1,2})(?P<fraction>\.\d*)?)?\s*(?P<half>am|pm)?"
_ZONE = r"(?P<zone>z|utc|gmt|[+-]\d{1,2}(?::?\d{2}(?::?\d{2})?)?)"
_TIMESTAMP = re.compile(
    rf"(?:{_DATE})(?:(?:\s*t\s*|\s+){_TIME}\s*{_ZONE}?|\s*{_ZONE.replace('zone', 'of_date')})?(?:\s+(?P<era>bc|ad))?\Z",
    re.IGNORECASE | re.ASCII,
)
_TIME_ONLY = re.compile(rf"(?:t)?{_TIME}\s*{_ZONE}?\Z", re.IGNORECASE | re.ASCII)
_WORDS = {"infinity": TIMESTAMP_INFINITY, "+infinity": TIMESTAMP_INFINITY, "-infinity": -TIMESTAMP_INFINITY, "epoch": 0}


def civil_from_days(days: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Give year, month and day of each of these days."""
    shifted = days.astype(np.int64) + 719_468
    era = shifted // 146_097
    day_of_era = shifted - era * 146_097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153  # from March
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = np.where(shifted_month < 10, shifted_month + 3, shifted_month - 9)
    return year_of_era + era * 400 + (month <= 2), month, day


def days_from_civil(year: int, month: int, day: int) -> int:
    """Give the day of a date."""
    year -= month <= 2
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


def read_timestamp(text: str, sql_name: str, use_zone: bool) -> int:
    """Read a timestamp as microseconds; a date alone is its midnight. `use_zone` moves it to UTC, else a zone is ignored."""
    word = text.strip(WHITE_SPACE).lower()
    if word in _WORDS:
        return _WORDS[word]
    match = _TIMESTAMP.match(word)
    if match is None:
        raise InvalidDatetime(f'invalid input syntax for type {sql_name}: "{text}"')
    microseconds = _days(match, text) * DAY_US
    if match["hour"] is not None:
        microseconds += _time_us(match, text)
    zone = match["zone"] or match["of_date"]
    if use_zone and zone is not None:
        microseconds -= zone_us(zone, text)
    if not DATE_MIN * DAY_US <= microseconds < DATE_MAX * DAY_US:
        raise DatetimeFieldOverflow(f'timestamp out of range: "{text}"')
    return microseconds


def has_zone(text: str) -> bool:
    """Tell whether a timestamp's text says which moment it is: by an offset, or a word; also where it is none at all."""
    word = text.strip(WHITE_SPACE).lower()
    match = _TIMESTAMP.match(word)
    return match is None or match["zone"] is not None


def read_date(text: str) -> int:
    """Read a date as days; the time of a timestamp is cut off."""
    word = text.strip(WHITE_SPACE).lower()
    if word.endswith("infinity") and word in _WORDS:
        return DATE_INFINITY if _WORDS[word] > 0 else -DATE_INFINITY
    return read_timestamp(text, "date", use_zone=False) // DAY_US


def read_time(text: str) -> int:
    """Read a time of day as microseconds; a zone is ignored."""
    match = _TIME_ONLY.match(text.strip(WHITE_SPACE))
    if match is None:
        raise InvalidDatetime(f'invalid input syntax for type time: "{text}"')
    return _time_us(match, text)


def _out_of_range(text: str) -> DatetimeFieldOverflow:
    return DatetimeFieldOverflow(f'date/time field value out of range: "{text}"')


def _days(match: re.Match[str], text: str) -> int:
    if match["compact"]:
        digits = match["compact"]
        year, month, day = int(digits[:4]), int(digits[4:6]), int(digits[6:])
    else:
        year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    if year == 0 or not 1 <= month <= 12:
        raise _out_of_range(text)
    if match["era"] == "bc":
        year = 1 - year
    days_of_month = (
        29 if month == 2 and calendar.isleap(year) else (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]
    )
    if not 1 <= day <= days_of_month:
        raise _out_of_range(text)
    return days_from_civil(year, month, day)


def _time_us(match: re.Match[str], text: str) -> int:
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"] or 0)
    fraction_us = round(float("0" + (match["fraction"] or ".") + "0") * 1_000_000)
    if match["half"]:
        if not 1 <= hour <= 12:
            raise _out_of_range(text)
        hour = hour % 12 + (12 if match["half"].lower() == "pm" else 0)
    microseconds = ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction_us
    if minute > 59 or second > 60 or microseconds > DAY_US:
        raise _out_of_range(text)
    return microseconds


def zone_us(zone: str, text: str) -> int:
    """Give an offset from UTC in microseconds, east being positive."""
    if zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "")
    if len(digits) <= 2:
        hours, minutes, seconds = int(digits), 0, 0
    else:
        digits = digits.rjust(4, "0") if len(digits) < 5 else digits.rjust(6, "0")
        hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:] or 0)
    if hours > 15 or minutes > 59 or seconds > 59:
        raise DatetimeFieldOverflow(f'time zone displacement out of range: "{text}"')
    return (1 if zone[0] == "+" else -1) * ((hours * 60 + minutes) * 60 + seconds) * 1_000_000
