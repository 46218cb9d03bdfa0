"""CREATE STREAM | SOURCE | TABLE | MATERIALIZED VIEW, and DROP of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from streamsql.base.errors import (
    DuplicateColumn,
    FeatureNotSupported,
    InvalidTableDefinition,
    SQLSyntaxError,
    UndefinedColumn,
)
from streamsql.base.limits import Limits, exceeded
from streamsql.sql.changes import expect_columns
from streamsql.sql.clauses import expect_query_options, expect_watermark_for
from streamsql.sql.column_types import expect_type, is_column_end
from streamsql.sql.includes import accept_includes
from streamsql.sql.query import parse_query, with_options
from streamsql.sql.secrets import SecretReference
from streamsql.sql.statements import (
    ColumnDefinition,
    CreateMaterializedView,
    CreateStream,
    CreateTable,
    CreateTableAs,
    Drop,
    ObjectKind,
    OnCommit,
    Watermark,
)
from streamsql.sql.tokens import Cursor, is_quoted, nesting, syntax_error
from streamsql.sql.trees import count_parameters, parse_tree
from streamsql.sql.unsupported import refuse, refuse_here

OBJECT_WORDS: dict[tuple[str, ...], ObjectKind] = {
    ("stream",): ObjectKind.STREAM,
    ("source",): ObjectKind.STREAM,
    ("table",): ObjectKind.TABLE,
    ("materialized", "view"): ObjectKind.VIEW,
    ("view",): ObjectKind.VIEW,
}
_IN_CLIENT = "let the client see to it"
COLUMN_UNSUPPORTED: dict[tuple[str, ...], tuple[str, str]] = {
    ("unique",): ("a UNIQUE constraint", "use PRIMARY KEY"),
    ("check",): ("a CHECK constraint", _IN_CLIENT),
    ("references",): ("a foreign key", _IN_CLIENT),
    ("generated",): ("a generated column", "compute it in a materialized view"),
    ("collate",): ("COLLATE of a column", "text is compared by its bytes"),
    ("using",): ("USING in a column definition", _IN_CLIENT),
}
TABLE_UNSUPPORTED: dict[tuple[str, ...], tuple[str, str]] = {
    ("unique", "("): ("a UNIQUE constraint", "use PRIMARY KEY"),
    ("check", "("): ("a CHECK constraint", _IN_CLIENT),
    ("foreign key",): ("a foreign key", _IN_CLIENT),
    ("exclude", "using"): ("an EXCLUDE constraint", _IN_CLIENT),
    ("exclude", "("): ("an EXCLUDE constraint", _IN_CLIENT),
    ("like",): ("LIKE in a column list", "write the columns out"),
}
_AFTER_TABLE: dict[tuple[str, ...], tuple[str, str]] = {
    ("inherits",): ("INHERITS", "write the columns out"),
    ("partition by",): ("PARTITION BY of a table", "leave it away"),
    ("tablespace",): ("TABLESPACE", "leave it away"),
    ("of",): ("CREATE TABLE OF", "write the columns out"),
}


@dataclass(slots=True)
class _Elements:
    """What stands between the parentheses of CREATE STREAM or CREATE TABLE, as far as it has been read."""

    columns: list[ColumnDefinition] = field(default_factory=list)
    primary_key: tuple[str, ...] = ()
    watermark: Watermark | None = None
    watermark_position: int = 0
    end: int | None = None


def parse_create_stream(cursor: Cursor) -> CreateStream:
    """Read CREATE STREAM (or SOURCE)."""
    cursor.expect("create")
    if cursor.accept_any("stream", "source") is None:
        raise cursor.error()
    if_not_exists = cursor.accept("if", "not", "exists")
    name = expect_new_name(cursor)
    inferred_at = cursor.position + 1
    inferred = cursor.accept("schema", "inferred")
    elements = _Elements()
    if cursor.sees("(") or not cursor.sees_any("with", "include"):
        elements = _expect_elements(cursor, is_stream=True)
    included = _accept_includes(cursor, elements)
    options, positions = expect_options(cursor) if cursor.accept("with") else ({}, {})
    cursor.expect_end()
    if inferred and "connector" not in options:
        raise FeatureNotSupported(
            "SCHEMA INFERRED needs a connector", hint="name it: WITH (connector = '...')", position=inferred_at
        )
    _check_elements(elements, given_by_connector="connector" in options, inferred=inferred)
    if included and "connector" not in options:
        raise FeatureNotSupported(
            "INCLUDE needs a connector", hint="name it: WITH (connector = '...')", position=included[0].position + 1
        )
    return CreateStream(
        *cursor.source,
        name=name,
        columns=tuple(elements.columns),
        watermark=elements.watermark,
        options=options,
        if_not_exists=if_not_exists,
        option_positions=positions,
        inferred=inferred,
    )


def parse_create_table(cursor: Cursor) -> CreateTable | CreateTableAs:
    """Read CREATE [TEMP] TABLE, also with AS."""
    cursor.expect("create")
    cursor.accept_any("local", "global")  # as in PostgreSQL, that makes no difference
    temporary = cursor.accept_any("temp", "temporary") is not None
    cursor.expect("table")
    if_not_exists = cursor.accept("if", "not", "exists")
    name = _expect_new_temporary(cursor) if temporary else expect_new_name(cursor)
    refuse_here(cursor, _AFTER_TABLE)
    if _sees_query_ahead(cursor):
        return _expect_query(cursor, name, temporary=temporary, if_not_exists=if_not_exists)
    elements = _expect_elements(cursor, is_stream=False)
    options, positions = expect_options(cursor) if cursor.accept("with") else ({}, {})
    _check_elements(elements)
    refuse_here(cursor, _AFTER_TABLE)
    on_commit = _accept_on_commit(cursor, temporary=temporary)
    cursor.expect_end()
    if options and on_commit is not None:
        raise InvalidTableDefinition("a temporary table has no options", position=next(iter(positions.values())))
    key = frozenset(elements.primary_key)
    columns = tuple(
        dataclasses.replace(column, primary_key=True, not_null=True) if column.name in key else column
        for column in elements.columns
    )
    return CreateTable(
        *cursor.source,
        name=name,
        columns=columns,
        primary_key=elements.primary_key,
        if_not_exists=if_not_exists,
        on_commit=on_commit,
        options=options,
        option_positions=positions,
    )


def _expect_new_temporary(cursor: Cursor) -> str:
    """Read the name of a temporary table, which may stand in ``pg_temp``."""
    if cursor.sees("pg_temp", "."):
        cursor.expect("pg_temp", ".")
    return expect_new_name(cursor)


def _sees_query_ahead(cursor: Cursor) -> bool:
    """Tell whether this is CREATE TABLE name [(names)] [ON COMMIT ...] AS: what stands behind the parentheses says it."""
    depth = 0
    for index, token in enumerate(cursor.rest):
        depth += nesting(token)
        if depth == 0 and token.token_type is not TokenType.R_PAREN:
            words = [t.text for t in cursor.rest[index : index + 5]]
            return words[:1] == ["as"] or (words[:2] == ["on", "commit"] and "as" in words)
    return False


def _expect_query(cursor: Cursor, name: str, *, temporary: bool, if_not_exists: bool) -> CreateTableAs:
    names = expect_columns(cursor) if cursor.sees("(") else ()
    on_commit = _accept_on_commit(cursor, temporary=temporary)
    cursor.expect("as")
    words = [token.text for token in cursor.rest[-3:]]
    ending = 3 if words == ["with", "no", "data"] else 2 if words[1:] == ["with", "data"] else 0
    tokens = cursor.rest[: len(cursor.rest) - ending]
    query = parse_query(Cursor(cursor.text, tokens, cursor.limits))
    if query.emit is not None:
        raise FeatureNotSupported(
            "a table cannot be made of a continuous query",
            hint="use CREATE MATERIALIZED VIEW: it is kept up to date",
            position=query.position + 1,
        )
    return CreateTableAs(
        *cursor.source,
        name=name,
        column_names=names,
        query=query,
        with_data=ending != 3,
        if_not_exists=if_not_exists,
        on_commit=on_commit,
    )


def _accept_on_commit(cursor: Cursor, *, temporary: bool) -> OnCommit | None:
    position = cursor.position
    if not cursor.accept("on", "commit"):
        return OnCommit.PRESERVE if temporary else None
    found = next((kind for kind in OnCommit if cursor.accept(*kind.value.lower().split())), None)
    if found is None:
        raise cursor.error()
    if not temporary:
        raise InvalidTableDefinition("ON COMMIT can only be used on temporary tables", position=position + 1)
    return found


def parse_create_view(cursor: Cursor) -> CreateMaterializedView:
    """Read CREATE [OR REPLACE] MATERIALIZED VIEW."""
    cursor.expect("create")
    or_replace = cursor.accept("or", "replace")
    cursor.expect("materialized", "view")
    if_not_exists = not or_replace and cursor.accept("if", "not", "exists")
    name = expect_new_name(cursor)
    if cursor.sees("("):
        refuse("a column list of a materialized view", "name the columns in the query: SELECT a AS b", cursor)
    options = expect_query_options(cursor) if cursor.sees("with") else None
    cursor.expect("as")
    query = with_options(parse_query(cursor, of_view=True), options)
    return CreateMaterializedView(
        *cursor.source, name=name, query=query, if_not_exists=if_not_exists, or_replace=or_replace
    )


def parse_drop(cursor: Cursor) -> Drop:
    """Read DROP STREAM | SOURCE | TABLE | [MATERIALIZED] VIEW | SINK."""
    cursor.expect("drop")
    kinds = {**OBJECT_WORDS, ("sink",): ObjectKind.SINK}
    kind = next((kind for words, kind in kinds.items() if cursor.accept(*words)), None)
    if kind is None:
        raise cursor.error()
    if_exists = cursor.accept("if", "exists")
    names = [cursor.expect_object_name()]
    while cursor.accept(","):
        names.append(cursor.expect_object_name())
    cascade = cursor.accept_any("cascade", "restrict") == "cascade"
    cursor.expect_end()
    return Drop(*cursor.source, kind=kind, names=tuple(names), if_exists=if_exists, cascade=cascade)


def expect_new_name(cursor: Cursor) -> str:
    name = cursor.expect_object_name()
    _check_length(name, cursor.limits)
    return name


def _check_length(name: str, limits: Limits) -> None:
    if len(name.encode("utf-8", "surrogatepass")) > limits.identifier_bytes_max:
        raise exceeded(limits, "identifier_bytes_max", f'the name "{name}"')


def _expect_elements(cursor: Cursor, *, is_stream: bool) -> _Elements:
    cursor.expect("(")
    elements = _Elements()
    while not (cursor.sees(")") and not elements.columns and elements.watermark is None):
        if cursor.sees("watermark", "for") and is_stream:
            elements.watermark_position = cursor.position
            _expect_watermark(cursor, elements)
        elif not _accept_table_constraint(cursor, elements, is_stream=is_stream):
            _expect_column(cursor, elements, is_stream=is_stream)
        if not cursor.accept(","):
            break
    cursor.expect(")")
    if len(elements.columns) > cursor.limits.columns_max:
        raise exceeded(cursor.limits, "columns_max", "the number of columns")
    elements.end = cursor.tokens[cursor.index - 1].start + 1
    return elements


def _accept_includes(cursor: Cursor, elements: _Elements) -> list[ColumnDefinition]:
    included = accept_includes(cursor, elements.columns)
    elements.columns += included
    if len(elements.columns) > cursor.limits.columns_max:
        raise exceeded(cursor.limits, "columns_max", "the number of columns")
    return included


def _check_elements(elements: _Elements, *, given_by_connector: bool = False, inferred: bool = False) -> None:
    """Raise where there is no column; a connector may know them by itself, or they are `inferred`."""
    if inferred:
        return
    if given_by_connector and all(column.include for column in elements.columns):
        return
    if not elements.columns:
        raise SQLSyntaxError("at least one column is needed", position=elements.end)
    known = {column.name for column in elements.columns}
    if elements.watermark is not None and elements.watermark.column not in known:
        position = (elements.watermark.position or elements.watermark_position) + 1
        raise _no_column(elements.watermark.column or "", position)


def _no_column(name: str, position: int) -> UndefinedColumn:
    return UndefinedColumn(f'column "{name}" does not exist', position=position)


def _expect_watermark(cursor: Cursor, elements: _Elements) -> None:
    position = cursor.position
    cursor.expect("watermark")
    if elements.watermark is not None:
        raise SQLSyntaxError("WATERMARK is given twice", position=position + 1)
    elements.watermark = expect_watermark_for(cursor)


def _accept_table_constraint(cursor: Cursor, elements: _Elements, *, is_stream: bool) -> bool:
    if cursor.accept("constraint"):
        cursor.expect_name()
        refuse_here(cursor, TABLE_UNSUPPORTED)
        if not cursor.sees("primary key"):
            raise cursor.error()
    refuse_here(cursor, TABLE_UNSUPPORTED)
    if not cursor.sees("primary key"):
        return False
    _refuse_key(cursor, elements, is_stream=is_stream)
    cursor.expect("primary key", "(")
    names: list[str] = []
    while True:
        position = cursor.position
        name = cursor.expect_name()
        if all(column.name != name for column in elements.columns):
            raise UndefinedColumn(f'column "{name}" named in key does not exist', position=position + 1)
        if name in names:
            raise DuplicateColumn(f'column "{name}" appears twice in primary key constraint', position=position + 1)
        names.append(name)
        if not cursor.accept(","):
            break
    cursor.expect(")")
    elements.primary_key = tuple(names)
    return True


def _refuse_key(cursor: Cursor, elements: _Elements, *, is_stream: bool) -> None:
    if is_stream:
        refuse("a PRIMARY KEY of a stream", "use CREATE TABLE: the rows of a stream are not replaced", cursor)
    if elements.primary_key:
        raise InvalidTableDefinition("multiple primary keys are not allowed", position=cursor.position + 1)


def _expect_column(cursor: Cursor, elements: _Elements, *, is_stream: bool) -> None:
    position = cursor.position
    name = cursor.expect_name()
    _check_length(name, cursor.limits)
    if any(column.name == name for column in elements.columns):
        raise DuplicateColumn(f'column "{name}" specified more than once', position=position + 1)
    column_type = expect_type(cursor)
    not_null = nullable = False
    default: exp.Expression | None = None
    while not (cursor.peek is None or cursor.sees(",") or cursor.sees(")")):
        refuse_here(cursor, COLUMN_UNSUPPORTED)
        place = cursor.position
        if cursor.accept("constraint"):
            cursor.expect_name()
        elif cursor.accept("not", "null"):
            not_null = True
        elif cursor.accept("null"):
            nullable = True
        elif cursor.accept("default"):
            if default is not None:
                raise SQLSyntaxError(f'multiple default values specified for column "{name}"', position=place + 1)
            default = _expect_default(cursor)
        elif cursor.sees("primary key"):
            _refuse_key(cursor, elements, is_stream=is_stream)
            cursor.expect("primary key")
            elements.primary_key = (name,)
        else:
            raise cursor.error()
        if not_null and nullable:
            raise SQLSyntaxError(f'conflicting NULL/NOT NULL declarations for column "{name}"', position=place + 1)
    elements.columns.append(ColumnDefinition(name, column_type, not_null=not_null, default=default, position=position))


def expect_added_column(cursor: Cursor) -> ColumnDefinition:
    """Read the column of ALTER STREAM ... ADD COLUMN."""
    elements = _Elements()
    _expect_column(cursor, elements, is_stream=True)
    return elements.columns[0]


def _expect_default(cursor: Cursor) -> exp.Expression:
    """Read an expression up to a comma, a closing parenthesis or the next constraint."""
    tokens: list[Token] = []
    depth = 0
    while (token := cursor.peek) is not None:
        if depth == 0 and token.text in (",", ")") and token.token_type is not TokenType.STRING:
            break
        constraint = is_column_end(token) and (token.text != "not" or cursor.sees("not", "null"))
        if depth == 0 and constraint and tokens and tokens[-1].text not in ("is", "not"):
            break
        if not is_quoted(token):
            depth += (token.text in ("(", "[", "case")) - (token.text in (")", "]", "end"))
        tokens.append(cursor.advance())
    if not tokens:
        raise cursor.error()
    if count_parameters(tokens, cursor.limits):
        refuse("a parameter in a DEFAULT", "write a constant", cursor)
    return parse_expression(cursor, tokens)


def parse_expression(cursor: Cursor, tokens: list[Token]) -> exp.Expression:
    """Parse tokens as one expression, as the one column of a SELECT."""
    first = tokens[0]
    select = Token(TokenType.SELECT, "select", first.line, first.col, first.start, first.start)
    tree = parse_tree(cursor.text, [select, *tokens], cursor.limits)
    parts = tree.expressions
    extra = any(value for key, value in tree.args.items() if key not in ("expressions", "kind"))
    if not isinstance(tree, exp.Select) or len(parts) != 1 or extra or isinstance(parts[0], (exp.Alias, exp.Star)):
        raise syntax_error(cursor.text, tokens[-1])
    expression = parts[0].pop()
    assert isinstance(expression, exp.Expression)
    return expression


def expect_options(cursor: Cursor) -> tuple[dict[str, str], dict[str, int]]:
    """Read ``(name = value, ...)``; names may have dots. Positions are 1-based."""
    cursor.expect("(")
    options: dict[str, str] = {}
    positions: dict[str, int] = {}
    while not (cursor.sees(")") and not options):
        position = cursor.position + 1
        name = _expect_option_name(cursor)
        if name in options:
            raise SQLSyntaxError(f'option "{name}" is given twice', position=position)
        cursor.expect("=")
        options[name] = expect_option_value(cursor)
        positions[name] = position
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return options, positions


def _expect_option_name(cursor: Cursor) -> str:
    parts = []
    while True:
        part = cursor.accept_name() or cursor.accept_word() or cursor.accept_string()
        if not part:
            raise cursor.error()
        parts.append(part)
        if not cursor.accept("."):
            return ".".join(parts)


def expect_option_value(cursor: Cursor) -> str:
    """Read a string, a number or a word, as text; or ``secret 'env:NAME'``. Raises SQLSyntaxError."""
    if cursor.accept("secret"):
        return _expect_reference(cursor)
    for accept in (cursor.accept_string, cursor.accept_number, cursor.accept_name, cursor.accept_word):
        value = accept()
        if value is not None:
            return value
    raise cursor.error()


def _expect_reference(cursor: Cursor) -> str:
    position = cursor.position + 1
    text = cursor.accept_string()
    if text is None:
        return "secret"  # the word is a value like any other
    kind, _, name = text.partition(":")
    if kind not in {"env", "file"} or not name:
        raise SQLSyntaxError(
            f'"{text}" does not say where the secret is',
            hint="write secret 'env:NAME' for an environment variable of the server, or secret 'file:PATH'",
            position=position,
        )
    return SecretReference(text)
