"""Joins with versions: of a table or a view as it is when a row arrives, or of a stream at a row's event time.

::

    FROM s JOIN t FOR SYSTEM_TIME AS OF PROCTIME() ON s.k = t.k
    FROM s JOIN v FOR SYSTEM_TIME AS OF s.ts ON s.k = v.k           FROM s ASOF JOIN v ON s.k = v.k AND s.ts >= v.ts
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported
from streamsql.catalog.dependents import roots
from streamsql.catalog.objects import OutputColumn, Table, View
from streamsql.plan.asof import asof_condition
from streamsql.plan.bounds import Bounds
from streamsql.plan.join_parts import Entry, Joined, Span, declared
from streamsql.plan.origins import IntervalJoin, Lookup, StreamScan
from streamsql.plan.outside import outside_of
from streamsql.plan.semijoins import conjuncts
from streamsql.plan.windows import times_wanted
from streamsql.sql.parse import position_of

if TYPE_CHECKING:
    from streamsql.plan.joins import Planner


def versioned(planner: Planner, left: Joined, join: exp.Join) -> Joined:
    """Join with what a table or view is when a row arrives, or with the versions that were valid at a row's event time."""
    version = join.this.args["version"].expression
    if isinstance(version, exp.Anonymous) and version.name.lower() == "proctime":
        return lookup(planner, left, join)
    right = planner.item(without_version(planner, join.this))
    position = position_of(join.this, planner.query)
    moment = planner.moment(version, left, right)
    times = sorted(
        right.origin.times, key=lambda time: time[0] != "window_end"
    )  # a window's version is valid from its end
    versions = next(iter(times), None)
    if moment is None or moment[0] != "left" or moment[2] or versions is None:
        names = ", ".join(right.origin.names)
        raise FeatureNotSupported(
            "FOR SYSTEM_TIME AS OF takes PROCTIME(), or the event time of the rows that are joined",
            detail=f"no watermark is known of {version.sql('postgres') if versions is not None else names}",
            hint="FROM s [LEFT] JOIN v FOR SYSTEM_TIME AS OF s.ts ON s.k = v.k, where a watermark is known of s.ts, and v "
            "is a stream of versions, or a view in append mode, that has an event time too",
            position=position,
        )
    time = exp.GTE(this=left.named(moment[1]), expression=right.named(versions[0]))
    return asof(planner, left, join, right, time)


def without_version(planner: Planner, item: exp.Table) -> exp.Table:
    """Give the relation itself. Raises FeatureNotSupported for one that has no versions of its rows."""
    plain = item.copy()
    plain.set("version", None)
    found = planner.sources.catalog.find(item.name, position_of(item.this, planner.query))
    if isinstance(found, Table) or (isinstance(found, View) and not found.append_only):
        kind = "a table" if isinstance(found, Table) else f"a view in {found.mode.value.lower()} mode"
        raise FeatureNotSupported(
            f'"{item.name}" does not keep the versions of its rows',
            detail=f"it is {kind}: a row is replaced when it changes",
            hint="send the versions to a stream with a watermark, and join that; or use FOR SYSTEM_TIME AS OF PROCTIME()",
            position=position_of(item, planner.query),
        )
    return plain


def lookup(planner: Planner, left: Joined, join: exp.Join) -> Joined:
    """Join with a table or view as it is when a row arrives."""
    item, position = join.this, position_of(join.this, planner.query)
    kind = join.side or "INNER"
    found = planner.sources.catalog.find(item.name, position_of(item.this, planner.query))
    if (
        not isinstance(found, (Table, View))
        or join.method
        or join.kind in ("SEMI", "ANTI")
        or kind not in ("INNER", "LEFT")
    ):
        raise FeatureNotSupported(
            "only an inner or left join with a table or view as of now can be kept in append mode",
            hint="FROM s [LEFT] JOIN t FOR SYSTEM_TIME AS OF PROCTIME() ON s.k = t.k, where t is a table or a view",
            position=position,
        )
    if isinstance(found, View):
        refuse_shared(planner, left, found, position)
    columns = tuple(OutputColumn(c.name, c.type) for c in found.columns)
    right = Joined(
        StreamScan(columns, (), found.name, None, 0),
        [Entry(item.alias_or_name, c.name, c.name, c.type) for c in columns],
    )
    planner.check_aliases(left, right, position)
    condition, merged = planner.condition(join, left, right, kind)
    on, text = planner.on(condition, left, right)
    outside = None
    if isinstance(found, Table) and found.outside:
        outside = outside_of(planner, found, condition, left, right, position)
    origin = declared(left.origin, times_wanted(planner.tree))
    entries, chosen = planner.shown(left, right, [*left.entries, *right.entries])
    known = dict(origin.times)
    times = tuple((e.column, known[c]) for e, (s, c) in zip(entries, chosen, strict=True) if s == "left" and c in known)
    shown = tuple(OutputColumn(e.column, e.type) for e in entries)
    made = Lookup(shown, times, origin, found.name, kind, on, chosen, text, isinstance(found, View), outside)
    return Joined(made, entries, merged)


def refuse_shared(planner: Planner, left: Joined, view: View, position: int | None) -> None:
    """Raise where each row that arrives would change the view that it is joined with."""
    catalog = planner.sources.catalog
    shared = roots(catalog, left.origin.names) & roots(catalog, [view.name])
    if shared:
        raise FeatureNotSupported(
            f'"{view.name}" reads {", ".join(sorted(shared))} as well',
            detail="it changes with every row that is joined with it, so what it is when a row arrives would depend on how "
            "many rows came with it",
            hint="join with a view over other streams, or use EMIT UPDATE",
            position=position,
        )


def asof(
    planner: Planner, left: Joined, join: exp.Join, right: Joined | None = None, time: exp.Expr | None = None
) -> Joined:
    """Join with the versions that were valid at a row's event time; `time` compares both times, beside the condition."""
    position = position_of(join.this, planner.query)
    right, side = right or planner.item(join.this), join.side or "INNER"
    planner.check_aliases(left, right, position)
    condition, merged = planner.condition(join, left, right, side)
    if time is not None:
        if join.kind in ("SEMI", "ANTI") or join.method:
            side = "SEMI"  # which is refused
        condition = exp.and_(condition, time)

    def named(node: exp.Expr) -> tuple[str, str] | None:
        found = planner.side(node, left, right) if isinstance(node, exp.Column) else None
        return None if found is None else (found[0], found[1].column)

    conditions: list[exp.Expr] = conjuncts(condition) if side in ("INNER", "LEFT") else []
    found = asof_condition(conditions, lambda node: planner.moment(node, left, right), named, position)
    kind = "ASOF LEFT" if side == "LEFT" else "ASOF"
    made = planner.made(left, right, kind, condition, (found.left_time, found.right_time, Span(0, 0)), merged)
    assert isinstance(made.origin, IntervalJoin)
    times = tuple(
        t for t, c in zip(made.origin.columns, made.origin.chosen, strict=True) if c == ("left", found.left_time)
    )
    bounds = tuple((c.name, Bounds()) for c in times)
    return replace(made, origin=replace(
        made.origin, keys=found.keys, strict=found.strict, times=bounds,
        ttl_us=planner.query.state_ttl.ttl_us if planner.query.state_ttl is not None else None,
    ))  # fmt: skip
