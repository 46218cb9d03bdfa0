"""Queries: SELECT, WITH, VALUES, TABLE, set operations, parenthesised or not, with their streaming clauses."""

from __future__ import annotations

from sqlglot import exp

from streamsql.base.errors import SQLSyntaxError
from streamsql.sql.clauses import take_clauses
from streamsql.sql.statements import Explain, ExplainWhy, Query
from streamsql.sql.tokens import Cursor, syntax_error
from streamsql.sql.trees import REFUSED, check_tree, count_parameters, parse_tree
from streamsql.sql.unsupported import refuse_here

QUERY_WORDS = frozenset({"select", "with", "values", "table", "("})
_PLAIN = "use EXPLAIN query"
EXPLAIN_UNSUPPORTED: dict[tuple[str, ...], tuple[str, str]] = {
    **{(word,): (f"EXPLAIN {word.upper()}", _PLAIN) for word in ("analyze", "analyse", "verbose")},
    **{
        ("(", word): ("EXPLAIN with options", _PLAIN)
        for word in "analyze verbose costs settings generic_plan buffers serialize wal timing summary format".split()
    },
    **{(word,): (f"EXPLAIN of {word.upper()}", _PLAIN) for word in ("insert", "update", "delete", "merge", "execute")},
}


def parse_query(cursor: Cursor) -> Query:
    """Read a query from the cursor to the end of the statement."""
    first = cursor.peek
    if first is None or first.text not in QUERY_WORDS:
        raise cursor.error()
    start = first.start
    clauses = take_clauses(cursor)
    tree = parse_tree(cursor.text, clauses.tokens, cursor.limits)
    if type(tree) in REFUSED:  # WITH ... INSERT, UPDATE, DELETE
        check_tree(exp.Paren(this=tree), cursor.text, clauses.tokens)
    if not isinstance(tree, (exp.Query, exp.Values)) or (type(tree) is exp.Values and tree.args.get("alias")):
        raise syntax_error(cursor.text, first)
    check_values(tree)
    return Query(
        cursor.text[start : cursor.end],
        start,
        tree=tree,
        emit=clauses.emit,
        watermark=clauses.watermark,
        every_us=clauses.every_us,
        parameter_count=count_parameters(clauses.tokens, cursor.limits),
        lateness=clauses.lateness,
    )


def check_values(tree: exp.Expression) -> None:
    """Raise SQLSyntaxError where the rows of a VALUES list differ in length."""
    for values in tree.find_all(exp.Values):
        widths = {len(row.expressions) if isinstance(row, exp.Tuple) else 1 for row in values.expressions}
        if len(widths) > 1:
            first = values.expressions[0]
            width = len(first.expressions) if isinstance(first, exp.Tuple) else 1
            odd = next(
                row
                for row in values.expressions
                if (len(row.expressions) if isinstance(row, exp.Tuple) else 1) != width
            )
            starts = [part.meta["start"] for part in odd.walk() if part.meta.get("start") is not None]
            raise SQLSyntaxError(
                "VALUES lists must all be the same length", position=min(starts) + 1 if starts else None
            )


def parse_explain(cursor: Cursor) -> Explain | ExplainWhy:
    """Read EXPLAIN [(FORMAT TEXT | JSON)] of a query, or of CREATE MATERIALIZED VIEW ... AS query; or EXPLAIN WHY view."""
    start = cursor.start
    cursor.expect("explain")
    if cursor.accept("why"):
        position = cursor.position
        name = cursor.expect_object_name()
        cursor.expect_end()
        return ExplainWhy(cursor.text[start : cursor.end], start, name=name, name_position=position)
    as_json = cursor.accept("(", "format", "json", ")")
    if not as_json:
        cursor.accept("(", "format", "text", ")")
    refuse_here(cursor, EXPLAIN_UNSUPPORTED)
    if cursor.accept("create", "materialized", "view"):
        _ = cursor.accept("if", "not", "exists")
        cursor.expect_object_name()
        cursor.expect("as")
    return Explain(cursor.text[start : cursor.end], start, query=parse_query(cursor), as_json=as_json)
