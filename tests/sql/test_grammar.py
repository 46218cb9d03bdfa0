"""The grammar in `grammar/` and the parser agree: what the one draws, the other reads, writes, and reads again the same."""

from __future__ import annotations

import functools
from pathlib import Path

import lark
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from hypothesis.extra.lark import from_lark
from lark.lexer import PatternStr, TerminalDef

from streamsql.base.errors import DuplicateColumn, StreamSQLError, UndefinedParameter
from streamsql.base.limits import Limits
from streamsql.sql.names import RESERVED
from streamsql.sql.parse import parse
from streamsql.sql.render import render, same
from streamsql.sql.render_trees import duckdb_sql
from streamsql.sql.statements import Query

LIMITS = Limits()
GRAMMAR = Path(__file__).parents[2] / "grammar" / "streamsql.lark"

# words that mean something where a name may stand too: a person would quote them, and so does `taken`
TAKEN = RESERVED | {"stream", "interval", "row", "values", "session", "time", "date", "if", "local", "public"}
WORD = st.from_regex(r"[a-z][a-z0-9_]{2,5}", fullmatch=True).map(lambda word: word + "_")
QUOTED = st.text(st.sampled_from('abC $,();é"'), min_size=1, max_size=5).map(
    lambda name: f'"{name.replace(chr(34), chr(34) * 2)}"'
)
TERMINALS: dict[str, st.SearchStrategy[str]] = {
    "NAME": st.one_of(WORD, WORD.map(str.upper), st.sampled_from(["price", "Symbol", "emit", "watermark_"]), QUOTED),
    "STRING": st.text(st.sampled_from("ab';,()-\n\\$1é\" "), max_size=6).map(
        lambda text: "'" + text.replace("'", "''") + "'"
    ),
    "NUMBER": st.sampled_from(["0", "1", "42", "1.5", "10.", "1e3", "2.5E-3"]),
    "PARAMETER": st.integers(1, 9).map("${}".format),
    "DURATION": st.builds(
        "'{} {}'".format, st.integers(1, 99), st.sampled_from(["second", "minutes", "hours", "day", "weeks"])
    ),
    "EVENT_TIME": st.just("ts"),
    "WS": st.sampled_from([" ", "\n", "\t", " /* ; ' */ ", " -- it's\n"]),
}


@functools.cache
def grammar() -> lark.Lark:
    """Give the grammar with its parser: ten seconds, which not every process that looks for tests should spend."""
    return lark.Lark.open(str(GRAMMAR), parser="earley", maybe_placeholders=False)


def drawn(terminal: TerminalDef) -> st.SearchStrategy[str]:
    """Draw a terminal between blanks: Hypothesis puts none of its own between words."""
    if isinstance(terminal.pattern, PatternStr):
        word = terminal.pattern.value
        if word in (".", ";", ":"):
            return st.just(word)
        words = [word, word.lower(), word.title()] if terminal.pattern.flags else [word]
        return st.sampled_from([f" {written} " for written in words])
    return TERMINALS[terminal.name.rpartition("__")[2]].map(" {} ".format)


def statements() -> st.SearchStrategy[str]:
    return from_lark(grammar(), explicit={terminal.name: drawn(terminal) for terminal in grammar().terminals})


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.deferred(statements))
def test_a_statement_of_the_grammar_parses_renders_and_parses_to_the_same(text: str) -> None:
    try:
        (statement,) = parse(text, LIMITS)
    except (DuplicateColumn, UndefinedParameter):  # two names drawn alike; a parameter in COPY, which takes none
        reject()
    written = render(statement)
    (again,) = parse(written, LIMITS)
    assert same(statement, again), (written, render(again))
    assert render(again) == written
    if isinstance(statement, Query):
        assert duckdb_sql(statement.tree)


def test_every_statement_of_the_grammar_can_be_reached() -> None:
    rules = [rule for rule in grammar().rules if rule.origin.name == "statement"]
    reached = {symbol.name for rule in rules for symbol in rule.expansion}
    assert len(reached) == 50


def test_a_statement_outside_the_grammar_is_refused() -> None:
    with pytest.raises(StreamSQLError):
        parse("CREATE STREAM s", LIMITS)
    with pytest.raises(lark.exceptions.LarkError):
        grammar().parse("CREATE STREAM s")


@pytest.mark.parametrize(
    "text",
    [
        "SHOW STREAMS",
        "SELECT a FROM t EMIT UPDATE EVERY '5 seconds'",
        "CREATE STREAM s (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds')",
        "COPY t (a) FROM STDIN WITH (FORMAT csv, HEADER TRUE)",
        "SUBSCRIBE TO v WITH (SNAPSHOT = true, PROGRESS = false)",
    ],
)
def test_the_grammar_reads_what_the_documentation_shows(text: str) -> None:
    assert grammar().parse(text).data == "start"
