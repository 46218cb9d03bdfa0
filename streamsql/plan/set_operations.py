"""INTERSECT and EXCEPT in append mode: joins of equal rows.

::

    SELECT a, b FROM s INTERSECT SELECT a, b FROM t         the rows of s that have an equal one in t, each once
    SELECT a, b FROM s EXCEPT SELECT a, b FROM t            those that have none, each once
    SELECT a, b FROM s EXCEPT ALL SELECT a, b FROM t        the n-th of equal rows of s, where t has no n-th

The first two are a semi and an anti join (`plan.origins.IntervalJoin`) below a DISTINCT; with ALL the equal rows
of each side are numbered first (`Rank`). A column that has an event time on both sides bounds the state: equal rows have
equal times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, InvalidTableDefinition
from streamsql.catalog.objects import OutputColumn, quoted
from streamsql.plan.bounds import Bounds
from streamsql.plan.origins import UNBOUNDED, Inner, IntervalJoin, Origin, Rank, Union, When
from streamsql.sql.parse import position_of
from streamsql.sql.statements import Query

if TYPE_CHECKING:
    from streamsql.plan.sources import Sources

_NUMBER = "__n"
AS_SETS = "as sets"  # what a DISTINCT above makes distinct


def as_select(tree: exp.Expr) -> exp.Expr:
    """Give a set operation as ``SELECT * FROM (...)``, or the distinct rows of that; any other tree as it is."""
    if not isinstance(tree, exp.SetOperation):
        return tree
    distinct = tree.args.get("distinct")
    if distinct:
        tree = tree.copy()
        for node in [tree, *_unions_below(tree)]:
            node.set("distinct", False)
        tree.meta[AS_SETS] = True
    inner = exp.Subquery(this=tree, alias=exp.TableAlias(this=exp.to_identifier("union", quoted=True)))
    made = exp.Select(expressions=[exp.Star()], from_=exp.From(this=inner))
    if distinct:
        made.set("distinct", exp.Distinct())
    return made


def _unions_below(tree: exp.SetOperation) -> list[exp.Union]:
    """Give the unions that are branches of a UNION: whether they drop equal rows makes no difference there."""
    found: list[exp.Union] = []
    if not isinstance(tree, exp.Union):
        return found
    for side in (tree.this, tree.expression):
        while isinstance(side, exp.Subquery):
            side = side.this
        if isinstance(side, exp.Union):
            found += [side, *_unions_below(side)]
    return found


def branches_of(body: exp.SetOperation, query: Query) -> list[exp.Expr]:
    """Give the SELECTs of UNION ALL, or the two of INTERSECT or EXCEPT. Raises FeatureNotSupported."""
    if body.args.get("by_name"):
        raise FeatureNotSupported(
            "set operations BY NAME cannot be kept in append mode",
            hint="name the columns in the same order in each SELECT",
            position=position_of(body, query),
        )
    for clause, text in (("order", "ORDER BY"), ("limit", "LIMIT"), ("offset", "OFFSET")):
        if body.args.get(clause):
            raise FeatureNotSupported(
                f"{text} of a set operation cannot be used in append mode",
                hint="leave it out, or use EMIT UPDATE",
                position=position_of(body.args[clause], query),
            )
    with_ = body.args.get("with_")
    found: list[exp.Expr] = []
    for side in (body.this, body.expression):
        while isinstance(side, exp.Subquery):
            side = side.this
        side = side.copy()
        if with_ is not None:
            own = side.args.get("with_")
            side.set("with_", exp.With(expressions=[
                c.copy() for c in [*with_.expressions, *(own.expressions if own is not None else [])]
            ]))  # fmt: skip
        flat = isinstance(body, exp.Union) and isinstance(side, exp.Union) and not side.args.get("distinct")
        if flat:
            found += branches_of(side, query)
        else:
            found.append(with_names(as_select(_named_apart(side)), side))
    return found


def _named_apart(branch: exp.Expr) -> exp.Expr:
    """Give each column of a branch that has no name one of its own: the columns' names are those of the first branch."""
    if isinstance(branch, exp.Select):
        for i, item in enumerate(branch.expressions):
            if not isinstance(item, (exp.Alias, exp.Aliases, exp.Column, exp.Dot, exp.Star)):
                item.replace(exp.alias_(item.copy(), f"__column{i}"))
    return branch


def with_names(made: exp.Expr, body: exp.Expr) -> exp.Expr:
    """Let a SELECT that was made around a query see the common table expressions of it."""
    if made is not body and body.args.get("with_") is not None:
        made.set("with_", body.args["with_"].copy())
    return made


def matched(sources: Sources, body: exp.SetOperation, branches: list[Inner | Rank], wanted: set[str]) -> Origin:
    """Give the origin of an INTERSECT or EXCEPT. Raises where rows would have to be kept for ever before they are shown."""
    query, what = sources.query, "EXCEPT" if isinstance(body, exp.Except) else "INTERSECT"
    types = sources.describe(" INTERSECT ALL ".join(f"SELECT * FROM {b.shape} AS o" for b in branches))
    columns = tuple(OutputColumn(n.name, t.type) for n, t in zip(branches[0].columns, types, strict=True))
    timed = [i for i in range(len(columns)) if all(b.columns[i].name in dict(b.times) for b in branches)]
    place = next((i for i in timed if columns[i].name in wanted), timed[0] if timed else None)
    every = not body.meta.get(AS_SETS)
    if place is None and (every or what == "EXCEPT" or query.state_ttl is not None):
        raise _unbounded(f"{what} ALL" if every else what, branches, body, query)
    time = None if place is None else columns[place].name
    sides = [_cast(b, columns, place) for b in branches]
    if every:
        assert time is not None
        sides = [_numbered(side, columns, time) for side in sides]
    same = [*(c.name for c in columns), *([_NUMBER] if every else [])]
    condition = " AND ".join(f"l.{quoted(n)} IS NOT DISTINCT FROM r.{quoted(n)}" for n in same)
    low, high = (-UNBOUNDED, UNBOUNDED) if time is None else (0, 0)
    return IntervalJoin(
        columns, () if time is None else ((time, Bounds()),), sides[0], sides[1],
        "ANTI" if what == "EXCEPT" else "SEMI", condition, time, time, low, high,
        tuple(("left", c.name) for c in columns), f"the rows are equal ({what}{' ALL' if every else ''})",
    )  # fmt: skip


def _cast(branch: Origin, columns: tuple[OutputColumn, ...], place: int | None) -> Origin:
    """Give a branch's rows with these columns."""
    if branch.columns == columns:
        return branch
    times = () if place is None else ((columns[place].name, Bounds()),)
    return Union(columns, times, (branch,), place)


def _numbered(side: Origin, columns: tuple[OutputColumn, ...], time: str) -> Rank:
    """Number the equal rows of a side, once the watermark is past them."""
    names = tuple(c.name for c in columns)
    known = tuple(t for t in side.times if t[0] == time)
    return Rank(
        (*columns, OutputColumn(_NUMBER, "BIGINT")), known, side, names, (), "row_number", None, When.CLOSE, time, time,
        (*names, ""), "all columns", "arrival", time, time,
    )  # fmt: skip


def _unbounded(what: str, branches: list[Inner | Rank], body: exp.SetOperation, query: Query) -> InvalidTableDefinition:
    names = [next((n for n, _ in b.times if not n.startswith("__")), None) for b in branches]
    known = ", ".join(f"{n} of the {side} query" for n, side in zip(names, ("first", "second"), strict=True) if n)
    return InvalidTableDefinition(
        f"{what} in append mode needs an event time among its columns, at the same place on both sides",
        detail="without one an equal row could come at any time, so that no row would ever be final; "
        + (f"a watermark is known of {known}" if known else "no watermark is known of any column"),
        hint="SELECT the event time, or window_start of equal windows, in both; or use EMIT UPDATE",
        position=position_of(body, query),
    )
