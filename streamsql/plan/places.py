"""Where in the client's text an error is: DuckDB speaks of SQL that the client never saw.

An error names what it is about, in quotes or behind "function"; the first node of the statement's tree with that name, or
for a value that cannot be read the literal, is its place.
"""

from __future__ import annotations

import re

from sqlglot import exp
from sqlglot.tokens import TokenType

from streamsql.base.errors import (
    CannotCoerce,
    DataError,
    GroupingError,
    SQLSyntaxError,
    StreamSQLError,
    UndefinedFunction,
    UndefinedTable,
)
from streamsql.base.limits import Limits
from streamsql.base.types import type_name
from streamsql.plan.functions import function_name
from streamsql.plan.result_types import named_type
from streamsql.sql.statements import Statement
from streamsql.sql.tokens import tokenize
from streamsql.sql.trees import position_of, start_of

_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
# an operator of two values
_OPERATOR = re.compile(r"operator does not exist: [\w\[\] ]+? (\W+) [\w\[\] ]+")
_LIMITS = Limits()
_UNQUOTED = re.compile(r"(?:function|column) (\w+(?:\.\w+)?)")


def located(error: StreamSQLError, tree: exp.Expr, statement: Statement) -> StreamSQLError:
    """Give the error the position of what it speaks of, where the statement's tree has it."""
    _qualify(error, tree)
    _refer(error, tree)
    _as_written(error, statement)
    if error.position is None:
        if isinstance(error, DataError):
            error.position = _literal(error, tree, statement)
        elif isinstance(error, CannotCoerce):
            error.position = _cast(error, tree, statement)
        else:
            error.position = _name(error, tree, statement)
    return error


def _qualify(error: StreamSQLError, tree: exp.Expr) -> None:
    """Write ``column "t.x" must appear ...`` for a column of the only relation that is read, as PostgreSQL does."""
    match = _UNGROUPED.match(error.message) if isinstance(error, GroupingError) else None
    if match is None:
        return
    column = next((c for c in tree.find_all(exp.Column) if c.name == match[1]), None)
    tables = [t for t in tree.find_all(exp.Table) if isinstance(t.this, exp.Identifier)]
    owner = (
        column.table if column is not None and column.table else tables[0].alias_or_name if len(tables) == 1 else None
    )
    if owner is not None:
        error.message = f'column "{owner}.{match[1]}"{error.message[match.end() :]}'
        error.args = (error.message,)


def _refer(error: StreamSQLError, tree: exp.Expr) -> None:
    """Say of a table's name that an alias hides it that it cannot be used, as PostgreSQL does."""
    match = _MISSING.match(error.message) if isinstance(error, UndefinedTable) else None
    hidden = (
        None if match is None else next((t for t in tree.find_all(exp.Table) if t.name == match[1] and t.alias), None)
    )
    if match is not None and hidden is not None:
        error.message = f'invalid reference to FROM-clause entry for table "{match[1]}"'
        error.args = (error.message,)
        error.hint = f'Perhaps you meant to reference the table alias "{hidden.alias}".'


# DuckDB's function -> what stands for it in PostgreSQL's SQL: operators, and functions of other names
_WRITTEN: dict[str, tuple[str, ...]] = {
    "array_extract": ("[",), "contains": ("in",), "date_diff": ("datediff",), "date_part": ("extract", "age"),
    "datepart": ("extract", "justify_days", "justify_hours", "justify_interval"), "json_extract": ("->",),
    "json_extract_string": ("->>",), "list": ("array_agg", "jsonb_agg", "json_agg"), "length": ("char_length",),
    "like_escape": ("like",), "listagg": ("string_agg",),
    "list_concat": ("array_cat", "array_append", "array_prepend", "||"), "quantile_cont": ("percentile_cont",),
    "quantile_disc": ("percentile_disc",), "regexp_extract_all": ("initcap",),
    "regexp_full_match": ("similar to", "quote_ident"),
    "regexp_matches": ("~", "~*"),
    "regexp_extract": ("substring",), "str_split": ("string_to_array", "string_to_table"), "string_split": ("string_to_array",),
    "strpos": ("position",), "strptime": ("to_date", "to_timestamp"), "timezone": ("at time zone",), "trim": ("btrim",),
}  # fmt: skip


def _as_written(error: StreamSQLError, statement: Statement) -> None:
    """Name a function as the client has written it, where that is not as DuckDB calls it."""
    if isinstance(error, SQLSyntaxError) and (near := _NEAR.fullmatch(error.message)) is not None:
        if near[1] not in statement.text:  # of the SQL that was made of the client's
            error.message = "the statement cannot be executed as it is written"
            error.args = (error.message,)
        return
    called = _CALLED.match(error.message) if isinstance(error, UndefinedFunction) else None
    text = statement.text.lower()
    if called is None or re.search(rf"\b{called[1]}\b", text):
        return
    written = next((w for w in _WRITTEN.get(called[1], ()) if w in text), None)
    if written is None:
        return
    if written.isidentifier() and written != "in":
        error.message = f"function {written}({called[2]}) does not exist"
    else:
        parts = _COMMA.split(called[2])
        left, right = (
            (parts[1], parts[0]) if written in ("at time zone", "in") and len(parts) == 2 else (parts[0], parts[-1])
        )
        shown = {"in": "="}.get(written, written.upper())
        error.message = f"operator does not exist: {left} {shown} {right}"
    error.args = (error.message,)


_NEAR = re.compile(r'syntax error at or near "(.*)"', re.DOTALL)
_CALLED = re.compile(r"function (\w+)\((.*)\) does not exist\Z")
_COMMA = re.compile(r",\s*(?![^(]*\))")
_MISSING = re.compile(r'missing FROM-clause entry for table "([^"]+)"\Z')
_UNGROUPED = re.compile(r'column "([^".]+)"(?= must appear)')


def place_of_word(word: str, statement: Statement, after: int, limits: Limits) -> int | None:
    """Find the 1-based position of a name in a statement that has no tree, from a 0-based offset in the query string on."""
    for token in tokenize(statement.text, limits):
        start = statement.position + token.start
        if start > after and token.text == word and token.token_type is not TokenType.STRING:
            return start + 1
    return None


def _cast(error: StreamSQLError, tree: exp.Expr, statement: Statement) -> int | None:
    """Find the cast that cannot be made: where ``::`` or CAST stands."""
    target = error.message.rpartition(" to ")[2]
    for node in tree.find_all(exp.Cast):
        named, start = named_type(node.to), start_of(node.this)
        if named is None or type_name(named) != target or start is None or start < statement.position:
            continue
        text, offset = statement.text, start - statement.position
        place = text.find("::", offset)
        if place < 0:
            place = text.lower().rfind("cast", 0, offset)
        return statement.position + place + 1 if place >= 0 else None
    return None


def _literal(error: StreamSQLError, tree: exp.Expr, statement: Statement) -> int | None:
    quoted = _QUOTED.findall(error.message)
    found = [n for n in tree.find_all(exp.Literal) if quoted and n.is_string and n.name == quoted[-1]]
    return position_of(found[0], statement) if len(found) == 1 else None


def _name(error: StreamSQLError, tree: exp.Expr, statement: Statement) -> int | None:
    operator = _OPERATOR.fullmatch(error.message)
    if operator is not None:
        found = [t for t in tokenize(statement.text, _LIMITS) if t.text == operator[1]]
        return statement.position + found[0].start + 1 if len(found) == 1 else None
    match = _QUOTED.search(error.message) or _UNQUOTED.search(error.message)
    if match is None:
        return None
    name = match[1].rpartition(".")[2].lower()  # of what is qualified, the last part
    for node in tree.walk():
        named = isinstance(node, exp.Identifier) and node.name.lower() == name
        if named or function_name(node, statement) == name:
            qualified = named and isinstance(node.parent, (exp.Column, exp.Table)) and node.arg_key == "this"
            position = position_of(node.parent if qualified and node.parent is not None else node, statement)
            if position is not None:
                return position
    return None
