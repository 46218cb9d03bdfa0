"""Views that keep nothing, as the catalog has them, and as they are read back from their definitions."""

from __future__ import annotations

import json
from dataclasses import replace

from streamsql.base.limits import Limits
from streamsql.catalog.objects import Catalog, OutputColumn, PlainView
from streamsql.plan.naming import Remembered, resolved
from streamsql.plan.plain_views import with_columns, without_places
from streamsql.sql.names import NOTE, Key
from streamsql.sql.parse import parse
from streamsql.sql.statements import CreateView


def view_of(
    statement: CreateView, object_id: int, columns: list[OutputColumn], *, schema: str, label: str
) -> PlainView:
    """Make the catalog's object of a CREATE VIEW that has been looked up; `columns` are those that its query gives."""
    tree, named = with_columns(without_places(statement.query.tree), statement.column_names, columns)
    sources = tuple(dict.fromkeys(key for name, key in statement.names.items() if not name.startswith(NOTE)))
    own_names = tuple(c.name for c in columns)
    return PlainView(
        object_id, statement.name, named, statement.text, sources, tree, own_names, statement.names,
        schema=schema, label=label,
    )  # fmt: skip


def kept_columns(made: PlainView) -> dict[str, object]:
    """Give what is kept of a view besides its text: what its query calls the columns, and their types."""
    return {
        "columns": [
            [own, c.type, None if c.made is None else [c.made.scalar.oid, c.made is not c.made.scalar]]
            for own, c in zip(made.own_names, made.columns, strict=True)
        ]
    }


def _column(catalog: Catalog, name: str, stored: str, made: tuple[int, bool] | None) -> OutputColumn:
    found = None if made is None else catalog.types.get(made[0])
    if found is None or made is None:
        return OutputColumn(name, stored)
    return OutputColumn(name, stored, found.wire.array if made[1] else found.wire)


def read(limits: Limits, catalog: Catalog, object_id: int, key: str, text: str, place: str | None) -> PlainView | None:
    """Make one of what `_engine.objects` had; None for any other object."""
    at = json.loads(place) if place is not None else {}
    if "columns" not in at:
        return None
    statement = parse(text, limits)[0]
    assert isinstance(statement, CreateView), statement
    named = replace(resolved(statement, Remembered(Key(key), at["names"], catalog)), names=at["names"])
    columns = [_column(catalog, *column) for column in at["columns"]]
    return view_of(named, object_id, columns, schema=at["schema"], label=at["name"])
