"""What a sink of a view delivers: its columns and the key of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamsql.base.errors import InvalidParameterValue, UndefinedColumn
from streamsql.catalog.objects import OutputColumn, nearest
from streamsql.connectors.sink import Shape
from streamsql.engine import sinks
from streamsql.engine.epoch import Engine


def shape_of(engine: Engine, view_name: str, options: Mapping[str, str], position: int | None = None) -> Shape:
    """Say what a sink with these options delivers of a view. Raises StreamSQLError at `position` where ``key`` is wrong."""
    view, key = engine.catalog.view(view_name), options.get("key")
    named = sinks.key_of(engine, view) if key is None else _named(view.columns, key, position)
    return Shape(view.columns, view.append_only, named)


def _named(columns: Sequence[OutputColumn], text: str, position: int | None) -> tuple[str, ...]:
    known = {column.name for column in columns}
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in known:
            raise UndefinedColumn(f'column "{name}" does not exist', hint=nearest(name, known), position=position)
    if len(set(names)) < len(names):
        raise InvalidParameterValue("a column of the key is named twice", position=position)
    return names
