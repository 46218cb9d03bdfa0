"""CREATE OR REPLACE: the tables of the query that goes make room for those of the one that comes."""

from __future__ import annotations

from dataclasses import replace

from streamsql.catalog.objects import PUBLIC_SCHEMA, RESULTS_SCHEMA, STATE_SCHEMA, quoted
from streamsql.engine.store import Store
from streamsql.engine.views import ContinuousQuery


class Aside:
    """The tables of a query that is being replaced: they make room for another's of the same name, and are dropped later."""

    def __init__(self, store: Store, query: ContinuousQuery, name: str) -> None:
        self._store = store
        self._query = query
        self._name = name

    def put(self) -> None:
        """Take the names away, within the caller's transaction."""
        self._store.execute(f"DROP VIEW {PUBLIC_SCHEMA}.{quoted(self._name)}")
        for schema in (STATE_SCHEMA, RESULTS_SCHEMA):
            for name in (self._name, *self._query.state_names):
                if self._store.has_table(schema, name):
                    self._store.execute(
                        f"ALTER TABLE {schema}.{quoted(name)} RENAME TO {quoted(self._moved_name(name))}"
                    )

    def _moved_name(self, name: str) -> str:
        return f"{name}~{self._query.id}"

    def drop(self) -> None:
        """Drop the tables, within the caller's transaction."""
        for name in self._query.state_names:
            self._store.execute(f"DROP TABLE IF EXISTS {STATE_SCHEMA}.{quoted(self._moved_name(name))}")
        tables, moved = self._query.tables, self._moved_name(self._name)
        state, result = (f"{schema}.{quoted(moved)}" for schema in (STATE_SCHEMA, RESULTS_SCHEMA))
        self._query.tables = replace(tables, state=state, result=result)
        self._query.drop_own()
