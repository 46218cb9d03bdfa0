"""One state for several views: those that group the same rows of a stream (`plan.sharing`).

::

    CREATE MATERIALIZED VIEW a AS SELECT k, count(*) FROM s GROUP BY k          one query takes the rows in, and keeps
    CREATE MATERIALIZED VIEW b AS SELECT k, max(x) FROM s GROUP BY k            k, count(*), max(x); a and b are SELECTs over it

A view starts with a state of its own. Where another has taken in the same rows and groups them alike, both states hold the same
groups and are joined into one; where it groups them otherwise, the groups of both are put into one table, told apart by
``ks``. `part` takes a view's columns and rows out again. So sharing changes what an epoch costs, and nothing else. Rows that
an expression fails on are left out of that view alone, so views part before such a row is looked for.

``_engine.shared_states`` holds what is needed to make the shared plan again: the views' definitions in the order in which they
came, also of those that are gone, whose columns stay until more than half of all are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.base.limits import Limits
from streamsql.catalog.objects import PUBLIC_SCHEMA, literal, quoted
from streamsql.engine.changes import Progress
from streamsql.engine.results import Results, Shown, mask_of
from streamsql.engine.store import Store
from streamsql.engine.views import ContinuousQuery, tables_of
from streamsql.plan import stages
from streamsql.plan.nodes import Face, Grouping
from streamsql.plan.sharing import Share, Sharer, shared


@dataclass(frozen=True, slots=True)
class Slot:
    """A view that shares, or did: `definition` is its CREATE statement, as `recovery.remembered` has it."""

    view: str
    definition: str
    sharer: Sharer


class SharedQuery(ContinuousQuery):
    """Takes rows in for all its members, and tells each what has changed of what it shows."""

    def __init__(self, number: int, slots: Sequence[Slot], store: Store, limits: Limits) -> None:
        plan, self.shares = shared([slot.sharer for slot in slots])
        super().__init__(number, f"{number}#shared", plan, store, limits, temporary=False)
        self.slots = tuple(slots)
        self.members: dict[int, ContinuousQuery] = {}  # by the number of their slot
        self._came: dict[int, int] = {}  # so many groups are new in the epoch, by the number of their set

    def adopt(self, number: int, member: ContinuousQuery) -> None:
        """Let a query of its own, whose tables are no more, be a member."""
        self.members[number] = member
        member.shared = self
        member.tables = replace(member.tables, state=self.tables.state, result=self.tables.result)

    @property
    def has_sets(self) -> bool:
        """Tell whether its members have different groups."""
        assert self.plan.grouping is not None
        return bool(self.plan.grouping.arms)

    def face(self, share: Share) -> Face:
        return self.plan.faces[share.face]

    def number_of(self, member: Results) -> int:
        return next(number for number, query in self.members.items() if query is member)

    def share_of(self, member: Results) -> Share:
        return self.shares[self.number_of(member)]

    def result_of(self, member: Results) -> str:
        """What holds a member's result, as it stands in FROM."""
        share = self.share_of(member)
        face = self.face(share)
        keys = own_keys(member, share, stages.result_keys)
        columns = ", ".join([*keys, *(f"o{o} AS o{i}" for i, o in enumerate(face.outputs))])
        conditions = [*in_set(share), *([] if face.shown is None else [f"o{face.shown}"])]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        kept = f"SELECT {columns} FROM {self.tables.state}{where}"
        if share.number is not None:  # without a window no group is ever closed
            return f"({kept})"
        return f"({kept} UNION ALL SELECT {columns} FROM {self.tables.result}{where})"

    # ---- the epoch ----

    @property
    def _labels(self) -> list[str]:
        return [member.label for member in self.members.values()]

    @property
    def shown(self) -> bool:
        return any(member.shown for member in self.members.values())

    @property
    def changed(self) -> bool:
        return False  # its members have

    def _begin(self, epoch: int, progress: Progress) -> None:
        super()._begin(epoch, progress)
        self._came = {}
        for member in self.members.values():
            member.begin_shared(epoch)

    def change(self, merged: pa.Table) -> None:
        sets = _Sets(merged) if self.has_sets else None
        if sets is not None:
            merged, self._came = sets.merged, sets.came
        found = {at: self._shown(merged, at) for at in {self.shares[number].face for number in self.members}}
        for number, member in self.members.items():
            share = self.shares[number]
            rows = slice(0, merged.num_rows) if sets is None else sets.rows_of(share.number)
            if rows.start < rows.stop:
                gone, came = found[share.face]
                shown = Shown(gone[rows], came[rows])
                part = merged if sets is None else merged.slice(rows.start, rows.stop - rows.start)
                member.show(part, self.face(share).outputs, shown)

    def _shown(self, merged: pa.Table, at: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which groups go, and which come, as queries of one face show them."""
        face, changed = self.plan.faces[at], mask_of(merged.column(f"__changed{at}"))
        was, now = ("__was_shown", "__shown") if face.shown is None else (f"old_o{face.shown}", f"o{face.shown}")
        return changed & mask_of(merged.column(was)), changed & mask_of(merged.column(now))

    def failing(self, rows: pa.Table) -> list[ContinuousQuery]:
        """Give the members whose aggregates fail on these rows."""
        self._see(rows)
        states = {member: stages.partials(member.plan, self.tables.delta) for member in self.members.values()}
        return [member for member, sql in states.items() if self._failure(sql) is not None]

    def all_progress(self, progress: Progress) -> list[tuple[ContinuousQuery, Progress]]:
        found: list[tuple[ContinuousQuery, Progress]] = [(self, progress)]
        for number, member in self.members.items():
            own, at = progress, self.shares[number].number
            if at is not None:
                own = replace(progress, state_rows=member.progress.state_rows + self._came.get(at, 0))
            found.append((member, member.finish_shared(own)))
        return found


class _Sets:
    """Merged groups, in the order of their sets: the rows of each, and how many of them are new."""

    def __init__(self, merged: pa.Table) -> None:
        numbers = np.asarray(merged.column("ks"))
        order = np.argsort(numbers, kind="stable")
        self.merged = merged.take(order)
        numbers = numbers[order]
        found, starts = np.unique(numbers, return_index=True)
        stops = [*starts[1:].tolist(), len(numbers)][: len(found)]  # there may be no rows at all
        self._rows = {n: slice(a, b) for n, a, b in zip(found.tolist(), starts.tolist(), stops, strict=True)}
        new = np.asarray(self.merged.column("__row").is_null())
        self.came = {number: int(np.count_nonzero(new[rows])) for number, rows in self._rows.items()}

    def rows_of(self, number: int | None) -> slice:
        assert number is not None
        return self._rows.get(number, slice(0, 0))


def in_set(share: Share) -> list[str]:
    """The condition, if there is need of one, for the rows of a group's tables to be a member's."""
    return [] if share.number is None else [f"ks = {share.number}"]


def own_keys(member: Results, share: Share, names: Callable[[Grouping], list[str]]) -> list[str]:
    """The columns of a group's tables that tell a member's groups apart, by the names that they have in its own."""
    grouping = member.plan.grouping
    assert grouping is not None
    if share.number is None:
        return names(grouping)
    return [f"k{place} AS k{i}" for i, place in enumerate(share.keys)]


# ---- tables: what follows runs on the engine's thread, within a transaction of the caller's ----


def show_view(store: Store, query: ContinuousQuery) -> None:
    """Let a view's name read its result from where it is now."""
    columns = ", ".join(f"o{i} AS {quoted(o.name)}" for i, o in enumerate(query.plan.outputs))
    store.execute(
        f"CREATE OR REPLACE VIEW {PUBLIC_SCHEMA}.{quoted(query.name)} AS SELECT {columns} FROM {query.result}"
    )


def own_tables(store: Store, group: SharedQuery, member: ContinuousQuery) -> None:
    """Give a member tables of its own, with its columns."""
    share, tables = group.share_of(member), tables_of(member.name, member.id, temporary=False)
    face = group.face(share)
    outputs = [f"o{o} AS o{i}" for i, o in enumerate(face.outputs)]
    flag = "true" if face.shown is None else f"o{face.shown}"
    parts = [f"s{s} AS s{i}" for i, s in enumerate(share.parts)]
    columns = [*own_keys(member, share, stages.group_columns), *parts, *outputs]
    where = " AND ".join(in_set(share) or ["true"])
    store.execute(
        f"CREATE TABLE {tables.state} AS SELECT {', '.join(columns)}, {flag} AS __shown "
        f"FROM {group.tables.state} WHERE {where}"
    )
    keys = [*own_keys(member, share, stages.result_keys), *outputs]
    store.execute(
        f"CREATE TABLE {tables.result} AS SELECT {', '.join(keys)} FROM {group.tables.result} WHERE {flag} AND {where}"
    )


def save_slots(store: Store, group: SharedQuery) -> None:
    """Write down which views a group has."""
    store.execute(f"DELETE FROM _engine.shared_states WHERE number = {group.id}")
    for number, slot in enumerate(group.slots):
        view = literal(slot.view) if number in group.members else "NULL"
        store.execute(
            f"INSERT INTO _engine.shared_states VALUES ({group.id}, {number}, {view}, {literal(slot.definition)})"
        )


def saved_slots(store: Store) -> Mapping[int, list[tuple[str | None, str]]]:
    """Read it back: for each group's number its views, None for one that is gone, with their definitions."""
    found: dict[int, list[tuple[str | None, str]]] = {}
    for number, view, definition in store.fetch(
        "SELECT number, view, definition FROM _engine.shared_states ORDER BY number, slot"
    ):
        found.setdefault(number, []).append((view, definition))
    return found


def leave(store: Store, group: SharedQuery, members: Sequence[ContinuousQuery]) -> None:
    """Take views out of a group whose tables are dropped with them: what is left of the group is made durable."""
    left = {n: m for n, m in group.members.items() if m not in members}
    if left:
        gone = ", ".join(str(n) for n, m in group.members.items() if m in members)
        store.execute(f"UPDATE _engine.shared_states SET view = NULL WHERE number = {group.id} AND slot IN ({gone})")
        return
    store.execute(f"DELETE FROM _engine.shared_states WHERE number = {group.id}")
    group.drop_own()


def left(group: SharedQuery, members: Sequence[ContinuousQuery]) -> None:
    """Do in memory what `leave` has done, once that is committed."""
    for member in members:
        del group.members[group.number_of(member)]
        member.shared = None
        member.tables = tables_of(member.name, member.id, temporary=False)
    if not group.members:
        group.close()


def part(store: Store, group: SharedQuery, members: Sequence[ContinuousQuery]) -> None:
    """Let members of a group have tables of their own, in a transaction of its own."""
    with store.transaction():
        for member in members:
            own_tables(store, group, member)
        shown = []
        for member in members:
            tables = tables_of(member.name, member.id, temporary=False)
            shown.append((member, member.tables))
            member.shared, member.tables = None, tables
            show_view(store, member)
        for member, before in shown:
            member.shared, member.tables = group, before
        leave(store, group, members)
    left(group, members)
    store.forget_statements()
    for member in members:
        member.stand_alone()
