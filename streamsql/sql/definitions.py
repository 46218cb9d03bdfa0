"""CREATE STREAM | SOURCE | TABLE | [MATERIALIZED] VIEW, and DROP of them."""

from __future__ import annotations

from sqlglot.tokens import TokenType

from streamsql.base.errors import FeatureNotSupported, InvalidTableDefinition, SQLSyntaxError
from streamsql.sql.changes import expect_columns
from streamsql.sql.clauses import expect_query_options
from streamsql.sql.query import parse_query, parse_select, with_options
from streamsql.sql.secrets import SecretReference
from streamsql.sql.statements import (
    CreateMaterializedView,
    CreateStream,
    CreateTable,
    CreateTableAs,
    CreateView,
    Drop,
    ObjectKind,
    OnCommit,
    Query,
)
from streamsql.sql.table_elements import Elements, accept_included, check_elements, expect_elements, expect_new_name
from streamsql.sql.tokens import Cursor, is_quoted, nesting, syntax_error
from streamsql.sql.unsupported import refuse, refuse_here
from streamsql.sql.upkeep import is_storage_parameter

OBJECT_WORDS: dict[tuple[str, ...], ObjectKind] = {
    ("stream",): ObjectKind.STREAM,
    ("source",): ObjectKind.STREAM,
    ("table",): ObjectKind.TABLE,
    ("materialized", "view"): ObjectKind.VIEW,
    ("view",): ObjectKind.PLAIN_VIEW,
}
_AFTER_TABLE: dict[tuple[str, ...], tuple[str, str]] = {
    ("inherits",): ("INHERITS", "write the columns out"),
    ("partition by",): ("PARTITION BY of a table", "leave it away"),
    ("tablespace",): ("TABLESPACE", "leave it away"),
    ("of",): ("CREATE TABLE OF", "write the columns out"),
}


def parse_create_stream(cursor: Cursor) -> CreateStream:
    """Read CREATE STREAM (or SOURCE)."""
    cursor.expect("create")
    if cursor.accept_any("stream", "source") is None:
        raise cursor.error()
    if_not_exists = cursor.accept("if", "not", "exists")
    name = expect_new_name(cursor)
    inferred_at = cursor.position + 1
    inferred = cursor.accept("schema", "inferred")
    elements = Elements(name)
    if cursor.sees("(") or not (inferred or cursor.sees_any("with", "include")):
        elements = expect_elements(cursor, name, is_stream=True)
    included = accept_included(cursor, elements)
    options, positions = expect_options(cursor) if cursor.accept("with") else ({}, {})
    cursor.expect_end()
    if inferred and "connector" not in options:
        raise FeatureNotSupported(
            "SCHEMA INFERRED needs a connector",
            hint="name it: WITH (connector = '...'); where clients send the rows, write the columns out",
            position=inferred_at,
        )
    check_elements(elements, given_by_connector="connector" in options, inferred=inferred)
    if included and "connector" not in options:
        raise FeatureNotSupported(
            "INCLUDE needs a connector", hint="name it: WITH (connector = '...')", position=included[0].position + 1
        )
    return CreateStream(
        *cursor.source,
        name=name,
        columns=tuple(elements.columns),
        constraints=elements.names()[1],
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
    if not temporary:
        cursor.accept("unlogged")  # it is logged all the same, and so never lost
    cursor.expect("table")
    if_not_exists = cursor.accept("if", "not", "exists")
    name = _expect_new_temporary(cursor) if temporary else expect_new_name(cursor)
    refuse_here(cursor, _AFTER_TABLE)
    if _sees_query_ahead(cursor):
        return _expect_query(cursor, name, temporary=temporary, if_not_exists=if_not_exists)
    elements = expect_elements(cursor, name, is_stream=False)
    options, positions = expect_options(cursor) if cursor.accept("with") else ({}, {})
    storage = {option: value for option, value in options.items() if is_storage_parameter(option)}
    options = {option: value for option, value in options.items() if option not in storage}
    check_elements(elements)
    refuse_here(cursor, _AFTER_TABLE)
    on_commit = _accept_on_commit(cursor, temporary=temporary)
    cursor.expect_end()
    if options and on_commit is not None:
        raise InvalidTableDefinition("a temporary table has no options", position=next(iter(positions.values())))
    key_name, constraints = elements.names()
    return CreateTable(
        *cursor.source,
        name=name,
        columns=elements.marked(),
        primary_key=elements.primary_key,
        key_name=key_name,
        constraints=constraints,
        if_not_exists=if_not_exists,
        on_commit=on_commit,
        options=options,
        option_positions=positions,
        storage=storage,
    )


def parse_select_statement(cursor: Cursor) -> Query | CreateTableAs:
    """Read a query that is a statement of its own: with INTO it makes a table."""
    depth, before = 0, ""
    for index, token in enumerate(cursor.rest):
        depth += nesting(token)
        if depth == 0 and token.text == "into" and not is_quoted(token) and before != "insert":
            return _expect_into(cursor, index)
        before = token.text
    return parse_select(cursor)


def _expect_into(cursor: Cursor, place: int) -> CreateTableAs:
    """Read SELECT ... INTO [TEMP | UNLOGGED] [TABLE] name ..., whose INTO is the cursor's token at `place`."""
    ahead, behind = cursor.rest[:place], cursor.rest[place + 1 :]
    if not behind:
        raise syntax_error(cursor.text, None)
    named = Cursor(cursor.text, behind, cursor.limits)
    named.accept_any("local", "global")
    temporary = named.accept_any("temp", "temporary") is not None
    if not temporary:
        named.accept("unlogged")
    named.accept("table")
    name = _expect_new_temporary(named) if temporary else expect_new_name(named)
    query = parse_query(Cursor(cursor.text, [*ahead, *named.rest], cursor.limits))
    _refuse_continuous(query)
    on_commit = OnCommit.PRESERVE if temporary else None
    return CreateTableAs(*cursor.source, name=name, column_names=(), query=query, on_commit=on_commit)


def _refuse_continuous(query: Query) -> None:
    if query.emit is not None:
        raise FeatureNotSupported(
            "a table cannot be made of a continuous query",
            hint="use CREATE MATERIALIZED VIEW: it is kept up to date",
            position=query.position + 1,
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
    body, with_data = _without_data(cursor)
    query = parse_query(body)
    _refuse_continuous(query)
    return CreateTableAs(
        *cursor.source,
        name=name,
        column_names=names,
        query=query,
        with_data=with_data,
        if_not_exists=if_not_exists,
        on_commit=on_commit,
    )


def _without_data(cursor: Cursor) -> tuple[Cursor, bool]:
    """Take WITH [NO] DATA off what is left; tell whether there are to be data."""
    words = [token.text for token in cursor.rest[-3:]]
    ending = 3 if words == ["with", "no", "data"] else 2 if words[-2:] == ["with", "data"] else 0
    tokens = cursor.rest[: len(cursor.rest) - ending]
    if not tokens:
        raise cursor.error()
    return Cursor(cursor.text, tokens, cursor.limits), ending != 3


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


def parse_create_plain_view(cursor: Cursor) -> CreateView:
    """Read CREATE [OR REPLACE] VIEW."""
    cursor.expect("create")
    or_replace = cursor.accept("or", "replace")
    cursor.expect("view")
    if_not_exists = not or_replace and cursor.accept("if", "not", "exists")
    name = expect_new_name(cursor)
    columns = expect_columns(cursor) if cursor.sees("(") else ()
    if cursor.sees("with"):
        refuse("WITH (...) of a view", "leave it away", cursor)
    cursor.expect("as")
    words = [token.text for token in cursor.rest[-4:]]
    if words[-2:] == ["check", "option"] and "with" in words:
        raise FeatureNotSupported(
            "WITH CHECK OPTION is not supported",
            hint="rows are written to tables and streams, and not to views",
            position=cursor.rest[len(cursor.rest) - len(words) + words.index("with")].start + 1,
        )
    query = parse_query(cursor)
    if query.emit is not None:
        raise FeatureNotSupported(
            "a view that is not materialized has no EMIT and no watermark",
            hint="use CREATE MATERIALIZED VIEW, or say it in the query that reads the view",
            position=query.position + 1,
        )
    return CreateView(
        *cursor.source, name=name, query=query, column_names=columns, if_not_exists=if_not_exists, or_replace=or_replace
    )


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
    body, with_data = _without_data(cursor)
    query = with_options(parse_query(body, of_view=True), options)
    return CreateMaterializedView(
        *cursor.source, name=name, query=query, if_not_exists=if_not_exists, or_replace=or_replace, with_data=with_data
    )


def parse_drop(cursor: Cursor) -> Drop:
    """Read DROP STREAM | SOURCE | TABLE | [MATERIALIZED] VIEW | SINK."""
    cursor.expect("drop")
    kinds = {**OBJECT_WORDS, ("sink",): ObjectKind.SINK}
    kind = next((kind for words, kind in kinds.items() if cursor.accept(*words)), None)
    if kind is None:
        raise cursor.error()
    if_exists = cursor.accept("if", "exists")
    names = cursor.expect_listed(cursor.expect_object_name)
    cascade = cursor.accept_cascade()
    cursor.expect_end()
    return Drop(*cursor.source, kind=kind, names=names, if_exists=if_exists, cascade=cascade)


def expect_options(cursor: Cursor) -> tuple[dict[str, str], dict[str, int]]:
    """Read ``(name = value, ...)``; names may have dots. Positions are 1-based."""
    cursor.expect("(")
    options: dict[str, str] = {}
    positions: dict[str, int] = {}
    while not (cursor.sees(")") and not options):
        position = cursor.position + 1
        name = expect_option_name(cursor)
        if name in options:
            raise SQLSyntaxError(f'option "{name}" is given twice', position=position)
        cursor.expect("=")
        options[name] = expect_option_value(cursor)
        positions[name] = position
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return options, positions


def expect_option_name(cursor: Cursor) -> str:
    """Read the name of an option, which may have dots. Raises SQLSyntaxError."""
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
