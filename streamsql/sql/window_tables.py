"""Flink's way to call a window table function, taken to the plain one, in tokens.

::

    TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR))   ->   TUMBLE(t, ts, INTERVAL '1' HOUR)
"""

from __future__ import annotations

from sqlglot.tokens import Token, TokenType

WINDOW_TABLES = frozenset({"cumulate", "hop", "session", "tumble"})


def plain_window_tables(tokens: list[Token]) -> list[Token]:
    """Take ``TABLE(`` and ``)``, ``TABLE`` and ``DESCRIPTOR( )`` away around and in window table functions."""
    kept: list[Token] = []
    opened: list[str] = []  # what stands before each parenthesis that is open: a word that is taken away, or nothing
    index = 0
    while index < len(tokens):
        token = tokens[index]
        inside = "table" in opened
        if _reads(tokens, index, "table", "(") and _is_window_table(tokens, index + 2):
            opened.append("table")
            index += 2
            continue
        if inside and _reads(tokens, index, "descriptor", "("):
            opened.append("descriptor")
            index += 2
            continue
        index += 1
        if token.token_type is TokenType.L_PAREN:
            opened.append("")
        elif (token.token_type is TokenType.R_PAREN and opened and opened.pop()) or (
            inside and _reads(tokens, index - 1, "table")
        ):
            continue
        kept.append(token)
    return kept


def _reads(tokens: list[Token], index: int, *texts: str) -> bool:
    return all(
        place < len(tokens) and tokens[place].text.lower() == text and tokens[place].token_type is not TokenType.STRING
        for place, text in enumerate(texts, index)
    )


def _is_window_table(tokens: list[Token], index: int) -> bool:
    return any(_reads(tokens, index, name, "(") for name in WINDOW_TABLES)
