"""Names: which words cannot be one, how one is written back, and which schemas a statement may name.

Rules: an unquoted name folds to lower case (ASCII only, as PostgreSQL does in a UTF-8 database); a user's objects live
in the schema ``public`` of the database ``streamsql``, so a name may be qualified by those two and by nothing else.

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

_WORD = re.compile(r"[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*\Z")
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
