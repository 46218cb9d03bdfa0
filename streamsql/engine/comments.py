"""Comments on streams, tables, views and their columns: part of the catalog, and as durable. They go with their object."""

from __future__ import annotations

from streamsql.base.errors import UndefinedColumn, WrongObjectType
from streamsql.catalog.objects import KIND_OF, answers_to, nearest
from streamsql.engine.epoch import Engine
from streamsql.sql.statements import Comment, ObjectKind


def set_comment(engine: Engine, statement: Comment) -> None:
    """Run COMMENT ON."""
    column, position = statement.column or "", statement.name_position + 1
    found = engine.catalog.find(statement.name, position)
    name = found.name
    kind = KIND_OF[type(found)]
    # what PostgreSQL's clients know is tables: a stream is one to them
    as_table = (statement.kind, kind) == (ObjectKind.TABLE, ObjectKind.STREAM)
    if statement.kind is not None and not as_table and not answers_to(found, statement.kind):
        raise WrongObjectType(
            f'"{found.bare}" is not a {statement.kind.value.lower()}',
            hint=f"it is a {kind.value.lower()}",
            position=position,
        )
    names = [c.name for c in found.columns]
    if column and column not in names:
        raise UndefinedColumn(
            f'column "{column}" of relation "{found.bare}" does not exist',
            hint=nearest(column, names),
            position=position,
        )
    keep(engine, name, column, statement.comment)


def keep(engine: Engine, name: str, column: str, comment: str | None) -> None:
    """Keep a comment on an object by its key, or on what is no relation by `comment_key`."""
    with engine.store.transaction():
        engine.store.execute("DELETE FROM _engine.comments WHERE object = ? AND column_name = ?", [name, column])
        if comment:
            engine.store.execute("INSERT INTO _engine.comments VALUES (?, ?, ?)", [name, column, comment])
    engine.catalog = engine.catalog.with_comment(name, column, comment or None)
