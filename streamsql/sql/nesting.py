"""How deeply a statement nests, measured on its tokens before anything recurses over them.

sqlglot's parser is compiled in one of its builds, where a deep recursion can end the process instead of raising
RecursionError; and a chain of joins whose ON clauses come later costs it exponential time. Both are refused here.
"""

from __future__ import annotations

from sqlglot.tokens import Token, TokenType

from streamsql.base.errors import FeatureNotSupported
from streamsql.base.limits import Limits, exceeded

# a JOIN b JOIN c ON .. ON ..: sqlglot tries each reading of each open join, so that 14 take a second and 20 a minute
OPEN_JOINS_MAX = 8

_OPENERS = frozenset({TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE})
_CLOSERS = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END})
_OPERANDS = frozenset(
    {
        TokenType.VAR,
        TokenType.IDENTIFIER,
        TokenType.NUMBER,
        TokenType.STRING,
        TokenType.STAR,
        TokenType.COMMA,
        *_CLOSERS,
    }
)
# Each of these in a row with its like makes the tree one deeper; AND, OR, + and || are read without recursion.
_CHAINED = frozenset(
    {
        TokenType.DCOLON,
        TokenType.L_BRACKET,
        TokenType.DOT,
        TokenType.BETWEEN,
        TokenType.LIKE,
        TokenType.ILIKE,
        TokenType.IN,
        TokenType.CARET,
        TokenType.COLLATE,
        TokenType.LT,
    }
)
_CHAIN_ENDS = frozenset({TokenType.COMMA, TokenType.AND, TokenType.OR, TokenType.L_PAREN, TokenType.FROM, TokenType.ON})
_JOIN_WITHOUT_CONDITION = frozenset({TokenType.CROSS, TokenType.NATURAL})


def check_nesting(tokens: list[Token], limits: Limits) -> None:
    """Raise ProgramLimitExceeded (or FeatureNotSupported for joins) where the tokens nest too deeply."""
    depth = run = chain = deepest = 0
    open_joins = [0]
    previous: TokenType | None = None
    before_previous: TokenType | None = None
    for token in tokens:
        kind = token.token_type
        run = 0 if kind in _OPERANDS else run + 1
        if kind in _CHAINED:
            linked = kind is before_previous or previous is TokenType.R_BRACKET  # ::int::int, a.b.c, [1][1]
            chain = chain + 1 if linked else 0
        elif kind in _CHAIN_ENDS:
            chain = 0
        if kind in _OPENERS:
            depth += 1
            open_joins.append(0)
        elif kind in _CLOSERS:
            depth = max(depth - 1, 0)
            if len(open_joins) > 1:
                open_joins.pop()
        elif kind is TokenType.JOIN and not {previous, before_previous} & _JOIN_WITHOUT_CONDITION:
            open_joins[-1] += 1
            if open_joins[-1] > OPEN_JOINS_MAX:
                raise FeatureNotSupported(
                    f"more than {OPEN_JOINS_MAX} joins in a row without ON or USING",
                    hint="write each join's condition directly behind it: a JOIN b ON ... JOIN c ON ...",
                    position=token.start + 1,
                )
        elif kind in (TokenType.ON, TokenType.USING):
            open_joins[-1] = max(open_joins[-1] - 1, 0)
        deepest = max(deepest, depth + run + chain)
        before_previous, previous = previous, kind
    if deepest > limits.expression_depth_max:
        raise exceeded(limits, "expression_depth_max", "the nesting of a statement")
