"""Text to tokens, and the cursor that hand-written parts of the parser read them with.

sqlglot's Postgres tokenizer does the work; what is different here:

- Comments are blanked out beforehand (positions stay), so that none is carried into trees and rendered text.
- The ``$`` of a parameter is replaced by a character that begins nothing else: sqlglot reads ``$1,$`` as a dollar quote.
- Words are folded to lower case, so that trees hold the names that PostgreSQL would look up.
- ``E'..'``, ``U&'..'``, ``N'..'`` and dollar quotes all become plain string tokens: one kind of string in a tree.
- No word swallows the rest of its statement (sqlglot makes an opaque Command of SHOW, EXPLAIN, FETCH, ...).

Positions: a token's `start` and `end` are 0-based character offsets into the whole query string, `end` inclusive. An
error's `position` is 1-based.

Specification: https://www.postgresql.org/docs/current/sql-syntax-lexical.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import TokenError
from sqlglot.tokens import Token, TokenType

from streamsql.base.errors import (
    CharacterNotInRepertoire,
    SQLSyntaxError,
    UndefinedDatabase,
    UndefinedParameter,
)
from streamsql.base.limits import Limits, exceeded
from streamsql.sql.names import DATABASES, RESERVED, fold, is_word, joined

# What can hold a comment mark or a quote without meaning it, and the marks themselves.
_LEXICAL = re.compile(
    r"""
      (?P<escape>(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*(?P<escape_end>')?)
    | (?P<string>'(?:[^']|'')*(?P<string_end>')?)
    | (?P<name>"(?:[^"]|"")*(?P<name_end>")?)
    | (?P<dollar>(?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$)
    | (?P<parameter>(?<![\w$])\$(?=\d))
    | (?P<line>--[^\n\r]*)
    | (?P<block>/\*)
    | (?P<brace>\{[#%{])
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_MARK = re.compile(r"/\*|\*/")
_NOT_NEWLINE = re.compile(r"[^\n]")
_COMMENT_MARKS = ("--", "/*", "{#", "{%", "{{")
_PARAMETER_MARK = "\ue000"  # stands in for the ``$`` of ``$1``; Unicode keeps it for private use

_AS_STRING = frozenset(
    {
        TokenType.BYTE_STRING,
        TokenType.HEREDOC_STRING,
        TokenType.NATIONAL_STRING,
        TokenType.RAW_STRING,
        TokenType.UNICODE_STRING,
    }
)
_NOT_WORDS = frozenset(
    {
        TokenType.STRING,
        TokenType.IDENTIFIER,
        TokenType.NUMBER,
        TokenType.BIT_STRING,
        TokenType.HEX_STRING,
        TokenType.PARAMETER,
    }
)
_NUMBER = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
_UNICODE_ESCAPE = re.compile(r"\\(?:\\|\+([0-9a-fA-F]{6})|([0-9a-fA-F]{4})|(.?))", re.DOTALL)


def syntax_error(text: str, token: Token | None, *, hint: str | None = None) -> SQLSyntaxError:
    """Make the error for a token that cannot stand where it stands (None: for the end of the text)."""
    if token is None:
        return SQLSyntaxError("syntax error at end of input", hint=hint, position=len(text) + 1)
    return SQLSyntaxError(
        f'syntax error at or near "{text[token.start : token.end + 1]}"', hint=hint, position=token.start + 1
    )


def is_quoted(token: Token) -> bool:
    """Tell whether a token is a string or a name in quotes, whose text may look like any other token's."""
    return token.token_type in (TokenType.STRING, TokenType.IDENTIFIER)


def nesting(token: Token) -> int:
    """Give 1 for an opening parenthesis, -1 for a closing one, else 0."""
    return (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)


def tokenize(text: str, limits: Limits) -> list[Token]:
    """Give the tokens of a query string, semicolons included.

    Raises SQLSyntaxError for what is not a token, and ProgramLimitExceeded for too large a text.
    """
    if len(text) > limits.query_text_bytes_max:
        raise exceeded(limits, "query_text_bytes_max", "the text of a query")
    if "\0" in text:
        raise CharacterNotInRepertoire('invalid byte sequence for encoding "UTF8": 0x00', position=text.index("\0") + 1)
    scanned = _prepared(text) if "$" in text or any(mark in text for mark in _COMMENT_MARKS) else text
    tokenizer = Postgres().tokenizer()
    tokenizer._core.commands = set()  # the class cannot be subclassed; see the top of this file
    tokenizer._core.single_tokens = {**tokenizer._core.single_tokens, _PARAMETER_MARK: TokenType.PARAMETER}
    try:
        tokens: list[Token] = tokenizer.tokenize(scanned)
    except TokenError as error:
        _prepared(text)  # raises where a quote is not closed
        raise _unreadable(text, error) from error
    for index, token in enumerate(tokens):
        _normalize(text, tokens, index, token)
    return tokens


def _prepared(text: str) -> str:
    """Replace comments by as many blanks, and the ``$`` of parameters by `_PARAMETER_MARK`.

    Raises SQLSyntaxError for a quote or comment that is not closed.
    """
    parts: list[str] = []
    done = position = 0
    while found := _LEXICAL.search(text, position):
        start, position = found.span()
        match found.lastgroup:
            case "line":
                parts += text[done:start], " " * (position - start)
                done = position
            case "block":
                position = _block_end(text, start)
                parts += text[done:start], _NOT_NEWLINE.sub(" ", text[start:position])
                done = position
            case "parameter":
                parts += text[done:start], _PARAMETER_MARK
                done = position
            case "dollar" | "tag":
                position = text.find(found["dollar"], position) + len(found["dollar"])
                if position < start + 2 * len(found["dollar"]):
                    raise _unterminated("dollar-quoted string", text, start)
            case "brace":
                raise SQLSyntaxError('syntax error at or near "{"', position=start + 1)
            case "name":
                if found["name_end"] is None:
                    raise _unterminated("quoted identifier", text, start)
            case _:
                if found["string_end"] is None and found["escape_end"] is None:
                    raise _unterminated("quoted string", text, start)
    return "".join((*parts, text[done:]))


def _block_end(text: str, start: int) -> int:
    """Find the end of a block comment; these nest."""
    depth = 0
    for mark in _BLOCK_MARK.finditer(text, start):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    raise _unterminated("/* comment", text, start)


def _unterminated(what: str, text: str, start: int) -> SQLSyntaxError:
    return SQLSyntaxError(f'unterminated {what} at or near "{text[start : start + 40]}"', position=start + 1)


def _unreadable(text: str, error: TokenError) -> SQLSyntaxError:
    start = min(getattr(error, "start", None) or 0, max(len(text) - 1, 0))
    return SQLSyntaxError("syntax error: the text cannot be divided into tokens", position=start + 1)


def _normalize(text: str, tokens: list[Token], index: int, token: Token) -> None:
    kind = token.token_type
    if kind in _AS_STRING:
        if kind is TokenType.UNICODE_STRING:
            token.text = _unescape(token.text, token)
        token.token_type = TokenType.STRING
    elif kind not in _NOT_WORDS:
        if kind in (TokenType.VAR, TokenType.UNKNOWN) and not is_word(token.text):
            raise syntax_error(text, token)
        token.text = fold(token.text)
    elif kind is TokenType.NUMBER:
        if not _NUMBER.match(token.text):
            raise SQLSyntaxError(
                f'trailing junk after numeric literal at or near "{token.text}"', position=token.start + 1
            )
    elif kind is TokenType.PARAMETER:
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        number = following is not None and following.token_type is TokenType.NUMBER
        if text[token.start] != "$" or following is None or not number or following.start != token.end + 1:
            raise syntax_error(text, token)
        if not following.text.isdecimal():
            raise syntax_error(text, following)
        if int(following.text[:10]) == 0:
            raise UndefinedParameter(f"there is no parameter ${following.text}", position=token.start + 1)


def _unescape(escaped: str, token: Token) -> str:
    def character(found: re.Match[str]) -> str:
        code = found[1] or found[2]
        if code is None:
            if found[3] is None:
                return "\\"
            raise SQLSyntaxError("invalid Unicode escape", position=token.start + 1)
        number = int(code, 16)
        if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF or number == 0:
            raise SQLSyntaxError("invalid Unicode escape value", position=token.start + 1)
        return chr(number)

    return _UNICODE_ESCAPE.sub(character, escaped)


T = TypeVar("T")


@dataclass(slots=True)
class Cursor:
    """A place in the tokens of one statement.

    `text` is the whole query string, `end` the offset where this statement's last token ends (exclusive).
    """

    text: str
    tokens: list[Token]
    limits: Limits
    index: int = 0

    @property
    def peek(self) -> Token | None:
        """The next token, or None at the end of the statement."""
        return self.tokens[self.index] if self.index < len(self.tokens) else None

    @property
    def position(self) -> int:
        """The 0-based offset of the next token, or of the statement's end."""
        token = self.peek
        return token.start if token is not None else self.end

    @property
    def start(self) -> int:
        """The 0-based offset of the statement's first token."""
        return self.tokens[0].start

    @property
    def end(self) -> int:
        """The 0-based offset behind the statement's last token."""
        return self.tokens[-1].end + 1

    @property
    def source(self) -> tuple[str, int]:
        """The statement's text and position, the first two fields of every `Statement`."""
        return self.text[self.start : self.end], self.start

    @property
    def rest(self) -> list[Token]:
        """The tokens not read yet."""
        return self.tokens[self.index :]

    def error(self, token: Token | None = None, *, hint: str | None = None) -> SQLSyntaxError:
        """Make the syntax error for this token, by default the next one."""
        token = token or self.peek
        if token is None and self.end < len(self.text.rstrip()):  # a semicolon ended it
            semicolon = self.text.find(";", self.end)
            return SQLSyntaxError('syntax error at or near ";"', hint=hint, position=max(semicolon, self.end) + 1)
        return syntax_error(self.text, token, hint=hint)

    def advance(self) -> Token:
        """Read a token, whatever it is. Raises SQLSyntaxError at the end."""
        token = self.peek
        if token is None:
            raise self.error()
        self.index += 1
        return token

    def sees(self, *words: str) -> bool:
        """Say whether these words (lower case) or marks come next."""
        if self.index + len(words) > len(self.tokens):
            return False
        return all(
            token.text == word and token.token_type not in _NOT_WORDS
            for token, word in zip(self.tokens[self.index : self.index + len(words)], words, strict=True)
        )

    def accept(self, *words: str) -> bool:
        """Read these words if they come next."""
        if self.sees(*words):
            self.index += len(words)
            return True
        return False

    def accept_any(self, *words: str) -> str | None:
        """Read one of these words if one comes next, and give it."""
        return next((word for word in words if self.accept(word)), None)

    def sees_any(self, *words: str) -> bool:
        """Say whether one of these words comes next."""
        return any(self.sees(word) for word in words)

    def expect(self, *words: str) -> None:
        """Read these words. Raises SQLSyntaxError at the first that is missing."""
        for word in words:
            if not self.accept(word):
                raise self.error()

    def expect_end(self) -> None:
        """Raise SQLSyntaxError unless the statement has been read whole."""
        if self.peek is not None:
            raise self.error()

    def accept_string(self) -> str | None:
        """Read a string literal if one comes next."""
        token = self.peek
        if token is not None and token.token_type is TokenType.STRING:
            self.index += 1
            return token.text
        return None

    def expect_string(self) -> str:
        """Read a string literal. Raises SQLSyntaxError."""
        value = self.accept_string()
        if value is None:
            raise self.error()
        return value

    def accept_number(self) -> str | None:
        """Read a number, with its sign, if one comes next."""
        sign = "-" if self.sees("-") else ""
        place = self.index + (1 if sign or self.sees("+") else 0)
        if place < len(self.tokens) and self.tokens[place].token_type is TokenType.NUMBER:
            self.index = place + 1
            return sign + self.tokens[place].text
        return None

    def accept_word(self) -> str | None:
        """Read any unquoted word, keyword or not, if one comes next."""
        token = self.peek
        if token is not None and token.token_type not in _NOT_WORDS and is_word(token.text):
            self.index += 1
            return token.text
        return None

    def accept_name(self) -> str | None:
        """Read a name (quoted, or a word that is not reserved) if one comes next."""
        token = self.peek
        if token is None:
            return None
        if token.token_type is TokenType.IDENTIFIER:
            if not token.text:
                raise SQLSyntaxError("zero-length delimited identifier", position=token.start + 1)
            self.index += 1
            return token.text
        if token.text in RESERVED:
            return None
        return self.accept_word()

    def expect_name(self) -> str:
        """Read a name. Raises SQLSyntaxError."""
        name = self.accept_name()
        if name is None:
            raise self.error()
        return name

    def expect_new_name(self) -> str:
        """Read the name, not qualified, that something is to have. Raises SQLSyntaxError, ProgramLimitExceeded."""
        name = self.expect_name()
        if len(name.encode("utf-8", "surrogatepass")) > self.limits.identifier_bytes_max:
            raise exceeded(self.limits, "identifier_bytes_max", f'the name "{name}"')
        return name

    def expect_object_name(self) -> str:
        """Read a name that may be qualified by a schema, and by the database, which is taken off; as `names.joined` writes it.

        Raises SQLSyntaxError; UndefinedDatabase for another database.
        """
        start = self.position
        parts = [self.expect_name()]
        while len(parts) < 3 and self.accept("."):
            parts.append(self._expect_label())
        return self.object_name(parts, start)

    def object_name(self, parts: list[str], start: int) -> str:
        """Put the parts of a name together that begins at `start`; raises as `expect_object_name` does."""
        if len(parts) == 3 and parts[0] not in DATABASES:
            raise UndefinedDatabase(f'database "{parts[0]}" does not exist', position=start + 1)
        return joined(parts[-2] if len(parts) > 1 else None, parts[-1])

    def _expect_label(self) -> str:
        """Read the name behind a dot: any word will do there."""
        label = self.accept_name() or self.accept_word()
        if label is None:
            raise self.error()
        return label

    def expect_listed(self, expect: Callable[[], T]) -> tuple[T, ...]:
        """Read one or more of what `expect` reads, with commas between."""
        found = [expect()]
        while self.accept(","):
            found.append(expect())
        return tuple(found)

    def expect_names(self) -> tuple[str, ...]:
        """Read names between parentheses."""
        self.expect("(")
        found = self.expect_listed(self.expect_name)
        self.expect(")")
        return found

    def accept_cascade(self) -> bool:
        """Read CASCADE or RESTRICT, if one of them comes next; tell whether it is CASCADE."""
        return self.accept_any("cascade", "restrict") == "cascade"
