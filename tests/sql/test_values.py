"""INSERT of literals: the fast path over bytes gives what sqlglot's tree gives, or gives the text up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsql.base.errors import SQLSyntaxError
from streamsql.base.limits import Limits
from streamsql.sql import values
from streamsql.sql.parse import parse
from streamsql.sql.render import render, same
from streamsql.sql.statements import Insert
from streamsql.sql.values import LiteralRows, literal_insert, literal_rows

LIMITS = Limits()

NASTY = st.text(
    st.sampled_from("a'(),;\"\n\r\t -/*\\$1é☃nNEe.") | st.characters(codec="utf-8", exclude_characters="\0"), max_size=8
)
STRINGS = NASTY.map(lambda text: "'" + text.replace("'", "''") + "'")
NUMBERS = st.one_of(
    st.integers(-(10**18), 10**18).map(str),
    st.decimals(-1000, 1000, places=3).map(str),
    st.sampled_from(["0", "-0", "1.", "1e5", "-1.5E-3", "1E+2", "007"]),
)
NULLS = st.sampled_from(["NULL", "null", "Null", "nULL"])
BOOLEANS = st.sampled_from(["TRUE", "false", "True"])
BLANKS = st.sampled_from(["", " ", "\n", "  \t", "\r\n"])
COLUMNS = st.sampled_from([STRINGS | NULLS, NUMBERS | NULLS, BOOLEANS | NULLS, STRINGS, NUMBERS, NULLS])
# what an INSERT may hold beside literals, or what is wrong
STRANGE = st.sampled_from(
    [".5", "-.5", "E'a'", "e'\\''", "now()", "$1", "1 + 1", "'a' || 'b'", "'a' 'b'", "'a'\n'b'",
     "1::int", "'1'::int",
     "-- x\n1", "/**/ 1", "$$a$$", "DEFAULT", "abc", "1 2", "- 1", "+1", "--1", "", "()", "(1)", "1e",
     "TIMESTAMP '2020-01-01'", "N'x'",
     "U&'x'", "x'00'", "nan", "'a'b", "1_000", "0x1F", "1.2.3", "e5", "tru", '"a"', "'", "a'b'", "1'a'",
     "NULLNULL", "true false", "ull"]
)  # fmt: skip


@st.composite
def insert_texts(draw, cells=None):
    columns = [draw(COLUMNS) if cells is None else cells for _ in range(draw(st.integers(1, 4)))]
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        row = [draw(BLANKS) + draw(column) + draw(BLANKS) for column in columns]
        rows.append(f"({','.join(row)})")
    return (
        "INSERT INTO t VALUES "
        + (draw(BLANKS) + "," + draw(BLANKS)).join(rows)
        + draw(st.sampled_from(["", ";", " ;\n"]))
    )


def by_general_path(text: str, monkeypatch_size: int = 1 << 62) -> Insert:
    before = values.LITERAL_TEXT_CHARACTERS_MIN
    values.LITERAL_TEXT_CHARACTERS_MIN = monkeypatch_size
    try:
        (statement,) = parse(text, LIMITS)
    finally:
        values.LITERAL_TEXT_CHARACTERS_MIN = before
    assert isinstance(statement, Insert)
    return statement


def by_fast_path(text: str) -> Insert | None:
    before = values.LITERAL_TEXT_CHARACTERS_MIN
    values.LITERAL_TEXT_CHARACTERS_MIN = 0
    try:
        return literal_insert(text, LIMITS)
    finally:
        values.LITERAL_TEXT_CHARACTERS_MIN = before


@settings(max_examples=400, deadline=None)
@given(text=insert_texts())
def test_rows_of_literals_are_read_as_the_general_parser_reads_them(text: str) -> None:
    fast = by_fast_path(text)
    assert fast is not None, "every text drawn here is one that the fast path takes"
    slow = by_general_path(text)
    assert same(fast, slow)
    assert (fast.text, fast.position, fast.name_position) == (slow.text, slow.position, slow.name_position)


@settings(max_examples=600, deadline=None)
@given(text=insert_texts(STRINGS | NUMBERS | NULLS | STRANGE))
def test_whatever_the_fast_path_takes_the_general_parser_takes_and_reads_alike(text: str) -> None:
    fast = by_fast_path(text)
    if fast is not None:
        assert same(fast, by_general_path(text))


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.sampled_from("'(),1a \n;-N"), max_size=30))
def test_any_bytes_after_values_are_read_alike_or_given_up(text: str) -> None:
    fast = by_fast_path("INSERT INTO t VALUES (" + text)
    if fast is not None:
        assert same(fast, by_general_path("INSERT INTO t VALUES (" + text))


@pytest.mark.parametrize(
    ("text", "columns", "kinds"),
    [
        ("(1, 'a'), (2, NULL)", [["1", "2"], ["a", None]], ("number", "string")),
        ("('it''s')", [["it's"]], ("string",)),
        ("('NULL', NULL)", [["NULL"], [None]], ("string", "null")),
        ("('')", [[""]], ("string",)),
        ("('),(', TRUE);", [["),("], ["true"]], ("string", "boolean")),
        ("('a\nb\r\nc -- d /* $1')", [["a\nb\r\nc -- d /* $1"]], ("string",)),
        ("('é☃\\')", [["é☃\\"]], ("string",)),
        ("(-1.5e3), (0.5)", [["-1.5e3", "0.5"]], ("number",)),
    ],
)
def test_literal_rows_come_out_by_column(text: str, columns: list[list[str | None]], kinds: tuple[str, ...]) -> None:
    rows = literal_rows(text)
    assert rows is not None
    assert [column.to_pylist() for column in rows.columns] == columns
    assert rows.kinds == kinds


@pytest.mark.parametrize(
    "text",
    ["(.5)", "(1), (1, 2)", "(1, 2), (1)", "(now())", "($1)", "(E'a')", "(1 2)",
     "('a' 'b')", "(1,)", "()", "(1", "1)", "('a",
     "(a)", "(1) (2)", "(1),", "(1),,(2)", "((1))", "(1::int)", "('1'), (1)", "(1), (TRUE)", "(/* x */ 1)",
     "(1) ON CONFLICT", "(- 1)",
     "(\0)", "(1); (2)", "(1\n2)", "(1+1)", "(1e)", "(\ud800)"],
)  # fmt: skip
def test_what_is_not_literals_is_given_up(text: str) -> None:
    assert literal_rows(text) is None


@pytest.mark.parametrize("count", [3, 300])
def test_ragged_rows_are_refused_whichever_path_reads_them(count: int) -> None:
    text = "INSERT INTO t VALUES " + ", ".join(["(1, 2)"] * count) + ", (9)"
    with pytest.raises(SQLSyntaxError, match="VALUES lists must all be the same length") as caught:
        parse(text, LIMITS)
    assert caught.value.position is not None
    assert text[caught.value.position - 1] == "9"


@pytest.mark.parametrize("count", [3, 300])
def test_more_expressions_than_columns_are_refused_whichever_path_reads_them(count: int) -> None:
    with pytest.raises(SQLSyntaxError, match="INSERT has more expressions than target columns"):
        parse("INSERT INTO t (a) VALUES " + ", ".join(["(1, 2)"] * count), LIMITS)


@pytest.mark.parametrize(
    "head", ["INSERT INTO t", 'insert into public."T x" (a, "B")', "INSERT INTO other.t", "INSERT INTO T(A,b)"]
)
def test_both_paths_read_the_same_names(head: str) -> None:
    text = f"{head} VALUES (1, 'a');"
    fast = by_fast_path(text)
    assert fast is not None
    assert same(fast, by_general_path(text))


@pytest.mark.parametrize(
    "head", ["INSERT INTO select", "INSERT INTO select.t", "INSERT INTO t (a, a)", "INSERT INTO t (from)"]
)
def test_a_name_that_is_an_error_is_left_to_the_general_parser(head: str) -> None:
    assert by_fast_path(f"{head} VALUES (1, 2)") is None


def test_a_second_statement_is_left_to_the_general_parser() -> None:
    assert by_fast_path("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)") is None


def test_literal_rows_render_and_read_back() -> None:
    text = "INSERT INTO t VALUES (1, 'it''s', NULL, TRUE)"
    (statement,) = parse(text, LIMITS)
    assert isinstance(statement, Insert)
    assert isinstance(statement.rows, LiteralRows)
    assert render(statement) == "INSERT INTO t VALUES (1, 'it''s', NULL, true)"


def test_twenty_thousand_rows_are_read_as_columns() -> None:
    """Without a token a value: `python -m benchmarks values` measures what that is worth."""
    text = "INSERT INTO t VALUES " + ", ".join(f"('2024-01-01 00:00:00', 'S{row}', {row}.25)" for row in range(20_000))
    statement = by_fast_path(text)
    assert statement is not None
    assert isinstance(statement.rows, LiteralRows)
    assert statement.rows.row_count == 20_000
    assert statement.rows.columns[1].to_pylist()[-1] == "S19999"
