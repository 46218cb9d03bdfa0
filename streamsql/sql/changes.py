"""Statements that change or follow rows: INSERT, UPDATE, DELETE, SUBSCRIBE."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from streamsql.base.errors import (
    DuplicateColumn,
    InvalidParameterValue,
    SQLSyntaxError,
    UndefinedTable,
)
from streamsql.sql.names import joined, parted
from streamsql.sql.query import QUERY_WORDS, check_values
from streamsql.sql.returning import returning_query, take_returning
from streamsql.sql.statements import Delete, Insert, Query, Subscribe, Truncate, Update
from streamsql.sql.tokens import Cursor, nesting, syntax_error, tokenize
from streamsql.sql.trees import count_parameters, parse_tree, start_of, table_of
from streamsql.sql.unsupported import refuse, refuse_here
from streamsql.sql.values import rows_of_tree

_INSERT_AHEAD: dict[tuple[str, ...], tuple[str, str]] = {
    ("overriding", "user"): ("OVERRIDING USER VALUE", "leave the column out of the list"),
}
BOOLEANS = {
    **dict.fromkeys(("true", "on", "1", "yes"), "true"),
    **dict.fromkeys(("false", "off", "0", "no"), "false"),
}


def parse_insert(cursor: Cursor) -> Insert:
    """Read INSERT INTO name [AS alias] [(columns)] VALUES ... | SELECT ... | DEFAULT VALUES."""
    source_text = cursor.source
    tail = take_returning(cursor)
    cursor.expect("insert", "into")
    name_position = cursor.position
    name = cursor.expect_object_name()
    alias = cursor.expect_new_name() if cursor.accept("as") else ""
    listed = cursor.index + 1
    columns = () if _sees_query_in_parentheses(cursor) or not cursor.sees("(") else expect_columns(cursor)
    starts = [cursor.tokens[listed + 2 * index].start for index in range(len(columns))]
    refuse_here(cursor, _INSERT_AHEAD)
    overriding = cursor.accept("overriding", "system", "value")
    returning = returning_query(cursor, tail, source_text, name, alias)
    if cursor.accept("default", "values"):
        rest, conflict = _conflict(cursor, name, alias)
        if conflict is None or rest:
            cursor.expect_end()
        return Insert(
            *source_text,
            name=name,
            columns=columns,
            parameter_count=0 if conflict is None else count_parameters(cursor.rest, cursor.limits),
            name_position=name_position,
            conflict=conflict,
            returning=returning,
            overriding=overriding,
        )
    first = cursor.peek
    if first is None or first.text not in QUERY_WORDS or first.token_type is TokenType.STRING:
        raise cursor.error()
    tokens, conflict = _conflict(cursor, name, alias)
    source = parse_tree(cursor.text, tokens, cursor.limits)
    if not isinstance(source, (exp.Query, exp.Values)):
        raise cursor.error(first)
    if type(source) is exp.Values and source.args.get("alias"):
        raise cursor.error(cursor.tokens[-1])  # VALUES (1) a
    check_values(source)
    check_width(source, columns, starts)
    rows = rows_of_tree(source)
    return Insert(
        *source_text,
        name=name,
        columns=columns,
        source=None if rows is not None else source,
        rows=rows,
        parameter_columns=_parameter_columns(source),
        parameter_count=count_parameters(cursor.rest, cursor.limits),
        name_position=name_position,
        conflict=conflict,
        returning=returning,
        overriding=overriding,
    )


def _conflict(cursor: Cursor, name: str, alias: str) -> tuple[list[Token], exp.OnConflict | None]:
    """Part what an INSERT writes from its ON CONFLICT clause, in which the table then has its own name, not its alias."""
    tokens = cursor.rest
    depth = 0
    for index, token in enumerate(tokens):
        depth += nesting(token)
        following = tokens[index + 1].text if index + 1 < len(tokens) else ""
        if depth == 0 and (token.text, following) == ("on", "conflict"):
            break
    else:
        return tokens, None
    clause = tokens[index:]
    # sqlglot reads the clause as part of an INSERT: one that writes nothing else
    tree = parse_tree(cursor.text, [*tokenize("insert into x default values", cursor.limits), *clause], cursor.limits)
    conflict = tree.args.get("conflict")
    if not isinstance(conflict, exp.OnConflict) or conflict.args.get("duplicate"):
        raise cursor.error(token)
    if conflict.args.get("action") is None:  # sqlglot does without
        raise syntax_error(cursor.text, None)
    if alias:
        bare = parted(name)[1]
        for column in conflict.find_all(exp.Column):
            if column.table == bare != alias:
                start = start_of(column)
                raise UndefinedTable(
                    f'invalid reference to FROM-clause entry for table "{bare}"',
                    hint=f'Perhaps you meant to reference the table alias "{alias}".',
                    position=None if start is None else start + 1,
                )
            if column.table == alias:
                column.set("table", exp.to_identifier(bare, quoted=True))
    return tokens[:index], conflict


def _sees_query_in_parentheses(cursor: Cursor) -> bool:
    return any(cursor.sees("(", word) for word in QUERY_WORDS)


def expect_columns(cursor: Cursor) -> tuple[str, ...]:
    """Read names of columns between parentheses. Raises DuplicateColumn where one comes twice."""
    start = cursor.index
    columns = cursor.expect_names()
    seen: set[str] = set()
    for index, column in enumerate(columns):
        if column in seen:
            place = cursor.tokens[start + 1 + 2 * index].start
            raise DuplicateColumn(f'column "{column}" specified more than once', position=place + 1)
        seen.add(column)
    return columns


def check_width(source: exp.Expression, columns: tuple[str, ...], starts: Sequence[int]) -> None:
    """Raise SQLSyntaxError where VALUES has not as many expressions as `columns` names; `starts` says where they stand."""
    if not columns or not isinstance(source, exp.Values):
        return
    row = source.expressions[0]
    width = len(row.expressions) if isinstance(row, exp.Tuple) else 1
    if width == len(columns):
        return
    if width > len(columns):  # the first that has no column
        start = start_of(row.expressions[len(columns)] if isinstance(row, exp.Tuple) else row)
        place = None if start is None else start + 1
        raise SQLSyntaxError("INSERT has more expressions than target columns", position=place)
    raise SQLSyntaxError("INSERT has more target columns than expressions", position=starts[width] + 1)


def _parameter_columns(source: exp.Expression) -> tuple[int, ...] | None:
    if not isinstance(source, exp.Values) or len(source.expressions) != 1:
        return None
    parameters = [cell.this if type(cell) is exp.Cast else cell for cell in cells_of(source)]
    if not parameters or not all(isinstance(parameter, exp.Parameter) for parameter in parameters):
        return None
    return tuple(int(parameter.this.name) for parameter in parameters)


def cells_of(values: exp.Values) -> list[exp.Expr]:
    """Give what stands in the first row of VALUES."""
    row = values.expressions[0]
    return [cell.unnest() for cell in (row.expressions if isinstance(row, exp.Tuple) else [row])]


def parse_update(cursor: Cursor) -> Update:
    """Read UPDATE of a table."""
    source, name, tree, returning = _parse_change(cursor, ("update",), exp.Update)
    count = count_parameters(cursor.tokens, cursor.limits)
    return Update(*source, name=name, tree=tree, parameter_count=count, returning=returning)


def parse_delete(cursor: Cursor) -> Delete:
    """Read DELETE from a table."""
    source, name, tree, returning = _parse_change(cursor, ("delete", "from"), exp.Delete)
    count = count_parameters(cursor.tokens, cursor.limits)
    return Delete(*source, name=name, tree=tree, parameter_count=count, returning=returning)


def parse_truncate(cursor: Cursor) -> Truncate:
    """Read TRUNCATE [TABLE] [ONLY] names [RESTART | CONTINUE IDENTITY] [CASCADE | RESTRICT]."""
    cursor.expect("truncate")
    cursor.accept("table")
    deletes = cursor.expect_listed(lambda: _delete_all(cursor))
    numbering = cursor.accept_any("restart", "continue")
    if numbering is not None:
        cursor.expect("identity")
    cascade = cursor.accept_cascade()
    cursor.expect_end()
    return Truncate(*cursor.source, deletes=deletes, restarts=numbering == "restart", cascade=cascade)


def _delete_all(cursor: Cursor) -> Delete:
    cursor.accept("only")
    token = cursor.peek
    name = cursor.expect_object_name()
    cursor.accept("*")
    table = table_of(name)
    if token is not None:
        table.this.meta.update(start=token.start, end=token.end)
    return Delete(*cursor.source, name=name, tree=exp.Delete(this=table))


def _parse_change(
    cursor: Cursor, words: tuple[str, ...], kind: type[exp.Expression]
) -> tuple[tuple[str, int], str, exp.Expression, Query | None]:
    source = cursor.source
    tail = take_returning(cursor)
    cursor.expect(*words)
    cursor.accept("only")  # tables have no children
    name = cursor.expect_object_name()
    tree = parse_tree(cursor.text, cursor.tokens, cursor.limits)
    target = tree.this
    if type(tree) is not kind or not isinstance(target, exp.Table) or joined(target.db or None, target.name) != name:
        raise cursor.error(cursor.tokens[0])
    return source, name, tree, returning_query(cursor, tail, source, name, target.alias)


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


def option_value(cursor: Cursor) -> str:
    """Read the value of an option: a string, a number, a name or a word. Raises SQLSyntaxError."""
    for accept in (cursor.accept_string, cursor.accept_number, cursor.accept_name, cursor.accept_word):
        value = accept()
        if value is not None:
            return value
    raise cursor.error()


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
            value = BOOLEANS.get(option_value(cursor).lower())
            if value is None:
                raise InvalidParameterValue(f"{name} requires a Boolean value", position=value_position + 1)
            given[name] = value == "true"
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return given
