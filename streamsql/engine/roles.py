"""Changes of roles and privileges, and what they end. All of it runs on the engine's thread, between two epochs."""

from __future__ import annotations

from collections.abc import Callable

from streamsql.base.errors import InsufficientPrivilege
from streamsql.catalog.access import Access
from streamsql.catalog.objects import Catalog
from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.rights import may_read, require_read
from streamsql.engine.access import save_access
from streamsql.engine.epoch import Engine


def change_access(engine: Engine, change: Callable[[Catalog], Access]) -> Access:
    """Replace roles and privileges by what `change` makes of them, in one transaction.

    Runs on the engine's thread. What `change` raises leaves everything as it was. Who follows something that they may not
    read any more is told, and follows it no longer.
    """
    before = engine.catalog
    access = change(before)
    if access == before.access:
        return access
    try:
        with engine.store.transaction():
            save_access(engine.store, access)
            engine.catalog = before.with_access(access)
            engine.save()
    except BaseException:
        engine.catalog = before
        raise
    end_unreadable(engine)
    return access


def new_role_oid(engine: Engine) -> int:
    """Give the OID of a role that is made."""
    return oids.relation(engine.next_id())


def end_unreadable(engine: Engine) -> None:
    """End the subscriptions to what their readers may not read any more."""
    catalog = engine.catalog
    for query in list(engine.queries.values()):
        names = query.plan.sources if query.temporary else (query.name,)
        read = [made for name in names if (made := catalog.get(name)) is not None]
        for subscription in query.log.subscriptions():
            role = subscription.role
            if role is None:
                continue
            denied = next((made for made in read if not may_read(catalog, role, made)), None)
            if denied is not None:
                try:
                    require_read(catalog, role, denied)
                except InsufficientPrivilege as error:
                    subscription.end(error)
