"""LOCK TABLE and SET CONSTRAINTS. See https://www.postgresql.org/docs/15/sql-lock.html and sql-set-constraints.html."""

from __future__ import annotations

from dataclasses import dataclass

from streamsql.sql.statements import Statement
from streamsql.sql.tokens import Cursor

# how strongly LOCK TABLE locks, as PostgreSQL has it
LOCK_MODES: tuple[tuple[str, ...], ...] = (
    ("access", "share"),
    ("row", "share"),
    ("row", "exclusive"),
    ("share", "update", "exclusive"),
    ("share", "row", "exclusive"),
    ("share",),
    ("exclusive",),
    ("access", "exclusive"),
)


@dataclass(frozen=True, slots=True)
class LockTable(Statement):
    """LOCK TABLE names [IN mode MODE] [NOWAIT]."""

    names: tuple[str, ...]
    mode: str = "access exclusive"
    nowait: bool = False
    name_positions: tuple[int, ...] = ()
    mode_position: int = 0


def parse_lock(cursor: Cursor) -> LockTable:
    """Read LOCK [TABLE] [ONLY] name [, ...] [IN mode MODE] [NOWAIT]."""
    cursor.expect("lock")
    cursor.accept("table")
    names: list[tuple[str, int]] = []
    while True:
        cursor.accept("only")
        position = cursor.position
        names.append((cursor.expect_object_name(), position))
        cursor.accept("*")
        if not cursor.accept(","):
            break
    mode = "access exclusive"
    mode_position = cursor.position
    if cursor.accept("in"):
        mode_position = cursor.position
        found = next((words for words in LOCK_MODES if cursor.accept(*words)), None)
        if found is None:
            raise cursor.error()
        mode = " ".join(found)
        cursor.expect("mode")
    nowait = cursor.accept("nowait")
    cursor.expect_end()
    return LockTable(
        *cursor.source, names=tuple(n for n, _ in names), mode=mode, nowait=nowait,
        name_positions=tuple(p for _, p in names), mode_position=mode_position,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SetConstraints(Statement):
    """SET CONSTRAINTS names (None: ALL) DEFERRED | IMMEDIATE."""

    names: tuple[str, ...] | None
    deferred: bool


def parse_set_constraints(cursor: Cursor) -> SetConstraints:
    """Read SET CONSTRAINTS ALL | name [, ...] DEFERRED | IMMEDIATE."""
    cursor.expect("set", "constraints")
    names = None if cursor.accept("all") else tuple(cursor.expect_listed(cursor.expect_object_name))
    how = cursor.accept_any("deferred", "immediate")
    if how is None:
        raise cursor.error()
    cursor.expect_end()
    return SetConstraints(*cursor.source, names=names, deferred=how == "deferred")
