"""``FROM TUMBLE(t, ts, size)`` and its kin, rewritten to a window function: in GROUP BY, or in FROM where nothing groups by it.

::

    SELECT window_start, count(*) FROM TUMBLE(t, ts, '1h') GROUP BY window_start, window_end
    SELECT window_start, count(*) FROM t GROUP BY window_start, window_end, window(ts, '1h')

    SELECT * FROM TUMBLE(t, ts, '1h') AS a JOIN ...
    SELECT * FROM (SELECT t.*, w.window_start, w.window_end FROM t CROSS JOIN window(t.ts, '1h') AS w) AS a JOIN ...

Sessions are those of the keys of PARTITION BY; where there is none, those of the keys of GROUP BY, or of all rows together. So
where PARTITION BY and GROUP BY have different keys, the rows with their sessions are grouped (`plan.windows.session_rows`).
"""

from __future__ import annotations

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, SQLSyntaxError, UndefinedFunction
from streamsql.sql.parse import position_of
from streamsql.sql.statements import Statement
from streamsql.sql.trees import start_of

WINDOW_COLUMNS = ("window_start", "window_end")
PARTITION = "partition_by"
_ROWS = "windows"

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
    "session": "SESSION(stream [PARTITION BY key], time, gap)",
    "tumble": "TUMBLE(stream, time, size)",
}


def without_window_tables(tree: exp.Expr, statement: Statement) -> None:
    """Rewrite the window table functions of a tree, in place. Raises StreamSQLError with a position."""
    for table in list(tree.find_all(exp.Table)):
        name, select = _name(table), table.find_ancestor(exp.Select)
        if name is not None and select is not None:
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
    partition = next((a for a in call.expressions if isinstance(a, exp.Kwarg) and a.this.name == PARTITION), None)
    if partition is not None and name != "session":
        raise FeatureNotSupported(
            f"{name}() does not part the rows by keys",
            detail="the windows of a row do not depend on other rows",
            hint="leave PARTITION BY out",
            position=position,
        )
    alone = isinstance(table.parent, exp.From) and not select.args.get("joins") and not select.args.get("laterals")
    made = exp.Table(this=relation.this, db=relation.args.get("table"), alias=table.args.get("alias"))
    if alone and _grouped(select, table) and (partition is None or _same_keys(select, table, partition.expression)):
        if partition is not None:
            partition.pop()
        _group_by(select, call, table)
        table.replace(made)
        return
    if name == "session":
        call.meta.update(table.this.meta)
    alias = table.args.get("alias") or exp.TableAlias(this=relation.this.copy())
    table.replace(exp.Subquery(this=_rows(made, call), alias=alias.copy(), joins=table.args.get("joins")))


def _rows(table: exp.Table, call: exp.Anonymous) -> exp.Select:
    """Give the query of a relation's rows with their windows."""
    name = table.this.copy()
    table.set("alias", None)
    windows = exp.Table(this=call, alias=exp.TableAlias(this=exp.to_identifier(_ROWS, quoted=True)))
    items = [
        exp.Column(this=exp.Star(), table=name),
        *(exp.column(c, table=_ROWS, quoted=True) for c in WINDOW_COLUMNS),
    ]
    join = exp.Join(this=windows, kind="CROSS")
    return exp.Select(expressions=items, from_=exp.From(this=table), joins=[join])


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
    given = {o.this.name for o in others if isinstance(o, exp.Kwarg)}
    if len(found) < len(names) or len(plain) > 1:
        raise UndefinedFunction(
            f"{function}() takes {len(names)} arguments, not {len(arguments) - (PARTITION in given)}",
            hint=f"write {_USAGE[function]}",
            position=position,
        )
    return [*(found[n] for n in names), *others]


def keys_of(partition: exp.Expr) -> list[exp.Expr]:
    """Give what a PARTITION BY names: nothing, a key, or a list of them. Raises SQLSyntaxError."""
    bare = partition.unnest()
    keys = list(bare.expressions) if isinstance(bare, exp.Tuple) else [bare]
    named = next((key for key in keys if isinstance(key, exp.Alias)), None)
    if named is not None:
        start = start_of(named)
        raise SQLSyntaxError("a key of PARTITION BY has no alias", position=None if start is None else start + 1)
    return keys


def _same_keys(select: exp.Select, table: exp.Table, partition: exp.Expr) -> bool:
    """Tell whether a query groups by its window and the keys of PARTITION BY, and by nothing else."""
    group = select.args["group"]
    if any(group.args.get(sets) for sets in ("rollup", "cube", "grouping_sets", "all")):
        return False
    wanted = {_bare(k, table).sql() for k in keys_of(partition)}
    return {_bare(k, table).sql() for k in _keys(select) if k.name not in WINDOW_COLUMNS} == wanted


def _bare(key: exp.Expr, table: exp.Table) -> exp.Expr:
    def without(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and node.table in ("", table.alias):
            return exp.column(node.name, quoted=True)
        return node

    return key.transform(without)


def _keys(select: exp.Select) -> list[exp.Expr]:
    """Give the keys of GROUP BY, with ordinals and names of outputs looked up."""
    items = {i.alias: i.this for i in select.expressions if isinstance(i, exp.Alias)}
    found: list[exp.Expr] = []
    for key in select.args["group"].expressions:
        if isinstance(key, exp.Literal) and key.is_int and 0 < int(key.this) <= len(select.expressions):
            found.append(select.expressions[int(key.this) - 1].unalias())
        elif isinstance(key, exp.Column) and not key.table and key.name in items:
            found.append(items[key.name])
        else:
            found.append(key)
    return found


def _grouped(select: exp.Select, table: exp.Table) -> bool:
    """Tell whether a query groups by the window of its table function."""
    group = select.args.get("group")
    columns = group.find_all(exp.Column) if group is not None else ()
    items = {i.alias: i.this for i in select.expressions if isinstance(i, exp.Alias)}
    keys = [items.get(c.name, c) if not c.table else c for c in columns]
    keys += [
        select.expressions[int(n.this) - 1].unalias()
        for n in (group.expressions if group is not None else ())
        if isinstance(n, exp.Literal) and n.is_int and 0 < int(n.this) <= len(select.expressions)
    ]
    names = ("", table.alias)
    return any(isinstance(k, exp.Column) and k.name in WINDOW_COLUMNS and k.table in names for k in keys)


def _group_by(select: exp.Select, call: exp.Anonymous, table: exp.Table) -> None:
    """Put the call among the keys, and take the table's name off the window's columns."""
    for column in select.find_all(exp.Column):
        if column.name in WINDOW_COLUMNS and column.table and column.table == table.alias:
            column.set("table", None)
    select.args["group"].append("expressions", call)
