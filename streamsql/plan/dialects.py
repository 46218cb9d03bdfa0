"""What other systems call things that there are here under another name, rewritten before anything else looks at a query.

::

    SELECT TUMBLE_START(ts, INTERVAL '1' HOUR), count(*) FROM s GROUP BY TUMBLE(ts, INTERVAL '1' HOUR)     (Flink)
    SELECT window_start, count(*) FROM s GROUP BY window(ts, INTERVAL '1' HOUR)

    first_value(x ORDER BY ts), collect_list(x)      first(x ORDER BY ts), list(x) FILTER (WHERE x IS NOT NULL)
    last(x IGNORE NULLS), last(x) IGNORE NULLS       last(x) FILTER (WHERE x IS NOT NULL)

`CALLS` are the functions. A column keeps the name that it would have had.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from streamsql.base.errors import SQLSyntaxError
from streamsql.plan.aggregates import is_aggregate
from streamsql.plan.windows import is_window
from streamsql.plan.windows.tables import WINDOW_COLUMNS, without_window_tables
from streamsql.sql.parse import position_of
from streamsql.sql.statements import Statement

# Flink's group windows -> the window function, and what it calls their arguments; one more is the offset
_WINDOWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cumulate": ("cumulate_window", ("time", "step", "size")),
    "hop": ("window", ("time", "slide", "size")),
    "session": ("session_window", ("time", "gap")),
    "tumble": ("window", ("time", "size")),
}
# what is asked of a window: TUMBLE_START and its kin
_PARTS = ("start", "end", "rowtime")
_SPARK = {"start": "window_start", "end": "window_end"}


def _present(call: exp.Expr, argument: exp.Expr) -> exp.Expr:
    """Let an aggregate see only the rows whose argument is not NULL."""
    value = argument.this if isinstance(argument, exp.Order) else argument
    present = exp.Is(this=value.copy(), expression=exp.null()).not_()
    return exp.Filter(this=call, expression=exp.Where(this=present))


def _call(name: str, *arguments: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=list(arguments))


def _without_nulls(name: str, *, distinct: bool = False) -> Callable[..., exp.Expr]:
    def made(value: exp.Expr) -> exp.Expr:
        return _present(_call(name, exp.Distinct(expressions=[value]) if distinct else value), value)

    return made


# name -> what makes the call that it stands for from its arguments
CALLS: dict[str, tuple[int, Callable[..., exp.Expr]]] = {
    "collect_list": (1, _without_nulls("list")),
    "collect_set": (1, _without_nulls("list", distinct=True)),
    "count_distinct": (1, lambda value: exp.Count(this=exp.Distinct(expressions=[value]))),
    "earliest_by_offset": (1, _without_nulls("first")),
    "latest_by_offset": (1, _without_nulls("last")),
    "mz_now": (0, exp.CurrentTimestamp),
    "percentile_approx": (2, lambda value, share: _call("approx_quantile", value, share)),
    "topk": (2, lambda value, count: exp.Max(this=value, expressions=[count])),
}
_VALUES: dict[type[exp.Expr], str] = {exp.FirstValue: "first", exp.LastValue: "last"}


def as_our_own(tree: exp.Expr, statement: Statement) -> None:
    """Rewrite a tree in place: window table functions as well. Raises StreamSQLError with a position."""
    for select in list(tree.find_all(exp.Select)):
        _group_windows(select, statement)
        _struct_of_window(select)
    without_window_tables(tree, statement)
    for nulls in tuple(tree.find_all(exp.IgnoreNulls, exp.RespectNulls)):
        _nulls_of_aggregate(nulls)
    for node in list(tree.find_all(exp.Anonymous, exp.FirstValue, exp.LastValue)):
        made = _renamed(node)
        if made is not None:
            _put(made[0], made[1])


def _renamed(node: exp.Func) -> tuple[exp.Func, exp.Expr] | None:
    """Give what is replaced, and by what; None for what has a name of ours."""
    if isinstance(node, exp.Anonymous):
        count, make = CALLS.get(str(node.this).lower(), (-1, exp.Null))
        arguments = [a.copy() for a in node.expressions]
        return (node, _with_filter(node, make(*arguments))) if len(arguments) == count else None
    around = node.parent.parent if isinstance(node.parent, exp.Filter) else node.parent
    if isinstance(around, (exp.Window, exp.IgnoreNulls, exp.RespectNulls)):
        return None
    return node, _call(_VALUES[type(node)], node.this.copy())


def _with_filter(node: exp.Expr, made: exp.Expr) -> exp.Expr:
    """Merge a condition of what is made into the FILTER that stands around the call."""
    around = node.parent
    if not isinstance(around, exp.Filter) or not isinstance(made, exp.Filter):
        return made
    condition = around.expression.this
    condition.replace(exp.and_(condition.copy(), made.expression.this.copy()))
    inner: exp.Expr = made.this
    return inner


def _nulls_of_aggregate(nulls: exp.Expr) -> None:
    """Write IGNORE NULLS of an aggregate as its FILTER. What is of a window function, or of no aggregate, stays."""
    above, below = nulls.parent, nulls.this
    if above is not None and _aggregates(above):  # first(x IGNORE NULLS) FILTER (...)
        call, outermost = above, above
    else:  # first(x) [FILTER (...)] IGNORE NULLS
        call, outermost = (below.this if isinstance(below, exp.Filter) else below), nulls
    around = outermost.parent.parent if isinstance(outermost.parent, exp.Filter) else outermost.parent
    if isinstance(around, exp.Window) or not _aggregates(call):
        return
    nulls.replace(below)
    if isinstance(nulls, exp.IgnoreNulls):
        value = call.this if isinstance(call.this, exp.Expr) else call.expressions[0]
        call.replace(_with_filter(call, _present(call.copy(), value)))


def _aggregates(node: exp.Expr) -> bool:
    bare = node.copy()  # DuckDB's names are told from SQL, and it has no IGNORE NULLS here
    for nulls in list(bare.find_all(exp.IgnoreNulls, exp.RespectNulls)):
        nulls.replace(nulls.this)
    return isinstance(bare, (exp.FirstValue, exp.LastValue)) or is_aggregate(bare)


def _put(node: exp.Func, made: exp.Expr) -> None:
    """Put an expression in the place of another, at its place in the text and under its name."""
    made.meta.update(node.meta)
    item = node.parent if isinstance(node.parent, exp.Filter) else node
    listed = isinstance(item.parent, exp.Select) and item.arg_key == "expressions"
    name = str(node.this).lower() if isinstance(node, exp.Anonymous) else node.sql_name().lower()
    if listed and item is node:
        made = exp.alias_(made, name)
    node.replace(made)
    if listed and item is not node:
        item.replace(exp.alias_(item.copy(), name))


# ---- group windows ----


def _group_windows(select: exp.Select, statement: Statement) -> None:
    """Rewrite TUMBLE(ts, size) in GROUP BY, and TUMBLE_START(ts, size) elsewhere in the SELECT."""
    group = select.args.get("group")
    known = {}
    for call in list(group.find_all(exp.Anonymous)) if group is not None else []:
        name = str(call.this).lower()
        if name in _WINDOWS and call.find_ancestor(exp.Select) is select:
            known[name] = [a.sql() for a in call.expressions]
            call.replace(_window_call(call, name))
    for call in list(select.find_all(exp.Anonymous)):
        name, _, part = str(call.this).lower().rpartition("_")
        if name not in _WINDOWS or part not in _PARTS or call.find_ancestor(exp.Select) is not select:
            continue
        if known.get(name) != [a.sql() for a in call.expressions]:
            raise SQLSyntaxError(
                f"{name}_{part}() is of a window in GROUP BY with the same arguments",
                hint=f"GROUP BY {name}({', '.join(a.sql('postgres') for a in call.expressions)}), or write "
                f"GROUP BY window(time, size) and select window_start and window_end",
                position=position_of(call, statement),
            )
        made: exp.Expr = exp.column("window_start" if part == "start" else "window_end")
        if part == "rowtime":  # the last instant that is in the window, to Flink's precision
            length = exp.Interval(this=exp.Literal.string("1"), unit=exp.var("MILLISECOND"))
            made = exp.paren(exp.Sub(this=made, expression=length))
        made.meta.update(call.meta)
        if call.parent is select and call.arg_key == "expressions":
            made = exp.alias_(made, str(call.this).lower())
        call.replace(made)


def _window_call(call: exp.Anonymous, name: str) -> exp.Anonymous:
    function, names = _WINDOWS[name]
    time, *others = (a.copy() for a in call.expressions) if call.expressions else (exp.null(),)
    made = exp.Anonymous(this=function, expressions=[time])
    for parameter, value in zip([*names[1:], "offset"], others, strict=False):
        plain = not isinstance(value, exp.Kwarg)
        made.append("expressions", exp.Kwarg(this=exp.var(parameter), expression=value) if plain else value)
    made.meta.update(call.meta)
    return made


def _struct_of_window(select: exp.Select) -> None:
    """Rewrite Spark's ``window.start`` and ``window.end``."""
    group = select.args.get("group")
    if group is None or not any(is_window(n) for n in group.find_all(exp.Anonymous)):
        return
    relations = [j.this for j in select.args.get("joins") or []]
    relations += [select.args["from_"].this] if select.args.get("from_") is not None else []
    if any(r.alias_or_name == "window" for r in relations):
        return
    for column in list(select.find_all(exp.Column)):
        part = _SPARK.get(column.name.lower()) if column.table.lower() == "window" else None
        if part is None or column.find_ancestor(exp.Select) is not select:
            continue
        assert part in WINDOW_COLUMNS
        made: exp.Expr = exp.column(part)
        made.meta.update(column.meta)
        if column.parent is select and column.arg_key == "expressions":
            made = exp.alias_(made, column.name)
        column.replace(made)
