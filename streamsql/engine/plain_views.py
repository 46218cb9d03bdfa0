"""Views that keep nothing, as the catalog has them, and as they are read back from their definitions."""

from __future__ import annotations

import json
from dataclasses import replace

from streamsql.base.limits import Limits
from streamsql.catalog.objects import OutputColumn, PlainView
from streamsql.plan.naming import Remembered, resolved
from streamsql.plan.plain_views import with_columns, without_places
from streamsql.sql.names import Key
from streamsql.sql.parse import parse
from streamsql.sql.statements import CreateView


def view_of(
    statement: CreateView, object_id: int, columns: list[OutputColumn], *, schema: str, label: str
) -> PlainView:
    """Make the catalog's object of a CREATE VIEW that has been looked up; `columns` are those that its query gives."""
    tree, named = with_columns(without_places(statement.query.tree), statement.column_names, columns)
    sources = tuple(dict.fromkeys(statement.names.values()))
    own_names = tuple(c.name for c in columns)
    return PlainView(
        object_id, statement.name, named, statement.text, sources, tree, own_names, statement.names,
        schema=schema, label=label,
    )  # fmt: skip


def read(limits: Limits, object_id: int, key: str, text: str, place: str | None) -> PlainView | None:
    """Make one of what `_engine.objects` had; None for any other object."""
    at = json.loads(place) if place is not None else {}
    if "columns" not in at:
        return None
    statement = parse(text, limits)[0]
    assert isinstance(statement, CreateView), statement
    named = replace(resolved(statement, Remembered(Key(key), at["names"])), names=at["names"])
    columns = [OutputColumn(name, kind) for name, kind in at["columns"]]
    return view_of(named, object_id, columns, schema=at["schema"], label=at["name"])
