"""Statements back to text: the canonical form, which parses to an equal statement.

Used for EXPLAIN, for SHOW, and for durable definitions. Trees are written in Postgres'
dialect. Equal means all but `text` and positions; `same` says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from streamsql.sql.comments import CommentOn
from streamsql.sql.constraints import render_constraint
from streamsql.sql.cursor_statements import CloseCursor, DeclareCursor, Fetch
from streamsql.sql.durations import render_duration
from streamsql.sql.extensions import CreateExtension, DropExtension
from streamsql.sql.flow_statements import AddColumn, AlterFlow, CreateSink, ResetStream
from streamsql.sql.includes import render_includes
from streamsql.sql.locks import LockTable, SetConstraints
from streamsql.sql.names import quote_name, quote_path, quote_string
from streamsql.sql.render_columns import plain_type, render_column
from streamsql.sql.render_definitions import DEFINITION_RENDERERS
from streamsql.sql.render_roles import ROLE_RENDERERS
from streamsql.sql.render_trees import postgres_sql
from streamsql.sql.secrets import SecretReference
from streamsql.sql.statements import (
    Comment,
    CopyFrom,
    CopyTo,
    CreateMaterializedView,
    CreateStream,
    CreateTable,
    CreateTableAs,
    CreateView,
    Deallocate,
    Delete,
    Describe,
    Discard,
    Drop,
    EmitMode,
    ExecutePrepared,
    Explain,
    ExplainWhy,
    Insert,
    Listen,
    Merge,
    Notify,
    OptionValue,
    Prepare,
    Query,
    Refresh,
    RowLock,
    SetVariable,
    Show,
    ShowVariable,
    Statement,
    Subscribe,
    Transaction,
    Truncate,
    Unlisten,
    Update,
    Verify,
    Watermark,
)
from streamsql.sql.values import LiteralRows

_POSITIONS = frozenset(
    {
        "text",
        "position",
        "name_position",
        "name_positions",
        "mode_position",
        "option_positions",
        "relation_position",
        "view_position",
    }
)


def render(statement: Statement) -> str:
    """Write a statement as canonical SQL, without a semicolon."""
    return _RENDERERS[type(statement)](statement)


def same(one: Any, other: Any) -> bool:
    """Say whether two statements mean the same: equal in everything but text and positions."""
    if type(one) is not type(other):
        return False
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one) if field.name not in _POSITIONS]
        return all(same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _query(query: Query) -> str:
    return " ".join((postgres_sql(query.tree), *map(_row_lock, query.locks), *_clauses(query)))


def _row_lock(lock: RowLock) -> str:
    of = f" OF {', '.join(map(quote_name, lock.of))}" if lock.of else ""
    return f"{lock.strength}{of}{' NOWAIT' * lock.nowait}"


def _clauses(query: Query) -> list[str]:
    parts = []
    if query.watermark is not None:
        parts.append(f"WITH WATERMARK {_watermark(query.watermark)}")
    if query.lateness is not None:
        parts.append(f"ALLOWED LATENESS INTERVAL '{render_duration(query.lateness.lateness_us)}'")
    if query.emit is not None and (query.watermark is None or query.emit is not EmitMode.APPEND or query.every_us):
        parts.append(f"EMIT {query.emit.value}")
    elif query.emit is not None:
        parts.append("EMIT APPEND")
    if query.every_us is not None:
        parts.append(f"EVERY '{render_duration(query.every_us)}'")
    if query.state_ttl is not None:
        parts.append(f"WITH (state_ttl = '{render_duration(query.state_ttl.ttl_us)}')")
    return parts


def _watermark(watermark: Watermark) -> str:
    delay = f"INTERVAL '{render_duration(watermark.delay_us)}'"
    if watermark.column is None:
        return delay
    name = quote_name(watermark.column)
    return f"FOR {name} AS {name}" + (f" - {delay}" if watermark.delay_us else "")


def _columns(names: tuple[str, ...]) -> str:
    return f" ({', '.join(map(quote_name, names))})" if names else ""


def _create_stream(statement: CreateStream) -> str:
    elements = [render_column(column) for column in statement.columns if not column.include]
    if statement.watermark is not None:
        elements.append(f"WATERMARK {_watermark(statement.watermark)}")
    elements += map(render_constraint, statement.constraints)
    name = _if(statement.if_not_exists, "NOT EXISTS") + quote_path(statement.name)
    text = f"CREATE STREAM {name}" + (" SCHEMA INFERRED" if statement.inferred else "")
    text += f" ({', '.join(elements)})" if elements else ""
    text += render_includes(statement.columns, [plain_type(column.type) for column in statement.columns])
    if statement.options:
        text += f" WITH ({_options(statement.options)})"
    return text


def _create_sink(statement: CreateSink) -> str:
    name = _if(statement.if_not_exists, "NOT EXISTS") + quote_path(statement.name)
    return f"CREATE SINK {name} FROM {quote_path(statement.view)} WITH ({_options(statement.options)})"


def _alter_flow(statement: AlterFlow) -> str:
    return f"ALTER {statement.kind.value} {quote_path(statement.name)} {statement.action.value}"


def _add_column(statement: AddColumn) -> str:
    column = _if(statement.if_not_exists, "NOT EXISTS") + render_column(statement.column)
    return f"ALTER STREAM {quote_path(statement.name)} ADD COLUMN {column}"


def _reset_stream(statement: ResetStream) -> str:
    value = "" if statement.value is None else f" {quote_string(statement.value)}"
    return f"ALTER STREAM {quote_path(statement.name)} RESET TO {statement.target.upper()}{value}"


def _option_name(name: str) -> str:
    parts = name.split(".")
    return ".".join(map(quote_name, parts)) if all(parts) else quote_string(name)


def _create_table(statement: CreateTable) -> str:
    elements = [render_column(column) for column in statement.columns]
    if statement.primary_key:
        name = f"CONSTRAINT {quote_name(statement.key_name)} " if statement.key_name else ""
        elements.append(f"{name}PRIMARY KEY{_columns(statement.primary_key)}")
    elements += map(render_constraint, statement.constraints)
    given = {**statement.options, **statement.storage}
    options = f" WITH ({_options(given)})" if given else ""
    return f"{_create_table_head(statement)} ({', '.join(elements)}){options}{_on_commit(statement)}"


def _create_table_head(statement: CreateTable | CreateTableAs) -> str:
    temporary = "TEMPORARY " if statement.on_commit is not None else ""
    return f"CREATE {temporary}TABLE {_if(statement.if_not_exists, 'NOT EXISTS')}{quote_path(statement.name)}"


def _on_commit(statement: CreateTable | CreateTableAs) -> str:
    return f" ON COMMIT {statement.on_commit.value}" if statement.on_commit is not None else ""


def _create_plain_view(statement: CreateView) -> str:
    replacing = "OR REPLACE " if statement.or_replace else ""
    name = ("IF NOT EXISTS " if statement.if_not_exists else "") + quote_path(statement.name)
    return f"CREATE {replacing}VIEW {name}{_columns(statement.column_names)} AS {_query(statement.query)}"


def _create_table_as(statement: CreateTableAs) -> str:
    names = _columns(statement.column_names) if statement.column_names else ""
    data = "" if statement.with_data else " WITH NO DATA"
    return f"{_create_table_head(statement)}{names}{_on_commit(statement)} AS {_query(statement.query)}{data}"


def _create_view(statement: CreateMaterializedView) -> str:
    name = _if(statement.if_not_exists, "NOT EXISTS") + quote_path(statement.name)
    replacing = "OR REPLACE " if statement.or_replace else ""
    data = "" if statement.with_data else " WITH NO DATA"
    return f"CREATE {replacing}MATERIALIZED VIEW {name} AS {_query(statement.query)}{data}"


def _if(condition: bool, words: str) -> str:
    return f"IF {words} " if condition else ""


def _drop(statement: Drop) -> str:
    names = ", ".join(map(quote_path, statement.names))
    cascade = " CASCADE" if statement.cascade else ""
    return f"DROP {statement.kind.value} {_if(statement.if_exists, 'EXISTS')}{names}{cascade}"


def _comment(statement: Comment) -> str:
    what = (
        f"COLUMN {quote_path(statement.name)}.{quote_name(statement.column)}" if statement.column is not None else None
    )
    if statement.kind is not None:
        what = f"{statement.kind.value} {quote_path(statement.name)}"
    return f"COMMENT ON {what} IS {_text(statement.comment)}"


def _comment_on(statement: CommentOn) -> str:
    name = (quote_name if statement.kind == "schema" else quote_path)(statement.name)
    return f"COMMENT ON {statement.kind.upper()} {name} IS {_text(statement.comment)}"


def _text(text: str | None) -> str:
    return "NULL" if text is None else quote_string(text)


def _show(statement: Show) -> str:
    return f"SHOW {'MATERIALIZED ' if statement.kind.value == 'VIEWS' else ''}{statement.kind.value}"


def _variable(name: str) -> str:
    return ".".join(map(quote_name, name.split(".")))


def _show_variable(statement: ShowVariable) -> str:
    return "SHOW ALL" if statement.name == "all" else f"SHOW {_variable(statement.name)}"


def _set(statement: SetVariable) -> str:
    if statement.reset:
        return "RESET ALL" if statement.name == "all" else f"RESET {_variable(statement.name)}"
    if statement.name == "transaction" and statement.value is not None:
        return f"SET TRANSACTION {statement.value}"
    if statement.name == "session_characteristics" and statement.value is not None:
        return f"SET SESSION CHARACTERISTICS AS TRANSACTION {statement.value}"
    value = "DEFAULT" if statement.value is None else quote_string(statement.value)
    return f"SET {'LOCAL ' if statement.local else ''}{_variable(statement.name)} TO {value}"


def _insert(statement: Insert) -> str:
    conflict = "" if statement.conflict is None else f" {postgres_sql(statement.conflict).strip()}"
    return _insert_rows(statement) + conflict + _returning(statement)


def _change(statement: Update | Delete) -> str:
    return postgres_sql(statement.tree) + _returning(statement)


def _returning(statement: Insert | Update | Delete) -> str:
    if statement.returning is None:
        return ""
    return f" RETURNING {', '.join(map(postgres_sql, statement.returning.tree.expressions))}"


def _insert_rows(statement: Insert) -> str:
    overriding = " OVERRIDING SYSTEM VALUE" if statement.overriding else ""
    head = f"INSERT INTO {quote_path(statement.name)}{_columns(statement.columns)}{overriding}"
    if isinstance(statement.rows, LiteralRows):
        return f"{head} VALUES {statement.rows.render()}"
    if statement.source is None:
        return f"{head} DEFAULT VALUES"
    return f"{head} {postgres_sql(statement.source)}"


def _copy_from(statement: CopyFrom) -> str:
    where = "" if statement.where is None else f" WHERE {postgres_sql(statement.where)}"
    name = f"{quote_path(statement.name)}{_columns(statement.columns)}"
    return f"COPY {name} FROM STDIN{_copy_options(statement.options)}{where}"


def _copy_to(statement: CopyTo) -> str:
    query = statement.query
    if statement.name is None:
        source = f"({render(query)})"
    else:
        assert isinstance(query, Query)
        columns = [] if query.tree.is_star else [postgres_sql(column) for column in query.tree.expressions]
        relation = query.tree.args["from_"].this
        source = postgres_sql(relation) + (f" ({', '.join(columns)})" if columns else "")
    return f"COPY {source} TO STDOUT{_copy_options(statement.options)}"


def _options(options: Mapping[str, str]) -> str:
    """Print a connector's options; secrets are references, which may be seen."""
    return ", ".join(
        f"{_option_name(name)} = {'secret ' if isinstance(value, SecretReference) else ''}{quote_string(value)}"
        for name, value in options.items()
    )


def _copy_options(options: dict[str, OptionValue]) -> str:
    def written(value: OptionValue) -> str:
        if isinstance(value, str):
            return value if value == "*" else quote_string(value)
        return f"({', '.join(map(quote_name, value))})"

    found = ", ".join(f"{name.upper()} {written(value)}" for name, value in options.items())
    return f" WITH ({found})" if found else ""


def _subscribe(statement: Subscribe) -> str:
    options = f"SNAPSHOT = {str(statement.snapshot).lower()}, PROGRESS = {str(statement.progress).lower()}"
    return f"SUBSCRIBE TO {quote_path(statement.name)} WITH ({options})"


def _declare(statement: DeclareCursor) -> str:
    words = ["BINARY"] if statement.binary else []
    if statement.scroll is not None:
        words.append("SCROLL" if statement.scroll else "NO SCROLL")
    hold = " WITH HOLD" if statement.hold else ""
    return f"DECLARE {' '.join([quote_name(statement.name), *words])} CURSOR{hold} FOR {render(statement.query)}"


def _fetch(statement: Fetch) -> str:
    count = "ALL" if statement.count is None else str(statement.count)
    timeout = "" if statement.timeout_us is None else f" WITH (timeout = '{statement.timeout_us / 1e6:.6f}s')"
    verb = "MOVE" if statement.move else "FETCH"
    return f"{verb} {statement.direction.value} {count} FROM {quote_name(statement.name)}{timeout}"


def _explain(statement: Explain) -> str:
    options = [*(["ANALYZE"] if statement.analyze else []), *(["FORMAT JSON"] if statement.as_json else [])]
    listed = f"({', '.join(options)}) " if options else ""
    return f"EXPLAIN {listed}{_query(statement.query)}"


def _lock(statement: LockTable) -> str:
    nowait = " NOWAIT" if statement.nowait else ""
    return f"LOCK TABLE {', '.join(map(quote_path, statement.names))} IN {statement.mode.upper()} MODE{nowait}"


def _set_constraints(statement: SetConstraints) -> str:
    names = "ALL" if statement.names is None else ", ".join(map(quote_path, statement.names))
    return f"SET CONSTRAINTS {names} {'DEFERRED' if statement.deferred else 'IMMEDIATE'}"


def _prepare(statement: Prepare) -> str:
    types = f" ({', '.join(map(plain_type, statement.types))})" if statement.types else ""
    return f"PREPARE {quote_name(statement.name)}{types} AS {render(statement.statement)}"


def _execute(statement: ExecutePrepared) -> str:
    values = f" ({', '.join(map(postgres_sql, statement.values))})" if statement.values else ""
    return f"EXECUTE {quote_name(statement.name)}{values}"


def _notify(statement: Notify) -> str:
    payload = f", {quote_string(statement.payload)}" if statement.payload else ""
    return f"NOTIFY {quote_name(statement.channel)}{payload}"


def _transaction(statement: Transaction) -> str:
    name = quote_name(statement.name) if statement.name else ""
    chain = "AND CHAIN" if statement.chain else ""
    return " ".join(filter(None, (statement.verb.value, statement.modes, name, chain)))


def _named_or_all(word: str) -> Callable[[Any], str]:
    return lambda statement: f"{word} {'ALL' if statement.name is None else quote_name(statement.name)}"


_RENDERERS: dict[type[Statement], Callable[[Any], str]] = {
    CloseCursor: _named_or_all("CLOSE"),
    Comment: _comment,
    CommentOn: _comment_on,
    CopyFrom: _copy_from,
    CopyTo: _copy_to,
    CreateMaterializedView: _create_view,
    CreateStream: _create_stream,
    AddColumn: _add_column,
    AlterFlow: _alter_flow,
    CreateSink: _create_sink,
    ResetStream: _reset_stream,
    CreateTable: _create_table,
    DeclareCursor: _declare,
    Fetch: _fetch,
    CreateTableAs: _create_table_as,
    CreateView: _create_plain_view,
    Deallocate: _named_or_all("DEALLOCATE"),
    Delete: _change,
    Merge: lambda statement: postgres_sql(statement.tree),
    Refresh: lambda statement: f"REFRESH MATERIALIZED VIEW {quote_path(statement.name)}",
    Verify: lambda statement: f"VERIFY MATERIALIZED VIEW {quote_path(statement.name)}",
    Describe: lambda statement: f"DESCRIBE {quote_path(statement.name)}",
    Discard: lambda statement: f"DISCARD {statement.what.upper()}",
    Drop: _drop,
    ExplainWhy: lambda statement: f"EXPLAIN WHY {quote_path(statement.name)}",
    Explain: _explain,
    Insert: _insert,
    Query: _query,
    SetVariable: _set,
    Show: _show,
    ShowVariable: _show_variable,
    Subscribe: _subscribe,
    Transaction: _transaction,
    Unlisten: lambda statement: f"UNLISTEN {'*' if statement.channel is None else quote_name(statement.channel)}",
    LockTable: _lock,
    CreateExtension: lambda statement: f"CREATE EXTENSION IF NOT EXISTS {quote_name(statement.name)}",
    DropExtension: lambda statement: (
        f"DROP EXTENSION {'IF EXISTS ' * statement.if_exists}{', '.join(map(quote_name, statement.names))}"
    ),
    SetConstraints: _set_constraints,
    Prepare: _prepare,
    ExecutePrepared: _execute,
    Listen: lambda statement: f"LISTEN {quote_name(statement.channel)}",
    Notify: _notify,
    Truncate: lambda statement: (
        f"TRUNCATE {', '.join(quote_path(d.name) for d in statement.deletes)}"
        f"{' RESTART IDENTITY' * statement.restarts}{' CASCADE' * statement.cascade}"
    ),
    Update: _change,
    **DEFINITION_RENDERERS,
    **ROLE_RENDERERS,
}
