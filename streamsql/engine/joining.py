"""The tables of views that come to share a state (`engine.shared`), made from those that they had.

All runs on the engine's thread, within a transaction of the caller's.
"""

from __future__ import annotations

from streamsql.engine.shared import SharedQuery
from streamsql.engine.store import Store
from streamsql.engine.views import ContinuousQuery
from streamsql.plan import stages
from streamsql.plan.sharing import Share


class NotTheSameError(Exception):
    """The states of two views do not hold the same groups."""


def join_tables(store: Store, group: SharedQuery, old: ContinuousQuery, new: ContinuousQuery) -> None:
    """Make the tables of a group from those of what kept its first members, and of one more.

    Raises NotTheSameError where they do not hold the same groups although they should.
    """
    if group.has_sets:
        _put_beside(store, group, old, new)
    else:
        _join(store, group, old, new)


def _join(store: Store, group: SharedQuery, old: ContinuousQuery, new: ContinuousQuery) -> None:
    grouping, plan = group.plan.grouping, group.plan
    assert grouping is not None
    of_old = (
        _columns_of_group(old)
        if isinstance(old, SharedQuery)
        else _columns_of_view(group, group.shares[0], len(old.plan.outputs))
    )
    of_new = _columns_of_view(group, group.shares[-1], len(new.plan.outputs))
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
    if count != new.progress.state_rows:
        raise NotTheSameError


def _put_beside(store: Store, group: SharedQuery, old: ContinuousQuery, new: ContinuousQuery) -> None:
    """Add a view's groups to a group of several sets; its columns where the group has its set already."""
    grouping, share, state = group.plan.grouping, group.shares[-1], group.tables.state
    assert grouping is not None
    of_new = {**_keys_in_set(share), **_columns_of_view(group, share, len(new.plan.outputs)), "__shown": "true"}
    of_old = {**_columns_before(group, old), "__shown": "true"}
    known = any(before.number == share.number for before in group.shares[:-1])
    if not known and isinstance(old, SharedQuery) and old.has_sets and _columns(old) == _columns(group):
        store.execute(f"INSERT INTO {state} BY NAME SELECT {_named(of_new)} FROM {new.tables.state}")
        return
    shape = stages.kept_groups(group.plan, stages.partials(group.plan, new.tables.delta))
    here = f"{of_old['ks']} = {share.number}"
    pieces = [
        f"SELECT * FROM ({shape}) WHERE false",
        f"SELECT {_named(of_old)} FROM {old.tables.state} WHERE NOT ({here})",
    ]
    if known:
        same = " AND ".join(
            f"a.{of_old[k]} IS NOT DISTINCT FROM b.{of_new[k]}" for k in (f"k{place}" for place in share.keys)
        )
        columns = {n: f"b.{c}" for n, c in of_new.items() if n not in ("ks", "__shown")}
        columns = {**{n: f"a.{c}" for n, c in of_old.items() if n not in of_new}, **columns}
        columns |= {"ks": str(share.number), "__shown": "true"}
        pieces.append(
            f"SELECT {_named(columns)} FROM {old.tables.state} AS a JOIN {new.tables.state} AS b ON {same} WHERE {here}"
        )
    else:
        pieces.append(f"SELECT {_named(of_new)} FROM {new.tables.state}")
    before = store.fetch(f"SELECT count(*) FROM {old.tables.state}")[0][0]
    count = store.execute(f"CREATE OR REPLACE TABLE {state} AS {' UNION ALL BY NAME '.join(pieces)}")
    if count != before + (0 if known else new.progress.state_rows):
        raise NotTheSameError
    columns_shown = ", ".join([*stages.result_keys(grouping), *stages.output_columns(group.plan)])
    store.execute(f"CREATE OR REPLACE TABLE {group.tables.result} AS SELECT {columns_shown} FROM {state} LIMIT 0")


def _named(columns: dict[str, str]) -> str:
    return ", ".join(f"{column} AS {name}" for name, column in columns.items())


def _columns(group: ContinuousQuery) -> tuple[object, ...]:
    """What the columns of a group's state hold."""
    grouping = group.plan.grouping
    assert grouping is not None
    return (len(grouping.keys), grouping.parts, tuple(output.sql for output in group.plan.outputs))


def _keys_in_set(share: Share) -> dict[str, str]:
    """Name the key columns that a view of its own has, by what they are called in a group of several sets."""
    return {**{f"k{place}": f"k{i}" for i, place in enumerate(share.keys)}, "ks": f"{share.number}::BIGINT"}


def _columns_before(group: SharedQuery, old: ContinuousQuery) -> dict[str, str]:
    """Name the columns of what kept the group's first members, by what they are called in it."""
    if not isinstance(old, SharedQuery):
        return {**_keys_in_set(group.shares[0]), **_columns_of_view(group, group.shares[0], len(old.plan.outputs))}
    if not old.has_sets:
        return {**_keys_in_set(group.shares[0]), **_columns_of_group(old)}
    grouping = old.plan.grouping
    assert grouping is not None
    return {**{key: key for key in stages.group_columns(grouping)}, **_columns_of_group(old)}


def _columns_of_group(group: ContinuousQuery) -> dict[str, str]:
    """Name the columns that a group has, which keep their names."""
    grouping = group.plan.grouping
    assert grouping is not None
    names = [*(f"s{i}" for i in range(len(grouping.parts))), *stages.output_columns(group.plan)]
    return {name: name for name in names}


def _columns_of_view(group: SharedQuery, share: Share, outputs: int) -> dict[str, str]:
    """Name the columns that a view of its own has, by what they are called in a group."""
    face = group.face(share)
    named = {f"s{s}": f"s{i}" for i, s in enumerate(share.parts)}
    named |= {f"o{face.outputs[i]}": f"o{i}" for i in range(outputs)}
    if face.shown is not None:
        named[f"o{face.shown}"] = "__shown"
    return named
