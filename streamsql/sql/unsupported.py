"""Statements that PostgreSQL or DuckDB has and this server has not: what is said instead, by their first words.

A statement that is in no table at all is a syntax error. The longest row that matches counts.
"""

from __future__ import annotations

from typing import NoReturn

from streamsql.base.errors import FeatureNotSupported
from streamsql.sql.tokens import Cursor

_OBJECTS = "the objects here are streams, tables and materialized views"
_FILES = "the server's files and extensions cannot be reached by SQL"
_REPLACE = "drop it first, then create it again"
_UPKEEP = "leave it away: the server does this by itself"
_ROLES = "use GRANT and REVOKE"
_TRANSACTIONS = "use BEGIN, COMMIT and ROLLBACK"
_NOTIFY = "use SUBSCRIBE to be told of changes"

UNSUPPORTED: dict[tuple[str, ...], tuple[str, str]] = {
    ("alter",): ("ALTER", _REPLACE),
    ("alter", "system"): ("ALTER SYSTEM", "settings of the server are given when it is started"),
    ("alter", "default"): ("ALTER DEFAULT PRIVILEGES", "GRANT on the objects, or GRANT pg_read_all_data TO role"),
    ("alter", "user", "mapping"): ("ALTER USER MAPPING", _OBJECTS),
    ("drop", "user", "mapping"): ("DROP USER MAPPING", _OBJECTS),
    ("attach",): ("ATTACH", _FILES),
    ("call",): ("CALL", _OBJECTS),
    ("create", "or", "replace"): ("CREATE OR REPLACE", _REPLACE),
    ("create", "recursive", "view"): ("CREATE RECURSIVE VIEW", "use CREATE VIEW ... AS WITH RECURSIVE"),
    ("create", "temp", "view"): ("CREATE TEMP VIEW", "use CREATE VIEW, or WITH in the query"),
    ("create", "temporary", "view"): ("CREATE TEMPORARY VIEW", "use CREATE VIEW, or WITH in the query"),
    ("create", "foreign"): ("CREATE FOREIGN", "use CREATE STREAM ... WITH (connector = ...)"),
    ("create", "function"): ("CREATE FUNCTION", _OBJECTS),
    ("create", "procedure"): ("CREATE PROCEDURE", _OBJECTS),
    ("create", "macro"): ("CREATE MACRO", _OBJECTS),
    ("create", "aggregate"): ("CREATE AGGREGATE", _OBJECTS),
    ("create", "trigger"): ("CREATE TRIGGER", "use CREATE MATERIALIZED VIEW and SUBSCRIBE to it"),
    ("create", "rule"): ("CREATE RULE", "use CREATE MATERIALIZED VIEW"),
    ("create", "domain"): ("CREATE DOMAIN", "use one of the built-in types"),
    ("create", "database"): ("CREATE DATABASE", "the one database is streamsql"),
    ("create", "secret"): ("CREATE SECRET", _FILES),
    ("create", "user", "mapping"): ("CREATE USER MAPPING", _OBJECTS),
    ("create", "policy"): ("CREATE POLICY", _ROLES),
    ("create", "publication"): ("CREATE PUBLICATION", _NOTIFY),
    ("create", "subscription"): ("CREATE SUBSCRIPTION", "use CREATE STREAM ... WITH (connector = ...)"),
    ("create", "server"): ("CREATE SERVER", "use CREATE STREAM ... WITH (connector = ...)"),
    ("create", "statistics"): ("CREATE STATISTICS", _UPKEEP),
    ("create", "connection"): ("CREATE CONNECTION", "use CREATE STREAM ... WITH (connector = ...)"),
    ("detach",): ("DETACH", _FILES),
    ("drop", "function"): ("DROP FUNCTION", _OBJECTS),
    ("drop", "database"): ("DROP DATABASE", _OBJECTS),
    ("drop", "trigger"): ("DROP TRIGGER", _OBJECTS),
    ("export",): ("EXPORT", _FILES),
    ("force",): ("FORCE", _UPKEEP),
    ("import",): ("IMPORT", _FILES),
    ("install",): ("INSTALL", _FILES),
    ("kill",): ("KILL", "cancel the query from its own client"),
    ("load",): ("LOAD", _FILES),
    ("optimize",): ("OPTIMIZE", _UPKEEP),
    ("pragma",): ("PRAGMA", "use SET and SHOW"),
    ("prepare", "transaction"): ("PREPARE TRANSACTION", _TRANSACTIONS),
    ("rollback", "prepared"): ("ROLLBACK PREPARED", _TRANSACTIONS),
    ("commit", "prepared"): ("COMMIT PREPARED", _TRANSACTIONS),
    ("security",): ("SECURITY LABEL", _ROLES),
    ("summarize",): ("SUMMARIZE", "use SELECT with aggregates"),
    ("use",): ("USE", "the one database is streamsql"),
}  # fmt: skip
_WORDS_MAX = max(map(len, UNSUPPORTED))


def unsupported(what: str, hint: str, position: int) -> FeatureNotSupported:
    """Make the error for a part of SQL that is known and not supported. `position` is its 0-based offset."""
    return FeatureNotSupported(f"{what} is not supported", hint=hint, position=position + 1)


def refuse_known(cursor: Cursor, known: int) -> None:
    """Raise FeatureNotSupported if the statement's first words, more of them than are `known`, are in the table."""
    for length in range(_WORDS_MAX, known, -1):
        words = tuple(token.text for token in cursor.tokens[:length])
        row = UNSUPPORTED.get(words)
        if row is not None and cursor.sees(*words):
            raise unsupported(*row, cursor.start)


def refuse_here(cursor: Cursor, table: dict[tuple[str, ...], tuple[str, str]]) -> None:
    """Raise FeatureNotSupported if the next words are in `table`, which has the shape of `UNSUPPORTED`."""
    for words, row in table.items():
        if cursor.sees(*words):
            raise unsupported(*row, cursor.position)


def refuse(what: str, hint: str, cursor: Cursor) -> NoReturn:
    """Raise FeatureNotSupported at the cursor."""
    raise unsupported(what, hint, cursor.position)
