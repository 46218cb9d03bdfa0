"""``RETURNING`` at the end of INSERT, UPDATE and DELETE: a SELECT list over the rows that the statement has written.

It is read as a query of its own over the statement's relation (see `server.returning` for the rows that it is given)::

    UPDATE t AS x SET n = n + 1 RETURNING x.id, n    ->    SELECT x.id, n FROM t AS x
"""

from __future__ import annotations

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from streamsql.base.errors import FeatureNotSupported, SQLSyntaxError
from streamsql.sql.statements import Query
from streamsql.sql.tokens import Cursor, is_quoted, nesting, syntax_error, tokenize
from streamsql.sql.trees import parse_tree, table_of


def take_returning(cursor: Cursor) -> list[Token]:
    """Take RETURNING and what follows off the statement's tokens; gives them, none where there is no such clause."""
    depth = 0
    for index, token in enumerate(cursor.tokens):
        depth += nesting(token)
        if depth == 0 and token.text == "returning" and not is_quoted(token) and index >= cursor.index:
            taken = cursor.tokens[index:]
            cursor.tokens = cursor.tokens[:index]
            return taken
    return []


def returning_query(
    cursor: Cursor, tokens: list[Token], source: tuple[str, int], name: str, alias: str
) -> Query | None:
    """Read what `take_returning` took as a query over the relation. Raises SQLSyntaxError."""
    if not tokens:
        return None
    parameter = next((t for t in tokens if t.token_type is TokenType.PARAMETER), None)
    if parameter is not None:
        raise FeatureNotSupported(
            "a parameter cannot be used in RETURNING", hint="write the value out", position=parameter.start + 1
        )
    if len(tokens) == 1:
        raise SQLSyntaxError("syntax error at end of input", position=tokens[0].end + 2)
    tree = parse_tree(cursor.text, [*tokenize("select", cursor.limits), *tokens[1:]], cursor.limits)
    if not isinstance(tree, exp.Select) or any(v for k, v in tree.args.items() if k not in ("expressions", "kind")):
        raise syntax_error(cursor.text, tokens[0])
    table = table_of(name)
    if alias:
        table.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
    tree.set("from_", exp.From(this=table))
    return Query(*source, tree=tree)
