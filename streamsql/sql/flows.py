"""CREATE SINK, and what is done with what flows: ALTER STREAM | TABLE | SINK ... PAUSE | RESUME, ALTER STREAM ... RESET TO
and ADD COLUMN.
"""

from __future__ import annotations

from streamsql.base.errors import FeatureNotSupported, SQLSyntaxError
from streamsql.sql.altering import AlterTable, accept_actions
from streamsql.sql.definitions import expect_options
from streamsql.sql.flow_statements import AddColumn, AlterFlow, CreateSink, FlowAction, ResetStream
from streamsql.sql.roles import parse_alter_object
from streamsql.sql.statements import ObjectKind, Statement
from streamsql.sql.table_elements import Elements, expect_column, expect_new_name
from streamsql.sql.tokens import Cursor
from streamsql.sql.unsupported import refuse

_KINDS = {
    "sink": ObjectKind.SINK,
    "source": ObjectKind.STREAM,
    "stream": ObjectKind.STREAM,
    "table": ObjectKind.TABLE,
}

RESET_TARGETS = ("earliest", "latest", "timestamp", "positions")


def parse_create_sink(cursor: Cursor) -> CreateSink:
    """Read CREATE SINK [IF NOT EXISTS] name FROM view WITH (options)."""
    cursor.expect("create", "sink")
    if_not_exists = cursor.accept("if", "not", "exists")
    name = expect_new_name(cursor)
    if cursor.sees("as"):
        refuse("CREATE SINK ... AS", "make a materialized view of the query, and CREATE SINK ... FROM it", cursor)
    cursor.expect("from")
    view_position = cursor.position
    view = cursor.expect_object_name()
    position = cursor.position
    if not cursor.accept("with"):
        raise SQLSyntaxError(
            "a sink needs options", hint="say where to: WITH (connector = '...', ...)", position=position + 1
        )
    options, positions = expect_options(cursor)
    cursor.expect_end()
    return CreateSink(
        *cursor.source,
        name=name,
        view=view,
        view_position=view_position,
        options=options,
        if_not_exists=if_not_exists,
        option_positions=positions,
    )


def parse_alter(cursor: Cursor) -> Statement:
    """Read ALTER STREAM | SOURCE | TABLE | SINK name and what is done with it; OWNER TO is another's."""
    start = cursor.index
    cursor.expect("alter")
    word = cursor.accept_any(*_KINDS)
    if word is None:
        raise cursor.error()
    if word == "table" and (cursor.sees("if", "exists") or cursor.sees("only")):
        cursor.index = start
        return _accept_alter_table(cursor) or _alter_object(cursor, start)
    kind, position = _KINDS[word], cursor.position
    name = cursor.expect_object_name()
    action = _accept_action(cursor)
    if action is not None:
        cursor.expect_end()
        return AlterFlow(*cursor.source, kind=kind, name=name, name_position=position, action=action)
    if kind is ObjectKind.STREAM and cursor.accept("reset"):
        return _reset(cursor, name, position)
    if kind is ObjectKind.STREAM and cursor.accept("add"):
        return _add_column(cursor, name, position)
    if kind is ObjectKind.SINK:
        raise cursor.error()
    if kind is ObjectKind.TABLE:
        cursor.index = start
        altered = _accept_alter_table(cursor)
        if altered is not None:
            return altered
    return _alter_object(cursor, start)


def _alter_object(cursor: Cursor, start: int) -> Statement:
    cursor.index = start
    return parse_alter_object(cursor)


def _accept_alter_table(cursor: Cursor) -> AlterTable | None:
    cursor.expect("alter", "table")
    if_exists = cursor.accept("if", "exists")
    cursor.accept("only")
    position = cursor.position
    name = cursor.expect_object_name()
    actions = accept_actions(cursor, name)
    if actions is None:
        return None
    return AlterTable(*cursor.source, name=name, name_position=position, actions=actions, if_exists=if_exists)


def _accept_action(cursor: Cursor) -> FlowAction | None:
    if cursor.accept("pause"):
        return FlowAction.PAUSE
    if not cursor.accept("resume"):
        return None
    return FlowAction.SKIP if cursor.accept("skip") else FlowAction.RESUME


def _add_column(cursor: Cursor, name: str, position: int) -> AddColumn:
    cursor.accept("column")
    if_not_exists = cursor.accept("if", "not", "exists")
    elements, column_at = Elements(), cursor.position
    expect_column(cursor, elements, is_stream=True)
    cursor.expect_end()
    (column,) = elements.columns
    if elements.constraints or column.numbered is not None:
        raise FeatureNotSupported(
            "ADD COLUMN of a stream with a constraint or a sequence", hint="NOT NULL and DEFAULT may stand there",
            position=column_at + 1,
        )  # fmt: skip
    return AddColumn(*cursor.source, name=name, name_position=position, column=column, if_not_exists=if_not_exists)


def _reset(cursor: Cursor, name: str, position: int) -> ResetStream:
    cursor.expect("to")
    target = cursor.accept_any(*RESET_TARGETS)
    if target is None:
        raise cursor.error()
    value = None
    if target in {"timestamp", "positions"}:
        value = cursor.accept_string()
        if value is None:
            raise cursor.error()
    cursor.expect_end()
    return ResetStream(*cursor.source, name=name, name_position=position, target=target, value=value)
