"""MERGE INTO a table. See https://www.postgresql.org/docs/15/sql-merge.html."""

from __future__ import annotations

from itertools import pairwise

from sqlglot import exp
from sqlglot.tokens import Token

from streamsql.base.errors import SQLSyntaxError
from streamsql.sql.names import joined
from streamsql.sql.statements import Merge
from streamsql.sql.tokens import Cursor, is_quoted, nesting
from streamsql.sql.trees import count_parameters, parse_tree


def parse_merge(cursor: Cursor) -> Merge:
    """Read MERGE INTO name [AS alias] USING source ON condition WHEN [NOT] MATCHED [AND condition] THEN action ..."""
    source = cursor.source
    cursor.expect("merge", "into")
    cursor.accept("only")
    name = cursor.expect_object_name()
    tree = parse_tree(cursor.text, cursor.tokens, cursor.limits)
    if (
        not isinstance(tree, exp.Merge)
        or not isinstance(tree.this, exp.Table)
        or joined(tree.this.db or None, tree.this.name) != name
    ):
        raise cursor.error(cursor.tokens[0])
    _check_clauses(tree, cursor)
    return Merge(*source, name=name, tree=tree, parameter_count=count_parameters(cursor.tokens, cursor.limits))


def _check_clauses(tree: exp.Merge, cursor: Cursor) -> None:
    """Raise SQLSyntaxError where a clause does what it cannot do, or is never reached."""
    if tree.args.get("using_cond"):
        raise cursor.error(next(token for token in reversed(cursor.tokens) if token.text == "using"))
    unconditional: set[bool] = set()
    verbs = iter(_verbs(cursor))
    for when in tree.args["whens"].expressions:
        matched, verb = bool(when.args.get("matched")), next(verbs)
        if when.args.get("source"):
            raise cursor.error(verb, hint="what the source does not have is left alone")
        if verb.text != "do" and (verb.text == "insert") is matched:
            raise cursor.error(verb)
        if matched in unconditional:
            raise SQLSyntaxError("unreachable WHEN clause specified after unconditional WHEN clause")
        if when.args.get("condition") is None:
            unconditional.add(matched)


def _verbs(cursor: Cursor) -> list[Token]:
    """Give the first word of what each clause does: behind THEN, outside of CASE."""
    found, depth = [], 0
    for token, following in pairwise(cursor.tokens):
        depth += nesting(token) + (token.text == "case") - (token.text == "end" and depth > 0)
        if depth == 0 and token.text == "then" and not is_quoted(token):
            found.append(following)
    return found
