"""The text of a query with schemas written before names that stand without one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from sqlglot import exp

from streamsql.base.errors import StreamSQLError
from streamsql.base.limits import Limits
from streamsql.sql.names import quote_name
from streamsql.sql.query import parse_query
from streamsql.sql.tokens import Cursor, tokenize

_CAST_MARKS = frozenset({"::", "as"})
_WINDOW_TABLES = frozenset({"cumulate", "hop", "session", "tumble"})


def qualified(text: str, schemas: Mapping[str, str]) -> str:
    """Write the schema, by `schemas`, before each relation and type that a query's text names without one.

    A text that is not read any more is given as it is.
    """
    if not schemas:
        return text
    limits = Limits()
    try:
        tokens = tokenize(text, limits)
        tree = parse_query(Cursor(text, tokens, limits), of_view=True).tree
    except StreamSQLError:
        return text
    places = dict(_relations(tree))
    for before, token in pairwise(tokens):
        if before.text in _CAST_MARKS and token.text in schemas:
            places.setdefault(token.start, token.text)
    for place, name in sorted(places.items(), reverse=True):
        if name in schemas:
            text = f"{text[:place]}{quote_name(schemas[name])}.{text[place:]}"
    return text


def _relations(tree: exp.Expr) -> Iterator[tuple[int, str]]:
    """Give the places and names of the relations that stand without a schema."""
    for table in tree.find_all(exp.Table):
        named = table.this
        if isinstance(named, exp.Anonymous) and named.name.lower() in _WINDOW_TABLES and named.expressions:
            first = named.expressions[0]
            named = first.this if isinstance(first, exp.Column) and not first.table else None
        if isinstance(named, exp.Identifier) and not table.db and not _is_cte(table):
            start = named.meta.get("start")
            if start is not None:
                yield start, named.name


def _is_cte(table: exp.Table) -> bool:
    around: exp.Expr | None = table
    while around is not None:
        given = around.args.get("with_")
        if given is not None and any(cte.alias == table.name for cte in given.expressions):
            return True
        around = around.parent
    return False
