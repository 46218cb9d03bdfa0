"""When views come to share a state (`engine.shared`), and when a group is made anew without those that are gone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from streamsql.base.faults import reached
from streamsql.catalog.objects import Catalog, literal
from streamsql.engine import recovery
from streamsql.engine.changes import Progress
from streamsql.engine.joining import NotTheSameError, join_tables
from streamsql.engine.shared import SharedQuery, Slot, part, save_slots, show_view
from streamsql.engine.views import ContinuousQuery
from streamsql.plan import stages
from streamsql.plan.nodes import ContinuousPlan, Describe
from streamsql.plan.sharing import SET_PARTS_MAX, SETS_MAX, Sharer, groups_of, rows_of, shared, takes_sets

if TYPE_CHECKING:
    from streamsql.engine.epoch import Engine


def share(engine: Engine, query: ContinuousQuery, without: Collection[ContinuousQuery] = ()) -> None:
    """Let a view use the state of others that have taken in the same rows, where there are any but those `without`."""
    if rows_of(query.plan) is None or query.shared is not None or not _complete(engine, query):
        return
    units = dict.fromkeys(
        q.unit for q in engine.queries.values() if q is not query and q not in without and not q.temporary
    )
    slot = _slot(engine, query)
    other = _partner(engine, units, query, slot)
    if other is None or not (isinstance(other, SharedQuery) or _complete(engine, other)):
        return
    slots = other.slots if isinstance(other, SharedQuery) else (_slot(engine, other),)
    number = other.id if isinstance(other, SharedQuery) else engine.next_id()
    group = SharedQuery(number, (*slots, slot), engine.store, engine.limits)
    known = dict(other.members) if isinstance(other, SharedQuery) else {0: other}
    before = {member: member.tables for member in (*known.values(), query)}
    rows = query.progress.state_rows + (other.progress.state_rows if group.has_sets else 0)
    try:
        _join(engine, group, other, query, known)
    except BaseException as error:
        for member, tables in before.items():
            member.shared, member.tables = (
                (other if isinstance(other, SharedQuery) and member is not query else None),
                tables,
            )
        if isinstance(error, NotTheSameError):
            return
        raise
    other.close()
    query.close_alone()
    engine.store.forget_statements()
    if any(share.number == group.shares[-1].number for share in group.shares[:-1]):
        rows -= query.progress.state_rows
    group.progress = replace(query.progress, state_rows=rows if group.has_sets else query.progress.state_rows)
    group.open()
    group.open_scratch()
    reached("state.shared")


def members_beside(query: ContinuousQuery) -> list[ContinuousQuery]:
    """Give the views that share their state with a view."""
    group = query.shared
    return [m for m in group.members.values() if m is not query] if isinstance(group, SharedQuery) else []


def alike(queries: Iterable[ContinuousQuery], plan: ContinuousPlan) -> list[str]:
    """Name the views that group the same rows in the same way as a plan: where one has seen no others, they share a state."""
    rows = rows_of(plan)
    found = [q for q in queries if not q.temporary and rows is not None and rows_of(q.plan) == rows]
    return sorted(q.name for q in found if groups_of(q.plan) == groups_of(plan))


def _partner(
    engine: Engine, units: Collection[ContinuousQuery], query: ContinuousQuery, slot: Slot
) -> ContinuousQuery | None:
    """Find what keeps the same groups as a view, or else other groups of the same rows."""
    rows, seen = rows_of(query.plan), _seen(query.progress)
    alike = [unit for unit in units if rows_of(unit.plan) == rows and _seen(unit.progress) == seen]
    for unit in alike:
        if groups_of(query.plan) in {groups_of(plan) for plan in _plans(unit)} and _rows_of_groups(unit, query) == (
            query.progress.state_rows
        ):
            return unit
    if not takes_sets(query.plan):
        return None
    return next((unit for unit in alike if _takes_in(engine, unit, query, slot)), None)


def _plans(unit: ContinuousQuery) -> list[ContinuousPlan]:
    return [slot.sharer.plan for slot in unit.slots] if isinstance(unit, SharedQuery) else [unit.plan]


def _rows_of_groups(unit: ContinuousQuery, query: ContinuousQuery) -> int:
    """Give how many groups a unit keeps that are the query's."""
    if not isinstance(unit, SharedQuery) or not unit.has_sets:
        return unit.progress.state_rows
    same = (m for m in unit.members.values() if groups_of(m.plan) == groups_of(query.plan))
    return next((member.progress.state_rows for member in same), -1)


def _takes_in(engine: Engine, unit: ContinuousQuery, query: ContinuousQuery, slot: Slot) -> bool:
    """Tell whether a unit can keep a query's groups beside its own, without costing its readers or large epochs much."""
    if not all(map(takes_sets, _plans(unit))):
        return False
    if 2 * (unit.progress.state_rows + query.progress.state_rows) > engine.limits.shared_rows_max:
        return False
    slots = unit.slots if isinstance(unit, SharedQuery) else (_slot(engine, unit),)
    grouping = shared([s.sharer for s in (*slots, slot)])[0].grouping
    return grouping is not None and len(grouping.parts) <= SET_PARTS_MAX and len(grouping.sets) <= SETS_MAX


def _join(
    engine: Engine,
    group: SharedQuery,
    other: ContinuousQuery,
    query: ContinuousQuery,
    known: dict[int, ContinuousQuery],
) -> None:
    store = engine.store
    before = {member: member.result for member in known.values()}
    with store.transaction():
        join_tables(store, group, other, query)
        query.drop_own()
        if not isinstance(other, SharedQuery):
            other.drop_own()
        else:
            other.drop_scratch()
        for number, member in {**known, len(group.slots) - 1: query}.items():
            group.adopt(number, member)
            if before.get(member) != member.result:
                show_view(store, member)
        save_slots(store, group)
        engine.save()


def _slot(engine: Engine, query: ContinuousQuery) -> Slot:
    key_types = types_of_keys(engine.catalog, query.plan, engine.describe)
    return Slot(query.name, recovery.remembered(engine.catalog.view(query.name)), Sharer(query.plan, key_types))


def types_of_keys(catalog: Catalog, plan: ContinuousPlan, describe: Describe) -> tuple[str, ...]:
    """Give the DuckDB types of a query's keys."""
    grouping = plan.grouping
    assert grouping is not None
    if not takes_sets(plan):
        return ()
    rows = stages.source(plan, catalog.relation(plan.source).rows_table)
    return tuple(column.type for column in describe(f"SELECT {', '.join(grouping.keys)} FROM {rows}"))


def _seen(progress: Progress) -> tuple[object, ...]:
    """What is the same for queries over the same rows. Idle time moves by the clock: nothing tells when."""
    own = progress.rows_in if not progress.idle_moves and progress.error is None else object()
    return own, progress.rows_late, progress.seen, progress.largest, progress.closed_to


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


def grown(engine: Engine) -> list[SharedQuery]:
    """Give the groups of several sets that have grown so large that reading one of their views takes long."""
    most = engine.limits.shared_rows_max
    return [
        group
        for group in dict.fromkeys(q.shared for q in engine.queries.values() if q.shared is not None)
        if isinstance(group, SharedQuery) and group.has_sets and group.progress.state_rows > most
    ]


def part_all(engine: Engine, group: SharedQuery) -> None:
    """Part the views of a group. The small ones share again, as long as they are small together."""
    members = sorted(group.members.values(), key=lambda member: member.progress.state_rows)
    part(engine.store, group, members)
    for member in members:
        share(engine, member)
