"""Sessions in an ad-hoc query: all rows are there, so SQL's window functions find them.

The query's source becomes a subquery of the same name that gives each row its session's bounds.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlglot
from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, StreamSQLError
from streamsql.plan.nodes import Window
from streamsql.plan.windows.tables import WINDOW_COLUMNS
from streamsql.sql.parse import position_of
from streamsql.sql.statements import Statement

START, END = "__session_start", "__session_end"


def join_sessions(
    select: exp.Select,
    call: exp.Anonymous,
    window: Window,
    time_us: str,
    type_of: Callable[[exp.Expr], str],
    statement: Statement,
) -> None:
    """Give a SELECT's rows the columns `START` and `END`, and group by both in place of the call."""
    source = select.args["from_"].this
    if select.args.get("joins") or select.args.get("laterals") or not source.alias_or_name:
        raise FeatureNotSupported(
            "session_window() over a join is not supported",
            hint="put the join into a subquery, as in FROM (SELECT ... JOIN ...) AS t",
            position=position_of(call, statement),
        )
    group = select.args["group"]
    keys = [_key(k, select, type_of) for k in group.expressions if k is not call]
    partition = "".join(f", {k.sql('duckdb')}" for k in keys if not _is_bound(k))
    of_key = f"PARTITION BY 1{partition}"
    of_session = f"{of_key}, __session"
    levels = (
        f"SELECT *, coalesce({time_us} >= max({time_us}) OVER ({of_key} ORDER BY {time_us} "
        f"ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) + {window.size_us}, true)::INT AS __first",
        # rows of one time are peers, so that all of them belong to the session that one of them begins
        f"SELECT *, sum(__first) OVER ({of_key} ORDER BY {time_us}) AS __session",
        f"SELECT *, min({time_us}) OVER ({of_session}) AS {START}, "
        f"max({time_us}) OVER ({of_session}) + {window.size_us} AS {END}",
    )
    made = source.copy()
    where = select.args.pop("where", None)
    timed = sqlglot.parse_one(f"isfinite({window.time_sql})", read="duckdb")
    for place, level in enumerate(levels):
        inner = sqlglot.parse_one(level, read="duckdb")
        assert isinstance(inner, exp.Select)
        inner = inner.from_(made)
        if place == 0:
            inner = inner.where(timed, *([where.this] if where is not None else []))
        made = exp.Subquery(this=inner, alias=exp.TableAlias(this=exp.to_identifier(source.alias_or_name, quoted=True)))
    select.args["from_"].set("this", made)
    call.replace(exp.column(START))
    group.append("expressions", exp.column(END))


def _is_bound(key: exp.Expr) -> bool:
    return isinstance(key, exp.Column) and not key.table and key.name in WINDOW_COLUMNS


def _key(entry: exp.Expr, select: exp.Select, type_of: Callable[[exp.Expr], str]) -> exp.Expr:
    """Look an ordinal or an output's name up; a name that is both is the source's column, as in Postgres."""
    items = select.expressions
    if isinstance(entry, exp.Literal) and entry.is_int and 0 < int(entry.this) <= len(items):
        ordinal: exp.Expr = items[int(entry.this) - 1].unalias()
        return ordinal
    named: list[exp.Expr] = [i.this for i in items if isinstance(i, exp.Alias) and i.alias == entry.name]
    if isinstance(entry, exp.Column) and not entry.table and named and not _is_bound(entry):
        try:
            type_of(entry)
        except StreamSQLError:
            return named[0]
    return entry
