"""Statements about the session: SHOW, SET, RESET, DESCRIBE, VERIFY, transactions, DISCARD."""

from __future__ import annotations

from sqlglot.tokens import TokenType

from streamsql.sql.names import quote_name
from streamsql.sql.statements import (
    Describe,
    Discard,
    Refresh,
    SetVariable,
    Show,
    ShowKind,
    ShowVariable,
    Statement,
    Transaction,
    TransactionVerb,
    Verify,
)
from streamsql.sql.tokens import Cursor
from streamsql.sql.unsupported import refuse

SHOW_KINDS: dict[tuple[str, ...], ShowKind] = {
    ("streams",): ShowKind.STREAMS,
    ("sources",): ShowKind.STREAMS,
    ("tables",): ShowKind.TABLES,
    ("views",): ShowKind.VIEWS,
    ("materialized", "views"): ShowKind.VIEWS,
    ("sinks",): ShowKind.SINKS,
    ("queries",): ShowKind.QUERIES,
}
# spellings of variables that are more than one word
VARIABLE_WORDS: dict[tuple[str, ...], str] = {
    ("time", "zone"): "timezone",
    ("transaction", "isolation", "level"): "transaction_isolation",
    ("session", "authorization"): "session_authorization",
}
TRANSACTION_MODES: tuple[tuple[str, ...], ...] = (
    ("isolation", "level", "serializable"),
    ("isolation", "level", "repeatable", "read"),
    ("isolation", "level", "read", "committed"),
    ("isolation", "level", "read", "uncommitted"),
    ("read", "write"),
    ("read", "only"),
    ("not", "deferrable"),
    ("deferrable",),
)
TRANSACTION_VERBS: dict[str, TransactionVerb] = {
    "begin": TransactionVerb.BEGIN,
    "start": TransactionVerb.BEGIN,
    "commit": TransactionVerb.COMMIT,
    "end": TransactionVerb.COMMIT,
    "rollback": TransactionVerb.ROLLBACK,
    "abort": TransactionVerb.ROLLBACK,
    "savepoint": TransactionVerb.SAVEPOINT,
    "release": TransactionVerb.RELEASE,
}


def parse_show(cursor: Cursor) -> Statement:
    """Read SHOW of objects or of a session variable."""
    cursor.expect("show")
    for words, kind in SHOW_KINDS.items():
        if cursor.accept(*words):
            cursor.expect_end()
            return Show(*cursor.source, kind=kind)
    name = "all" if cursor.accept("all") else _expect_variable(cursor)
    cursor.expect_end()
    return ShowVariable(*cursor.source, name=name)


def parse_set(cursor: Cursor) -> SetVariable:
    """Read SET in all its forms."""
    cursor.expect("set")
    if cursor.accept("session", "characteristics", "as", "transaction"):
        return _finish_set(cursor, "session_characteristics", _expect_modes(cursor))
    if cursor.accept("transaction"):
        if cursor.sees("snapshot"):
            refuse("SET TRANSACTION SNAPSHOT", "leave it away: each transaction has its own", cursor)
        return _finish_set(cursor, "transaction", _expect_modes(cursor))
    local = False
    if not cursor.sees("session", "authorization"):
        local = cursor.accept_any("session", "local") == "local"
    if cursor.accept("names"):
        value = None if cursor.accept("default") else _expect_value(cursor)
        return _finish_set(cursor, "client_encoding", value, local=local)
    if cursor.accept("time", "zone"):
        value = None if cursor.accept_any("local", "default") else _expect_time_zone(cursor)
        return _finish_set(cursor, "timezone", value, local=local)
    if cursor.accept("session", "authorization"):
        value = None if cursor.accept("default") else _expect_value(cursor)
        return _finish_set(cursor, "session_authorization", value, local=local)
    if cursor.sees("role") and not (cursor.sees("role", "=") or cursor.sees("role", "to")):
        cursor.expect("role")
        return _finish_set(cursor, "role", _expect_value(cursor), local=local)
    name = _expect_variable(cursor)
    if cursor.accept_any("=", "to") is None:
        raise cursor.error()
    if cursor.accept("default"):
        return _finish_set(cursor, name, None, local=local)
    values = cursor.expect_listed(lambda: _expect_value(cursor))
    return _finish_set(cursor, name, ", ".join(values), local=local)


def _finish_set(cursor: Cursor, name: str, value: str | None, *, local: bool = False) -> SetVariable:
    cursor.expect_end()
    return SetVariable(*cursor.source, name=name, value=value, local=local)


def parse_reset(cursor: Cursor) -> SetVariable:
    """Read RESET name | ALL."""
    cursor.expect("reset")
    name = "all" if cursor.accept("all") else _expect_variable(cursor)
    cursor.expect_end()
    return SetVariable(*cursor.source, name=name, value=None, reset=True)


def _expect_variable(cursor: Cursor) -> str:
    for words, name in VARIABLE_WORDS.items():
        if cursor.accept(*words):
            return name
    parts = [cursor.expect_name()]
    while cursor.accept("."):
        parts.append(cursor.expect_name())
    return ".".join(parts).lower()


def _expect_value(cursor: Cursor) -> str:
    """Read one value of SET: a string, a number, or a word (a name that needs its quotes keeps them)."""
    token = cursor.peek
    if token is not None and token.token_type is TokenType.IDENTIFIER:
        return quote_name(cursor.expect_name())
    for accept in (cursor.accept_string, cursor.accept_number, cursor.accept_word):
        value = accept()
        if value is not None:
            return value
    raise cursor.error()


def _expect_time_zone(cursor: Cursor) -> str:
    if cursor.accept("interval"):
        value = cursor.expect_string()
        if cursor.accept("hour", "to"):
            cursor.expect("minute")
        return value
    return _expect_value(cursor)


def _expect_modes(cursor: Cursor) -> str:
    """Read transaction modes, as their words. Raises SQLSyntaxError where there is none."""
    modes = _accept_modes(cursor)
    if not modes:
        raise cursor.error()
    return modes


def _accept_modes(cursor: Cursor) -> str:
    found: list[str] = []
    while True:
        mode = next((words for words in TRANSACTION_MODES if cursor.accept(*words)), None)
        if mode is None:
            _refuse_half_mode(cursor)
            return ", ".join(found)
        found.append(" ".join(mode))
        if cursor.accept(",") and not any(cursor.sees(*words) for words in TRANSACTION_MODES):
            raise cursor.error()


def _refuse_half_mode(cursor: Cursor) -> None:
    """Raise SQLSyntaxError behind the words that begin a mode, where it goes on wrong."""
    for words in TRANSACTION_MODES:
        for length in range(len(words) - 1, 0, -1):
            if cursor.accept(*words[:length]):
                raise cursor.error()


def parse_describe(cursor: Cursor) -> Describe:
    """Read DESCRIBE name or DESC name."""
    if cursor.accept_any("describe", "desc") is None:
        raise cursor.error()
    position = cursor.position
    name = cursor.expect_object_name()
    cursor.expect_end()
    return Describe(*cursor.source, name=name, name_position=position)


def parse_verify(cursor: Cursor) -> Verify:
    """Read VERIFY MATERIALIZED VIEW name."""
    cursor.expect("verify")
    _ = cursor.accept("materialized")
    cursor.expect("view")
    position = cursor.position
    name = cursor.expect_object_name()
    cursor.expect_end()
    return Verify(*cursor.source, name=name, name_position=position)


def parse_refresh(cursor: Cursor) -> Refresh:
    """Read REFRESH MATERIALIZED VIEW [CONCURRENTLY] name [WITH DATA]."""
    cursor.expect("refresh", "materialized", "view")
    cursor.accept("concurrently")
    position = cursor.position
    name = cursor.expect_object_name()
    if cursor.sees("with", "no", "data"):
        refuse("WITH NO DATA", "drop the view: one that exists is kept up to date", cursor)
    cursor.accept("with", "data")
    cursor.expect_end()
    return Refresh(*cursor.source, name=name, name_position=position)


def parse_transaction(cursor: Cursor) -> Transaction:
    """Read BEGIN, START TRANSACTION, COMMIT, END, ROLLBACK [TO], ABORT, SAVEPOINT, RELEASE."""
    word = cursor.advance().text
    verb = TRANSACTION_VERBS[word]
    if verb in (TransactionVerb.SAVEPOINT, TransactionVerb.RELEASE):
        return _savepoint(cursor, verb)
    if word == "start":
        cursor.expect("transaction")
    else:
        cursor.accept_any("work", "transaction")
    if word == "rollback" and cursor.accept("to"):
        return _savepoint(cursor, TransactionVerb.ROLLBACK_TO)
    modes, chain = "", False
    if verb is TransactionVerb.BEGIN:
        modes = _accept_modes(cursor).upper()
    elif not cursor.accept("and", "no", "chain"):
        chain = cursor.accept("and", "chain")
    cursor.expect_end()
    return Transaction(*cursor.source, verb=verb, modes=modes, chain=chain)


def _savepoint(cursor: Cursor, verb: TransactionVerb) -> Transaction:
    if verb is not TransactionVerb.SAVEPOINT:
        cursor.accept("savepoint")
    name = cursor.expect_name()
    cursor.expect_end()
    return Transaction(*cursor.source, verb=verb, name=name)


def parse_discard(cursor: Cursor) -> Discard:
    """Read DISCARD ALL | PLANS | SEQUENCES | TEMP | TEMPORARY."""
    cursor.expect("discard")
    what = cursor.accept_any("all", "plans", "sequences", "temp", "temporary")
    if what is None:
        raise cursor.error()
    cursor.expect_end()
    return Discard(*cursor.source, what="temp" if what == "temporary" else what)
