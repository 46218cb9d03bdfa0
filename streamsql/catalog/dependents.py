"""What depends on what in a catalog: views on what they read, near and far."""

from __future__ import annotations

from collections.abc import Iterable

from streamsql.catalog.objects import Catalog, PlainView, View


def plain_dependents(catalog: Catalog, name: str) -> list[PlainView]:
    """List the views that are not materialized and read this object, directly."""
    return [o for o in catalog if isinstance(o, PlainView) and name in o.sources]


def written_over(catalog: Catalog, name: str) -> list[View]:
    """List the materialized views whose text names this view, which is not materialized, or one above it."""
    found = [o for o in catalog if isinstance(o, View) and name in o.names.values()]
    for above in plain_dependents(catalog, name):
        found += [v for v in written_over(catalog, above.name) if v not in found]
    return found


def roots(catalog: Catalog, names: Iterable[str]) -> set[str]:
    """Give the streams and tables that these objects are, or read, directly or through others."""
    found: set[str] = set()
    for name in names:
        item = catalog.objects.get(name)
        found |= roots(catalog, item.sources) if isinstance(item, View) else {name}
    return found


def all_dependents(catalog: Catalog, name: str) -> list[View]:
    """List the views that read this object, directly or through others, each after those that it reads."""
    found = {name}
    made: list[View] = []
    waiting = [o for o in catalog if isinstance(o, View)]
    while more := [v for v in waiting if found.intersection(v.sources)]:
        # of those, first the ones that read no other view still to be found
        found.update(v.name for v in more)
        made += more
        waiting = [v for v in waiting if v not in more]
    order = {v.name: _depth(catalog, v) for v in made}
    return sorted(made, key=lambda v: order[v.name])


def _depth(catalog: Catalog, view: View) -> int:
    """Tell how many views lie below this one."""
    below = (catalog.objects.get(s) for s in view.sources)
    return 1 + max((_depth(catalog, v) for v in below if isinstance(v, View)), default=0)
