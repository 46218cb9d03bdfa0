"""When views come to share a state (`engine.shared`), and when a group is made anew without those that are gone."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import pyarrow as pa

from streamsql.base.faults import reached
from streamsql.catalog.objects import literal
from streamsql.engine import recovery
from streamsql.engine.changes import Progress
from streamsql.engine.shared import SharedQuery, Slot, joined_tables, part, save_slots, show_view
from streamsql.engine.views import ContinuousQuery
from streamsql.plan.sharing import grouped_by

if TYPE_CHECKING:
    from streamsql.engine.epoch import Engine


class _NotTheSameError(Exception):
    """The states of two views do not hold the same groups."""


def share(engine: Engine, query: ContinuousQuery, without: Collection[ContinuousQuery] = ()) -> None:
    """Let a view use the state of others that have taken in the same rows, where there are any but those `without`."""
    key = grouped_by(query.plan)
    if key is None or query.shared is not None or not _complete(engine, query):
        return
    units = dict.fromkeys(
        q.unit for q in engine.queries.values() if q is not query and q not in without and not q.temporary
    )
    seen = _seen(query.progress)
    other = next((u for u in units if _seen(u.progress) == seen and grouped_by(u.plan) == key), None)
    if other is None or not (isinstance(other, SharedQuery) or _complete(engine, other)):
        return
    slots = other.slots if isinstance(other, SharedQuery) else (_slot(engine, other),)
    number = other.id if isinstance(other, SharedQuery) else engine.next_id()
    group = SharedQuery(number, (*slots, _slot(engine, query)), engine.store, engine.limits)
    known = dict(other.members) if isinstance(other, SharedQuery) else {0: other}
    before = {member: member.tables for member in (*known.values(), query)}
    try:
        _join(engine, group, other, query, known)
    except BaseException as error:
        for member, tables in before.items():
            member.shared, member.tables = (
                (other if isinstance(other, SharedQuery) and member is not query else None),
                tables,
            )
        if isinstance(error, _NotTheSameError):
            return
        raise
    other.close()
    query.close_alone()
    engine.store.forget_statements()
    group.progress = query.progress
    group.open()
    group.open_scratch()
    reached("state.shared")


def _join(
    engine: Engine,
    group: SharedQuery,
    other: ContinuousQuery,
    query: ContinuousQuery,
    known: dict[int, ContinuousQuery],
) -> None:
    store = engine.store
    with store.transaction():
        if joined_tables(store, group, other, query) != query.progress.state_rows:
            raise _NotTheSameError
        query.drop_own()
        if not isinstance(other, SharedQuery):
            other.drop_own()
        else:
            other.drop_scratch()
        for number, member in {**known, len(group.slots) - 1: query}.items():
            group.adopt(number, member)
            if member is query or member is other:
                show_view(store, member)
        save_slots(store, group)
        engine.save()


def _slot(engine: Engine, query: ContinuousQuery) -> Slot:
    return Slot(query.name, recovery.remembered(engine.catalog.view(query.name)), query.plan)


def _seen(progress: Progress) -> tuple[object, ...]:
    """What is the same for queries over the same rows. Idle time moves by the clock: nothing tells when."""
    own = progress.rows_in if not progress.idle_moves and progress.error is None else object()
    return own, progress.rows_late, progress.seen, progress.largest, progress.closed_to, progress.state_rows


def _complete(engine: Engine, query: ContinuousQuery) -> bool:
    """Tell whether a view has taken in all rows of its stream but for late ones, as the ledger knows."""
    found = engine.store.fetch(
        "SELECT count(*), count(*) FILTER (reason LIKE 'error: %') FROM _engine.late_rows "
        f"WHERE view = {literal(query.name)}"
    )[0]
    return bool(found == (query.progress.rows_late, 0))


def make_anew(engine: Engine, group: SharedQuery) -> None:
    """Let the views of a group share a state without the columns of those that are gone, once those are most of it."""
    members = list(group.members.values())
    if not members or 2 * len(members) >= len(group.slots):
        return
    part(engine.store, group, members)
    for member in members:
        share(engine, member)


def part_failing(engine: Engine, group: SharedQuery, rows: pa.Table) -> None:
    """Part the members of a group that fail on some rows, between two attempts at an epoch, from the others.

    Where what fails is a value that is made from aggregates, it cannot be told whose, and all part.
    """
    failing, members = group.failing(rows), list(group.members.values())
    of_the_gone = len(members) < len(group.slots)
    part(engine.store, group, members)
    if failing or of_the_gone:
        for member in members:
            if member not in failing:
                share(engine, member, failing)
