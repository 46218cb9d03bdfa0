"""Postgres' names of DuckDB's types, as they are shown to people."""

from __future__ import annotations

import re

_TYPE_NAMES = {
    "BIGINT": "bigint",
    "BLOB": "bytea",
    "BOOL": "boolean",
    "DECIMAL": "numeric",
    "DOUBLE": "double precision",
    "FLOAT": "real",
    "HUGEINT": "numeric",
    "INT128": "numeric",
    "INT16": "smallint",
    "INT32": "integer",
    "INT64": "bigint",
    "INT8": "smallint",
    "INTEGER_LITERAL": "integer",
    "STRING_LITERAL": "unknown",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
    "TIMESTAMP": "timestamp without time zone",
    "TIMESTAMPTZ": "timestamp with time zone",
    "TINYINT": "smallint",
    "VARCHAR": "text",
}


def type_name(duckdb_type: str) -> str:
    """Give Postgres' name of a DuckDB type, as it is shown to people."""
    base, bracket, rest = duckdb_type.strip().partition("[")
    name, parenthesis, arguments = base.partition("(")
    shown = _TYPE_NAMES.get(name.strip().upper(), name.strip().lower())
    return f"{shown}{parenthesis}{arguments}{bracket}{rest}"


# in DuckDB's own words; those that are words of English only as capitals
_WORDS = re.compile(
    r"\b(?:(?:U?(?:TINY|SMALL|BIG|HUGE)INT|U?INTEGER(?:_LITERAL)?|U?INT\d+|VARCHAR|STRING_LITERAL|DOUBLE|FLOAT|BOOL(?:EAN)?|BLOB"
    r"|TIMESTAMP(?:TZ| WITH TIME ZONE|_NS|_MS|_S)?|DECIMAL\(\d+,\s?\d+\)|DECIMAL)(?:\[\])*)(?![\w(])"
)


def told_type(duckdb_type: str) -> str:
    """Give the name as PostgreSQL's errors have it: without a precision, and records without their fields."""
    text = duckdb_type.strip()
    base = re.match(r"(?:STRUCT|ROW|TUPLE|MAP)\b", text, re.IGNORECASE)
    if base is not None:
        return ("jsonb" if base[0].upper() == "MAP" else "record") + "[]" * (len(text) - len(text.rstrip("[]")) > 0)
    name, _, rest = text.partition("(")
    brackets = rest.partition(")")[2] if rest else ""
    return type_name(name + brackets) if rest and name.upper() in _WITH_MODIFIERS else type_name(text)


_WITH_MODIFIERS = frozenset({"DECIMAL", "NUMERIC"})


def listed_types(text: str) -> list[str]:
    """Split the types of a call's arguments, as PostgreSQL's errors name them."""
    found, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and not depth:
            found.append(text[start:place])
            start = place + 1
    return [told_type(part) for part in [*found, text[start:]]] if text.strip() else []


def with_types_told(text: str) -> str:
    """Name the types in a line of DuckDB's as Postgres does."""
    return _WORDS.sub(lambda m: told_type(m[0]), text)
