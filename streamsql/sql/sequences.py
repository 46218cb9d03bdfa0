"""CREATE SEQUENCE, ALTER SEQUENCE and DROP SEQUENCE."""

from __future__ import annotations

from dataclasses import dataclass

from streamsql.sql.role_statements import AlterOwnerOf
from streamsql.sql.roles import expect_role
from streamsql.sql.sequence_options import accept_options
from streamsql.sql.sequence_statements import SequenceOptions
from streamsql.sql.statements import Statement
from streamsql.sql.table_elements import expect_new_name
from streamsql.sql.tokens import Cursor
from streamsql.sql.unsupported import refuse


@dataclass(frozen=True, slots=True)
class CreateSequence(Statement):
    """CREATE SEQUENCE [IF NOT EXISTS] name [options] [OWNED BY table.column | NONE]."""

    sequence: str
    options: SequenceOptions
    if_not_exists: bool = False
    owned_by: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class AlterSequence(Statement):
    """ALTER SEQUENCE [IF EXISTS] name [RESTART [WITH n]] [OWNED BY table.column | NONE]; `restart` 0: at its start."""

    sequence: str
    if_exists: bool = False
    restarts: bool = False
    restart: int | None = None
    disowned: bool = False
    owned_by: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class DropSequence(Statement):
    """DROP SEQUENCE [IF EXISTS] names [CASCADE | RESTRICT]."""

    sequences: tuple[str, ...]
    if_exists: bool = False
    cascade: bool = False


def parse_create_sequence(cursor: Cursor) -> CreateSequence:
    """Read CREATE SEQUENCE."""
    cursor.expect("create")
    if cursor.accept_any("temp", "temporary") is not None:
        refuse("a temporary sequence", "use CREATE SEQUENCE", cursor)
    cursor.expect("sequence")
    if_not_exists = cursor.accept("if", "not", "exists")
    name = expect_new_name(cursor)
    options, _ = accept_options(cursor, SequenceOptions())
    owned_by = _expect_owner(cursor) if cursor.accept("owned", "by") else None
    cursor.expect_end()
    return CreateSequence(
        *cursor.source, sequence=name, options=options, if_not_exists=if_not_exists, owned_by=owned_by
    )


def _expect_owner(cursor: Cursor) -> tuple[str, str] | None:
    if cursor.accept("none"):
        return None
    start = cursor.position
    parts = [cursor.expect_name()]
    while cursor.accept("."):
        parts.append(cursor.expect_name())
    if len(parts) < 2:
        raise cursor.error()
    return cursor.object_name(parts[:-1], start), parts[-1]


def parse_alter_sequence(cursor: Cursor) -> AlterOwnerOf | AlterSequence:
    """Read ALTER SEQUENCE."""
    cursor.expect("alter", "sequence")
    if_exists = cursor.accept("if", "exists")
    name = cursor.expect_object_name()
    if cursor.accept("owned", "by"):
        owned_by = _expect_owner(cursor)
        cursor.expect_end()
        return AlterSequence(
            *cursor.source, sequence=name, if_exists=if_exists, disowned=owned_by is None, owned_by=owned_by
        )
    if cursor.accept("owner", "to"):
        owner = expect_role(cursor)
        cursor.expect_end()
        return AlterOwnerOf(*cursor.source, kind="sequence", name=name, owner=owner, if_exists=if_exists)
    if not cursor.accept("restart"):
        refuse("ALTER SEQUENCE other than RESTART, OWNED BY and OWNER TO", "drop it, and create it again", cursor)
    cursor.accept("with")
    number = cursor.accept_number()
    cursor.expect_end()
    return AlterSequence(
        *cursor.source, sequence=name, if_exists=if_exists, restarts=True,
        restart=None if number is None else int(number),
    )  # fmt: skip


def parse_drop_sequence(cursor: Cursor) -> DropSequence:
    """Read DROP SEQUENCE."""
    cursor.expect("drop", "sequence")
    if_exists = cursor.accept("if", "exists")
    names = cursor.expect_listed(cursor.expect_object_name)
    cascade = cursor.accept_cascade()
    cursor.expect_end()
    return DropSequence(*cursor.source, sequences=names, if_exists=if_exists, cascade=cascade)
