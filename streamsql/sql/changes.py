"""Statements that change or move rows: INSERT, UPDATE, DELETE, COPY ... FROM STDIN, SUBSCRIBE."""

from __future__ import annotations

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from streamsql.base.errors import (
    DuplicateColumn,
    FeatureNotSupported,
    InvalidParameterValue,
    InvalidSchemaName,
    SQLSyntaxError,
)
from streamsql.sql.query import QUERY_WORDS, check_values
from streamsql.sql.statements import CopyFrom, Delete, Insert, Subscribe, Update
from streamsql.sql.tokens import Cursor, tokenize
from streamsql.sql.trees import count_parameters, parse_tree, start_of
from streamsql.sql.unsupported import refuse, refuse_anywhere, refuse_here, unsupported
from streamsql.sql.values import rows_of_tree

INSERT_UNSUPPORTED: dict[tuple[str, ...], tuple[str, str]] = {
    ("returning",): ("RETURNING", "leave it away; read the rows back with SELECT"),
}
_CHANGE_UNSUPPORTED: dict[tuple[str, ...], tuple[str, str]] = {
    ("returning",): ("RETURNING", "leave it away; read the rows back with SELECT"),
}
_INSERT_AHEAD: dict[tuple[str, ...], tuple[str, str]] = {
    ("as",): ("an alias of the table of INSERT", "leave it away"),
    ("overriding",): ("OVERRIDING", "leave it away: no column is generated"),
}
_BOOLEANS = {
    **dict.fromkeys(("true", "on", "1", "yes"), "true"),
    **dict.fromkeys(("false", "off", "0", "no"), "false"),
}


def parse_insert(cursor: Cursor) -> Insert:
    """Read INSERT INTO name [(columns)] VALUES ... | SELECT ... | DEFAULT VALUES."""
    cursor.expect("insert", "into")
    name_position = cursor.position
    name = cursor.expect_object_name()
    refuse_here(cursor, _INSERT_AHEAD)
    columns = () if _sees_query_in_parentheses(cursor) or not cursor.sees("(") else _expect_columns(cursor)
    refuse_here(cursor, _INSERT_AHEAD)
    refuse_anywhere(cursor, INSERT_UNSUPPORTED)
    if cursor.accept("default", "values"):
        cursor.expect_end()
        return Insert(*cursor.source, name=name, columns=columns, name_position=name_position)
    first = cursor.peek
    if first is None or first.text not in QUERY_WORDS or first.token_type is TokenType.STRING:
        raise cursor.error()
    tokens, conflict = _conflict(cursor)
    source = parse_tree(cursor.text, tokens, cursor.limits)
    if not isinstance(source, (exp.Query, exp.Values)):
        raise cursor.error(first)
    if type(source) is exp.Values and source.args.get("alias"):
        raise cursor.error(cursor.tokens[-1])  # VALUES (1) a
    check_values(source)
    check_width(source, columns)
    rows = rows_of_tree(source)
    return Insert(
        *cursor.source,
        name=name,
        columns=columns,
        source=None if rows is not None else source,
        rows=rows,
        parameter_columns=_parameter_columns(source) if conflict is None else None,
        parameter_count=count_parameters(tokens, cursor.limits),
        name_position=name_position,
        conflict=conflict,
    )


def _conflict(cursor: Cursor) -> tuple[list[Token], exp.OnConflict | None]:
    """Part what an INSERT writes from its ON CONFLICT clause."""
    tokens = cursor.rest
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.text == "(") - (token.text == ")")
        following = tokens[index + 1].text if index + 1 < len(tokens) else ""
        if depth == 0 and (token.text, following) == ("on", "conflict"):
            break
    else:
        return tokens, None
    clause = tokens[index:]
    parameter = next((t for t in clause if t.token_type is TokenType.PARAMETER), None)
    if parameter is not None:
        raise FeatureNotSupported(
            "a parameter cannot be used in ON CONFLICT",
            hint="use EXCLUDED.column, which has the value that was to be inserted",
            position=parameter.start + 1,
        )
    # sqlglot reads the clause as part of an INSERT: one that writes nothing else
    tree = parse_tree(cursor.text, [*tokenize("insert into x default values", cursor.limits), *clause], cursor.limits)
    conflict = tree.args.get("conflict")
    if not isinstance(conflict, exp.OnConflict) or conflict.args.get("duplicate"):
        raise cursor.error(token)
    if conflict.args.get("constraint"):
        refuse("ON CONFLICT ON CONSTRAINT", "name the columns of the primary key", cursor)
    return tokens[:index], conflict


def _sees_query_in_parentheses(cursor: Cursor) -> bool:
    return any(cursor.sees("(", word) for word in QUERY_WORDS)


def _expect_columns(cursor: Cursor) -> tuple[str, ...]:
    start = cursor.index
    columns = cursor.expect_names()
    seen: set[str] = set()
    for index, column in enumerate(columns):
        if column in seen:
            place = cursor.tokens[start + 1 + 2 * index].start
            raise DuplicateColumn(f'column "{column}" specified more than once', position=place + 1)
        seen.add(column)
    return columns


def check_width(source: exp.Expression, columns: tuple[str, ...]) -> None:
    """Raise SQLSyntaxError where VALUES has not as many expressions as `columns` names."""
    if not columns or not isinstance(source, exp.Values):
        return
    row = source.expressions[0]
    width = len(row.expressions) if isinstance(row, exp.Tuple) else 1
    if width == len(columns):
        return
    start = start_of(row)
    more, fewer = ("expressions", "target columns") if width > len(columns) else ("target columns", "expressions")
    raise SQLSyntaxError(f"INSERT has more {more} than {fewer}", position=None if start is None else start + 1)


def _parameter_columns(source: exp.Expression) -> tuple[int, ...] | None:
    if not isinstance(source, exp.Values) or len(source.expressions) != 1:
        return None
    row = source.expressions[0]
    cells = row.expressions if isinstance(row, exp.Tuple) else [row.unnest()]
    if not cells or not all(isinstance(cell, exp.Parameter) for cell in cells):
        return None
    return tuple(int(cell.this.name) for cell in cells)


def parse_update(cursor: Cursor) -> Update:
    """Read UPDATE of a table."""
    name, tree = _parse_change(cursor, ("update",), exp.Update)
    return Update(*cursor.source, name=name, tree=tree, parameter_count=count_parameters(cursor.tokens, cursor.limits))


def parse_delete(cursor: Cursor) -> Delete:
    """Read DELETE from a table."""
    name, tree = _parse_change(cursor, ("delete", "from"), exp.Delete)
    return Delete(*cursor.source, name=name, tree=tree, parameter_count=count_parameters(cursor.tokens, cursor.limits))


def _parse_change(cursor: Cursor, words: tuple[str, ...], kind: type[exp.Expression]) -> tuple[str, exp.Expression]:
    cursor.expect(*words)
    if cursor.sees("only"):
        refuse("ONLY", "leave it away: tables have no children", cursor)
    start = cursor.position
    name = cursor.expect_object_name()
    refuse_anywhere(cursor, _CHANGE_UNSUPPORTED)
    tree = parse_tree(cursor.text, cursor.tokens, cursor.limits)
    target = tree.this
    if type(tree) is not kind or not isinstance(target, exp.Table) or target.name != name:
        raise cursor.error(cursor.tokens[0])
    if target.args.get("db") is not None:
        raise InvalidSchemaName(f'schema "{target.db}" does not exist', position=start + 1)
    return name, tree


# options of COPY: name -> the statement that is made of a bad value, or None where any text will do
COPY_OPTIONS = frozenset({"format", "delimiter", "null", "header", "quote", "escape", "encoding"})
COPY_UNSUPPORTED: dict[str, str] = {
    "freeze": "leave it away",
    "default": "leave the columns with a default out of the column list",
    "force_quote": "it belongs to COPY TO",
    "force_not_null": "leave it away",
    "force_null": "leave it away",
    "on_error": "a bad line stops the whole COPY",
    "reject_limit": "a bad line stops the whole COPY",
    "log_verbosity": "leave it away",
    "oids": "leave it away",
    "binary": "use FORMAT csv or FORMAT text",
}
_TO_FILE = "use psql's \\copy, which reads the client's file and sends it with COPY ... FROM STDIN"
_TO_CLIENT = "write the results of a SELECT to a file with psql's \\g file, or \\copy in csv with --csv"


def parse_copy(cursor: Cursor) -> CopyFrom:
    """Read COPY name [(columns)] FROM STDIN with its options, new or old."""
    cursor.expect("copy")
    if cursor.sees("("):
        refuse("COPY ... TO", _TO_CLIENT, cursor)
    name_position = cursor.position
    name = cursor.expect_object_name()
    columns = _expect_columns(cursor) if cursor.sees("(") else ()
    if cursor.sees("to"):
        refuse("COPY ... TO", _TO_CLIENT, cursor)
    cursor.expect("from")
    if cursor.sees("program"):
        refuse("COPY FROM PROGRAM", _TO_FILE, cursor)
    if cursor.peek is not None and cursor.peek.token_type is TokenType.STRING:
        refuse("COPY FROM a file of the server", _TO_FILE, cursor)
    cursor.expect("stdin")
    cursor.accept("with")
    options = _copy_options(cursor) if cursor.sees("(") else _old_copy_options(cursor)
    if cursor.sees("where"):
        refuse("COPY ... WHERE", "copy all, and filter in the query", cursor)
    cursor.expect_end()
    return CopyFrom(*cursor.source, name=name, columns=columns, options=options, name_position=name_position)


def _copy_options(cursor: Cursor) -> dict[str, str]:
    cursor.expect("(")
    options: dict[str, str] = {}
    while True:
        position = cursor.position
        name = cursor.accept_word()
        if name is None:
            raise cursor.error()
        if name in COPY_UNSUPPORTED:
            raise unsupported(f"COPY option {name.upper()}", COPY_UNSUPPORTED[name], position)
        if name not in COPY_OPTIONS:
            raise SQLSyntaxError(f'option "{name}" not recognized', position=position + 1)
        bare = cursor.sees(",") or cursor.sees(")")
        if bare and name != "header":
            raise cursor.error()
        _set_option(options, name, "true" if bare else _option_value(cursor), position)
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return options


def _option_value(cursor: Cursor) -> str:
    for accept in (cursor.accept_string, cursor.accept_number, cursor.accept_name, cursor.accept_word):
        value = accept()
        if value is not None:
            return value
    raise cursor.error()


def _old_copy_options(cursor: Cursor) -> dict[str, str]:
    """Read the options as PostgreSQL wrote them before version 9: ``CSV HEADER DELIMITER AS ','``."""
    options: dict[str, str] = {}
    while cursor.peek is not None and not cursor.sees("where"):
        position = cursor.position
        word = cursor.accept_word()
        if word == "csv":
            _set_option(options, "format", "csv", position)
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


def _set_option(options: dict[str, str], name: str, value: str, position: int) -> None:
    if name in options:
        raise SQLSyntaxError("conflicting or redundant options", position=position + 1)
    match name:
        case "format":
            value = value.lower()
            if value == "binary":
                raise unsupported("COPY in binary format", "use FORMAT csv or FORMAT text", position)
            if value not in ("text", "csv"):
                raise InvalidParameterValue(f'COPY format "{value}" not recognized', position=position + 1)
        case "header":
            found = _BOOLEANS.get(value.lower())
            if value.lower() == "match":
                raise unsupported("HEADER MATCH", "use HEADER, and name the columns in the column list", position)
            if found is None:
                raise InvalidParameterValue("header requires a Boolean value", position=position + 1)
            value = found
        case "encoding":
            if value.lower().replace("-", "").replace("_", "") not in ("utf8", "unicode"):
                raise FeatureNotSupported(
                    f'COPY in encoding "{value}" is not supported', hint="send UTF-8", position=position + 1
                )
            return
    options[name] = value


def parse_subscribe(cursor: Cursor) -> Subscribe:
    """Read SUBSCRIBE [TO] name [WITH (SNAPSHOT [= bool], PROGRESS [= bool])]."""
    cursor.expect("subscribe")
    cursor.accept("to")
    name_position = cursor.position
    if cursor.sees("("):
        refuse("SUBSCRIBE to a query", "send the query itself with EMIT at its end", cursor)
    name = cursor.expect_object_name()
    options = {"snapshot": True, "progress": False}
    if cursor.accept("with"):
        options |= _subscribe_options(cursor)
    cursor.expect_end()
    snapshot, progress = options["snapshot"], options["progress"]
    return Subscribe(*cursor.source, name=name, snapshot=snapshot, progress=progress, name_position=name_position)


def _subscribe_options(cursor: Cursor) -> dict[str, bool]:
    cursor.expect("(")
    given: dict[str, bool] = {}
    while True:
        position = cursor.position
        name = cursor.accept_any("snapshot", "progress")
        if name is None:
            raise cursor.error(hint="the options are SNAPSHOT and PROGRESS")
        if name in given:
            raise SQLSyntaxError(f'option "{name}" is given twice', position=position + 1)
        given[name] = True
        if not (cursor.sees(",") or cursor.sees(")")):
            cursor.accept("=")
            value_position = cursor.position
            value = _BOOLEANS.get(_option_value(cursor).lower())
            if value is None:
                raise InvalidParameterValue(f"{name} requires a Boolean value", position=value_position + 1)
            given[name] = value == "true"
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return given
