"""Tokens to sqlglot trees by the stock Postgres parser, and what is asked of a tree afterwards.

The stock parser is lenient: it accepts other dialects' placeholders, data-changing CTEs, and falls back to an opaque
Command. `check_tree` refuses those; what comes out can be bound and rendered. Its errors become PostgreSQL's "syntax
error at or near", with the caret where the parser stopped.
"""

from __future__ import annotations

import itertools
import logging
from itertools import pairwise
from typing import TYPE_CHECKING

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ParseError, SqlglotError
from sqlglot.tokens import Token, TokenType

from streamsql.base.errors import FeatureNotSupported, SQLSyntaxError, StreamSQLError, UndefinedFunction
from streamsql.base.limits import Limits, exceeded
from streamsql.sql.names import DATABASES, parted
from streamsql.sql.postgres_syntax import as_stock_parser_reads
from streamsql.sql.tokens import syntax_error
from streamsql.sql.unfinished import at_end, check_finished, check_recursion
from streamsql.sql.window_tables import plain_window_tables

if TYPE_CHECKING:
    from streamsql.sql.statements import Statement

# its warnings of what it does not know are for who translates SQL; here the text is refused, or DuckDB looks at it
logging.getLogger("sqlglot").addHandler(logging.NullHandler())

# node -> (message, hint); a tree that holds one is refused
REFUSED: dict[type[exp.Expression], tuple[str, str | None]] = {
    exp.Insert: ("INSERT inside a query is not supported", "send it as a statement of its own"),
    exp.Update: ("UPDATE inside a query is not supported", "send it as a statement of its own"),
    exp.Delete: ("DELETE inside a query is not supported", "send it as a statement of its own"),
    exp.Merge: ("MERGE inside a query is not supported", "send it as a statement of its own"),
    exp.Into: ("SELECT INTO is not supported", "use CREATE TABLE ... AS SELECT ..."),
    exp.BitString: ("bit strings are not supported", "write an integer"),
    exp.HexString: ("bit strings are not supported", "write bytes as '\\x1f'::bytea"),
    exp.Lock: ("FOR UPDATE and FOR SHARE are not supported here", "they stand at the end of a SELECT of its own"),
}  # fmt: skip
# node -> the text it is shown by; a tree that holds one is not SQL in Postgres' syntax
FOREIGN: dict[type[exp.Expression], str] = {
    exp.Command: "command",
    exp.Create: "create",
    exp.Drop: "drop",
    exp.Set: "set",
    exp.Placeholder: "placeholder",
    exp.SessionParameter: "@@",
    exp.Hint: "hint",
}
# keywords to the stock parser, names of windows where a parenthesis follows
_WINDOW_KEYWORDS = frozenset({TokenType.WINDOW, TokenType.SESSION})
# words that begin something to the stock parser, and what ends the label of a column behind AS
_LABELS = frozenset({"delete", "from", "insert", "select", "table", "update", "values", "where", "with"})
_LABEL_ENDS = frozenset({",", "from", ")", "union", "where", "order", "limit"})
_FOREIGN_MARKS = frozenset(
    {TokenType.PLACEHOLDER, TokenType.COLON, TokenType.MOD, TokenType.PARAMETER, TokenType.COMMAND, TokenType.HINT}
)


def parse_tree(text: str, tokens: list[Token], limits: Limits) -> exp.Expression:
    """Parse the tokens of one statement. `text` is the whole query string.

    Raises SQLSyntaxError with a position, FeatureNotSupported, ProgramLimitExceeded for too deep a recursion.
    """
    if not tokens:
        raise syntax_error(text, None)
    tokens = as_stock_parser_reads(plain_window_tables(tokens), text)
    _rename_windows(tokens)
    _rename_labels(tokens)
    tokens = _qualify_arrays(tokens)
    try:
        tree = _parsed(text, tokens)
    except ParseError as error:
        raise _stopped(text, tokens, error) from error
    except RecursionError as error:
        raise exceeded(limits, "expression_depth_max", "the nesting of a statement") from error
    except StreamSQLError:
        raise
    except (SqlglotError, ValueError, TypeError, AttributeError, KeyError, IndexError, AssertionError) as error:
        # The stock parser trips over some texts that are no SQL at all, and says so by Python's own errors.
        raise syntax_error(text, tokens[0]) from error
    check_finished(text, tokens)
    check_tree(tree, text, tokens)
    return tree


def _rename_windows(tokens: list[Token]) -> None:
    """Make names of ``window`` and ``session`` before a parenthesis; in ``WINDOW w AS (...)`` a name stands between."""
    for token, following in itertools.pairwise(tokens):
        if token.token_type in _WINDOW_KEYWORDS and following.token_type is TokenType.L_PAREN:
            token.token_type = TokenType.VAR


def _rename_labels(tokens: list[Token]) -> None:
    """Make names of keywords that stand where only a label can: ``1 AS select,``."""
    for (before, token), following in itertools.zip_longest(itertools.pairwise(tokens), tokens[2:]):
        labels = before.token_type is TokenType.ALIAS and token.text in _LABELS
        if labels and (following is None or following.text in _LABEL_ENDS):
            token.token_type = TokenType.VAR


def _qualify_arrays(tokens: list[Token]) -> list[Token]:
    """Write ``regtype[]`` as ``pg_catalog.regtype[]``: the stock parser knows no arrays of these types by their bare names."""
    found: list[Token] = []
    for token, following in itertools.zip_longest(tokens, tokens[1:]):
        bare = token.token_type is TokenType.OBJECT_IDENTIFIER and (not found or found[-1].text != ".")
        if bare and following is not None and following.text == "[":
            place = (token.line, token.col, token.start, token.end)
            found += [Token(TokenType.VAR, "pg_catalog", *place), Token(TokenType.DOT, ".", *place)]
            token.token_type = TokenType.VAR
        found.append(token)
    return found


def _parsed(text: str, tokens: list[Token]) -> exp.Expression:
    trees = Postgres().parser().parse(tokens, text)
    if len(trees) != 1 or trees[0] is None:
        raise syntax_error(text, tokens[0])
    tree = trees[0]
    assert isinstance(tree, exp.Expression)
    return tree


def _stopped(text: str, tokens: list[Token], error: ParseError) -> SQLSyntaxError | UndefinedFunction:
    """Find the token at which the stock parser stopped.

    It names a line and a column where the token ends. At the end of the input it names the last token; whether that one
    is meant or the end is found out by parsing once more with a token behind it that nothing accepts.
    """
    stopped = _token_of(tokens, error)
    called = _called_without_arguments(tokens, stopped)
    if called is not None:
        return UndefinedFunction(f"function {called.text}() does not exist", position=called.start + 1)
    if stopped is None or stopped is tokens[-1]:
        last = tokens[-1]
        behind = Token(TokenType.BLOCK_END, "", last.line, last.col + 1, len(text), len(text))
        try:
            _parsed(text, [*tokens, behind])
        except ParseError as again:
            stopped = _token_of([*tokens, behind], again) or behind
        except (SqlglotError, StreamSQLError, RecursionError, ValueError, TypeError, AttributeError, IndexError):
            stopped = stopped or last
        if stopped is behind:
            return at_end(text, last)
    return syntax_error(text, stopped)


def _called_without_arguments(tokens: list[Token], stopped: Token | None) -> Token | None:
    """Give the function of a call like ``max()``, whose arguments the stock parser misses."""
    place = next((i for i, token in enumerate(tokens) if token is stopped), 0)
    if (
        place < 2
        or tokens[place].token_type is not TokenType.R_PAREN
        or tokens[place - 1].token_type is not TokenType.L_PAREN
    ):
        return None
    name = tokens[place - 2]
    return name if name.text.isidentifier() and name.token_type is not TokenType.IN else None


def _token_of(tokens: list[Token], error: ParseError) -> Token | None:
    found = error.errors[0] if error.errors else {}
    place = (found.get("line"), found.get("col"))
    return next((token for token in tokens if (token.line, token.col) == place), None)


def check_tree(tree: exp.Expression, text: str, tokens: list[Token]) -> None:
    """Refuse what the stock parser lets through, and take the database off names."""
    for node in tree.walk():
        kind = type(node)
        if kind is exp.Table or kind is exp.Column:
            if "" in (node.args.get("db"), node.args.get("catalog")):  # ..name
                raise syntax_error(text, next((t for t in tokens if t.text == "."), tokens[0]))
            _unqualify(node)
            node.args.pop("only", None)  # relations have no children
        elif kind is exp.Star and isinstance(node.parent, (exp.Paren, exp.Alias)):
            raise syntax_error(text, _stray_star(tokens))
        elif (kind is exp.Distinct or kind is exp.Order) and node.arg_key == "this" and not _has_argument(node):
            raise syntax_error(text, _missing_argument(tokens))
        elif kind is exp.Lock and node.parent is tree:
            pass  # its query takes it
        elif isinstance(node, exp.With):
            check_recursion(node)
        elif kind in REFUSED and node is not tree and not isinstance(node.parent, exp.When):
            message, hint = REFUSED[kind]
            start = start_of(node)
            raise FeatureNotSupported(message, hint=hint, position=None if start is None else start + 1)
        elif kind is exp.LimitOptions and node.args.get("with_ties"):
            raise FeatureNotSupported(
                "WITH TIES is not supported", hint="rank the rows with rank() OVER (ORDER BY ...)"
            )
        elif kind in FOREIGN or (kind is exp.Parameter and not isinstance(node.this, exp.Literal)):
            raise _foreign(node, text, tokens)


def _has_argument(node: exp.Expr) -> bool:
    """Tell whether DISTINCT or ORDER BY within a call is of something."""
    if isinstance(node, exp.Distinct):
        return bool(node.expressions) and None not in node.expressions
    return node.args.get("this") is not None


def _missing_argument(tokens: list[Token]) -> Token:
    """Find what stands where an aggregate's argument should: behind a parenthesis or DISTINCT."""
    for before, token in pairwise(tokens):
        behind = before.text == "distinct" or before.token_type is TokenType.L_PAREN
        if behind and (token.text == "order" or (before.text == "distinct" and token.text in (",", ")"))):
            return token
    return tokens[-1]


def _stray_star(tokens: list[Token]) -> Token:
    """Find the star that is no list of columns: between parentheses that call nothing, or before a name."""
    stars = [i for i, token in enumerate(tokens) if token.token_type is TokenType.STAR]
    for i in stars:
        following = tokens[i + 1 : i + 2]
        if following and following[0].token_type in (TokenType.VAR, TokenType.IDENTIFIER, TokenType.ALIAS):
            return tokens[i]
        if i > 1 and tokens[i - 1].text == "(" and tokens[i - 2].token_type is not TokenType.VAR:
            return tokens[i]
    return tokens[stars[0]] if stars else tokens[0]


def _foreign(node: exp.Expr, text: str, tokens: list[Token]) -> SQLSyntaxError:
    start = start_of(node)
    near = [token for token in tokens if token.token_type in _FOREIGN_MARKS and (start is None or token.start <= start)]
    hint = "write parameters as $1, $2, ..." if isinstance(node, (exp.Placeholder, exp.Parameter)) else None
    return syntax_error(text, near[-1] if near else tokens[0], hint=hint)


def _unqualify(node: exp.Expr) -> None:
    database = node.args.get("catalog")
    if database is not None and database.name in DATABASES:
        node.set("catalog", None)


def table_of(name: str) -> exp.Table:
    """Make the tree of a relation in FROM, of a name as a statement has it."""
    schema, own = parted(name)
    table = exp.Table(this=exp.to_identifier(own, quoted=True))
    if schema is not None:
        table.set("db", exp.to_identifier(schema, quoted=True))
    return table


def count_parameters(tokens: list[Token], limits: Limits) -> int:
    """Give the largest number n of the parameters ``$n``, 0 if there are none. Raises ProgramLimitExceeded."""
    largest = 0
    for index, token in enumerate(tokens):
        if token.token_type is TokenType.PARAMETER:
            digits = tokens[index + 1].text
            if len(digits) > 9 or int(digits) > limits.parameters_max:
                raise exceeded(limits, "parameters_max", f"parameter ${digits[:20]}")
            largest = max(largest, int(digits))
    return largest


def is_assignment(node: exp.Expr) -> bool:
    """Tell ``SET a = 1`` from a comparison, which has the same node."""
    return isinstance(node, exp.EQ) and isinstance(node.parent, exp.Update) and node.arg_key == "expressions"


def start_of(node: exp.Expr) -> int | None:
    """Give the 0-based offset in the query string of the first part of a tree whose place is known."""
    return min((part.meta["start"] for part in node.walk() if part.meta.get("start") is not None), default=None)


def position_of(node: exp.Expr, statement: Statement) -> int | None:
    """Give the 1-based position of a node in the query string that `statement` came from, for an error about it.

    None where it is not known: for nodes without a place of their own, and for trees that were made and not parsed.
    """
    start = start_of(node)
    if start is None or not statement.position <= start <= statement.position + len(statement.text):
        return None
    return start + 1
