"""What is refused: with which code and message, and where the caret stands."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamsql.base.errors import StreamSQLError
from streamsql.base.limits import Limits
from streamsql.sql.parse import parse
from streamsql.sql.render import render
from streamsql.sql.statements import Query
from streamsql.sql.unsupported import UNSUPPORTED

LIMITS = Limits()


def refusal(text: str) -> StreamSQLError:
    with pytest.raises(StreamSQLError) as caught:
        parse(text, LIMITS)
    return caught.value


# the caret is written as ^ before the character that it points to
@pytest.mark.parametrize(
    ("marked", "code", "message"),
    [
        ("SELECT 1 ^2", "42601", 'syntax error at or near "2"'),
        ("SELECT * FROM t WHERE^", "42601", "syntax error at end of input"),
        ("SELECT (1^", "42601", "syntax error at end of input"),
        ("SELECT 1^)", "42601", 'syntax error at or near ")"'),
        ("SELECT (1^; SELECT 2", "42601", 'syntax error at or near ";"'),
        ("SELECT 1; /* é */ SELECT 1 ^2", "42601", 'syntax error at or near "2"'),
        ("^FROB x", "42601", 'syntax error at or near "FROB"'),
        ("CREATE ^FROB x", "42601", 'syntax error at or near "FROB"'),
        ("CREATE^", "42601", "syntax error at end of input"),
        ("SELECT ^'abc", "42601", "unterminated quoted string"),
        ("SELECT ^'a''b", "42601", "unterminated quoted string"),
        ("SELECT 'a', ^E'b\\'", "42601", "unterminated quoted string"),
        ('SELECT ^"abc', "42601", "unterminated quoted identifier"),
        ("SELECT 1 ^/* x /* y */", "42601", "unterminated /* comment"),
        ("SELECT ^$$ x", "42601", "unterminated dollar-quoted string"),
        ("SELECT ^$a$ x $b$", "42601", "unterminated dollar-quoted string"),
        ("SELECT ^`a`", "42601", 'syntax error at or near "`"'),
        ("SELECT ^?", "42601", 'syntax error at or near "?"'),
        ("SELECT ^:x", "42601", 'syntax error at or near ":"'),
        ("SELECT ^@x", "42601", 'syntax error at or near "@"'),
        ("SELECT ^$0", "42P02", "there is no parameter $0"),
        ("SELECT ^1e", "42601", "trailing junk after numeric literal"),
        ("SELECT a FROM t EMIT UPDATE ^EMIT UPDATE", "42601", "EMIT is given twice"),
        ("SELECT a FROM t WITH WATERMARK '1s' ^WITH WATERMARK '1s'", "42601", "WATERMARK is given twice"),
        ("SELECT a FROM t EMIT UPDATE ^WHERE a", "42601", 'syntax error at or near "WHERE"'),
        ("SELECT a FROM (SELECT 1 ^EMIT UPDATE) x", "0A000", "EMIT inside parentheses is not supported"),
        ("SELECT a FROM t WITH WATERMARK ^'1 month'", "22023", "duration must not have months or years"),
        ("SELECT a FROM t WITH WATERMARK ^'-1 second'", "22023", "duration must not be negative"),
        (
            "SELECT a FROM t WITH WATERMARK FOR ts AS ^other",
            "0A000",
            "a watermark must be its own column minus a delay",
        ),
        ("CREATE STREAM s (a ^foo(3))", "42704", 'type "foo" does not exist'),
        ("PREPARE p (^Foo[]) AS SELECT 1", "42704", 'type "foo" does not exist'),
        ("PREPARE p (^serial) AS SELECT $1", "0A000", "type serial is for columns of tables"),
        ("CREATE STREAM s (a ^numeric(50, 2))", "22023", "NUMERIC precision 50 must be between 1 and 38"),
        ("CREATE STREAM s (a INT, ^a INT)", "42701", 'column "a" specified more than once'),
        ("CREATE STREAM s (a INT, WATERMARK FOR ^ts AS ts)", "42703", 'column "ts" does not exist'),
        ("CREATE STREAM s (a INT ^PRIMARY KEY)", "0A000", "a PRIMARY KEY of a stream is not supported"),
        ("CREATE STREAM s (a INT) WITH (x = 1, ^x = 2)", "42601", 'option "x" is given twice'),
        ("CREATE STREAM s^", "42601", "syntax error at end of input"),
        ("CREATE STREAM s (^)", "42601", "at least one column is needed"),
        ("CREATE STREAM s (a INT,^)", "42601", 'syntax error at or near ")"'),
        ("CREATE STREAM ^db.public.s (a INT)", "3D000", 'database "db" does not exist'),
        ("CREATE STREAM ^select (a INT)", "42601", 'syntax error at or near "select"'),
        ("CREATE TABLE t (a INT, PRIMARY KEY (^b))", "42703", 'column "b" named in key does not exist'),
        (
            "CREATE TABLE t (a INT PRIMARY KEY, b INT ^PRIMARY KEY)",
            "42P16",
            'multiple primary keys for table "t" are not allowed',
        ),
        ("CREATE STREAM t (a INT ^UNIQUE)", "0A000", "a UNIQUE constraint of a stream is not supported"),
        ("CREATE STREAM t (a INT ^REFERENCES u)", "0A000", "a foreign key of a stream is not supported"),
        ("CREATE TABLE t AS ^SELECT 1 EMIT UPDATE", "0A000", "a table cannot be made of a continuous query"),
        ("CREATE TABLE t AS ^", "42601", "syntax error at end of input"),
        ("CREATE TABLE t AS ^; SELECT 1", "42601", 'syntax error at or near ";"'),
        ("CREATE TABLE t AS ^WITH NO DATA", "42601", 'syntax error at or near "WITH"'),
        ("CREATE TABLE t (a INT) ^ON COMMIT DROP", "42P16", "ON COMMIT can only be used on temporary tables"),
        ("^CREATE OR REPLACE TABLE v (a INT)", "0A000", "CREATE OR REPLACE is not supported"),
        ("^CREATE TEMP VIEW v AS SELECT 1", "0A000", "CREATE TEMP VIEW is not supported"),
        ("CREATE VIEW v AS SELECT 1 ^WITH CHECK OPTION", "0A000", "WITH CHECK OPTION is not supported"),
        ("CREATE VIEW v AS ^SELECT a FROM s EMIT UPDATE", "0A000", "a view that is not materialized has no EMIT"),
        ("EXPLAIN (ANALYZE, FORMAT ^xml) SELECT 1", "0A000", "EXPLAIN (FORMAT XML) is not supported"),
        ("EXPLAIN (^speed) SELECT 1", "42601", 'unrecognized EXPLAIN option "speed"'),
        ("VACUUM (^speed) t", "42601", 'unrecognized VACUUM option "speed"'),
        ("ANALYZE t (a, ^a)", "42701", 'column "a" specified more than once'),
        ("REINDEX ^t", "42601", 'syntax error at or near "t"'),
        ("ALTER TABLE t SET (^speed = 1)", "22023", 'unrecognized parameter "speed"'),
        ("EXPLAIN ^INSERT INTO t VALUES (1)", "0A000", "EXPLAIN of INSERT is not supported"),
        ("INSERT INTO t VALUES (1) ON CONFLICT (a)^", "42601", "syntax error at end of input"),
        ("INSERT INTO t VALUES (1) ON CONFLICT^", "42601", "syntax error at end of input"),
        ("INSERT INTO t VALUES (1) RETURNING a + ^$1", "0A000", "a parameter cannot be used in RETURNING"),
        ("INSERT INTO t (a, ^a) VALUES (1, 2)", "42701", 'column "a" specified more than once'),
        ("INSERT INTO t (a) VALUES (1, ^2)", "42601", "INSERT has more expressions than target columns"),
        ("INSERT INTO t (a, ^b) VALUES (1)", "42601", "INSERT has more target columns than expressions"),
        ("INSERT INTO t VALUES (1, 2), (^3)", "42601", "VALUES lists must all be the same length"),
        ("INSERT INTO t^", "42601", "syntax error at end of input"),
        ("UPDATE t SET a = 1 ^RETURNING a FROM t", "42601", 'syntax error at or near "RETURNING"'),
        ("COPY t FROM ^'/etc/passwd'", "0A000", "COPY FROM a file of the server is not supported"),
        ("COPY t FROM ^PROGRAM 'ls'", "0A000", "COPY FROM PROGRAM is not supported"),
        ("COPY t TO ^'/etc/passwd'", "0A000", "COPY TO a file of the server is not supported"),
        ("COPY (SELECT 1) TO ^PROGRAM 'ls'", "0A000", "COPY TO PROGRAM is not supported"),
        ("COPY (^INSERT INTO t VALUES (1)) TO STDOUT", "0A000", "COPY of INSERT is not supported"),
        ("COPY (SELECT ^$1) TO STDOUT", "42P02", "there is no parameter $1"),
        ("COPY t (a, ^a) TO STDOUT", "42701", 'column "a" specified more than once'),
        ("COPY t TO STDOUT ^WHERE a > 1", "42601", 'syntax error at or near "WHERE"'),
        ("COPY t FROM STDIN ^WHERE a IN (SELECT 1)", "0A000", "cannot use subquery in COPY FROM WHERE condition"),
        (
            "COPY t FROM STDIN (FORMAT csv, HEADER match) ^WHERE a > 1 GROUP BY a",
            "42601",
            'syntax error at or near "WHERE"',
        ),
        ("COPY t FROM STDIN (^FOO bar)", "42601", 'option "foo" not recognized'),
        ("COPY t FROM STDIN (^FORMAT xml)", "22023", 'COPY format "xml" not recognized'),
        ("COPY t FROM STDIN (FORMAT csv, ^FORMAT csv)", "42601", "conflicting or redundant options"),
        ("SUBSCRIBE v WITH (^FOO)", "42601", 'syntax error at or near "FOO"'),
        ("SUBSCRIBE v WITH (SNAPSHOT = ^maybe)", "22023", "snapshot requires a Boolean value"),
        ("ROLLBACK TO SAVEPOINT x ^y", "42601", 'syntax error at or near "y"'),
        ("SAVEPOINT ^1", "42601", 'syntax error at or near "1"'),
        ("BEGIN READ ^FAST", "42601", 'syntax error at or near "FAST"'),
        ("SHOW a ^b", "42601", 'syntax error at or near "b"'),
        ("SET x ^5", "42601", 'syntax error at or near "5"'),
        ("SELECT 1 INTO^", "42601", "syntax error at end of input"),
        ("SELECT * FROM (SELECT 1 INTO ^x) AS y", "0A000", "SELECT INTO is not supported"),
        (
            "WITH x AS (INSERT INTO ^t VALUES (1) RETURNING a) SELECT 1",
            "0A000",
            "INSERT inside a query is not supported",
        ),
        ("SELECT a ^\0", "22021", 'invalid byte sequence for encoding "UTF8": 0x00'),
    ],
)
def test_an_error_says_what_and_the_caret_stands_where(marked: str, code: str, message: str) -> None:
    position = marked.index("^") + 1
    error = refusal(marked.replace("^", "", 1))
    assert error.message.startswith(message)
    assert (error.sqlstate, error.position) == (code, position)


@pytest.mark.parametrize("words", sorted(UNSUPPORTED))
def test_a_statement_that_others_have_is_refused_with_a_hint(words: tuple[str, ...]) -> None:
    error = refusal(f"SELECT 1; {' '.join(words)} x y z")
    assert error.sqlstate == "0A000"
    assert error.message.endswith("is not supported")
    assert error.hint
    assert error.position == len("SELECT 1; ") + 1


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
        "SELECT " + "NOT " * 5000 + "a",
        "SELECT " + "- " * 5000 + "1",
        "SELECT " + "CASE WHEN " * 5000 + "1",
        "SELECT " + "[" * 5000,
        "SELECT a" + "::int" * 5000,
        "SELECT a" + "[1]" * 5000,
        "SELECT " + "a." * 5000 + "b",
        "SELECT " + "ARRAY[" * 600 + "1" + "]" * 600,
        "SELECT a::" + "array<" * 5000 + "int",
        "SELECT 1 FROM " + "(SELECT 1 FROM " * 600 + "t" + ")" * 600,
        "SELECT " + "FROM " * 20000 + "t",
        "CREATE TABLE t (a INT DEFAULT " + "(" * 5000 + "1" + ")" * 5000 + ")",
        "INSERT INTO t VALUES (" + "(" * 5000 + "1" + ")" * 5000 + ")",
    ],
    ids=lambda text: text[:30],
)
def test_deep_nesting_is_refused_by_the_name_of_its_bound(text: str) -> None:
    error = refusal(text)
    assert error.sqlstate == "54000"
    assert "expression_depth_max" in (error.hint or "") + error.message


def test_long_chains_of_plain_operators_are_not_nesting() -> None:
    for operator in (" OR ", " AND ", " + ", " || "):
        (query,) = parse("SELECT " + operator.join(["a.b"] * 2000), LIMITS)
        assert isinstance(query, Query)
        assert render(query)


def test_joins_that_would_take_the_parser_for_ever_are_refused() -> None:
    error = refusal("SELECT 1 FROM a" + " JOIN b" * 100)
    assert error.sqlstate == "0A000"
    assert parse("SELECT 1 FROM a" + " JOIN b ON TRUE" * 100 + " CROSS JOIN c" * 100, LIMITS)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(query_text_bytes_max=10), "SELECT 1234567"),
        (Limits(parameters_max=2), "SELECT $3"),
        (Limits(columns_max=1), "CREATE TABLE t (a INT, b INT)"),
        (Limits(identifier_bytes_max=3), "CREATE TABLE long (a INT)"),
        (Limits(identifier_bytes_max=3), "CREATE TABLE t (long INT)"),
        (Limits(expression_depth_max=4), "SELECT (((((1)))))"),
    ],
)
def test_every_bound_of_a_text_is_reached_and_named(limits: Limits, text: str) -> None:
    with pytest.raises(StreamSQLError, match=r"exceeds [a-z_]+ = ") as caught:
        parse(text, limits)
    assert caught.value.sqlstate == "54000"


WORDS = st.sampled_from(
    """SELECT FROM WHERE GROUP BY ORDER WITH WATERMARK EMIT UPDATE APPEND EVERY CREATE STREAM TABLE MATERIALIZED VIEW AS
    INSERT INTO VALUES COPY STDIN SHOW SET TO BEGIN DROP IF EXISTS JOIN ON window OVER PARTITION INTERVAL CASE END NOT NULL
    IN IS LIKE BETWEEN AND OR UNION LIMIT FETCH LATERAL CAST ARRAY EXPLAIN DELETE PIVOT UNNEST FOR OF DELAY PRIMARY KEY
    ( ) [ ] { } , . ; : :: = => -> ->> * + - / % ^ $1 $ 'a' '1h' 'x "Q" 1 1.5 1e a t ts -- /* */
    $$ \\ @ # ? ~ ! | é \x00""".split()
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(text=st.lists(WORDS, max_size=14).map(" ".join) | st.text(max_size=30))
@example(text="SELECT lateral a")
@example(text="{# #}")
def test_any_text_ends_in_statements_or_in_an_error_of_ours(text: str) -> None:
    try:
        for statement in parse(text, LIMITS):
            render(statement)
        position = None
    except StreamSQLError as error:
        position = error.position
    assert position is None or 1 <= position <= len(text) + 1
