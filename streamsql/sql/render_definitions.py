"""Statements that define types, sequences, indexes and tables' columns, as canonical SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamsql.sql import altering as a
from streamsql.sql.blocks import DoBlock
from streamsql.sql.constraints import render_constraint
from streamsql.sql.indexes import CreateIndex, DropIndex, RenameIndex
from streamsql.sql.names import quote_name, quote_path, quote_string
from streamsql.sql.render_columns import render_column, type_text
from streamsql.sql.render_trees import postgres_sql
from streamsql.sql.sequence_statements import Numbering
from streamsql.sql.sequences import AlterSequence, CreateSequence, DropSequence
from streamsql.sql.statements import ColumnDefinition, Statement
from streamsql.sql.types import AddLabel, CreateType, DropType, MoveType
from streamsql.sql.upkeep import Upkeep


def _if(said: bool, words: str) -> str:
    return f"IF {words} " if said else ""


def _cascade(said: bool) -> str:
    return " CASCADE" if said else ""


def _create_type(statement: CreateType) -> str:
    head = f"CREATE TYPE {quote_path(statement.name)} AS"
    if statement.labels is not None:
        return f"{head} ENUM ({', '.join(map(quote_string, statement.labels))})"
    return f"{head} ({', '.join(f'{quote_name(c.name)} {type_text(c)}' for c in statement.columns)})"


def _add_label(statement: AddLabel) -> str:
    place = ""
    if statement.neighbour is not None:
        place = f" {'BEFORE' if statement.before else 'AFTER'} {quote_string(statement.neighbour)}"
    label = _if(statement.if_not_exists, "NOT EXISTS") + quote_string(statement.label)
    return f"ALTER TYPE {quote_path(statement.name)} ADD VALUE {label}{place}"


def _move_type(statement: MoveType) -> str:
    if statement.schema is not None:
        return f"ALTER TYPE {quote_path(statement.name)} SET SCHEMA {quote_name(statement.schema)}"
    return f"ALTER TYPE {quote_path(statement.name)} RENAME TO {quote_name(statement.new_name or '')}"


def _drop(kind: str, names: tuple[str, ...], if_exists: bool, cascade: bool) -> str:
    return f"DROP {kind} {_if(if_exists, 'EXISTS')}{', '.join(map(quote_path, names))}{_cascade(cascade)}"


def _create_index(statement: CreateIndex) -> str:
    name = "" if statement.index is None else f"{quote_name(statement.index)} "
    head = f"CREATE {'UNIQUE ' * statement.unique}INDEX {_if(statement.if_not_exists, 'NOT EXISTS')}{name}"
    return f"{head}ON {quote_path(statement.relation)} {statement.tail}"


def _create_sequence(statement: CreateSequence) -> str:
    options = statement.options.render()
    head = f"CREATE SEQUENCE {_if(statement.if_not_exists, 'NOT EXISTS')}{quote_path(statement.sequence)}"
    return head + (f" {options}" if options else "") + _owned(statement.owned_by)


def _owned(owner: tuple[str, str] | None) -> str:
    return "" if owner is None else f" OWNED BY {quote_path(owner[0])}.{quote_name(owner[1])}"


def _alter_sequence(statement: AlterSequence) -> str:
    head = f"ALTER SEQUENCE {_if(statement.if_exists, 'EXISTS')}{quote_path(statement.sequence)}"
    if statement.restarts:
        return f"{head} RESTART" + ("" if statement.restart is None else f" WITH {statement.restart}")
    return head + (_owned(statement.owned_by) or " OWNED BY NONE")


def _alter_table(statement: a.AlterTable) -> str:
    head = f"ALTER TABLE {_if(statement.if_exists, 'EXISTS')}{quote_path(statement.name)}"
    return f"{head} {', '.join(_ACTIONS[type(action)](action) for action in statement.actions)}"


def _add_column(action: a.AddColumn) -> str:
    parts = [render_column(action.column), *map(render_constraint, action.constraints)]
    key = " PRIMARY KEY" if action.primary_key else ""
    return f"ADD COLUMN {_if(action.if_not_exists, 'NOT EXISTS')}{' '.join(parts)}{key}"


def _add_constraint(action: a.AddConstraint) -> str:
    if action.constraint is not None:
        return f"ADD {render_constraint(action.constraint)}"
    name = f"CONSTRAINT {quote_name(action.key_name)} " if action.key_name else ""
    return f"ADD {name}PRIMARY KEY ({', '.join(map(quote_name, action.primary_key))})"


def _set_default(action: a.SetDefault) -> str:
    what = "DROP DEFAULT" if action.default is None else f"SET DEFAULT {postgres_sql(action.default)}"
    return f"ALTER COLUMN {quote_name(action.name)} {what}"


def _set_type(action: a.SetType) -> str:
    column = ColumnDefinition(action.name, action.type, declared=action.declared)
    using = "" if action.using is None else f" USING {postgres_sql(action.using)}"
    return f"ALTER COLUMN {quote_name(action.name)} TYPE {type_text(column)}{using}"


def _add_identity(action: a.AddIdentity) -> str:
    return f"ALTER COLUMN {quote_name(action.name)} ADD {action.numbered.render()}"


def _set_identity(action: a.SetIdentity) -> str:
    words = "ALWAYS" if action.numbering is Numbering.ALWAYS else "BY DEFAULT"
    return f"ALTER COLUMN {quote_name(action.name)} SET GENERATED {words}"


def _upkeep(statement: Upkeep) -> str:
    of = f" {statement.of.upper()}" if statement.verb == "REINDEX" else ""
    return f"{statement.verb}{of} {', '.join(map(quote_path, statement.names))}".rstrip()


def _drop_part(what: str) -> Callable[[Any], str]:
    return lambda action: (
        f"DROP {what} {_if(action.if_exists, 'EXISTS')}{quote_name(action.name)}{_cascade(action.cascade)}"
    )


def _rename_part(what: str) -> Callable[[Any], str]:
    return lambda action: f"RENAME {what} {quote_name(action.name)} TO {quote_name(action.new_name)}"


_ACTIONS: dict[type, Callable[[Any], str]] = {
    a.AddColumn: _add_column,
    a.AddConstraint: _add_constraint,
    a.AddIdentity: _add_identity,
    a.DropColumn: _drop_part("COLUMN"),
    a.DropConstraint: _drop_part("CONSTRAINT"),
    a.DropIdentity: lambda action: (
        f"ALTER COLUMN {quote_name(action.name)} DROP IDENTITY{' IF EXISTS' if action.if_exists else ''}"
    ),
    a.RenameColumn: _rename_part("COLUMN"),
    a.RenameConstraint: _rename_part("CONSTRAINT"),
    a.SetDefault: _set_default,
    a.SetIdentity: _set_identity,
    a.SetNotNull: lambda action: (
        f"ALTER COLUMN {quote_name(action.name)} {'SET' if action.not_null else 'DROP'} NOT NULL"
    ),
    a.SetStorage: lambda action: f"RESET ({', '.join(action.names)})",
    a.SetType: _set_type,
}

DEFINITION_RENDERERS: dict[type[Statement], Callable[[Any], str]] = {
    a.AlterTable: _alter_table,
    AddLabel: _add_label,
    AlterSequence: _alter_sequence,
    CreateIndex: _create_index,
    CreateSequence: _create_sequence,
    CreateType: _create_type,
    DropIndex: lambda s: _drop("INDEX", s.names, s.if_exists, s.cascade),
    DropSequence: lambda s: _drop("SEQUENCE", s.sequences, s.if_exists, s.cascade),
    DropType: lambda s: _drop("TYPE", s.names, s.if_exists, s.cascade),
    MoveType: _move_type,
    DoBlock: lambda s: f"DO {quote_string(s.body)}",
    Upkeep: _upkeep,
    RenameIndex: lambda s: (
        f"ALTER INDEX {_if(s.if_exists, 'EXISTS')}{quote_path(s.index)} RENAME TO {quote_name(s.new_name)}"
    ),
}
