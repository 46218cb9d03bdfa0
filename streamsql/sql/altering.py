"""ALTER TABLE: what is done to columns and constraints."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue
from streamsql.base.types import Declared
from streamsql.sql.column_types import expect_column_type
from streamsql.sql.constraints import Constraint
from streamsql.sql.definitions import expect_option_name, expect_options
from streamsql.sql.sequence_statements import Numbered, Numbering
from streamsql.sql.statements import ColumnDefinition, Statement
from streamsql.sql.table_elements import (
    Elements,
    accept_table_constraint,
    expect_column,
    expect_default,
    expect_identity,
    expect_numbering,
)
from streamsql.sql.tokens import Cursor
from streamsql.sql.unsupported import refuse
from streamsql.sql.upkeep import is_storage_parameter


@dataclass(frozen=True, slots=True)
class AddColumn:
    """ADD [COLUMN] [IF NOT EXISTS] column, with the constraints that stand behind it; `primary_key`: it is one."""

    column: ColumnDefinition
    constraints: tuple[Constraint, ...] = ()
    primary_key: bool = False
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropColumn:
    """DROP [COLUMN] [IF EXISTS] name [CASCADE | RESTRICT]."""

    name: str
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class RenameColumn:
    """RENAME [COLUMN] name TO new name."""

    name: str
    new_name: str


@dataclass(frozen=True, slots=True)
class SetDefault:
    """ALTER [COLUMN] name SET DEFAULT expression | DROP DEFAULT (None)."""

    name: str
    default: exp.Expr | None


@dataclass(frozen=True, slots=True)
class SetNotNull:
    """ALTER [COLUMN] name SET | DROP NOT NULL."""

    name: str
    not_null: bool


@dataclass(frozen=True, slots=True)
class SetType:
    """ALTER [COLUMN] name [SET DATA] TYPE type [USING casts of the column]."""

    name: str
    type: str
    declared: Declared | None
    using: exp.Expr | None = None


@dataclass(frozen=True, slots=True)
class AddIdentity:
    """ALTER [COLUMN] name ADD GENERATED ALWAYS | BY DEFAULT AS IDENTITY [(options)]."""

    name: str
    numbered: Numbered


@dataclass(frozen=True, slots=True)
class SetIdentity:
    """ALTER [COLUMN] name SET GENERATED ALWAYS | BY DEFAULT."""

    name: str
    numbering: Numbering


@dataclass(frozen=True, slots=True)
class DropIdentity:
    """ALTER [COLUMN] name DROP IDENTITY [IF EXISTS]."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class AddConstraint:
    """ADD [CONSTRAINT name] constraint; `primary_key` names its columns where it is one, `key_name` its name."""

    constraint: Constraint | None = None
    primary_key: tuple[str, ...] = ()
    key_name: str = ""


@dataclass(frozen=True, slots=True)
class DropConstraint:
    """DROP CONSTRAINT [IF EXISTS] name [CASCADE | RESTRICT]."""

    name: str
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class RenameConstraint:
    """RENAME CONSTRAINT name TO new name."""

    name: str
    new_name: str


@dataclass(frozen=True, slots=True)
class SetStorage:
    """SET (name = value, ...) | RESET (name, ...) of options by which PostgreSQL stores a table; they mean nothing here."""

    names: tuple[str, ...]


Action = (
    AddColumn | AddConstraint | AddIdentity | DropColumn | DropConstraint | DropIdentity | RenameColumn | RenameConstraint
    | SetDefault | SetIdentity | SetNotNull | SetStorage | SetType
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AlterTable(Statement):
    """ALTER TABLE [IF EXISTS] name actions."""

    name: str
    name_position: int
    actions: tuple[Action, ...]
    if_exists: bool = False


def accept_actions(cursor: Cursor, relation: str) -> tuple[Action, ...] | None:
    """Read what ALTER TABLE does to columns and constraints; None where it does something else."""
    if cursor.sees("rename") and not cursor.sees("rename", "to"):
        action: Action = _expect_rename(cursor)
        cursor.expect_end()
        return (action,)
    if not cursor.sees_any("add", "alter", "drop") and not cursor.sees("set", "(") and not cursor.sees("reset", "("):
        return None
    actions = cursor.expect_listed(lambda: _expect_action(cursor, relation))
    cursor.expect_end()
    return tuple(actions)


def _expect_rename(cursor: Cursor) -> Action:
    cursor.expect("rename")
    constraint = cursor.accept("constraint")
    if not constraint:
        cursor.accept("column")
    name = cursor.expect_name()
    cursor.expect("to")
    new_name = cursor.expect_new_name()
    return RenameConstraint(name, new_name) if constraint else RenameColumn(name, new_name)


def _expect_action(cursor: Cursor, relation: str) -> Action:
    if cursor.accept("add"):
        return _expect_add(cursor, relation)
    if cursor.accept("drop"):
        constraint = cursor.accept("constraint")
        if not constraint:
            cursor.accept("column")
        if_exists = cursor.accept("if", "exists")
        name = cursor.expect_name()
        cascade = cursor.accept_cascade()
        return (DropConstraint if constraint else DropColumn)(name, if_exists, cascade)
    if cursor.sees_any("set", "reset"):
        return _expect_storage(cursor)
    if not cursor.accept("alter"):
        raise cursor.error()
    cursor.accept("column")
    return _expect_change(cursor, cursor.expect_name())


def _expect_storage(cursor: Cursor) -> SetStorage:
    resets = cursor.accept("reset")
    if not resets:
        cursor.expect("set")
    position = cursor.position
    if resets:
        cursor.expect("(")
        names = cursor.expect_listed(lambda: expect_option_name(cursor))
        cursor.expect(")")
    else:
        options, positions = expect_options(cursor)
        names, position = tuple(options), min(positions.values(), default=position + 1) - 1
    for name in names:
        if not is_storage_parameter(name):
            raise InvalidParameterValue(f'unrecognized parameter "{name}"', position=position + 1)
    return SetStorage(names)


def _expect_add(cursor: Cursor, relation: str) -> Action:
    elements = Elements(relation)
    if not cursor.sees("column") and accept_table_constraint(cursor, elements, is_stream=False):
        if elements.primary_key:
            return AddConstraint(None, elements.primary_key, elements.key_name)
        return AddConstraint(elements.constraints[0])
    cursor.accept("column")
    if_not_exists = cursor.accept("if", "not", "exists")
    expect_column(cursor, elements, is_stream=False)
    return AddColumn(elements.columns[0], tuple(elements.constraints), bool(elements.primary_key), if_not_exists)


def _expect_using(cursor: Cursor, name: str) -> exp.Expr:
    """Read USING with casts of the column itself, as migrations write it: ``status::text::mood``."""
    position = cursor.position
    using = expect_default(cursor)
    column: exp.Expr = using
    while isinstance(column, (exp.Cast, exp.Paren)):
        column = column.this
    if not isinstance(column, exp.Column) or column.name != name:
        raise FeatureNotSupported(
            "USING with other than casts of the column is not supported",
            hint="add another column, fill it with UPDATE, and drop this one", position=position + 1,
        )  # fmt: skip
    return using


def _expect_change(cursor: Cursor, name: str) -> Action:
    for words, not_null in ((("set", "not", "null"), True), (("drop", "not", "null"), False)):
        if cursor.accept(*words):
            return SetNotNull(name, not_null)
    if cursor.accept("drop", "default"):
        return SetDefault(name, None)
    if cursor.accept("set", "default"):
        return SetDefault(name, expect_default(cursor))
    if cursor.accept("set", "data", "type") or cursor.accept("type"):
        found, declared = expect_column_type(cursor)
        return SetType(name, found, declared, _expect_using(cursor, name) if cursor.accept("using") else None)
    if cursor.accept("add"):
        return AddIdentity(name, expect_identity(cursor))
    if cursor.accept("drop", "identity"):
        return DropIdentity(name, cursor.accept("if", "exists"))
    if cursor.sees("set", "generated"):
        cursor.expect("set")
        return SetIdentity(name, expect_numbering(cursor))
    return refuse("this ALTER COLUMN", "columns have a type, a default, an identity, and may be NOT NULL", cursor)
