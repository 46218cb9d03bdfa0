"""``FROM TUMBLE(t, ts, size)`` and its kin, rewritten to a window function in GROUP BY.

::

    SELECT window_start, count(*) FROM TUMBLE(t, ts, '1h') GROUP BY window_start, window_end
    SELECT window_start, count(*) FROM t GROUP BY window_start, window_end, window(ts, '1h')
"""

from __future__ import annotations

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, UndefinedFunction
from streamsql.sql.parse import position_of
from streamsql.sql.statements import Statement

WINDOW_COLUMNS = ("window_start", "window_end")

# table function -> (its parameters after the table, by Flink's names; the window function; that one's names for them)
_FUNCTIONS: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "cumulate": (("timecol", "step", "size"), "cumulate_window", ("time", "step", "size")),
    "hop": (("timecol", "slide", "size"), "window", ("time", "slide", "size")),
    "session": (("timecol", "gap"), "session_window", ("time", "gap")),
    "tumble": (("timecol", "size"), "window", ("time", "size")),
}
_USAGE = {
    "cumulate": "CUMULATE(stream, time, step, size)",
    "hop": "HOP(stream, time, slide, size)",
    "session": "SESSION(stream, time, gap)",
    "tumble": "TUMBLE(stream, time, size)",
}


def without_window_tables(tree: exp.Expr, statement: Statement) -> None:
    """Rewrite the window table functions of a tree, in place. Raises StreamSQLError with a position."""
    for select in list(tree.find_all(exp.Select)):
        table = select.args["from_"].this if select.args.get("from_") is not None else None
        name = _name(table)
        if isinstance(table, exp.Table) and name is not None:
            _rewrite(select, table, name, statement)


def window_relation(table: exp.Table) -> exp.Column | None:
    """Give the argument of a window table function that names the relation; None for any other item of FROM."""
    if _name(table) is None:
        return None
    given = {
        a.this.name.lower(): a.expression for a in table.this.expressions if isinstance(a, (exp.Kwarg, exp.PropertyEQ))
    }
    first = given.get("data") or next(iter(table.this.expressions), None)
    return first if isinstance(first, exp.Column) else None


def _name(table: exp.Expr | None) -> str | None:
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Anonymous):
        return None
    name = str(table.this.this).lower()
    return name if name in _FUNCTIONS else None


def _rewrite(select: exp.Select, table: exp.Table, name: str, statement: Statement) -> None:
    parameters, function, names = _FUNCTIONS[name]
    position = position_of(table, statement)
    relation, *arguments = _by_place(table.this.expressions, ("data", *parameters), name, position)
    if not isinstance(relation, exp.Column) or len(relation.parts) > 2:
        raise UndefinedFunction(
            f"the first argument of {name}() is the name of a stream", hint=f"write {_USAGE[name]}", position=position
        )
    call = exp.Anonymous(this=function, expressions=[arguments[0]])
    for parameter, value in zip(names[1:], arguments[1:], strict=False):
        call.append("expressions", exp.Kwarg(this=exp.var(parameter), expression=value))
    for extra in arguments[len(names) :]:
        # RisingWave's and Flink's last argument, or one by name
        named = extra if isinstance(extra, exp.Kwarg) else exp.Kwarg(this=exp.var("offset"), expression=extra)
        call.append("expressions", named)
    _group_by(select, call, table, name, statement)
    made = exp.Table(this=relation.this, db=relation.args.get("table"), alias=table.args.get("alias"))
    table.replace(made)


def _by_place(arguments: list[exp.Expr], names: tuple[str, ...], function: str, position: int | None) -> list[exp.Expr]:
    """Give the arguments in the order of `names`, then those that have no place there."""
    found: dict[str, exp.Expr] = {}
    others: list[exp.Expr] = []
    for place, argument in enumerate(arguments):
        named = isinstance(argument, (exp.Kwarg, exp.PropertyEQ))
        key = argument.this.name.lower() if named else names[place] if place < len(names) else ""
        if key in names and key not in found:
            found[key] = argument.expression if named else argument
        elif named:
            others.append(exp.Kwarg(this=exp.var(key), expression=argument.expression))
        else:
            others.append(argument)
    plain = [o for o in others if not isinstance(o, exp.Kwarg)]
    if len(found) < len(names) or len(plain) > 1:
        raise UndefinedFunction(
            f"{function}() takes {len(names)} arguments, not {len(arguments)}",
            hint=f"write {_USAGE[function]}",
            position=position,
        )
    return [*(found[n] for n in names), *others]


def _group_by(select: exp.Select, call: exp.Anonymous, table: exp.Table, name: str, statement: Statement) -> None:
    """Put the call among the keys, and take the table's name off the window's columns."""
    for column in select.find_all(exp.Column):
        if column.name in WINDOW_COLUMNS and column.table and column.table == table.alias:
            column.set("table", None)
    group = select.args.get("group")
    columns = group.find_all(exp.Column) if group is not None else ()
    items = {i.alias: i.this for i in select.expressions if isinstance(i, exp.Alias)}
    keys = [items.get(c.name, c) if not c.table else c for c in columns]
    keys += [
        select.expressions[int(n.this) - 1].unalias()
        for n in (group.expressions if group is not None else ())
        if isinstance(n, exp.Literal) and n.is_int and 0 < int(n.this) <= len(select.expressions)
    ]
    if group is None or not any(isinstance(k, exp.Column) and k.name in WINDOW_COLUMNS for k in keys):
        raise FeatureNotSupported(
            f"{name}() needs its window in GROUP BY",
            hint="GROUP BY window_start, window_end and your keys",
            position=position_of(table, statement),
        )
    group.append("expressions", call)
