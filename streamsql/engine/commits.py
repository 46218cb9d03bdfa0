"""What changes the catalog and no rows, in a transaction of its own. Runs on the engine's thread, between two epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from streamsql.catalog.objects import Catalog
from streamsql.engine.access import save_access

if TYPE_CHECKING:
    from streamsql.engine.epoch import Engine


def commit(engine: Engine, catalog: Catalog, change: Callable[[], None]) -> None:
    """Make a catalog the engine's: `change` writes what differs, but for owners and privileges. All of it, or nothing."""
    before = engine.catalog
    try:
        with engine.store.transaction():
            change()
            if catalog.access != before.access:
                save_access(engine.store, catalog.access)
            engine.catalog = catalog
            engine.save()
    except BaseException:
        engine.catalog = before
        raise
