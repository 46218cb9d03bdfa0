"""Operators and functions that DuckDB has under the same name and computes otherwise: as PostgreSQL computes them.

    7 / 2                   3: integers are divided as integers        x / 0       error 22012, also of floating-point numbers
    round(2.5::float8)      2: to the nearest even                     'a_c' LIKE 'a\\_c'     a backslash escapes
    id = ANY ('{1,2}')      the array is read by the type of id        to_char(ts, 'FMMonth')     PostgreSQL's patterns

What an operation is depends on the types of its operands. These are found before the tree changes (`note`) and kept in the
nodes' `meta`; `apply` then writes the operations.
"""

from __future__ import annotations

import re

import sqlglot
from sqlglot import exp

from streamsql.base import types as t
from streamsql.base.errors import FeatureNotSupported
from streamsql.base.limits import Limits
from streamsql.plan import postgres_functions
from streamsql.plan.functions import function_name
from streamsql.plan.result_types import INTEGERS, ResultTypes
from streamsql.sql.statements import Statement
from streamsql.sql.tokens import tokenize
from streamsql.sql.trees import position_of

_DIVISION, _HALF_EVEN, _ELEMENT, _PATTERN = "division", "half_even", "element", "pattern"
_FLOATS = (t.FLOAT4, t.FLOAT8)
_DIVIDERS = (exp.Div, exp.Mod)


def note(tree: exp.Expr, statement: Statement, types: ResultTypes, limits: Limits) -> None:
    """Write down in the nodes what their operands' types make of them."""
    postgres_functions.note(tree, statement, types)
    for node in tree.walk():
        if isinstance(node, _DIVIDERS):
            operands = (types.type_of(node.this), types.type_of(node.expression))
            node.meta[_DIVISION] = "integers" if all(o in INTEGERS for o in operands) else "numbers"
        elif isinstance(node, exp.Round) and node.args.get("decimals") is None:
            node.meta[_HALF_EVEN] = types.type_of(node.this) in _FLOATS
        elif isinstance(node, (exp.Any, exp.Anonymous)) and isinstance(node.parent, exp.Binary):
            compared = types.type_of(node.parent.this)
            node.meta[_ELEMENT] = compared.name if compared in INTEGERS or compared in (t.FLOAT8, t.NUMERIC) else None
        elif isinstance(node, exp.TimeToStr) and function_name(node, statement) == "to_char":
            if types.type_of(node.this) in (*INTEGERS, *_FLOATS, t.NUMERIC, t.INTERVAL):
                raise FeatureNotSupported(
                    "to_char of a number or an interval is not supported",
                    hint="round it, and cast it to text",
                    position=position_of(node, statement),
                )
            node.meta[_PATTERN] = _pattern(node, statement, limits)


def apply(tree: exp.Expr, statement: Statement) -> None:
    """Write the operations as DuckDB computes them; the tree is changed."""
    for node in reversed(list(tree.walk())):
        if postgres_functions.apply(node):
            continue
        if node.meta.get(_DIVISION):
            _divide(node)
        elif node.meta.get(_HALF_EVEN):
            node.replace(exp.Anonymous(this="round_even", expressions=[node.this, exp.Literal.number(0)]))
        elif isinstance(node, (exp.Like, exp.ILike)) and not isinstance(node.parent, exp.Escape):
            _escape(node)
        elif isinstance(node, exp.SimilarTo):
            _match(node, statement)
        elif isinstance(node, (exp.JSONBExtract, exp.JSONBExtractScalar)):
            _walk_json(node)
        elif isinstance(node, exp.TimeToStr) and node.meta.get(_PATTERN) is not None:
            node.replace(_to_char(node, str(node.meta[_PATTERN]), statement))
        elif node.meta.get(_ELEMENT):
            array = node.find(exp.Array)
            if array is not None and all(isinstance(i, exp.Literal) and i.is_string for i in array.expressions):
                array.replace(exp.cast(array.copy(), f"{node.meta[_ELEMENT]}[]", dialect="postgres"))


def _divide(node: exp.Expr) -> None:
    divisor = node.expression
    bare = divisor.unnest()
    if not (isinstance(bare, exp.Literal) and bare.name.strip("0.")):  # what is plainly not zero needs no question
        asked = "CASE WHEN x = 0 THEN error('division by zero') ELSE x END"
        node.set("expression", exp.paren(_with(asked, x=divisor)))
    if isinstance(node, exp.Div) and node.meta[_DIVISION] == "integers":
        node.replace(exp.IntDiv(this=_grouped(node.this), expression=_grouped(node.expression)))


def _grouped(node: exp.Expr) -> exp.Expr:
    return node.copy() if isinstance(node, (exp.Column, exp.Literal, exp.Paren)) else exp.paren(node)


def _with(sql: str, **parts: exp.Expr) -> exp.Expr:
    made = sqlglot.parse_one(sql, read="duckdb")
    for column in list(made.find_all(exp.Column)):
        if column.name in parts and not column.table:
            column.replace(_grouped(parts[column.name]))
    return made


def _escape(node: exp.Like | exp.ILike) -> None:
    pattern = node.expression.unnest()
    if isinstance(pattern, (exp.Any, exp.All)) or (isinstance(pattern, exp.Literal) and "\\" not in pattern.name):
        return
    node.replace(exp.Escape(this=node.copy(), expression=exp.Literal.string("\\")))


def _match(node: exp.SimilarTo, statement: Statement) -> None:
    """Write SIMILAR TO as a match of the whole text with a regular expression."""
    pattern = node.expression.unnest()
    if not isinstance(pattern, exp.Literal):
        raise FeatureNotSupported(
            "SIMILAR TO takes a pattern that is written out",
            hint="use LIKE, or ~",
            position=position_of(node, statement),
        )
    expression = "".join(_SIMILAR.get(c, c) for c in pattern.name)
    match = exp.Anonymous(
        this="regexp_full_match", expressions=[node.this.copy(), exp.Literal.string(f"(?s){expression}")]
    )
    node.replace(match)


def _walk_json(node: exp.Expr) -> None:
    """Write ``x #>> '{a,0}'`` with a path as DuckDB writes one."""
    path = node.expression.unnest()
    if isinstance(path, exp.Literal) and path.is_string:
        steps = [step.strip(' "') for step in path.name.strip("{} ").split(",")]
        text = "$" + "".join(f"[{s}]" if s.isdecimal() else f'."{s}"' for s in steps if s)
        name = "json_extract_string" if isinstance(node, exp.JSONBExtractScalar) else "json_extract"
        node.replace(exp.Anonymous(this=name, expressions=[node.this.copy(), exp.Literal.string(text)]))


_SIMILAR = {"%": ".*", "_": ".", ".": r"\.", "^": r"\^", "$": r"\$"}


# ---- to_char ----


def _pattern(node: exp.TimeToStr, statement: Statement, limits: Limits) -> str | None:
    """Give the pattern of to_char as the client wrote it: the stock parser has translated some of it."""
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
        "to_char takes a pattern that is written out",
        hint="write it as a string",
        position=position_of(node, statement),
    )


# pattern -> strftime's, or an expression of x
_TIME_PARTS: dict[str, str] = {
    "YYYY": "%Y", "YY": "%y", "IYYY": "%G", "MM": "%m", "DD": "%d", "DDD": "%j", "HH24": "%H", "HH12": "%I", "HH": "%I",
    "MI": "%M", "SS": "%S", "MS": "%g", "US": "%f", "IW": "%V", "ID": "%u", "Mon": "%b", "Dy": "%a", "AM": "%p", "PM": "%p",
    "FMMonth": "%B", "FMDay": "%A", "FMDD": "%-d", "FMMM": "%-m", "FMHH24": "%-H", "FMHH12": "%-I", "FMMI": "%-M",
    "FMSS": "%-S", "Month": "rpad(strftime(x, '%B'), 9, ' ')", "Day": "rpad(strftime(x, '%A'), 9, ' ')",
    "MONTH": "rpad(upper(strftime(x, '%B')), 9, ' ')", "DAY": "rpad(upper(strftime(x, '%A')), 9, ' ')",
    "month": "rpad(lower(strftime(x, '%B')), 9, ' ')", "day": "rpad(lower(strftime(x, '%A')), 9, ' ')",
    "FMMONTH": "upper(strftime(x, '%B'))", "FMDAY": "upper(strftime(x, '%A'))", "MON": "upper(strftime(x, '%b'))",
    "mon": "lower(strftime(x, '%b'))", "DY": "upper(strftime(x, '%a'))", "dy": "lower(strftime(x, '%a'))",
    "am": "lower(strftime(x, '%p'))", "pm": "lower(strftime(x, '%p'))", "Q": "CAST(quarter(x) AS VARCHAR)",
    "D": "CAST(dayofweek(x) + 1 AS VARCHAR)", "WW": "lpad(CAST((dayofyear(x) - 1) // 7 + 1 AS VARCHAR), 2, '0')",
    "W": "CAST((day(x) - 1) // 7 + 1 AS VARCHAR)", "TZ": "%Z",
}  # fmt: skip
_ANY_CASE = {
    "yyyy",
    "yy",
    "iyyy",
    "mm",
    "dd",
    "ddd",
    "hh24",
    "hh12",
    "hh",
    "mi",
    "ss",
    "ms",
    "us",
    "iw",
    "id",
    "q",
    "d",
    "ww",
}
_TIME_PARTS |= {part: _TIME_PARTS[part.upper()] for part in _ANY_CASE}
_REFUSED_PARTS = (
    "SSSS",
    "CC",
    "J",
    "RM",
    "OF",
    "TZH",
    "B.C.",
    "A.M.",
    "P.M.",
    "BC",
    "AD",
    "TM",
    "TH",
    "th",
    "FM",
    "FX",
    "FF",
)
_PART = re.compile(
    '"((?:[^"\\\\]|\\\\.)*)"|'
    + "|".join(map(re.escape, sorted((*_TIME_PARTS, *_REFUSED_PARTS), key=len, reverse=True)))
)


def _to_char(node: exp.TimeToStr, pattern: str, statement: Statement) -> exp.Expr:
    pieces: list[str] = []
    plain, done = "", 0
    for found in _PART.finditer(pattern):
        plain += pattern[done : found.start()].replace("%", "%%")
        done = found.end()
        if found[1] is not None:
            plain += found[1].replace("%", "%%")
            continue
        part = _TIME_PARTS.get(found[0])
        if part is None:
            raise FeatureNotSupported(
                f'to_char pattern "{found[0]}" is not supported', position=position_of(node, statement)
            )
        if part.startswith("%"):
            plain += part
        else:
            pieces += [_formatted(plain), part]
            plain = ""
    pieces.append(_formatted(plain + pattern[done:].replace("%", "%%")))
    return exp.paren(_with(" || ".join(p for p in pieces if p) or "''", x=node.this))


def _formatted(plain: str) -> str:
    return f"strftime(x, '{plain.replace(chr(39), chr(39) * 2)}')" if plain else ""
