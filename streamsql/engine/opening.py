"""The queries that were there when the server stopped, as they start again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from streamsql.base.limits import Limits
from streamsql.catalog.objects import Catalog
from streamsql.engine import recovery
from streamsql.engine.recomputed import query_of
from streamsql.engine.shared import SharedQuery, Slot, saved_slots
from streamsql.engine.sharing import types_of_keys
from streamsql.engine.store import Store
from streamsql.engine.views import ContinuousQuery
from streamsql.plan.nodes import Describe
from streamsql.plan.sharing import Sharer


def opened(store: Store, found: recovery.Recovered, describe: Describe, limits: Limits) -> dict[str, ContinuousQuery]:
    """Make all queries anew over the tables that they have, by name; drop the tables that nobody has."""
    queries: dict[str, ContinuousQuery] = {}
    for name, (view, plan, progress) in found.views.items():
        queries[name] = query_of(view.id, name, plan, store, limits, temporary=False)
        queries[name].progress = progress
    groups = _groups(store, queries, found.catalog, describe, limits)
    for query in dict.fromkeys(q.unit for q in queries.values()):
        if query.plan.recomputed is None:
            query.open()
        query.open_scratch()
    known: Iterable[ContinuousQuery] = [*queries.values(), *groups]
    recovery.drop_orphans(store, {n for q in known for n in (q.name, *q.state_names)})
    return queries


def _groups(
    store: Store, queries: dict[str, ContinuousQuery], catalog: Catalog, describe: Describe, limits: Limits
) -> list[SharedQuery]:
    made = []
    for number, slots in saved_slots(store).items():
        made_of = []
        for view, definition in slots:
            if view is not None:
                name, plan = view, queries[view].plan
            else:
                statement = recovery.read_again(definition, limits, catalog)
                name = statement.name
                _, plan = recovery.view_of(statement, 0, statement.text, catalog, describe, limits, as_lists=True)
            made_of.append(Slot(name, definition, Sharer(plan, types_of_keys(catalog, plan, describe))))
        group = SharedQuery(number, made_of, store, limits)
        for place, (view, _) in enumerate(slots):
            if view is not None:
                group.adopt(place, queries[view])
                group.progress = queries[view].progress
        if group.has_sets:
            count = store.fetch(f"SELECT count(*) FROM {group.tables.state}")[0][0]
            group.progress = replace(group.progress, state_rows=count)
        made.append(group)
    return made
