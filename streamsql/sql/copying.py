"""COPY in both directions, to and from the client, with its options in the new and the old syntax.

See https://www.postgresql.org/docs/15/sql-copy.html. Files and programs of the server are refused.
"""

from __future__ import annotations

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue, SQLSyntaxError, UndefinedParameter
from streamsql.sql.changes import BOOLEANS, expect_columns, option_value, parse_subscribe
from streamsql.sql.names import joined
from streamsql.sql.query import QUERY_WORDS, parse_query
from streamsql.sql.statements import CopyFrom, CopyTo, OptionValue, Query, Statement, Subscribe
from streamsql.sql.tokens import Cursor, is_quoted, nesting, tokenize
from streamsql.sql.trees import parse_tree
from streamsql.sql.unsupported import refuse, unsupported

# options whose value is text
COPY_OPTIONS = frozenset({"format", "delimiter", "null", "header", "quote", "escape", "encoding"})
# options whose value is a list of columns, or * for all; and how they were written before
COLUMN_OPTIONS: dict[str, tuple[str, ...]] = {
    "force_quote": ("force", "quote"),
    "force_not_null": ("force", "not", "null"),
    "force_null": ("force", "null"),
}
# about PostgreSQL's own storage: read, and nothing else
_STORAGE_OPTION = "freeze"
COPY_UNSUPPORTED: dict[str, str] = {
    "default": "leave the columns with a default out of the column list",
    "on_error": "a bad line stops the whole COPY",
    "reject_limit": "a bad line stops the whole COPY",
    "log_verbosity": "leave it away",
    "oids": "leave it away",
}
_FROM_FILE = "use psql's \\copy, which reads the client's file and sends it with COPY ... FROM STDIN"
_TO_FILE = "use psql's \\copy, which writes the client's file with what COPY ... TO STDOUT gives"


def parse_copy(cursor: Cursor) -> Statement:
    """Read COPY name [(columns)] FROM STDIN | TO STDOUT, or COPY (query) TO STDOUT, with options and WHERE."""
    cursor.expect("copy")
    options: dict[str, OptionValue] = {}
    if cursor.sees("("):
        made = _parse_copy_query(cursor)
        _expect_client(cursor, to_client=True)
        options |= _options(cursor)
        cursor.expect_end()
        return CopyTo(*cursor.source, query=made, options=options)
    position = cursor.position
    if cursor.sees("binary") and not (cursor.sees("binary", "from") or cursor.sees("binary", "to")):
        cursor.expect("binary")
        _set_option(options, "format", "binary", position)
    start, name_position = cursor.index, cursor.position
    if _sees_to(cursor):
        query, name = _table_query(cursor, start)
        _expect_client(cursor, to_client=True)
        _add(options, _options(cursor), position)
        if cursor.sees("where"):
            raise cursor.error(hint="COPY (SELECT ... WHERE ...) TO STDOUT filters")
        cursor.expect_end()
        return CopyTo(*cursor.source, query=query, options=options, name=name)
    name = cursor.expect_object_name()
    columns = expect_columns(cursor) if cursor.sees("(") else ()
    _expect_client(cursor, to_client=False)
    _add(options, _options(cursor), position)
    where = _where(cursor) if cursor.sees("where") else None
    cursor.expect_end()
    return CopyFrom(
        *cursor.source, name=name, columns=columns, options=options, name_position=name_position, where=where
    )


def _sees_to(cursor: Cursor) -> bool:
    """Look past the name and the columns for TO."""
    depth = 0
    for token in cursor.rest:
        depth += nesting(token)
        if depth == 0 and not is_quoted(token) and token.text in ("to", "from"):
            return token.text == "to"
    return False


def _table_query(cursor: Cursor, start: int) -> tuple[Query, str]:
    """Make the query of all rows of a relation, whose tree has the places of the statement's own words."""
    parts = [cursor.expect_name()]
    while cursor.accept("."):
        parts.append(cursor.accept_name() or cursor.expect_name())
    relation = cursor.tokens[start : cursor.index]
    listed: list[Token] = [] if not cursor.sees("(") else _inside(cursor)
    limits = cursor.limits
    if listed:
        at = cursor.index
        cursor.index -= len(listed) + 2
        expect_columns(cursor)
        assert cursor.index == at
    head = tokenize("select", limits) + (listed or tokenize("*", limits))
    tree = parse_tree(cursor.text, [*head, *tokenize("from", limits), *relation], limits)
    return Query(*cursor.source, tree=tree), joined(parts[-2] if len(parts) > 1 else None, parts[-1])


def _inside(cursor: Cursor) -> list[Token]:
    """Read what stands between parentheses. Raises SQLSyntaxError where they are not closed."""
    cursor.expect("(")
    start, depth = cursor.index, 1
    while depth:
        token = cursor.advance()
        depth += nesting(token)
    return cursor.tokens[start : cursor.index - 1]


def _parse_copy_query(cursor: Cursor) -> Query | Subscribe:
    start = cursor.index
    tokens = _inside(cursor)
    if not tokens:
        raise cursor.error(cursor.tokens[start + 1])
    inner = Cursor(cursor.text, tokens, cursor.limits)
    if inner.sees("subscribe"):
        return parse_subscribe(inner)
    if tokens[0].text in ("insert", "update", "delete", "merge"):
        refuse(f"COPY of {tokens[0].text.upper()}", "COPY a SELECT, or SUBSCRIBE to a view", inner)
    if tokens[0].text not in QUERY_WORDS:
        raise inner.error()
    query = parse_query(inner)
    if query.parameter_count:
        parameter = next(token for token in tokens if token.token_type is TokenType.PARAMETER)
        number = cursor.text[parameter.start + 1 :].split(maxsplit=1)[0].rstrip("),;")
        raise UndefinedParameter(f"there is no parameter ${number}", position=parameter.start + 1)
    return query


def _expect_client(cursor: Cursor, *, to_client: bool) -> None:
    """Read FROM STDIN or TO STDOUT; PostgreSQL takes either word in both directions."""
    cursor.expect("to" if to_client else "from")
    direction, hint = ("TO", _TO_FILE) if to_client else ("FROM", _FROM_FILE)
    if cursor.sees("program"):
        refuse(f"COPY {direction} PROGRAM", hint, cursor)
    if cursor.peek is not None and cursor.peek.token_type is TokenType.STRING:
        refuse(f"COPY {direction} a file of the server", hint, cursor)
    if cursor.accept_any("stdin", "stdout") is None:
        raise cursor.error()


def _where(cursor: Cursor) -> exp.Expression:
    """Read WHERE condition to the end of the statement."""
    place = cursor.position
    tokens = cursor.rest
    cursor.index = len(cursor.tokens)
    tree = parse_tree(cursor.text, [*tokenize("select *", cursor.limits), *tokens], cursor.limits)
    where = tree.args.get("where")
    if not isinstance(tree, exp.Select) or not isinstance(where, exp.Where) or set(_given(tree)) - {"where"}:
        raise cursor.error(tokens[0])
    if where.find(exp.Query):
        raise FeatureNotSupported("cannot use subquery in COPY FROM WHERE condition", position=place + 1)
    if where.find(exp.AggFunc):
        raise FeatureNotSupported(
            "aggregate functions are not allowed in COPY FROM WHERE conditions", position=place + 1
        )
    condition = where.this
    assert isinstance(condition, exp.Expression)
    return condition


def _given(tree: exp.Expression) -> list[str]:
    return [name for name, value in tree.args.items() if value and name not in ("kind", "expressions")]


def _options(cursor: Cursor) -> dict[str, OptionValue]:
    options: dict[str, OptionValue] = {}
    if cursor.sees("delimiters") or cursor.sees("using", "delimiters"):
        position = cursor.position
        cursor.accept("using")
        cursor.expect("delimiters")
        _set_option(options, "delimiter", cursor.expect_string(), position)
    cursor.accept("with")
    _add(options, _copy_options(cursor) if cursor.sees("(") else _old_copy_options(cursor), cursor.position)
    return options


def _add(options: dict[str, OptionValue], more: dict[str, OptionValue], position: int) -> None:
    if options.keys() & more.keys():
        raise SQLSyntaxError("conflicting or redundant options", position=position + 1)
    options |= more


def _copy_options(cursor: Cursor) -> dict[str, OptionValue]:
    cursor.expect("(")
    options: dict[str, OptionValue] = {}
    while True:
        position = cursor.position
        name = cursor.accept_word()
        if name is None:
            raise cursor.error()
        if name in COPY_UNSUPPORTED:
            raise unsupported(f"COPY option {name.upper()}", COPY_UNSUPPORTED[name], position)
        if name in COLUMN_OPTIONS:
            star = name == "force_quote" and cursor.accept("*")
            _set_option(options, name, "*" if star else expect_columns(cursor), position)
        elif name == _STORAGE_OPTION:
            if not cursor.sees_any(",", ")"):
                option_value(cursor)
        elif name not in COPY_OPTIONS:
            raise SQLSyntaxError(f'option "{name}" not recognized', position=position + 1)
        else:
            bare = cursor.sees(",") or cursor.sees(")")
            if bare and name != "header":
                raise cursor.error()
            _set_option(options, name, "true" if bare else option_value(cursor), position)
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return options


def _old_copy_options(cursor: Cursor) -> dict[str, OptionValue]:
    """Read the options as PostgreSQL wrote them before version 9: ``CSV HEADER DELIMITER AS ','``."""
    options: dict[str, OptionValue] = {}
    while cursor.peek is not None and not cursor.sees("where"):
        position = cursor.position
        listed = next((name for name, words in COLUMN_OPTIONS.items() if cursor.accept(*words)), None)
        if listed is not None:
            _set_option(options, listed, "*" if cursor.accept("*") else _bare_names(cursor), position)
            continue
        word = cursor.accept_word()
        if word in ("csv", "binary"):
            _set_option(options, "format", word, position)
        elif word == _STORAGE_OPTION:
            pass
        elif word == "header":
            _set_option(options, "header", "true", position)
        elif word in ("delimiter", "null", "quote", "escape", "encoding"):
            cursor.accept("as")
            _set_option(options, word, cursor.expect_string(), position)
        elif word is not None and word in COPY_UNSUPPORTED:
            raise unsupported(f"COPY option {word.upper()}", COPY_UNSUPPORTED[word], position)
        else:
            cursor.index -= word is not None
            raise cursor.error()
    return options


def _bare_names(cursor: Cursor) -> tuple[str, ...]:
    return cursor.expect_listed(cursor.expect_name)


def _set_option(options: dict[str, OptionValue], name: str, value: OptionValue, position: int) -> None:
    if name in options:
        raise SQLSyntaxError("conflicting or redundant options", position=position + 1)
    if name == "format" and isinstance(value, str):
        value = value.lower()
        if value not in ("text", "csv", "binary"):
            raise InvalidParameterValue(f'COPY format "{value}" not recognized', position=position + 1)
    elif name == "header" and isinstance(value, str):
        found = "match" if value.lower() == "match" else BOOLEANS.get(value.lower())
        if found is None:
            raise SQLSyntaxError('header requires a Boolean value or "match"', position=position + 1)
        value = found
    elif name == "encoding" and isinstance(value, str):
        if value.lower().replace("-", "").replace("_", "") not in ("utf8", "unicode"):
            raise FeatureNotSupported(
                f'COPY in encoding "{value}" is not supported', hint="use UTF-8", position=position + 1
            )
        return
    options[name] = value
