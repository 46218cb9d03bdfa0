"""interval: months, days and microseconds that are never folded into one another.

Text is PostgreSQL's ``postgres`` style (``1 year 2 mons 3 days 04:05:06.7``); binary is microseconds, days, months. Input
takes that style, words in any order (``90 minutes``, ``1 day ago``), clock times, and ISO 8601 (``PT5M``). See
https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-INTERVAL-INPUT.
"""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import DatetimeFieldOverflow, InvalidDatetime
from streamsql.pgwire.values.column import (
    WHITE_SPACE,
    BadValue,
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
)

_ARROW = pa.month_day_nano_interval()
_NATIVE = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])
_WIRE = np.dtype([("microseconds", ">i8"), ("days", ">i4"), ("months", ">i4")])
_MONTH_DAYS, _DAY_SECONDS = 30, 86_400

# unit -> (months, days, seconds) of one
_UNITS: dict[str, tuple[int, int, Fraction]] = {
    name: size
    for names, size in (
        ("microsecond microseconds us usec usecs useconds usecond", (0, 0, Fraction(1, 1_000_000))),
        ("millisecond milliseconds ms msec msecs mseconds msecond", (0, 0, Fraction(1, 1_000))),
        ("second seconds s sec secs", (0, 0, Fraction(1))),
        ("minute minutes m min mins", (0, 0, Fraction(60))),
        ("hour hours h hr hrs", (0, 0, Fraction(3600))),
        ("day days d", (0, 1, Fraction(0))),
        ("week weeks w", (0, 7, Fraction(0))),
        ("month months mon mons", (1, 0, Fraction(0))),
        ("year years y yr yrs", (12, 0, Fraction(0))),
        ("decade decades dec decs", (120, 0, Fraction(0))),
        ("century centuries cent c", (1200, 0, Fraction(0))),
        ("millennium millennia mil mils", (12_000, 0, Fraction(0))),
    )
    for name in names.split()
}
_ISO_DATE_UNITS = {"y": "year", "m": "month", "w": "week", "d": "day"}
_ISO_TIME_UNITS = {"h": "hour", "m": "minute", "s": "second"}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_TOKEN = re.compile(
    rf"(?P<clock>[+-]?\d+:\d\d?(?::\d\d?(?:\.\d*)?)?)|(?P<span>[+-]?\d+-\d+)|(?P<number>{_NUMBER})\s*(?P<unit>[a-z]+)?",
    re.ASCII,
)
_ISO = re.compile(rf"(-)?p((?:{_NUMBER}[ymwd])*)(?:t((?:{_NUMBER}[hms])+))?\Z", re.ASCII)
_ISO_PART = re.compile(rf"({_NUMBER})([a-z])", re.ASCII)


def _with_unit(numbers: Numbers, singular: str, plural: str, signed: Numbers) -> pa.Array:
    """Write ``3 days``, null where the number is 0; `signed` says where a plus must be shown."""
    unit = pc.if_else(pa.array(numbers == 1), " " + singular, " " + plural)
    plus = pc.if_else(pa.array(signed & (numbers > 0)), "+", "")
    texts = pc.binary_join_element_wise(plus, pc.cast(pa.array(numbers), pa.string()), unit, "")
    return pc.if_else(pa.array(numbers != 0), texts, None)


def _to_text(column: pa.Array) -> Piece:
    fields = raw(column, _NATIVE)
    months, days = fields["months"].astype(np.int64), fields["days"].astype(np.int64)
    microseconds = fields["nanoseconds"] // 1000
    years = np.where(months < 0, -(-months // 12), months // 12)
    months -= years * 12
    # a field after a negative one shows its plus; a zero field does not count
    after_year = years < 0
    after_month = np.where(months != 0, months < 0, after_year)
    after_day = np.where(days != 0, days < 0, after_month)
    size = np.abs(microseconds)
    seconds = size // 1_000_000
    clock_shown = (microseconds != 0) | ((years == 0) & (months == 0) & (days == 0))
    sign = pc.if_else(pa.array(microseconds < 0), "-", pc.if_else(pa.array(after_day), "+", ""))
    hours = pc.utf8_lpad(pc.cast(pa.array(seconds // 3600), pa.string()), 2, "0")
    rest = pc.cast(from_numbers(size % 3_600_000_000, pa.time64("us")), pa.string())
    rest = pc.ascii_rtrim(pc.ascii_rtrim(pc.utf8_slice_codeunits(rest, 2), "0"), ".")
    clock = pc.if_else(pa.array(clock_shown), pc.binary_join_element_wise(sign, hours, rest, ""), None)
    texts = pc.binary_join_element_wise(
        _with_unit(years, "year", "years", np.zeros_like(after_year)),
        _with_unit(months, "mon", "mons", after_year),
        _with_unit(days, "day", "days", after_month),
        clock,
        " ",
        null_handling="skip",
    )
    return pc.if_else(column.is_valid(), texts, None) if column.null_count else texts


def _to_binary(column: pa.Array) -> Piece:
    fields = raw(column, _NATIVE)
    wire = np.empty(len(fields), _WIRE)
    wire["microseconds"] = fields["nanoseconds"] // 1000
    wire["days"] = fields["days"]
    wire["months"] = fields["months"]
    return wire


def _parse(text: str) -> tuple[int, int, int]:
    word = text.strip(WHITE_SPACE).lower()
    total = _parse_iso(word) if word.startswith(("p", "-p")) else _parse_words(word)
    if total is None:
        raise InvalidDatetime(f'invalid input syntax for type interval: "{text}"')
    months, days, seconds = total
    nanoseconds = round(seconds * 1_000_000) * 1000
    if not (min(months, days) >= -(2**31) and max(months, days) < 2**31 and abs(nanoseconds) < 2**63):
        raise DatetimeFieldOverflow(f'interval field value out of range: "{text}"')
    return months, days, nanoseconds


Total = tuple[int, int, Fraction]


def _amount(number: str, unit: str) -> Total:
    """Give months, days and seconds; a fraction of a unit goes down to the next smaller ones, as in PostgreSQL."""
    unit_months, unit_days, unit_seconds = _UNITS[unit]
    count = Fraction(number)
    exact_months = count * unit_months
    months = int(exact_months)
    exact_days = count * unit_days + ((exact_months - months) * _MONTH_DAYS if unit_months == 1 else 0)
    if unit_months > 1:
        months = round(exact_months)
    days = int(exact_days)
    return months, days, count * unit_seconds + (exact_days - days) * _DAY_SECONDS


def _sum(amounts: list[Total]) -> Total:
    return (
        sum(amount[0] for amount in amounts),
        sum(amount[1] for amount in amounts),
        sum((amount[2] for amount in amounts), Fraction(0)),
    )


def _parse_iso(word: str) -> Total | None:
    match = _ISO.match(word)
    if match is None or not (match[2] or match[3]):
        return None
    amounts = [_amount(number, _ISO_DATE_UNITS[unit]) for number, unit in _ISO_PART.findall(match[2] or "")]
    amounts += [_amount(number, _ISO_TIME_UNITS[unit]) for number, unit in _ISO_PART.findall(match[3] or "")]
    months, days, seconds = _sum(amounts)
    return (-months, -days, -seconds) if match[1] else (months, days, seconds)


def _parse_words(word: str) -> Total | None:
    word = word.removeprefix("@").strip()
    ago = word.endswith(" ago")
    word = word.removesuffix(" ago").strip()
    amounts: list[Total] = []
    position = 0
    while position < len(word):
        match = _TOKEN.match(word, position)
        if match is None:
            return None
        amount = _token(match, last=match.end() == len(word))
        if amount is None:
            return None
        amounts.append(amount)
        position = match.end()
        while position < len(word) and word[position] in " \t\n,":
            position += 1
    if not amounts:
        return None
    months, days, seconds = _sum(amounts)
    return (-months, -days, -seconds) if ago else (months, days, seconds)


def _token(match: re.Match[str], last: bool) -> Total | None:
    sign = -1 if match[0].startswith("-") else 1
    if match["clock"]:
        parts = match["clock"].lstrip("+-").split(":")
        if int(parts[1]) > 59 or (
            len(parts) > 2 and Fraction(parts[2] + "0" if parts[2].endswith(".") else parts[2]) > 60
        ):
            return None
        second = Fraction(parts[2].rstrip(".")) if len(parts) > 2 else Fraction(0)
        return 0, 0, sign * (int(parts[0]) * 3600 + int(parts[1]) * 60 + second)
    if match["span"]:
        years, months = match["span"].lstrip("+-").split("-")
        return sign * (int(years) * 12 + int(months)), 0, Fraction(0)
    unit = match["unit"]
    if unit is None:
        # a bare number is seconds at the end, and days before a clock time ("1 04:05:06")
        return _amount(match["number"], "second" if last else "day")
    return _amount(match["number"], unit) if unit in _UNITS else None


def _unread(strings: pa.Array) -> pa.Array:
    if len(strings) == strings.null_count:
        return pa.nulls(len(strings), _ARROW)
    raise pa.ArrowInvalid("no kernel reads intervals")


def _from_text(strings: pa.Array, _: int) -> pa.Array:
    """Read each distinct text once: a column of intervals holds few of them."""
    encoded = pc.dictionary_encode(strings)
    try:
        distinct = read_in_two_speeds(encoded.dictionary, _unread, _parse, _ARROW)
    except BadValue as bad:
        raise BadValue(pc.index(encoded.indices, bad.row).as_py(), bad.error) from None
    return distinct.take(encoded.indices)


def _from_binary(values: BinaryValues | Fixed) -> pa.Array:
    wire, null = join_fixed(values, _WIRE, "interval")
    fields = np.empty(len(wire), _NATIVE)
    fields["months"] = wire["months"]
    fields["days"] = wire["days"]
    too_long = np.abs(wire["microseconds"].astype(np.float64)) >= 2**63 / 1000
    if too_long.any():
        raise BadValue(int(too_long.argmax()), DatetimeFieldOverflow("interval out of range"))
    fields["nanoseconds"] = wire["microseconds"].astype(np.int64) * 1000
    return from_numbers(fields, _ARROW, null)


def _value_to_text(value: bytes) -> str:
    check_width(value, 16, "interval")
    try:
        column = _from_binary([value])
    except BadValue as bad:
        raise bad.error from None
    return str(strings_of(_to_text(column), column)[0])


INTERVAL = Codec(_to_text, _to_binary, _from_text, _from_binary, _value_to_text, _from_binary)
