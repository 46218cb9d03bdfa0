"""``to_char``, ``to_date``, ``to_timestamp`` and ``to_number`` with patterns that are written out, as DuckDB's SQL.

The patterns are those of https://www.postgresql.org/docs/15/functions-formatting.html. A time's pattern becomes the sum of its
parts; a number's, digits laid out in places.

    to_char(ts, 'FMDDth Mon')     CAST(day(x) AS VARCHAR) || <th> || ' ' || strftime(x, '%b')
    to_char(12.5, '000.0')        ' 012.5'
    to_date(s, 'DD Mon YYYY')     CAST(strptime(s, '%d %b %Y') AS DATE)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sqlglot import exp

from streamsql.base import types as t
from streamsql.base.errors import FeatureNotSupported
from streamsql.base.limits import Limits
from streamsql.base.types import WireType
from streamsql.plan.functions import function_name
from streamsql.plan.result_types import INTEGERS
from streamsql.sql.statements import Statement
from streamsql.sql.tokens import tokenize
from streamsql.sql.trees import position_of

NUMBERS = (*INTEGERS, t.NUMERIC, t.FLOAT4, t.FLOAT8)
_FORMATTERS = frozenset({"to_char", "to_date", "to_number", "to_timestamp"})


def template_of(node: exp.Expr, of: WireType | None, statement: Statement, limits: Limits) -> str | None:
    """Give the SQL of such a call, ``$1`` being its value; None for any other node. Raises FeatureNotSupported."""
    name = function_name(node, statement) if isinstance(node, exp.Func) else None
    if name not in _FORMATTERS or isinstance(node, exp.UnixToTime):
        return None
    pattern = _pattern(node, statement, limits)
    try:
        if name == "to_number":
            return _TO_NUMBER
        if name == "to_date":
            return f"CAST(strptime($1, {_quoted(_strptime(pattern))}) AS DATE)"
        if name == "to_timestamp":
            return f"CAST(strptime($1, {_quoted(_strptime(pattern))}) AS TIMESTAMPTZ)"
        if of in NUMBERS:
            return number_sql(pattern).replace("{x}", "$1")
        return time_sql(pattern, of).replace("{x}", "CAST($1 AS TIMESTAMP)" if of is t.DATE else "$1")
    except FeatureNotSupported as error:
        error.position = position_of(node, statement)
        raise


def _pattern(node: exp.Expr, statement: Statement, limits: Limits) -> str:
    """Give the pattern as the client wrote it: the stock parser has translated some of it."""
    start = node.meta["start"] - statement.position
    depth, commas = 0, 0
    for token in tokenize(statement.text, limits):
        if token.start < start:
            continue
        depth += (token.text == "(") - (token.text == ")") if token.token_type.name != "STRING" else 0
        commas += token.text == "," and depth == 1 and token.token_type.name != "STRING"
        if commas and token.token_type.name == "STRING":
            return token.text
        if depth == 0 and token.text == ")":
            break
    raise FeatureNotSupported(
        f"{function_name(node, statement)} takes a pattern that is written out",
        hint="write it as a string",
        position=position_of(node, statement),
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# ---- times ----

# years are numbered from 0 backwards, and shown from 1 BC on
_YEAR = "CASE WHEN datepart('{part}', {x}) > 0 THEN datepart('{part}', {x}) ELSE 1 - datepart('{part}', {x}) END"
_HOUR12 = "((datepart('hour', {x}) + 11) % 12 + 1)"
_SECONDS_OF_DAY = "(datepart('hour', {x}) * 3600 + datepart('minute', {x}) * 60 + datepart('second', {x}))"
_MICROSECONDS = "(datepart('microseconds', {x}) % 1000000)"
# pattern -> number, and how wide it is without FM
_COUNTED: dict[str, tuple[str, int]] = {
    "YYYY": ("{year}", 4), "YYY": ("({year} % 1000)", 3), "YY": ("({year} % 100)", 2), "Y": ("({year} % 10)", 1),
    "IYYY": ("{isoyear}", 4), "IYY": ("({isoyear} % 1000)", 3), "IY": ("({isoyear} % 100)", 2), "I": ("({isoyear} % 10)", 1),
    "MM": ("datepart('month', {x})", 2), "DD": ("datepart('day', {x})", 2), "DDD": ("datepart('doy', {x})", 3),
    "IDDD": ("((datepart('week', {x}) - 1) * 7 + datepart('isodow', {x}))", 3),
    "D": ("(datepart('dow', {x}) + 1)", 1), "ID": ("datepart('isodow', {x})", 1),
    "WW": ("((datepart('doy', {x}) - 1) // 7 + 1)", 2), "W": ("((datepart('day', {x}) - 1) // 7 + 1)", 1),
    "IW": ("datepart('week', {x})", 2), "Q": ("datepart('quarter', {x})", 1),
    "CC": ("((datepart('year', {x}) + 99) // 100)", 2), "J": ("CAST(floor(datepart('julian', {x})) AS BIGINT)", 1),
    "HH24": ("datepart('hour', {x})", 2), "HH12": (_HOUR12, 2), "HH": (_HOUR12, 2), "MI": ("datepart('minute', {x})", 2),
    "SS": ("datepart('second', {x})", 2), "SSSSS": (_SECONDS_OF_DAY, 1), "SSSS": (_SECONDS_OF_DAY, 1),
    "MS": (f"({_MICROSECONDS} // 1000)", 3), "US": (_MICROSECONDS, 6),
    **{f"FF{n}": (f"({_MICROSECONDS} // {10 ** (6 - n)})", n) for n in range(1, 7)},
}  # fmt: skip
_MORNING = "CASE WHEN datepart('hour', {x}) < 12 THEN 'A{dot}M{dot}' ELSE 'P{dot}M{dot}' END"
_ERA = "CASE WHEN datepart('year', {x}) > 0 THEN 'A{dot}D{dot}' ELSE 'B{dot}C{dot}' END"
_ROMAN = "['I', 'II', 'III', 'IV', 'V', 'VI', 'VII', 'VIII', 'IX', 'X', 'XI', 'XII'][datepart('month', {x})]"
_OFFSET = "strftime({x}, '%z')"
# pattern -> text, and how wide it is without FM (0: as it is)
_WORDS: dict[str, tuple[str, int]] = {
    "MONTH": ("strftime({x}, '%B')", 9), "MON": ("strftime({x}, '%b')", 0), "DAY": ("strftime({x}, '%A')", 9),
    "DY": ("strftime({x}, '%a')", 0), "RM": (_ROMAN, 4), "TZ": ("strftime({x}, '%Z')", 0), "OF": (_OFFSET, 0),
    "TZH": (f"left({_OFFSET}, 3)", 0), "TZM": (f"rpad(replace({_OFFSET}, ':', '')[4:5], 2, '0')", 0),
    **dict.fromkeys(("AM", "PM"), (_MORNING.replace("{dot}", ""), 0)),
    **dict.fromkeys(("A.M.", "P.M."), (_MORNING.replace("{dot}", "."), 0)),
    **dict.fromkeys(("AD", "BC"), (_ERA.replace("{dot}", ""), 0)),
    **dict.fromkeys(("A.D.", "B.C."), (_ERA.replace("{dot}", "."), 0)),
}  # fmt: skip
# what an interval has no such part of
_OF_DATES = frozenset({*_WORDS, "IYYY", "IYY", "IY", "I", "DDD", "IDDD", "D", "ID", "WW", "W", "IW", "J"}) - {
    "AM", "PM", "A.M.", "P.M.",
}  # fmt: skip
_PART = re.compile(
    r'"(?:[^"\\]|\\.)*"|FM|TM|'
    + "|".join(re.escape(p) for p in sorted((*_COUNTED, *_WORDS, "Y,YYY"), key=len, reverse=True)),
    re.IGNORECASE,
)
_ORDINAL = (
    "CASE WHEN {n} % 100 BETWEEN 11 AND 13 THEN 'th' WHEN {n} % 10 = 1 THEN 'st' WHEN {n} % 10 = 2 THEN 'nd' "
    "WHEN {n} % 10 = 3 THEN 'rd' ELSE 'th' END"
)

# pattern -> what `strftime` writes the same with, of a time of a year with four digits, at a fifth of the cost
_STRFTIME = {
    "YYYY": "%Y", "YY": "%y", "MM": "%m", "DD": "%d", "DDD": "%j", "HH24": "%H", "HH12": "%I", "HH": "%I", "MI": "%M",
    "SS": "%S", "MS": "%g", "US": "%f", "FF3": "%g", "FF6": "%f", "IYYY": "%G", "IW": "%V", "ID": "%u",
}  # fmt: skip


def time_sql(pattern: str, of: WireType | None) -> str:
    """Give the SQL of a time in a pattern, ``{x}`` being the time. Raises FeatureNotSupported."""
    written = _time_sql(pattern, of)
    plain = _strftime(pattern) if of in (t.TIMESTAMP, t.TIMESTAMPTZ, t.DATE) else None
    if plain is None:
        return written
    kind = "TIMESTAMPTZ" if of is t.TIMESTAMPTZ else "TIMESTAMP"
    common = f"{{x}} BETWEEN {kind} '1001-01-01' AND {kind} '9998-12-31'"
    return f"CASE WHEN {common} THEN strftime({{x}}, {_quoted(plain)}) ELSE {written} END"


def _strftime(pattern: str) -> str | None:
    """Give a pattern as `strftime` has it; None where it has not all of its parts."""
    made, done = "", 0
    for found in _PART.finditer(pattern):
        code = _STRFTIME.get(found[0].upper())
        if code is None or "{" in pattern or pattern[found.end() : found.end() + 2] in ("TH", "th"):
            return None
        made += pattern[done : found.start()].replace("%", "%%") + code
        done = found.end()
    return made + pattern[done:].replace("%", "%%") if done else None


def _time_sql(pattern: str, of: WireType | None) -> str:
    pieces: list[str] = []
    done, filled = 0, True
    for found in _PART.finditer(pattern):
        if found.start() < done:
            continue
        pieces.append(_plain(pattern[done : found.start()]))
        done = found.end()
        word = found[0]
        if word.startswith('"'):
            pieces.append(_plain(re.sub(r"\\(.)", r"\1", word[1:-1])))
            continue
        if word.upper() in ("FM", "TM"):
            filled = False
            continue
        if of is t.INTERVAL and word.upper() in _OF_DATES:
            raise FeatureNotSupported(f'to_char of an interval has no part "{word}"')
        text, number = _time_part(word, filled)
        pieces.append(text)
        suffix = pattern[done : done + 2]
        if suffix in ("TH", "th") and number is not None:
            ordinal = _ORDINAL.format(n=number.replace("{x}", "{{x}}")).replace("{{x}}", "{x}")
            pieces.append(f"upper({ordinal})" if suffix == "TH" else ordinal)
            done += 2
        filled = True
    pieces.append(_plain(pattern[done:]))
    made = " || ".join(p for p in pieces if p != "''") or "''"
    for part in ("year", "isoyear"):
        number = f"datepart('{part}', {{x}})" if of is t.INTERVAL else f"({_YEAR.replace('{part}', part)})"
        made = made.replace(f"{{{part}}}", number)
    return made


def _plain(text: str) -> str:
    """Write text that stands in a pattern, so that nothing in it is taken for a place that is filled in."""
    return _quoted(text).replace("{", "{' || '")


def _time_part(word: str, filled: bool) -> tuple[str, str | None]:
    """Give the SQL of one part, and of the number that it is, if it is one."""
    key = word.upper()
    if key == "Y,YYY":
        return "({year} // 1000) || ',' || lpad(CAST({year} % 1000 AS VARCHAR), 3, '0')", None
    if key in _COUNTED:
        number, width = _COUNTED[key]
        text = f"CAST({number} AS VARCHAR)"
        padded = f"lpad({text}, CAST(greatest({width}, length({text})) AS INTEGER), '0')"
        return padded if filled and width > 1 else text, number
    text, width = _WORDS[key]
    if word.islower():
        text = f"lower({text})"
    elif word.isupper() or not word.isalpha():
        text = f"upper({text})"
    return (f"rpad({text}, {width}, ' ')" if filled and width else text), None


# ---- reading ----

_STRPTIME = {
    "YYYY": "%Y", "YY": "%y", "MM": "%m", "DD": "%d", "DDD": "%j", "HH24": "%H", "HH12": "%I", "HH": "%I", "MI": "%M",
    "SS": "%S", "MS": "%g", "US": "%f", "AM": "%p", "PM": "%p", "MON": "%b", "MONTH": "%B", "DAY": "%A", "DY": "%a",
    "TZH": "%z", "IYYY": "%G", "IW": "%V", "ID": "%u", "TZ": "%Z", "OF": "%z",
}  # fmt: skip


def _strptime(pattern: str) -> str:
    made, done = "", 0
    for found in _PART.finditer(pattern):
        made += pattern[done : found.start()].replace("%", "%%")
        done = found.end()
        word = found[0]
        if word.startswith('"'):
            made += word[1:-1].replace("%", "%%")
        elif word.upper() not in ("FM", "TM"):
            part = _STRPTIME.get(word.upper())
            if part is None:
                raise FeatureNotSupported(f'pattern "{word}" is not supported for reading')
            made += part
    return made + pattern[done:].replace("%", "%%")


_TO_NUMBER = (
    "CAST(CASE WHEN regexp_matches($1, '[-<]') THEN '-' ELSE '' END || regexp_replace($1, '[^0-9.]', '', 'g') "
    "AS DECIMAL(38,10))"
)


# ---- numbers ----

_NUMBER_PART = re.compile(r'"(?:[^"\\]|\\.)*"|FM|MI|PL|PR|SG|TH|RN|EEEE|[90.,DGSLVBC]|.', re.IGNORECASE | re.DOTALL)


@dataclass(slots=True)
class _Layout:
    """A number's pattern: what stands before the point and behind it, and how the sign is shown."""

    integer: list[str] = field(default_factory=list)  # "9", "0", ",", or a text in quotes
    fraction: list[str] = field(default_factory=list)
    prefix: str = ""
    suffix: str = ""
    sign: str = ""  # "", or S, MI, PR, SG or PL, with < or > behind it: before or after the digits
    filled: bool = True
    point: bool = False
    scale: int = 0  # digits behind V
    ordinal: str = ""
    exponent: bool = False
    shifted: bool = False

    @property
    def digits(self) -> int:
        return sum(c in ("9", "0") for c in self.integer)


def number_sql(pattern: str) -> str:
    """Give the SQL of a number in a pattern, ``{x}`` being the number. Raises FeatureNotSupported."""
    if pattern.upper().removeprefix("FM") == "RN":
        return _roman(pattern)
    layout = _read(pattern)
    if layout.exponent:
        return f"printf('% .{len(layout.fraction)}e', CAST({{x}} AS DOUBLE))"
    value = f"{{x}} * {10**layout.scale}" if layout.scale else "{x}"
    places = sum(c in ("9", "0") for c in layout.fraction)
    rounded = f"CAST(round(CAST(abs({value}) AS DECIMAL(38,{max(places, 10)})), {places}) AS DECIMAL(38,{places}))"
    text = f"CAST({rounded} AS VARCHAR)"
    # the integer part without zeros, in its places; the digits are looked at as __d
    whole = "split_part(__d, '.', 1)"
    keep_zero = "" if places == 0 and not layout.point else f"CASE WHEN {whole} = '0' THEN '' ELSE {whole} END"
    body = _integer(layout, keep_zero or whole) + _fraction(layout)
    overflow = "".join("#" if c in ("9", "0") else "," if c == "," else "" for c in layout.integer)
    overflow += ("." if layout.point else "") + "#" * places
    digits = (
        f"list_transform([{text}], lambda __d: CASE WHEN length({whole}) > {layout.digits} "
        f"AND {whole} <> '0' THEN {_quoted(overflow)} ELSE {body} END)[1]"
    )
    return _signed(layout, digits)


def _read(pattern: str) -> _Layout:
    layout = _Layout()
    for found in _NUMBER_PART.finditer(pattern):
        part, key = found[0], found[0].upper()
        began = bool(layout.integer or layout.point)
        if key == "FM":
            layout.filled = False
        elif key in ("9", "0"):
            (layout.fraction if layout.point else layout.integer).append(key)
            layout.scale += layout.shifted
        elif key in (".", "D"):
            layout.point = True
        elif key in (",", "G"):
            layout.integer.append(",")
        elif key in ("S", "MI", "PR", "SG", "PL"):
            layout.sign = key + (">" if began else "<")
        elif key == "TH":
            layout.ordinal = part
        elif key == "EEEE":
            layout.exponent = True
        elif key == "V":
            layout.shifted = True
        elif key in ("RN", "B", "C") and not part.startswith('"'):
            raise FeatureNotSupported(f'to_char pattern "{part}" is not supported')
        else:
            text = " " if key == "L" else part[1:-1] if part.startswith('"') else part
            if not layout.filled and key == "L":
                continue
            layout.prefix, layout.suffix = (
                (layout.prefix, layout.suffix + text) if began else (layout.prefix + text, layout.suffix)
            )
    return layout


def _integer(layout: _Layout, whole: str) -> str:
    """Lay the integer part out: blanks up to the first digit, or zeros from the first 0 of the pattern on."""
    count = layout.digits
    if not count:
        return "''"
    marks = [c for c in layout.integer if c in ("9", "0")]
    zeros = count - marks.index("0") if "0" in marks else 0
    padded = (
        f"lpad(CASE WHEN length({whole}) < {zeros} THEN lpad({whole}, {zeros}, '0') ELSE {whole} END, {count}, ' ')"
    )
    if "," not in layout.integer:
        return padded
    pieces: list[str] = []
    place = 0
    for mark in layout.integer:
        if mark == ",":
            pieces.append(f"CASE WHEN substr(__p, {max(place, 1)}, 1) = ' ' THEN ' ' ELSE ',' END")
        else:
            place += 1
            pieces.append(f"substr(__p, {place}, 1)")
    return f"list_transform([{padded}], lambda __p: {' || '.join(pieces)})[1]"


def _fraction(layout: _Layout) -> str:
    if not layout.point:
        return ""
    digits = "split_part(__d, '.', 2)"
    if not layout.filled:
        kept = max((i + 1 for i, c in enumerate(layout.fraction) if c == "0"), default=0)
        digits = f"left({digits}, CAST(greatest({kept}, length(rtrim({digits}, '0'))) AS INTEGER))"
    return f" || '.' || {digits}"


def _signed(layout: _Layout, digits: str) -> str:
    kind, after = layout.sign[:-1], layout.sign.endswith(">")
    blank = "' '" if layout.filled else "''"
    minus = f"CASE WHEN {{x}} < 0 THEN '-' ELSE {blank} END"
    either = "CASE WHEN {x} < 0 THEN '-' ELSE '+' END"
    bare = "__b" if layout.filled else "ltrim(__b)"

    def before(sign: str) -> str:
        """Put a sign right before the first digit, in a column of its own."""
        if not layout.filled:
            return f"{sign} || ltrim(__b)"
        return f"lpad({sign} || ltrim(__b), CAST(length(__b) + 1 AS INTEGER), ' ')"

    if kind == "S":
        shown = f"{bare} || {either}" if after else before(either)
    elif kind == "SG":
        shown = f"{bare} || {either}" if after else f"{either} || {bare}"
    elif kind == "MI":
        shown = f"{bare} || {minus}" if after else f"{minus} || {bare}"
    elif kind == "PR":
        opened = before(f"CASE WHEN {{x}} < 0 THEN '<' ELSE {blank} END")
        shown = f"{opened} || CASE WHEN {{x}} < 0 THEN '>' ELSE {blank} END"
    elif kind == "PL":
        plus = f"CASE WHEN {{x}} >= 0 THEN '+' ELSE {blank} END"
        shown = f"{before(minus)} || {plus}" if after else f"{plus} || {before(minus)}"
    else:
        shown = before(minus)
    made = f"list_transform([{digits}], lambda __b: {shown})[1]"
    if layout.ordinal:
        number = "CAST({x} AS BIGINT)"
        suffix = "CASE WHEN {x} >= 0 THEN " + _ORDINAL.replace("{n}", number) + " ELSE '' END"
        made += f" || upper({suffix})" if layout.ordinal.isupper() else f" || {suffix}"
    if layout.prefix:
        made = f"{_quoted(layout.prefix)} || {made}"
    return f"{made} || {_quoted(layout.suffix)}" if layout.suffix else made


_ROMAN_DIGITS = (
    ("'', 'M', 'MM', 'MMM'", 1000),
    ("'', 'C', 'CC', 'CCC', 'CD', 'D', 'DC', 'DCC', 'DCCC', 'CM'", 100),
    ("'', 'X', 'XX', 'XXX', 'XL', 'L', 'LX', 'LXX', 'LXXX', 'XC'", 10),
    ("'', 'I', 'II', 'III', 'IV', 'V', 'VI', 'VII', 'VIII', 'IX'", 1),
)


def _roman(pattern: str) -> str:
    number = "CAST({x} AS BIGINT)"
    parts = " || ".join(f"[{names}][{number} // {size} % 10 + 1]" for names, size in _ROMAN_DIGITS)
    text = f"CASE WHEN {number} BETWEEN 1 AND 3999 THEN {parts} ELSE '###############' END"
    if pattern.islower():
        text = f"lower({text})"
    return text if pattern.upper().startswith("FM") else f"lpad({text}, 15, ' ')"
