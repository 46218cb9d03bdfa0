"""Rows with their sessions: ``FROM s, session_window(s.ts, gap, partition_by => s.k) AS w``.

SESSION(s PARTITION BY k, ts, gap) without GROUP BY means the same (`plan.windows.tables`).

A row alone does not tell its session. Where all rows are there, ad hoc and in update mode, SQL's window functions find them.
In append mode rows come out when their session is closed: it is a group with the list of its rows, which then is unnested::

    FROM (SELECT r.row.ts, r.row.k, g.window_start, g.window_end
          FROM (SELECT window_start, window_end, list({ts, k}) AS rows FROM s GROUP BY session_window(ts, gap), k) AS g,
               unnest(g.rows) AS r(row)) AS s

Either takes the place of the item of FROM, whose name it has, with the session's bounds as two columns more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported
from streamsql.base.limits import Limits
from streamsql.catalog.objects import quoted
from streamsql.plan import stages
from streamsql.plan.windows import bind_window, check_time_type, is_window
from streamsql.plan.windows.tables import PARTITION, WINDOW_COLUMNS, keys_of
from streamsql.sql.parse import position_of
from streamsql.sql.statements import Statement


@dataclass(frozen=True, slots=True)
class SessionRows:
    """A call of session_window() in FROM: the item whose rows it parts, and the keys."""

    select: exp.Select
    join: exp.Join
    call: exp.Anonymous
    keys: tuple[exp.Expr, ...]
    statement: Statement

    @property
    def item(self) -> exp.Expr:
        found: exp.Expr = self.select.args["from_"].this
        return found

    @property
    def position(self) -> int | None:
        return position_of(self.call, self.statement)

    def put(self, made: exp.Select, columns: Sequence[str]) -> None:
        """Let a query of the rows, with these columns and the bounds, stand in FROM."""
        name, windows = self.item.alias_or_name, self.join.this.alias or str(self.call.this).lower()
        select = self.select
        alias = exp.TableAlias(this=exp.to_identifier(name, quoted=True))
        select.args["from_"].set("this", exp.Subquery(this=made, alias=alias))
        self.join.pop()
        for item in list(select.expressions):
            if isinstance(item, exp.Column) and isinstance(item.this, exp.Star) and item.table in (name, windows):
                shown = columns if item.table == name else WINDOW_COLUMNS
                place = select.expressions.index(item)
                written = [exp.column(c, table=name, quoted=True) for c in shown]
                select.set("expressions", [*select.expressions[:place], *written, *select.expressions[place + 1 :]])
        for column in select.find_all(exp.Column):
            if column.table == windows and column.name in WINDOW_COLUMNS:
                column.set("table", exp.to_identifier(name, quoted=True))


def sessions_in(select: exp.Select, statement: Statement) -> SessionRows | None:
    """Find a call of session_window() in FROM. Raises FeatureNotSupported where it is not over one item before it."""
    joins = select.args.get("joins") or []
    for place, join in enumerate(joins):
        body = join.this.this if isinstance(join.this, (exp.Table, exp.Lateral)) else None
        if body is None or not is_window(body) or str(body.this).lower() != "session_window":
            continue
        if place or join.side or join.args.get("on") is not None or not select.args["from_"].this.alias_or_name:
            raise FeatureNotSupported(
                "session_window() in FROM is not over one relation",
                detail="which rows are in one session is known by the rows of its key",
                hint="write FROM SESSION(s PARTITION BY key, time, gap), or put a join into a subquery: "
                "FROM (SELECT ...) AS s, session_window(s.time, gap)",
                position=position_of(body, statement),
            )
        call = body.copy()
        given = [a for a in call.expressions if isinstance(a, (exp.Kwarg, exp.PropertyEQ)) and a.this.name == PARTITION]
        keys = tuple(k for a in given for k in keys_of(a.expression))
        for argument in given:
            argument.pop()
        return SessionRows(select, join, call, keys, statement)
    return None


def rows_of_sessions(
    found: SessionRows, columns: Sequence[str], type_of: Callable[[exp.Expr], str], limits: Limits
) -> None:
    """Let window functions find the sessions, in place; `type_of` gives the DuckDB type of an expression over the item."""
    window = bind_window(found.call, type_of, limits, found.position)
    check_time_type(window, found.position)
    time, gap = window.time_sql, window.size_us
    shown = ", ".join(f"{quoted(found.item.alias_or_name)}.{quoted(c)}" for c in columns)
    # a key that is a column stays one, so that the keys which an epoch touches can be told
    names = [quoted(k.name) if isinstance(k, exp.Column) else f"__key{i}" for i, k in enumerate(found.keys)]
    keys = "".join(
        f", {k.sql('duckdb')} AS {n}" for k, n in zip(found.keys, names, strict=True) if not isinstance(k, exp.Column)
    )
    of_key = f"PARTITION BY {', '.join(names)} " if names else ""
    of_session = f"PARTITION BY {', '.join([*names, '__session'])}"
    start, end = f"min(__us) OVER ({of_session})", f"max(__us) OVER ({of_session}) + {gap}"
    bounds = zip(stages.window_bounds(window, start, end), WINDOW_COLUMNS, strict=True)
    levels = (
        f"SELECT {shown}, {stages.time_us(window)} AS __us{keys}",
        f"SELECT *, coalesce(__us >= max(__us) OVER ({of_key}ORDER BY __us ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) "
        f"+ {gap}, true)::INT AS __first",
        # rows of one time are peers, so that all of them belong to the session that one of them begins
        f"SELECT *, sum(__first) OVER ({of_key}ORDER BY __us) AS __session",
        f"SELECT {', '.join(map(quoted, columns))}, {', '.join(f'{sql} AS {name}' for sql, name in bounds)}",
    )
    made, source = exp.Select(), found.item.copy()
    for place, level in enumerate(levels):
        read = sqlglot.parse_one(level, read="duckdb")
        assert isinstance(read, exp.Select)
        made = read.from_(source)
        if not place:
            made = made.where(sqlglot.parse_one(f"isfinite({time})", read="duckdb"))
        source = exp.Subquery(this=made, alias=exp.TableAlias(this=exp.to_identifier(f"__rows{place}", quoted=True)))
    found.put(made, columns)


def lists_of_sessions(found: SessionRows, columns: Sequence[str]) -> None:
    """Let sessions be groups with the lists of their rows, in place."""
    item, name = found.item.copy(), found.item.alias_or_name
    of_item = {c: exp.column(c, table=name, quoted=True) for c in columns}
    row = exp.Struct(
        expressions=[exp.PropertyEQ(this=exp.to_identifier(c, quoted=True), expression=v) for c, v in of_item.items()]
    )
    rows = exp.alias_(exp.Anonymous(this="list", expressions=[row]), "__rows", quoted=True)
    bounds = [exp.column(c) for c in WINDOW_COLUMNS]
    groups = exp.Select(expressions=[*bounds, rows], from_=exp.From(this=item))
    groups.set("group", exp.Group(expressions=[found.call.copy(), *(k.copy() for k in found.keys)]))
    of_row = exp.column("__row", table="__r", quoted=True)
    fields = [
        exp.alias_(
            exp.Anonymous(this="struct_extract", expressions=[of_row.copy(), exp.Literal.string(c)]), c, quoted=True
        )
        for c in columns
    ]
    unnested = exp.Unnest(
        expressions=[exp.column("__rows", table="__g", quoted=True)],
        alias=exp.TableAlias(
            this=exp.to_identifier("__r", quoted=True), columns=[exp.to_identifier("__row", quoted=True)]
        ),
    )
    sessions = exp.Subquery(this=groups, alias=exp.TableAlias(this=exp.to_identifier("__g", quoted=True)))
    shown = [*fields, *(exp.column(c, table="__g", quoted=True) for c in WINDOW_COLUMNS)]
    made = exp.Select(expressions=shown, from_=exp.From(this=sessions), joins=[exp.Join(this=unnested, kind="CROSS")])
    found.put(made, columns)
