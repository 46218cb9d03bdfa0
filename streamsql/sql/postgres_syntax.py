"""What the stock parser reads otherwise than PostgreSQL, written in tokens so that it cannot.

::

    TIMESTAMP '2024-01-01'::date        (TIMESTAMP '2024-01-01')::date      the stock parser casts the string first
    (a, b) OVERLAPS (c, d)              overlaps(a, b, c, d)
    INTERVAL '1-2' YEAR TO MONTH        '1-2'::interval                     the text says it by itself
    INTERVAL '1 day 02:00'              '1 day 02:00'::interval             the stock parser reads the first part alone
"""

from __future__ import annotations

import re

from sqlglot.tokens import Token, TokenType

from streamsql.base.errors import SQLSyntaxError

_OPENING, _CLOSING = "(", ")"
_SPAN_WORDS = frozenset({"year", "month", "day", "hour", "minute", "second"})
_NUMBERS = frozenset({TokenType.NUMBER, TokenType.HEX_STRING})
# words that end the name of a type: ``timestamp with time zone``, ``double precision``
_TYPE_PARTS = frozenset({"timestamp", "time", "with", "without", "zone"})


def as_stock_parser_reads(tokens: list[Token], text: str) -> list[Token]:
    """Write the tokens of a statement anew; positions stay those of the client's text. Raises SQLSyntaxError."""
    kept: list[Token] = []
    for index, token in enumerate(tokens):
        if token.token_type in _NUMBERS:
            _check_number(tokens, index, text)
        _check_list(tokens, index, text)
        if token.token_type is TokenType.DCOLON and _is_string(tokens, index - 1):
            start = _start_of_typed_literal(kept)
            if start is not None:
                kept.insert(start, _mark(kept[start], TokenType.L_PAREN, _OPENING))
                kept.append(_mark(tokens[index - 1], TokenType.R_PAREN, _CLOSING))
        if token.token_type is TokenType.OVERLAPS:
            _open_overlaps(kept, token)
            continue
        if index and tokens[index - 1].token_type is TokenType.OVERLAPS and token.token_type is TokenType.L_PAREN:
            continue
        if _is_span(tokens, index):
            continue
        if token.token_type is TokenType.INTERVAL and _is_long_interval(tokens, index):
            continue
        kept.append(token)
        if index and tokens[index - 1].token_type is TokenType.INTERVAL and _is_long_interval(tokens, index - 1):
            kept += [_mark(token, TokenType.DCOLON, "::"), _mark(token, TokenType.INTERVAL, "interval")]
    _check_joins(tokens, text)
    return kept


_ENDS = frozenset(
    {
        TokenType.FROM, TokenType.GROUP_BY, TokenType.HAVING, TokenType.ORDER_BY, TokenType.R_PAREN, TokenType.WHERE,
    }
)  # fmt: skip


def _check_list(tokens: list[Token], index: int, text: str) -> None:
    """Refuse a comma that nothing follows, and ``IN ()``, which DuckDB takes."""
    token = tokens[index]
    following = tokens[index + 1] if index + 1 < len(tokens) else None
    if following is None:
        return
    trailing = token.token_type is TokenType.COMMA and following.token_type in _ENDS
    empty = token.token_type is TokenType.L_PAREN and following.token_type is TokenType.R_PAREN
    if trailing or (empty and index and tokens[index - 1].token_type is TokenType.IN):
        raise SQLSyntaxError(
            f'syntax error at or near "{text[following.start : following.end + 1]}"', position=following.start + 1
        )


def _check_joins(tokens: list[Token], text: str) -> None:
    """Refuse a JOIN without ON or USING at the end of a statement, which DuckDB takes for CROSS JOIN."""
    joins = conditions = 0
    for index, token in enumerate(tokens):
        before = {t.token_type for t in tokens[max(index - 2, 0) : index]}
        if token.token_type is TokenType.JOIN:
            joins += not before & {TokenType.CROSS, TokenType.NATURAL}
        elif token.token_type is TokenType.ON:
            conditions += TokenType.DISTINCT not in before
        elif token.token_type is TokenType.USING:
            conditions += 1
    if joins > conditions:
        raise SQLSyntaxError("syntax error at end of input", hint="a JOIN needs ON or USING", position=len(text) + 1)


def _is_string(tokens: list[Token], index: int) -> bool:
    return index >= 0 and tokens[index].token_type is TokenType.STRING


def _mark(place: Token, kind: TokenType, text: str) -> Token:
    return Token(kind, text, place.line, place.col, place.start, place.end)


def _start_of_typed_literal(kept: list[Token]) -> int | None:
    """Find where ``type 'text'``, which the tokens end with, begins; None for a plain string."""
    place = len(kept) - 2
    if place >= 0 and kept[place].token_type is TokenType.R_PAREN:  # TIMESTAMP(3) '...'
        while place >= 0 and kept[place].token_type is not TokenType.L_PAREN:
            place -= 1
        place -= 1
        return place if place >= 0 and kept[place].token_type in _TYPES else None
    if place >= 0 and kept[place].text == "zone":
        while place > 0 and kept[place].text in _TYPE_PARTS and kept[place].text != "timestamp":
            if kept[place].text == "time" and kept[place - 1].text not in ("with", "without"):
                break
            place -= 1
        return place if kept[place].token_type in _TYPES else None
    return place if place >= 0 and kept[place].token_type in _TYPES else None


_TYPES = frozenset(
    {
        TokenType.DATE, TokenType.TIME, TokenType.TIMESTAMP, TokenType.TIMESTAMPTZ, TokenType.TIMETZ, TokenType.INTERVAL,
        TokenType.INT, TokenType.BIGINT, TokenType.SMALLINT, TokenType.FLOAT, TokenType.DOUBLE, TokenType.DECIMAL,
        TokenType.TEXT, TokenType.VARCHAR, TokenType.BOOLEAN, TokenType.JSON, TokenType.JSONB, TokenType.UUID,
    }
)  # fmt: skip


def _check_number(tokens: list[Token], index: int, text: str) -> None:
    """Refuse ``1_000`` and ``0x1F``, which PostgreSQL 15 does not read either."""
    token = tokens[index]
    following = tokens[index + 1] if index + 1 < len(tokens) else None
    junk = token.token_type is TokenType.HEX_STRING and text[token.start] == "0"
    end = token.end
    if following is not None and following.start == token.end + 1 and following.token_type is TokenType.VAR:
        junk, end = True, following.end
    if junk:
        raise SQLSyntaxError(
            f'trailing junk after numeric literal at or near "{text[token.start : end + 1]}"', position=token.start + 1
        )


def _open_overlaps(kept: list[Token], token: Token) -> None:
    """Turn ``(a, b) OVERLAPS`` at the end of the tokens into ``overlaps(a, b,``; the next parenthesis is left out."""
    depth, place = 0, len(kept) - 1
    while place >= 0:
        depth += (kept[place].token_type is TokenType.R_PAREN) - (kept[place].token_type is TokenType.L_PAREN)
        if depth == 0:
            break
        place -= 1
    if place < 0 or kept[-1].token_type is not TokenType.R_PAREN:
        kept.append(token)  # the stock parser finds the fault
        return
    kept[-1] = _mark(token, TokenType.COMMA, ",")
    kept.insert(place, _mark(token, TokenType.VAR, token.text))


_ONE_PART = re.compile(r"\s*-?\d+(?:\.\d+)?\s*(?:[a-zA-Z]+\s*)?\Z")


def _is_long_interval(tokens: list[Token], index: int) -> bool:
    """Tell whether ``INTERVAL 'text'`` begins here, of a text that is more than a number and a unit."""
    text = tokens[index + 1] if index + 1 < len(tokens) else None
    return text is not None and text.token_type is TokenType.STRING and _ONE_PART.match(text.text) is None


def _is_span(tokens: list[Token], index: int) -> bool:
    """Tell whether a token belongs to ``YEAR TO MONTH`` behind an interval's text."""
    words = [t.text for t in tokens[max(index - 2, 0) : index + 3]]
    for start in range(3):
        first = index - start
        if first >= 2 and first + 2 < len(tokens):
            one, to, other = (t.text for t in tokens[first : first + 3])
            spans = one in _SPAN_WORDS and to == "to" and other in _SPAN_WORDS and "to" in words
            if spans and _is_string(tokens, first - 1) and tokens[first - 2].token_type is TokenType.INTERVAL:
                return True
    return False
