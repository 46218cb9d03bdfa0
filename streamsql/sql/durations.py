"""Lengths of time: window sizes, watermark delays, intervals between results. Always microseconds in an int.

Accepted: ``1h``, ``90s``, ``500ms``, ``1 day``, ``10 minutes``, ``1h30m``, ``00:05:00``, ``1 week``, ISO 8601's
``PT5M``, and SQL's INTERVAL of any of these. Months and years are refused: they have no fixed length. ``m`` is minutes.

Specification: https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-INTERVAL-INPUT
"""

from __future__ import annotations

import re
from decimal import Decimal

from sqlglot import exp

from streamsql.base.errors import InvalidParameterValue

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
WEEK_US = 7 * DAY_US
DURATION_US_MAX = (1 << 63) - 1  # what an int64 column, and PostgreSQL's interval, can hold

UNIT_US: dict[str, int] = {
    **dict.fromkeys(("us", "usec", "usecs", "microsecond", "microseconds", "µs"), 1),
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), 1_000),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), SECOND_US),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), MINUTE_US),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), HOUR_US),
    **dict.fromkeys(("d", "day", "days"), DAY_US),
    **dict.fromkeys(("w", "week", "weeks"), WEEK_US),
}
WITHOUT_LENGTH = frozenset(
    "mon mons month months y yr yrs year years quarter quarters decade decades century centuries".split()
)

_PART = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*([a-zµ]+)\s*,?", re.IGNORECASE)
_CLOCK = re.compile(r"\s*([+-]?)(\d{1,9}):([0-5]?\d)(?::([0-5]?\d(?:\.\d{1,6})?))?\s*\Z")
_ISO = re.compile(
    r"\s*P(?:(?P<y>\d+)Y)?(?:(?P<mon>\d+)M)?(?:(?P<w>\d+(?:\.\d+)?)W)?(?:(?P<d>\d+(?:\.\d+)?)D)?"
    r"(?:T(?=\d)(?:(?P<h>\d+(?:\.\d+)?)H)?(?:(?P<m>\d+(?:\.\d+)?)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?\s*\Z"
)
_ZERO = re.compile(r"\s*0+(?:\.0+)?\s*\Z")
# no sensible duration is longer, and a huge text must cost nothing
_TEXT_CHARACTERS_MAX = 200

_RENDERED = (
    ("day", DAY_US),
    ("hour", HOUR_US),
    ("minute", MINUTE_US),
    ("second", SECOND_US),
    ("millisecond", 1_000),
    ("microsecond", 1),
)


def parse_duration(
    text: str, *, zero_allowed: bool = False, negative_allowed: bool = False, position: int | None = None
) -> int:
    """Give a duration's microseconds.

    `position` (1-based) goes into the error. Raises InvalidParameterValue: not a duration, months or years, negative,
    zero.
    """
    total = _exact(text, position)
    if total != total.to_integral_value():
        raise _invalid(text, position, "a duration is a whole number of microseconds")
    microseconds = int(total)
    if abs(microseconds) > DURATION_US_MAX:
        raise _invalid(text, position, "it is longer than 292,000 years")
    if microseconds < 0 and not negative_allowed:
        raise InvalidParameterValue(
            f'duration must not be negative: "{text}"', hint="leave the minus sign away", position=position
        )
    if microseconds == 0 and not zero_allowed:
        raise InvalidParameterValue(
            f'duration must be greater than zero: "{text}"', hint="write for example '10 minutes'", position=position
        )
    return microseconds


def _exact(text: str, position: int | None) -> Decimal:
    if len(text) > _TEXT_CHARACTERS_MAX:
        raise _invalid(text[:40] + "...", position)
    if _ZERO.match(text):
        return Decimal(0)
    if clock := _CLOCK.match(text):
        sign, hours, minutes, seconds = clock.groups()
        length = int(hours) * HOUR_US + int(minutes) * MINUTE_US + Decimal(seconds or 0) * SECOND_US
        return -length if sign == "-" else length
    if (iso := _ISO.match(text)) and any(iso.groupdict().values()):
        found = {unit: value for unit, value in iso.groupdict().items() if value is not None}
        if {"y", "mon"} & found.keys():
            raise _without_length(text, position)
        return sum((Decimal(value) * UNIT_US[unit] for unit, value in found.items()), Decimal(0))
    return _sum_of_parts(text, position)


def _sum_of_parts(text: str, position: int | None) -> Decimal:
    total = Decimal(0)
    place = 0
    while place < len(text) and (part := _PART.match(text, place)):
        number, unit = part.groups()
        if unit.lower() in WITHOUT_LENGTH:
            raise _without_length(text, position)
        if unit.lower() not in UNIT_US:
            raise _invalid(text, position, f'"{unit}" is not a unit of time')
        total += Decimal(number) * UNIT_US[unit.lower()]
        place = part.end()
    rest = text[place:]
    if place > 0 and _CLOCK.match(rest):  # '1 day 02:00:00'
        return total + _exact(rest, position)
    if place == 0 or rest.strip():
        raise _invalid(text, position)
    return total


def _invalid(text: str, position: int | None, detail: str | None = None) -> InvalidParameterValue:
    hint = "write for example '90s', '10 minutes' or '1h30m'"
    return InvalidParameterValue(f'invalid duration: "{text}"', detail=detail, hint=hint, position=position)


def _without_length(text: str, position: int | None) -> InvalidParameterValue:
    return InvalidParameterValue(
        f'duration must not have months or years: "{text}"',
        hint="a month has no fixed length; say it in days, for example '30 days'",
        position=position,
    )


def duration_of(
    node: exp.Expression, *, zero_allowed: bool = False, negative_allowed: bool = False, position: int | None = None
) -> int:
    """Give the microseconds of a string literal or an INTERVAL in a tree. Raises InvalidParameterValue."""
    options = {"zero_allowed": zero_allowed, "negative_allowed": negative_allowed}
    if isinstance(node, exp.Paren):
        return duration_of(node.this, position=position, **options)
    if isinstance(node, exp.Neg):
        length = duration_of(node.this, zero_allowed=True, negative_allowed=True, position=position)
        return parse_duration(f"{-length}us", position=position, **options)
    if isinstance(node, exp.Cast) and node.to.this == exp.DType.INTERVAL:
        return duration_of(node.this, position=position, **options)
    if isinstance(node, exp.Literal) and (node.is_string or node.this == "0"):
        return parse_duration(node.this, position=position, **options)
    if isinstance(node, exp.Interval) and isinstance(node.this, (exp.Literal, exp.Neg)):
        unit = node.args.get("unit")
        number = node.this.name if isinstance(node.this, exp.Literal) else f"-{node.this.this.name}"
        if unit is None or isinstance(unit, exp.Var):
            return parse_duration(f"{number} {unit.name.lower()}" if unit else number, position=position, **options)
    raise InvalidParameterValue(
        "a duration must be a constant", hint="write a string such as '1h', or INTERVAL '1 hour'", position=position
    )


_MONTHS = re.compile(r"\s*([+-]?\d{1,6})\s*(mon|month|y|yr|year|quarter)s?\s*\Z", re.IGNORECASE)
_MONTHS_IN = {"mon": 1, "month": 1, "quarter": 3, "y": 12, "yr": 12, "year": 12}


def months_of(node: exp.Expression) -> int | None:
    """Give the months of a duration that is whole months, quarters or years: ``'1 month'``, ``INTERVAL '2' YEAR``."""
    if isinstance(node, exp.Paren):
        return months_of(node.this)
    text = node.this if isinstance(node, exp.Literal) and node.is_string else None
    if isinstance(node, exp.Interval) and isinstance(node.this, exp.Literal):
        unit = node.args.get("unit")
        text = f"{node.this.name} {unit.name}" if isinstance(unit, exp.Var) else node.this.name
    found = _MONTHS.match(text) if text is not None else None
    return int(found[1]) * _MONTHS_IN[found[2].lower()] if found else None


def render_duration(microseconds: int) -> str:
    """Write a duration in words: ``5400000000`` gives ``1 hour 30 minutes``, zero ``0 seconds``."""
    if microseconds == 0:
        return "0 seconds"
    sign = "-" if microseconds < 0 else ""
    rest = abs(microseconds)
    parts = []
    for unit, length in _RENDERED:
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{sign}{count} {unit}{'' if count == 1 else 's'}")
    return " ".join(parts)
