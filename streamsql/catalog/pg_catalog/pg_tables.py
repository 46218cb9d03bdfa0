"""pg_tables, pg_views, pg_matviews: relations by kind, as people read them. Definitions are the client's own text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from streamsql.catalog.objects import CatalogObject, Named, PlainView, Stream, Table, View
from streamsql.catalog.relation import Row, Snapshot, view
from streamsql.sql.names import NOTE, parted
from streamsql.sql.qualified import qualified

_QUERY = re.compile(r"\bas\s+(?=(?:select|with|values|table)\b|\()", re.IGNORECASE)


def view_text(made: PlainView | View, snapshot: Snapshot) -> str:
    """Give the query of a view: what stands behind AS in its statement, names with schemas that are not in the asker's path."""
    found = _QUERY.search(made.text)
    text = made.text[found.end() if found else 0 :].rstrip().rstrip(";")
    return qualified(text, _hidden(made, snapshot)) + ";"


def _hidden(made: PlainView | View, snapshot: Snapshot) -> dict[str, str]:
    """Give the schemas of what a view's text names without one, and whoever asks does not find by that name."""
    hidden = {}
    for name, key in made.names.items():
        schema, bare = parted(name.removeprefix(NOTE))
        found: Named | None = (
            snapshot.catalog.types.get(int(key)) if name.startswith(NOTE) else snapshot.catalog.get(key)
        )
        if schema is None and found is not None and not snapshot.visible(found.schema, found.bare):
            hidden[bare] = found.schema
    return hidden


def _owner(snapshot: Snapshot, made: CatalogObject) -> str:
    return snapshot.role_name(snapshot.catalog.access.owner_of(made.id))


def _tables(snapshot: Snapshot) -> Iterator[Row]:
    nothing = {"hasrules": False, "hastriggers": False, "rowsecurity": False}
    for made in snapshot.catalog:
        if isinstance(made, (Stream, Table)):
            yield {
                "schemaname": made.schema, "tablename": made.bare, "tableowner": _owner(snapshot, made),
                "hasindexes": isinstance(made, Table) and bool(made.keys), **nothing,
            }  # fmt: skip
    for relation in snapshot.relations.values():
        if relation.kind == "r":
            yield {
                "schemaname": relation.schema, "tablename": relation.name, "tableowner": snapshot.owner,
                "hasindexes": False, **nothing,
            }  # fmt: skip


def _views(snapshot: Snapshot) -> Iterator[Row]:
    for made in snapshot.catalog:
        if isinstance(made, PlainView):
            yield {
                "schemaname": made.schema, "viewname": made.bare, "viewowner": _owner(snapshot, made),
                "definition": view_text(made, snapshot),
            }  # fmt: skip
    for relation in snapshot.relations.values():
        if relation.kind == "v":
            yield {"schemaname": relation.schema, "viewname": relation.name, "viewowner": snapshot.owner}


def _materialized(snapshot: Snapshot) -> Iterator[Row]:
    for made in snapshot.catalog:
        if isinstance(made, View):
            yield {
                "schemaname": made.schema, "matviewname": made.bare, "matviewowner": _owner(snapshot, made),
                "hasindexes": False, "ispopulated": True, "definition": view_text(made, snapshot),
            }  # fmt: skip


RELATIONS = (
    view(
        12033,
        "pg_tables",
        """schemaname name, tablename name, tableowner name, tablespace name, hasindexes bool, hasrules bool, hastriggers
    bool, rowsecurity bool""",
        _tables,
    ),
    view(
        12028,
        "pg_views",
        """schemaname name, viewname name, viewowner name, definition text""",
        _views,
    ),
    view(
        12038,
        "pg_matviews",
        """schemaname name, matviewname name, matviewowner name, tablespace name, hasindexes bool, ispopulated bool,
    definition text""",
        _materialized,
    ),
)
