"""DO: statements to be run one after the other, as migrations write them.

    DO $$ BEGIN
      IF NOT EXISTS (SELECT 1 FROM pg_type WHERE typname = 'mood') THEN CREATE TYPE mood AS ENUM ('ok'); END IF;
      ALTER TABLE t ADD CONSTRAINT c UNIQUE (a);
    EXCEPTION WHEN duplicate_object OR duplicate_table THEN NULL;
    END $$;

That much of PL/pgSQL is read: statements without rows, IF with ELSE, and errors that are passed over. There are no variables,
loops or messages. See https://www.postgresql.org/docs/15/sql-do.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, Union

from streamsql.base.errors import SQLSyntaxError, StreamSQLError, UndefinedObject
from streamsql.sql.statements import (
    CopyFrom,
    CopyTo,
    ExecutePrepared,
    Explain,
    Query,
    Show,
    ShowVariable,
    Statement,
    Subscribe,
    Transaction,
)
from streamsql.sql.tokens import Cursor, tokenize
from streamsql.sql.unsupported import refuse, unsupported

Step: TypeAlias = Union[Statement, "If"]

# the names by which PL/pgSQL knows errors, of those that migrations pass over; `others` are all but a cancellation
CONDITIONS = {
    "duplicate_alias": "42712", "duplicate_column": "42701", "duplicate_object": "42710", "duplicate_schema": "42P06",
    "duplicate_table": "42P07", "undefined_column": "42703", "undefined_object": "42704", "undefined_table": "42P01",
    "undefined_function": "42883", "unique_violation": "23505", "foreign_key_violation": "23503", "check_violation": "23514",
    "not_null_violation": "23502", "invalid_table_definition": "42P16", "invalid_object_definition": "42P17",
    "feature_not_supported": "0A000", "insufficient_privilege": "42501", "object_in_use": "55006",
    "dependent_objects_still_exist": "2BP01", "others": "",
}  # fmt: skip
_CANCELED = "57014"
_OTHER_WORDS = (
    "call", "case", "close", "commit", "continue", "declare", "execute", "exit", "fetch", "for", "foreach", "get", "loop",
    "move", "open", "perform", "raise", "return", "rollback", "while",
)  # fmt: skip
_HINT = "use statements without rows, IF, and EXCEPTION WHEN ... THEN NULL; or send the statements one by one"
_WITH_ROWS = (
    CopyFrom, CopyTo, ExecutePrepared, Explain, Query, Show, ShowVariable, Subscribe, Transaction
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class If:
    """IF condition THEN steps [ELSE steps] END IF; `condition` is a SELECT of one boolean."""

    condition: Query
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class DoBlock(Statement):
    """DO 'body': `passed_over` are the SQLSTATEs of errors that end it silently ("": all but a cancellation)."""

    body: str
    steps: tuple[Step, ...] = ()
    passed_over: frozenset[str] = frozenset()

    def passes_over(self, error: StreamSQLError) -> bool:
        return error.sqlstate in self.passed_over or ("" in self.passed_over and error.sqlstate != _CANCELED)


def parse_do(cursor: Cursor) -> DoBlock:
    """Read DO [LANGUAGE plpgsql] 'body' [LANGUAGE plpgsql]."""
    cursor.expect("do")
    _accept_language(cursor)
    position, body = cursor.position, cursor.expect_string()
    _accept_language(cursor)
    cursor.expect_end()
    tokens = tokenize(body, cursor.limits)
    try:
        inner = Cursor(body, tokens, cursor.limits)
        if not tokens:
            raise SQLSyntaxError("syntax error at end of input")
        if inner.sees("declare"):
            refuse("DECLARE in DO", _HINT, inner)
        inner.expect("begin")
        steps = _steps(inner, "exception", "end")
        passed_over = _passed_over(inner) if inner.accept("exception") else frozenset()
        inner.expect("end")
        inner.accept(";")
        inner.expect_end()
    except StreamSQLError as error:
        error.position = position + 1  # where it stands in the body is not where it stands in the text
        raise
    return DoBlock(*cursor.source, body=body, steps=steps, passed_over=passed_over)


def _accept_language(cursor: Cursor) -> None:
    if cursor.accept("language") and cursor.accept_string() != "plpgsql":
        position = cursor.position
        name = cursor.expect_name()
        if name != "plpgsql":
            raise UndefinedObject(f'language "{name}" does not exist', position=position + 1)


def _passed_over(cursor: Cursor) -> frozenset[str]:
    """Read ``WHEN condition [OR condition ...] THEN NULL;`` once or more."""
    found: set[str] = set()
    while cursor.accept("when"):
        while True:
            if cursor.accept("sqlstate"):
                found.add(cursor.expect_string())
            else:
                name = cursor.accept_word() or cursor.expect_name()
                if name not in CONDITIONS:
                    raise UndefinedObject(f'unrecognized exception condition "{name}"')
                found.add(CONDITIONS[name])
            if not cursor.accept("or"):
                break
        cursor.expect("then")
        if not cursor.accept("null", ";") and not cursor.sees_any("when", "end"):
            refuse("EXCEPTION that does something", _HINT, cursor)
    return frozenset(found)


def _steps(cursor: Cursor, *ends: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    while not cursor.sees_any(*ends):
        if cursor.accept("null", ";"):
            continue
        if cursor.accept("if"):
            steps.append(_if(cursor))
            continue
        word = next((w for w in (*_OTHER_WORDS, "begin") if cursor.sees(w)), None)
        if word is not None or (cursor.rest[1:2] and cursor.rest[1].text in (":=", ":")):
            refuse(f"{(word or 'assigning').upper()} in DO", _HINT, cursor)
        start = cursor.position
        while not cursor.sees(";"):
            cursor.advance()
        steps.append(_statement(cursor, cursor.text[start : cursor.position]))
        cursor.expect(";")
    return tuple(steps)


def _if(cursor: Cursor) -> If:
    start, cases = cursor.position, 0
    while cases or not cursor.sees("then"):
        cases += cursor.sees("case") - cursor.sees("end")
        cursor.advance()
    asked = _statement(cursor, f"SELECT ({cursor.text[start : cursor.position]})", with_rows=True)
    assert isinstance(asked, Query)
    cursor.expect("then")
    then = _steps(cursor, "elsif", "elseif", "else", "end")
    if cursor.sees_any("elsif", "elseif"):
        refuse("ELSIF in DO", "use ELSE IF ... END IF", cursor)
    otherwise = _steps(cursor, "end") if cursor.accept("else") else ()
    cursor.expect("end", "if", ";")
    return If(asked, then, otherwise)


def _statement(cursor: Cursor, text: str, *, with_rows: bool = False) -> Statement:
    from streamsql.sql.parse import parse  # which reads DO

    (made,) = parse(text, cursor.limits)
    if isinstance(made, (DoBlock, *_WITH_ROWS)) and not with_rows:
        raise unsupported(f"{text.split(None, 1)[0].upper()} in DO", _HINT, 0)
    return made
