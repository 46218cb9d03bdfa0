"""What the stock parser takes although it is not finished: ``FROM a,``, ``JOIN b ON``, ``SELECT 1 AS``, ``a,, b``.

It leaves out what is missing, so that a mistake in typing would be another query; PostgreSQL refuses these.
"""

from __future__ import annotations

import itertools

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from streamsql.base.errors import InvalidRecursion, SQLSyntaxError
from streamsql.sql.tokens import syntax_error

# what something must follow; behind AS or a dot some of them are names
_OPEN = frozenset({
    TokenType.ALIAS, TokenType.COMMA, TokenType.FETCH, TokenType.GROUP_BY, TokenType.OFFSET, TokenType.ON,
    TokenType.TABLE_SAMPLE, TokenType.USING,
})  # fmt: skip
# pairs of neighbours of which the second cannot stand there
_IMPOSSIBLE = frozenset({
    (TokenType.COMMA, TokenType.COMMA), (TokenType.ALIAS, TokenType.NUMBER), (TokenType.ASC, TokenType.DESC),
    (TokenType.DESC, TokenType.ASC), (TokenType.ASC, TokenType.ASC), (TokenType.DESC, TokenType.DESC),
    (TokenType.OVER, TokenType.FROM),
})  # fmt: skip


def at_end(text: str, last: Token) -> SQLSyntaxError:
    """Make the error for a statement that ends, at its last token or a semicolon behind it, too early."""
    semicolon = text.find(";", last.end + 1)
    if semicolon >= 0 and text[last.end + 1 : semicolon].strip() == "":
        return SQLSyntaxError('syntax error at or near ";"', position=semicolon + 1)
    return syntax_error(text, None)


def check_finished(text: str, tokens: list[Token]) -> None:
    """Raise SQLSyntaxError for tokens of one statement of which something is missing."""
    for token, following in itertools.pairwise(tokens):
        if (token.token_type, following.token_type) in _IMPOSSIBLE:
            raise syntax_error(text, following)
    last = tokens[-1]
    named = len(tokens) > 1 and tokens[-2].token_type in (TokenType.ALIAS, TokenType.DOT)
    # these two are names of columns elsewhere
    over = last.token_type is TokenType.OVER and tokens[-2].token_type is TokenType.R_PAREN
    assigned = last.token_type is TokenType.SET and tokens[0].token_type is TokenType.UPDATE
    if over or assigned or (last.token_type in _OPEN and not named):
        raise at_end(text, last)


def check_recursion(clause: exp.With) -> None:
    """Raise InvalidRecursion for an aggregate of the recursive term: its query would never end."""
    for cte in clause.expressions if clause.args.get("recursive") else ():
        term = cte.this.expression if isinstance(cte.this, exp.Union) else None
        if not isinstance(term, exp.Select) or not any(t.name == cte.alias for t in term.find_all(exp.Table)):
            continue
        for item in term.expressions:
            for call in item.find_all(exp.AggFunc):
                if isinstance(call.parent, (exp.Window, exp.Filter)) or call.find_ancestor(exp.Subquery) is not None:
                    continue
                raise InvalidRecursion("aggregate functions are not allowed in a recursive query's recursive term")
