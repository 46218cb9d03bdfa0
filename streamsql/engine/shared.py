"""One state for several views: those that group the same rows of a stream in the same way (`plan.sharing`).

::

    CREATE MATERIALIZED VIEW a AS SELECT k, count(*) FROM s GROUP BY k          one query takes the rows in, and keeps
    CREATE MATERIALIZED VIEW b AS SELECT k, max(x) FROM s GROUP BY k            k, count(*), max(x); a and b are SELECTs over it

A view starts with a state of its own. Where another has taken in the same rows, both states hold the same groups and are joined
into one; `part` takes a view's columns out again. So sharing changes what an epoch costs, and nothing else. Rows that an
expression fails on are left out of that view alone, so views part before such a row is looked for.

``_engine.shared_states`` holds what is needed to make the shared plan again: the views' definitions in the order in which they
came, also of those that are gone, whose columns stay until more than half of all are gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.limits import Limits
from streamsql.catalog.objects import PUBLIC_SCHEMA, literal, quoted
from streamsql.engine.changes import Progress
from streamsql.engine.results import Results, Shown
from streamsql.engine.store import Store
from streamsql.engine.views import ContinuousQuery, tables_of
from streamsql.plan import stages
from streamsql.plan.nodes import ContinuousPlan, Face
from streamsql.plan.sharing import shared


@dataclass(frozen=True, slots=True)
class Slot:
    """A view that shares, or did: `definition` is its CREATE statement, as `recovery.remembered` has it."""

    view: str
    definition: str
    plan: ContinuousPlan


class SharedQuery(ContinuousQuery):
    """Takes rows in for all its members, and tells each what has changed of what it shows."""

    def __init__(self, number: int, slots: Sequence[Slot], store: Store, limits: Limits) -> None:
        plan, self.faces = shared([slot.plan for slot in slots])
        super().__init__(number, f"{number}#shared", plan, store, limits, temporary=False)
        self.slots = tuple(slots)
        self.members: dict[int, ContinuousQuery] = {}  # by the number of their slot

    def adopt(self, number: int, member: ContinuousQuery) -> None:
        """Let a query of its own, whose tables are no more, be a member."""
        self.members[number] = member
        member.shared = self
        member.tables = replace(member.tables, state=self.tables.state, result=self.tables.result)

    def face(self, number: int) -> Face:
        return self.plan.faces[self.faces[number]]

    def number_of(self, member: Results) -> int:
        return next(number for number, query in self.members.items() if query is member)

    def result_of(self, member: Results) -> str:
        """What holds a member's result, as it stands in FROM."""
        face = self.face(self.number_of(member))
        grouping = self.plan.grouping
        assert grouping is not None
        columns = ", ".join([*stages.result_keys(grouping), *(f"o{o} AS o{i}" for i, o in enumerate(face.outputs))])
        where = "" if face.shown is None else f" WHERE o{face.shown}"
        return (
            f"(SELECT {columns} FROM {self.tables.state}{where} "
            f"UNION ALL SELECT {columns} FROM {self.tables.result}{where})"
        )

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
        for member in self.members.values():
            member.begin_shared(epoch)

    def change(self, merged: pa.Table) -> None:
        found: dict[int, Shown] = {}
        for number, member in self.members.items():
            at = self.faces[number]
            if at not in found:
                found[at] = self._shown(merged, at)
            member.show(merged, self.plan.faces[at].outputs, found[at])

    def _shown(self, merged: pa.Table, at: int) -> Shown:
        face, changed = self.plan.faces[at], merged.column(f"__changed{at}")
        if face.shown is None:
            return Shown(pc.and_(changed, merged.column("__was_shown")), pc.and_(changed, merged.column("__shown")))
        was = pc.fill_null(merged.column(f"old_o{face.shown}"), False)
        return Shown(pc.and_(changed, was), pc.and_(changed, merged.column(f"o{face.shown}")))

    def failing(self, rows: pa.Table) -> list[ContinuousQuery]:
        """Give the members whose aggregates fail on these rows."""
        self._see(rows)
        states = {member: stages.partials(member.plan, self.tables.delta) for member in self.members.values()}
        return [member for member, sql in states.items() if self._failure(sql) is not None]

    def all_progress(self, progress: Progress) -> list[tuple[ContinuousQuery, Progress]]:
        found: list[tuple[ContinuousQuery, Progress]] = [(self, progress)]
        found += [(member, member.finish_shared(progress)) for member in self.members.values()]
        return found


# ---- tables: what follows runs on the engine's thread, within a transaction of the caller's ----


def show_view(store: Store, query: ContinuousQuery) -> None:
    """Let a view's name read its result from where it is now."""
    columns = ", ".join(f"o{i} AS {quoted(o.name)}" for i, o in enumerate(query.plan.outputs))
    store.execute(
        f"CREATE OR REPLACE VIEW {PUBLIC_SCHEMA}.{quoted(query.name)} AS SELECT {columns} FROM {query.result}"
    )


def own_tables(store: Store, group: SharedQuery, member: ContinuousQuery) -> None:
    """Give a member tables of its own, with its columns."""
    face, tables = group.face(group.number_of(member)), tables_of(member.name, member.id, temporary=False)
    grouping = group.plan.grouping
    assert grouping is not None
    outputs = [f"o{o} AS o{i}" for i, o in enumerate(face.outputs)]
    flag = "true" if face.shown is None else f"o{face.shown}"
    columns = [*stages.group_columns(grouping), *(f"s{s} AS s{i}" for i, s in enumerate(face.parts)), *outputs]
    store.execute(
        f"CREATE TABLE {tables.state} AS SELECT {', '.join(columns)}, {flag} AS __shown FROM {group.tables.state}"
    )
    keys = [*stages.result_keys(grouping), *outputs]
    store.execute(f"CREATE TABLE {tables.result} AS SELECT {', '.join(keys)} FROM {group.tables.result} WHERE {flag}")


def joined_tables(store: Store, group: SharedQuery, old: ContinuousQuery, new: ContinuousQuery) -> int:
    """Make the tables of a group from those of what kept its first members, and of one more; give how many rows of state."""
    grouping, plan = group.plan.grouping, group.plan
    assert grouping is not None
    of_old = (
        _columns_of_group(old)
        if isinstance(old, SharedQuery)
        else _columns_of_view(group.face(0), len(old.plan.outputs))
    )
    of_new = _columns_of_view(group.face(len(group.slots) - 1), len(new.plan.outputs))
    parts = [f"s{i}" for i in range(len(grouping.parts))]
    outputs = stages.output_columns(plan)
    keys, result_keys = stages.group_columns(grouping), stages.result_keys(grouping)

    def pick(name: str) -> str:
        return f"a.{of_old[name]} AS {name}" if name in of_old else f"b.{of_new[name]} AS {name}"

    def either(name: str, data_type: str) -> str:
        given = [f"{side}.{of[name]}" for side, of in (("a", of_old), ("b", of_new)) if name in of]
        return f"CAST(coalesce({', '.join([*given, 'NULL'])}) AS {data_type}) AS {name}"

    same = " AND ".join(f"a.{k} IS NOT DISTINCT FROM b.{k}" for k in keys) or "true"
    items = [*(f"a.{k} AS {k}" for k in keys), *map(pick, [*parts, *outputs])]
    count = store.execute(
        f"CREATE OR REPLACE TABLE {group.tables.state} AS SELECT {', '.join(items)}, true AS __shown "
        f"FROM {old.tables.state} AS a JOIN {new.tables.state} AS b ON {same}"
    )
    # the results of closed windows, in which groups that HAVING hides are missing
    left, right = (f"(SELECT *, true AS __shown FROM {q.tables.result})" for q in (old, new))
    same = " AND ".join(f"a.{k} IS NOT DISTINCT FROM b.{k}" for k in result_keys) or "false"
    flags = {f"o{face.shown}" for face in plan.faces if face.shown is not None}
    shown = [
        f"coalesce({either(n, o.type).rpartition(' AS ')[0]}, false) AS {n}" if n in flags else either(n, o.type)
        for n, o in zip(outputs, plan.outputs, strict=True)
    ]
    items = [*(f"coalesce(a.{k}, b.{k}) AS {k}" for k in result_keys), *shown]
    store.execute(
        f"CREATE OR REPLACE TABLE {group.tables.result} AS SELECT {', '.join(items)} "
        f"FROM {left} AS a FULL JOIN {right} AS b ON {same}"
    )
    return count


def _columns_of_group(group: ContinuousQuery) -> dict[str, str]:
    """Name the columns that a group has, which keep their names."""
    grouping = group.plan.grouping
    assert grouping is not None
    names = [*(f"s{i}" for i in range(len(grouping.parts))), *stages.output_columns(group.plan)]
    return {name: name for name in names}


def _columns_of_view(face: Face, outputs: int) -> dict[str, str]:
    """Name the columns that a view of its own has, by what they are called in a group."""
    named = {f"s{s}": f"s{i}" for i, s in enumerate(face.parts)}
    named |= {f"o{face.outputs[i]}": f"o{i}" for i in range(outputs)}
    if face.shown is not None:
        named[f"o{face.shown}"] = "__shown"
    return named


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
