"""The first rows of each key, in append mode: deduplication, DISTINCT, DISTINCT ON, top-N of each window.

::

    SELECT ... FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts) AS rn FROM s) WHERE rn <= 3
    SELECT ... FROM s QUALIFY row_number() OVER (PARTITION BY k ORDER BY ts) = 1
    SELECT DISTINCT ON (k) ... FROM s ORDER BY k, ts
    SELECT DISTINCT a, b FROM s

All of these become an origin (`plan.origins.Rank`) over the query without its ranking, whose keys and order are columns of it.
A row can be shown once nothing that is still to come can come before it: at once where the order is that of arrival, when the
watermark has passed it where the order is that of event time, when its key's window is closed in any other order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, SQLSyntaxError, StreamSQLError
from streamsql.base.limits import exceeded
from streamsql.catalog.objects import OutputColumn, quoted
from streamsql.plan.nodes import ContinuousPlan
from streamsql.plan.origins import Inner, Rank, When
from streamsql.plan.over.windowed import windows_in
from streamsql.plan.semijoins import conjuncts
from streamsql.plan.windows import is_window
from streamsql.plan.windows.tables import WINDOW_COLUMNS
from streamsql.sql.parse import position_of
from streamsql.sql.statements import Query

if TYPE_CHECKING:
    from streamsql.plan.sources import Sources

_RANKINGS: dict[type[exp.Expr], str] = {exp.RowNumber: "row_number", exp.Rank: "rank", exp.DenseRank: "dense_rank"}
_WRITE = "SELECT ... FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts) AS rn FROM s) WHERE rn = 1"
_TIME = "__time"
_CEILING = {exp.EQ: 0, exp.LTE: 0, exp.LT: -1}
_FLOOR = {exp.EQ: 0, exp.GTE: 0, exp.GT: -1}


@dataclass(frozen=True, slots=True)
class _Ranking:
    """What ranks: the function, whose rows it numbers, in what order; `name` is the number's, if it can be named."""

    function: str
    keys: tuple[exp.Expr, ...]
    order: tuple[exp.Ordered, ...]
    node: exp.Expr
    name: str | None = None


def is_ranked(body: exp.Expr) -> bool:
    """Tell whether a query ranks its rows: by DISTINCT, or by the one window function in its SELECT list or QUALIFY.

    All other window functions are those of `plan.over`.
    """
    if not isinstance(body, exp.Select):
        return False
    if body.args.get("distinct"):
        return True
    calls = windows_in(body)
    if len(calls) != 1 or type(calls[0].this) not in _RANKINGS or calls[0].args.get("spec"):
        return False
    if body.args.get("qualify"):
        bound = _bound_of_qualify(body, calls[0])
        return bound is not None and bound[1]
    return _call(body) is not None


def as_ranked(tree: exp.Expr) -> exp.Expr:
    """Give a query that ranks its rows as ``SELECT * FROM (...)``, any other as it is.

    DISTINCT that only says that groups have a row each is none: all that is grouped by stands in the SELECT list.
    """
    if not isinstance(tree, exp.Select) or not is_ranked(tree) or tree.args.get("from_") is None:
        return tree
    group, distinct = tree.args.get("group"), tree.args.get("distinct")
    if group is not None and distinct is not None and distinct.args.get("on") is None and _shows_keys(tree, group):
        return tree
    inner = tree.copy()
    limit = inner.args.get("limit")
    inner.set("limit", None)
    alias = exp.TableAlias(this=exp.to_identifier("ranked", quoted=True))
    outer = exp.Select(expressions=[exp.Star()], from_=exp.From(this=exp.Subquery(this=inner, alias=alias)))
    if limit is not None:
        outer.set("limit", limit.copy())
    return outer


def _shows_keys(tree: exp.Select, group: exp.Group) -> bool:
    shown = {item.unalias().sql() for item in tree.expressions} | {item.alias_or_name for item in tree.expressions}
    others = any(group.args.get(kind) for kind in ("rollup", "cube", "grouping_sets", "all"))
    return not others and all(
        bool(shown.intersection(WINDOW_COLUMNS))
        if is_window(key)
        else key.sql() in shown or (isinstance(key, exp.Literal) and key.is_int)
        for key in group.expressions
    )


def _call(body: exp.Select) -> exp.Expr | None:
    """Give the item of a SELECT list that is a window function."""
    return next((i for i in body.expressions if isinstance(i.unalias(), exp.Window)), None)


def ranked(sources: Sources, body: exp.Select, above: exp.Select | None, alias: str) -> Rank | None:
    """Plan a query that ranks its rows. The bound of the rank is taken out of the condition of the query `above` it.

    None where it numbers all rows as they come: what is for `plan.over`. Raises FeatureNotSupported where no row would ever
    be final.
    """
    query = sources.query
    condition = None if above is None else above.args.get("where")
    ranking = _ranking(body, query)
    inner = body.copy()
    for clause in ("distinct", "qualify", "order", "windows"):
        inner.set(clause, None)
    bound = _bound_of_qualify(body, ranking.node) if body.args.get("qualify") else None
    count = None if bound is None else bound[0]
    if body.args.get("distinct"):
        count = 1
    elif above is not None and ranking.name is not None and count is None:
        count = _take_bound(above, ranking.name, alias)
    items = [i.copy() for i in body.expressions if not isinstance(i.unalias(), exp.Window)]
    plain = bool(body.args.get("distinct")) and body.args["distinct"].args.get("on") is None
    keys = [exp.alias_(k.copy(), f"__p{n}", quoted=True) for n, k in enumerate(ranking.keys)]
    terms = [o for o in ranking.order if not _is_arrival(o.this)]
    order = [exp.alias_(o.this.copy(), f"__o{n}", quoted=True) for n, o in enumerate(terms)]
    inner.set("expressions", [*items, *keys, *order])
    origin = sources.inner(inner)
    time = _time_of(origin.plan) if query.state_ttl is not None and not origin.times else None
    if time is not None:  # nothing that is shown tells how far time is
        of_time = [exp.alias_(exp.column(time), _TIME, quoted=True)]
        inner.set("expressions", [*items, *keys, *order, *of_time])
        origin = sources.inner(inner)
    hidden = {_TIME, *(k.alias for k in (*keys, *order))}
    shown = [c for c in origin.columns if c.name not in hidden]
    key_names = tuple(c.name for c in shown) if plain else tuple(k.alias for k in keys)
    made = _rank(origin, ranking, key_names, count, query, sources)
    if made is None:
        if above is not None:
            above.set("where", condition)
        return None
    columns, chosen = list(shown), [c.name for c in shown]
    if ranking.name is not None:
        place = _place(body, len(shown))
        columns.insert(place, OutputColumn(ranking.name, "BIGINT"))
        chosen.insert(place, "")
    known = dict(made.times)
    times = tuple((n, known[n]) for n in chosen if n in known)
    text = ", ".join(k.sql("postgres") for k in ranking.keys) or "none: all rows are of one"
    return replace(
        made, columns=tuple(columns), times=times, chosen=tuple(chosen), text="all columns" if plain else text
    )


def _time_of(plan: ContinuousPlan) -> str | None:
    """Give the column of a query's source, or of its window, whose bound its watermark tells."""
    if plan.window is not None:
        return "window_end"
    return plan.time[0] if plan.time is not None else None


def _place(body: exp.Select, count: int) -> int:
    """Give the place of the rank among the columns of a SELECT list."""
    index = next(n for n, i in enumerate(body.expressions) if isinstance(i.unalias(), exp.Window))
    after = body.expressions[index + 1 :]
    return index if any(i.is_star for i in after) else count - len(after)


def _ranking(body: exp.Select, query: Query) -> _Ranking:
    distinct, qualify, item = body.args.get("distinct"), body.args.get("qualify"), _call(body)
    if distinct is not None:
        if item is not None or qualify is not None:
            raise _refused("DISTINCT together with a window function", item or qualify, query)
        return _of_distinct(body, distinct, query)
    if body.args.get("order"):
        raise _refused("ORDER BY", body.args["order"], query)
    (call,) = calls = windows_in(body)
    name = (item.alias if isinstance(item, exp.Alias) else "") if item is not None else None
    function = _RANKINGS[type(call.this)]
    call = _named_window(body, call)
    order = call.args.get("order")
    if item is not None and not name:
        name = function
    return _Ranking(
        function, tuple(call.args.get("partition_by") or ()), tuple(order.expressions) if order is not None else (),
        calls[0], name,
    )  # fmt: skip


def _named_window(body: exp.Select, call: exp.Window) -> exp.Window:
    """Give the definition of a window that the WINDOW clause names."""
    named = call.args.get("alias")
    definitions = [d for d in body.args.get("windows") or [] if isinstance(d, exp.Window)]
    return next((d for d in definitions if named is not None and d.name == named.name), call)


def _of_distinct(body: exp.Select, distinct: exp.Expr, query: Query) -> _Ranking:
    on, order = distinct.args.get("on"), body.args.get("order")
    terms = tuple(order.expressions) if order is not None else ()
    if on is None:
        if terms:
            raise _refused("ORDER BY", order, query)
        return _Ranking("row_number", (), (), distinct)
    named = {i.alias: i.unalias() for i in body.expressions if isinstance(i, exp.Alias)}
    keys = [_resolved(k, body, named) for k in (on.expressions if isinstance(on, exp.Tuple) else [on.unnest()])]
    texts = {k.sql() for k in keys}
    resolved = [exp.Ordered(**{**o.args, "this": _resolved(o.this, body, named)}) for o in terms]
    leading = [o for n, o in enumerate(resolved) if all(p.this.sql() in texts for p in resolved[: n + 1])]
    rest = resolved[len(leading) :]
    if rest and {o.this.sql() for o in leading} != texts:
        raise SQLSyntaxError(
            "SELECT DISTINCT ON expressions must match initial ORDER BY expressions",
            position=position_of(keys[0], query),
        )
    return _Ranking("row_number", tuple(keys), tuple(rest), distinct)


def _resolved(node: exp.Expr, body: exp.Select, named: dict[str, exp.Expr]) -> exp.Expr:
    """Look up what an ordinal or an output's name stands for."""
    if isinstance(node, exp.Literal) and node.is_int and 1 <= int(node.this) <= len(body.expressions):
        item: exp.Expr = body.expressions[int(node.this) - 1]
        return item.unalias().copy()
    if isinstance(node, exp.Column) and not node.table and node.name in named:
        return named[node.name].copy()
    return node.unnest().copy()


def _refused(what: str, node: exp.Expr | None, query: Query) -> FeatureNotSupported:
    return FeatureNotSupported(
        f"{what} cannot be kept in append mode",
        hint=f"write one ranking with its bound around it: {_WRITE}; or use EMIT UPDATE",
        position=position_of(node, query) if node is not None else None,
    )


def _is_arrival(node: exp.Expr) -> bool:
    return isinstance(node, exp.Anonymous) and str(node.this).lower() == "proctime"


# ---- the bound ----


def _bound(condition: exp.Expr, is_rank: object) -> tuple[int, bool] | None:
    """Read ``rn <= 3`` and the like: the bound, and whether it says all that the condition says."""
    assert callable(is_rank)
    if isinstance(condition, exp.Between) and is_rank(condition.this):
        high = condition.args["high"]
        return (int(high.this), False) if _whole(high) else None
    if not isinstance(condition, exp.Binary):
        return None
    for rank, number, kinds in (
        (condition.this, condition.expression, _CEILING),
        (condition.expression, condition.this, _FLOOR),
    ):
        if is_rank(rank.unnest()) and _whole(number) and type(condition) in kinds:
            bound = int(number.this) + kinds[type(condition)]
            return bound, not isinstance(condition, exp.EQ) or bound == 1
    return None


def _whole(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and node.is_int


def _take_bound(above: exp.Select, name: str, alias: str) -> int | None:
    """Take the bound of a rank out of a query's WHERE, in place; None where it has none."""
    where = above.args.get("where")
    if where is None:
        return None

    def is_rank(node: exp.Expr) -> bool:
        return isinstance(node, exp.Column) and node.name == name and node.table in ("", alias)

    found, rest = None, []
    for condition in conjuncts(where.this):
        bound = _bound(condition, is_rank)
        if bound is None or not bound[1]:
            rest.append(condition.copy())
        if bound is not None:
            found = bound[0] if found is None else min(found, bound[0])
    above.set("where", exp.Where(this=exp.and_(*rest, copy=False)) if rest else None)
    return found


def _bound_of_qualify(body: exp.Select, call: exp.Expr) -> tuple[int, bool] | None:
    """Read QUALIFY as the bound of the rank that `call` gives, also by its name in the SELECT list."""
    item = _call(body)
    name = item.alias if isinstance(item, exp.Alias) else None

    def is_rank(node: exp.Expr) -> bool:
        return node is call or (isinstance(node, exp.Column) and node.name == name)

    return _bound(body.args["qualify"].this.unnest(), is_rank)


# ---- when rows are final ----


def _rank(
    origin: Inner, ranking: _Ranking, keys: tuple[str, ...], count: int | None, query: Query, sources: Sources
) -> Rank | None:
    """Find when a row is final, and how long its key must be remembered; None where each row has a number of its own then."""
    times = dict(origin.times)
    timed = [k for k in keys if k in times]
    names = {c.name: c.type for c in origin.columns}
    ends = [k for k in timed if "window_end" in (k, _source_name(ranking, k))]
    forget = next(iter([*ends, *timed]), None)
    order, first, number = [], None, 0
    for term in ranking.order:
        if _is_arrival(term.this):
            order.append("__seq DESC" if term.args.get("desc") else "__seq")
            first = first or ("__seq", bool(term.args.get("desc")))
            continue
        column, desc = f"__o{number}", bool(term.args.get("desc"))
        number += 1
        nulls = "FIRST" if term.args.get("nulls_first") else "LAST"
        order.append(f"{quoted(column)} {'DESC' if desc else 'ASC'} NULLS {nulls}")
        first = first or (column, desc)
    assert all(name in names for name in keys)
    when, time = When.CLOSE, forget
    plain = ranking.function == "row_number"
    if plain and (first is None or first == ("__seq", False)):
        when, order = When.ARRIVAL, []
    elif plain and first is not None and first[0] in times and not first[1]:
        when, time = When.TIME, first[0]
    if when is When.CLOSE and forget is None:
        if first is not None and (first == ("__seq", False) or (first[0] in times and not first[1])):
            return None
        raise _never_final(origin, ranking, query)
    if count is None and when is not When.CLOSE:
        return None
    if count is not None and when is not When.CLOSE and count > sources.limits.rank_rows_max:
        raise exceeded(sources.limits, "rank_rows_max", f"the bound of {ranking.function}()")
    bounds = {
        When.ARRIVAL: origin.times,
        When.TIME: tuple(t for t in origin.times if t[0] == time),
        When.CLOSE: tuple(t for t in origin.times if t[0] in timed),
    }[when]
    # what is shown under a name of its own has the same bound as the hidden column made from it
    same = {t[0] for t in bounds}
    shown = {_source_name(ranking, k) for k in same} | same
    kept = tuple(t for t in origin.times if t[0] in shown)
    ttl = query.state_ttl.ttl_us if query.state_ttl is not None and when is not When.CLOSE and forget is None else None
    axis = time if when is When.TIME else next((n for n, _ in origin.times), None)
    texts = ", ".join(o.sql("postgres") for o in ranking.order) if when is not When.ARRIVAL else "arrival"
    named = {k: _source_name(ranking, k) or k for k in (time, forget) if k is not None}
    return Rank(
        origin.columns, kept, origin, keys, tuple(order), ranking.function, count, when, time, forget, (), "", texts,
        named.get(time or "", ""), named.get(forget or "", ""), ttl, axis if ttl is not None else None,
    )  # fmt: skip


def _source_name(ranking: _Ranking, hidden: str) -> str:
    """Give the name of the column that a hidden key or term of the order is."""
    terms = [o.this for o in ranking.order if not _is_arrival(o.this)]
    found = {f"__p{n}": k for n, k in enumerate(ranking.keys)} | {f"__o{n}": t for n, t in enumerate(terms)}
    node = found.get(hidden)
    return node.name if isinstance(node, exp.Column) else ""


def _never_final(origin: Inner, ranking: _Ranking, query: Query) -> StreamSQLError:
    known = ", ".join(dict.fromkeys(n for n, _ in origin.times if not n.startswith("__")))
    descending = any(o.args.get("desc") for o in ranking.order)
    hint = "rank the rows of a window: PARTITION BY window_start, k; or use EMIT UPDATE, which takes rows back"
    if known:
        hint = f"ORDER BY {known.split(', ')[0]} for the first row of each key; {hint}"
    return FeatureNotSupported(
        f"{ranking.function}() in this order never has a final row in append mode",
        detail=f"a row that is still to come can come {'after' if descending else 'before'} all others; "
        + (f"a watermark is known of {known}" if known else "no watermark is known of any column"),
        hint=hint,
        position=position_of(ranking.node, query),
    )
