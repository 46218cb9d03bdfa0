"""Names: which words cannot be one, how one is written back, and how a name with its schema is kept as one text.

Rules: an unquoted name folds to lower case (ASCII only, as PostgreSQL does in a UTF-8 database). A statement's names of objects
are one text each, as it was written: ``x`` or ``s.x``, a part with a dot or a quote in it in double quotes. Once it has been
looked up (`plan.naming`), a name is a `Key`: the object's own, by which everything behind the parser knows it.

Specification: https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS and appendix C.
"""

from __future__ import annotations

import re

# Reserved in PostgreSQL (appendix C, "reserved" without "can be function or type"). A name spelled so has to be quoted.
RESERVED = frozenset(
    """
    all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create
    current_catalog current_date current_role current_time current_timestamp current_user default deferrable desc
    distinct do else end except false fetch for foreign from grant group having in initially intersect into lateral
    leading limit localtime localtimestamp not null offset on only or order placing primary references returning select
    session_user some symmetric system_user table then to trailing true union unique user using variadic when where
    window with
    """.split()
)

DATABASE = "streamsql"
DATABASES = frozenset({DATABASE, "postgres"})  # the names that the one database answers to
SCHEMA = "public"
OWN_SCHEMA = "streamsql"  # of the relations in which the server tells of itself


NOTE = "::"  # before the name of a type, among the names that a definition keeps


class Key(str):
    """The name of an object that has been looked up: it is not looked up again."""

    __slots__ = ()


_WORD = re.compile(r"[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*\Z")
_PARTS = re.compile(r'"((?:[^"]|"")*)"|([^."]+)')
_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*\Z")
_UPPER_TO_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def fold(word: str) -> str:
    """Fold an unquoted word to lower case, ASCII letters only."""
    return word.lower() if word.isascii() else word.translate(_UPPER_TO_LOWER)


def is_word(text: str) -> bool:
    """Say whether the text has the form of an unquoted name or keyword."""
    return _WORD.match(text) is not None


def quote_name(name: str) -> str:
    """Write a name as SQL: bare where it reads back the same, else in double quotes."""
    if _PLAIN.match(name) and name not in RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def quote_string(value: str) -> str:
    """Write a string as an SQL literal (standard_conforming_strings: a backslash means itself)."""
    return "'" + value.replace("'", "''") + "'"


def _part(name: str) -> str:
    """Write a part of a name so that it holds no dot outside of quotes."""
    return '"' + name.replace('"', '""') + '"' if "." in name or '"' in name or not name else name


def joined(schema: str | None, name: str) -> str:
    """Write a name, with its schema if it is given one, as one text."""
    return (_part(name) if "." in name else name) if schema is None else f"{_part(schema)}.{_part(name)}"


def parted(name: str) -> tuple[str | None, str]:
    """Take a name that `joined` wrote apart: its schema, None where it has none, and the name itself."""
    if "." not in name:
        return None, name
    parts = [quoted.replace('""', '"') if quoted else plain for quoted, plain in _PARTS.findall(name)]
    return (None, parts[0]) if len(parts) == 1 else (parts[0], parts[1])


def key_of(schema: str, name: str) -> str:
    """Give the text that stands for an object: its name alone in the schema ``public``."""
    return joined(None if schema == SCHEMA else schema, name)


def quote_path(name: str) -> str:
    """Write a name that `joined` wrote as SQL."""
    schema, name = parted(name)
    return quote_name(name) if schema is None else f"{quote_name(schema)}.{quote_name(name)}"
