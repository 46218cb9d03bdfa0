"""Indexes as they are kept in ``_engine.indexes``, and what becomes of them where their relation changes or goes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from streamsql.catalog.objects import Catalog, Index
from streamsql.engine.store import Store
from streamsql.sql.names import quote_name

TABLE = (
    "CREATE TABLE IF NOT EXISTS _engine.indexes (id BIGINT, name VARCHAR, relation BIGINT, columns VARCHAR, "
    "text VARCHAR, is_unique BOOLEAN)"
)


def read(store: Store) -> dict[int, Index]:
    """Read the indexes back, by id."""
    rows = store.fetch("SELECT id, name, relation, columns, text, is_unique FROM _engine.indexes ORDER BY id")
    return {i: Index(i, n, r, tuple(json.loads(c)), text, unique=u) for i, n, r, c, text, u in rows}


def write(store: Store, indexes: Iterable[Index]) -> None:
    """Make all indexes durable, within the caller's transaction."""
    store.execute("DELETE FROM _engine.indexes")
    for index in indexes:
        store.execute(
            "INSERT INTO _engine.indexes VALUES (?, ?, ?, ?, ?, ?)",
            [index.id, index.name, index.relation, json.dumps(index.columns), index.text, index.unique],
        )


def without_relations(store: Store, catalog: Catalog, ids: Collection[int]) -> Catalog:
    """Give a catalog without the indexes of relations that go; within the caller's transaction."""
    return _with(store, catalog, {i: index for i, index in catalog.indexes.items() if index.relation not in ids})


def followed(
    store: Store, catalog: Catalog, relation: int, renamed: Mapping[str, str], columns: Collection[str],
    keys: Collection[str],
) -> Catalog:  # fmt: skip
    """Give a catalog whose indexes of a relation follow what became of its columns, and keys; in the caller's transaction.

    `renamed` are new names by the old ones, `columns` and `keys` the names that there are now. An index on a column that is no
    more goes, and so does a unique one whose key has gone.
    """
    left = {}
    for number, index in catalog.indexes.items():
        if index.relation == relation:
            names = tuple(renamed.get(c, c) for c in index.columns)
            if any(c and c not in columns for c in names) or (index.unique and index.name not in keys):
                continue
            if names != index.columns:
                inside = ", ".join(map(quote_name, names))
                text = f"USING btree ({inside})" if all(names) else index.text
                index = replace(index, columns=names, text=text)
        left[number] = index
    return _with(store, catalog, left)


def _with(store: Store, catalog: Catalog, indexes: dict[int, Index]) -> Catalog:
    if indexes == catalog.indexes:
        return catalog
    write(store, indexes.values())
    return replace(catalog, indexes=indexes)
