"""Flink's way to call a window table function, taken to the plain one, in tokens.

::

    TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR))   ->   TUMBLE(t, ts, INTERVAL '1' HOUR)
    SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), gap)        ->   SESSION(t, ts, gap, partition_by => (k))
"""

from __future__ import annotations

from sqlglot.tokens import Token, TokenType

WINDOW_TABLES = frozenset({"cumulate", "hop", "session", "tumble"})
_TABLE, _DESCRIPTOR, _FUNCTION = "table", "descriptor", "function"


def plain_window_tables(tokens: list[Token]) -> list[Token]:
    """Take ``TABLE(`` and ``)``, ``TABLE`` and ``DESCRIPTOR( )`` away around and in window table functions.

    What PARTITION BY names there becomes an argument: up to the next comma, or in parentheses.
    """
    if not any(token.text.lower() in WINDOW_TABLES for token in tokens):
        return tokens
    kept: list[Token] = []
    opened: list[str] = []  # what stands before each parenthesis that is open, where that matters
    partitions: list[list[Token]] = []  # of each window table function that is open
    index = 0
    while index < len(tokens):
        token = tokens[index]
        inside = _TABLE in opened or _FUNCTION in opened
        if _reads(tokens, index, _TABLE, "(") and _is_window_table(tokens, index + 2):
            opened.append(_TABLE)
            index += 2
            continue
        if inside and _reads(tokens, index, _DESCRIPTOR, "("):
            opened.append(_DESCRIPTOR)
            index += 2
            continue
        if token.token_type is TokenType.PARTITION_BY and opened and opened[-1] == _FUNCTION:
            index = _take_partition(tokens, index, partitions[-1])
            continue
        index += 1
        if token.token_type is TokenType.L_PAREN:
            opened.append(_FUNCTION if index >= 2 and _is_window_table(tokens, index - 2) else "")
            partitions += [[]] if opened[-1] else []
        elif token.token_type is TokenType.R_PAREN and opened:
            closed = opened.pop()
            if closed in {_TABLE, _DESCRIPTOR}:
                continue
            kept += partitions.pop() if closed else []
        elif inside and _reads(tokens, index - 1, _TABLE):
            continue
        kept.append(token)
    return kept


def _take_partition(tokens: list[Token], index: int, into: list[Token]) -> int:
    """Put ``, partition_by => (..)`` into a list for the PARTITION BY at an index; gives where it ends."""
    place = tokens[index]
    where = (place.line, place.col, place.start, place.end)
    into += [Token(TokenType.COMMA, ",", *where), Token(TokenType.VAR, "partition_by", *where)]
    into += [Token(TokenType.FARROW, "=>", *where), Token(TokenType.L_PAREN, "(", *where)]
    depth, index = 0, index + 1
    while index < len(tokens):
        kind = tokens[index].token_type
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(kind, 0)
        if depth < 0 or (not depth and kind is TokenType.COMMA):
            break
        into.append(tokens[index])
        index += 1
    into.append(Token(TokenType.R_PAREN, ")", *where))
    return index


def _reads(tokens: list[Token], index: int, *texts: str) -> bool:
    return all(
        place < len(tokens) and tokens[place].text.lower() == text and tokens[place].token_type is not TokenType.STRING
        for place, text in enumerate(texts, index)
    )


def _is_window_table(tokens: list[Token], index: int) -> bool:
    return any(_reads(tokens, index, name, "(") for name in WINDOW_TABLES)
