"""What depends on each row in FROM, in append mode: unnest, LATERAL, functions that give rows, ``window()``.

::

    FROM s, unnest(s.tags) AS t(tag)                    FROM s LEFT JOIN LATERAL (SELECT ...) AS x ON true
    FROM s, window(s.ts, '1 minute') AS w               SELECT ts, unnest(tags) FROM s

A row gives rows at once and for ever, so this is a query without a state (`ContinuousPlan.laterals`) over what stands before it
in FROM. The rows that a list gives come in its order. Windows have the bounds of their time (`plan.bounds`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, UndefinedColumn
from streamsql.base.types import wire_column
from streamsql.catalog.objects import OutputColumn, TimeBound, quoted
from streamsql.plan.bounds import Bounds, WindowBound, bounds_of
from streamsql.plan.functions import refuse_functions
from streamsql.plan.join_parts import Entry, Joined, declared
from streamsql.plan.nodes import ContinuousPlan, Output, Window
from streamsql.plan.origins import Inner
from streamsql.plan.postgres_operators import apply, note
from streamsql.plan.postgres_types import as_postgres_reads
from streamsql.plan.properties import refuse_volatile
from streamsql.plan.result_types import Columns, ResultTypes
from streamsql.plan.table_functions import as_subqueries
from streamsql.plan.windows import bind_window, check_time_type, is_window, times_wanted
from streamsql.plan.windows.rows import rows_of_windows
from streamsql.plan.windows.tables import WINDOW_COLUMNS
from streamsql.sql.parse import position_of
from streamsql.sql.statements import EmitMode

if TYPE_CHECKING:
    from streamsql.plan.joins import Planner

_NUMBER = "__n"
_LISTS = "unnested"
_USAGE = "FROM s, unnest(s.list) AS t(item), or FROM s LEFT JOIN LATERAL (SELECT ...) AS t ON true"


def is_lateral(item: exp.Expr) -> bool:
    """Tell whether an item of FROM is computed from the rows of those before it."""
    return isinstance(item, (exp.Unnest, exp.Lateral)) or (
        isinstance(item, exp.Table) and not isinstance(item.this, exp.Identifier)
    )


def laterals_as_joins(tree: exp.Select) -> None:
    """Let all that is computed from rows stand among a query's joins, in place: also what its SELECT list unnests."""
    for lateral in tree.args.get("laterals") or []:
        tree.append("joins", exp.Join(this=lateral.copy(), kind="CROSS"))
    tree.set("laterals", None)
    _unnest_in_list(tree)


def _unnest_in_list(tree: exp.Select) -> None:
    """Take ``unnest(x)`` out of a SELECT list into FROM, in place: several of them go in step, as in Postgres."""
    found = [
        n for item in tree.expressions for n in item.find_all(exp.Explode, exp.Unnest)
        if n.find_ancestor(exp.Select) is tree
    ]  # fmt: skip
    if not found or tree.args.get("from_") is None:
        return
    lists = [n.expressions[0] if isinstance(n, exp.Unnest) else n.this for n in found]
    columns = [exp.to_identifier(f"__{_LISTS}{i}", quoted=True) for i in range(len(found))]
    for node, column in zip(found, columns, strict=True):
        made: exp.Expr = exp.column(column.copy(), table=_LISTS)
        if node.parent is tree and node.arg_key == "expressions":
            made = exp.alias_(made, "unnest")
        node.replace(made)
    alias = exp.TableAlias(this=exp.to_identifier(_LISTS), columns=columns)
    unnested = exp.Unnest(expressions=[x.copy() for x in lists], alias=alias)
    unnested.meta.update(found[0].meta)
    tree.append("joins", exp.Join(this=unnested, kind="CROSS"))


def expanded(planner: Planner, left: Joined, join: exp.Join) -> Joined:
    """Give each row so far the rows that an item of FROM computes from it. Raises StreamSQLError."""
    query, item = planner.query, join.this
    position = position_of(item, query) or next((p for n in item.walk() if (p := position_of(n, query))), None)
    if join.method or join.args.get("using") or join.side not in ("", "LEFT") or join.kind in ("SEMI", "ANTI"):
        raise FeatureNotSupported(
            "what is computed from each row can only be joined by CROSS, INNER or LEFT JOIN",
            hint=f"write {_USAGE}",
            position=position,
        )
    lateral = _Lateral(planner, left, item, position)
    planner.check_aliases(left, Joined(left.origin, [Entry(lateral.alias, "", "", "")]), position)
    return lateral.joined(join)


class _Lateral:
    """One such item; `alias` is its name."""

    def __init__(self, planner: Planner, left: Joined, item: exp.Expr, position: int | None) -> None:
        self.planner = planner
        self.query = planner.query
        self.left = Joined(declared(left.origin, times_wanted(planner.tree)), left.entries, left.merged)
        self.position = position
        self.numbered = False
        self.window: Window | None = None
        self.time: exp.Expr = exp.null()
        alias = item.args.get("alias")
        body = item.this if isinstance(item, (exp.Lateral, exp.Table)) else item
        self.names = [c.name for c in alias.columns] if alias is not None else []
        default = body.sql_name().lower() if isinstance(body, exp.Func) else "lateral"
        default = str(body.this).lower() if isinstance(body, exp.Anonymous) else default
        self.alias = alias.name if alias is not None and alias.this is not None else default
        self.body = body

    def joined(self, join: exp.Join) -> Joined:
        body, left = self.body, self.left
        if isinstance(body, exp.Anonymous) and is_window(body):
            relation, types = self._windows(body)
        else:
            relation, types = self._rows(body)
        on = join.args.get("on")
        if on is not None and on != exp.true():
            names = {n for n, _ in types}
            relation += f" WHERE {self._sql(on, names, relation)}"
        entries = [Entry(self.alias, name, f"{self.alias}.{name}", kind) for name, kind in types]
        shown = [*left.entries, *entries]
        needed = [e for e in shown if self.planner.needed(e)]
        outputs = tuple(
            Output(
                f"{e.alias}.{e.name}", f"r.{quoted(e.name)}" if e in entries else f"l.{quoted(e.column)}", e.type
            ).shown
            for e in needed
        )
        how = "LEFT JOIN" if join.side == "LEFT" else "CROSS JOIN"
        origin = left.origin
        plan = ContinuousPlan(
            ", ".join(origin.names), "l", None, None, outputs, EmitMode.APPEND, origin=origin,
            laterals=f" {how} LATERAL (SELECT * FROM {relation}) AS r{' ON true' if join.side == 'LEFT' else ''}",
            lateral_order=(f"r.{_NUMBER}",) if self.numbered else tuple(f"r.{quoted(n)}" for n, _ in types),
            lateral_text=self.body.sql("postgres"), times=self._times(needed, entries),
        )  # fmt: skip
        columns = tuple(OutputColumn(o.name, o.type) for o in outputs)
        made = [Entry(e.alias, e.name, o.name, o.type) for e, o in zip(needed, outputs, strict=True)]
        return Joined(Inner(columns, plan.times, plan), made, left.merged)

    def _times(self, needed: list[Entry], own: list[Entry]) -> tuple[tuple[str, TimeBound], ...]:
        known = dict(self.left.origin.times)
        found: list[tuple[str, TimeBound]] = []
        for entry in needed:
            name, bound = f"{entry.alias}.{entry.name}", known.get(entry.column)
            if entry in own:
                bound = self._bound(entry.name, known)
            if bound is not None:
                found.append((name, bound))
        return tuple(found)

    def _bound(self, name: str, known: dict[str, TimeBound]) -> TimeBound | None:
        if self.window is None:
            return None
        below = bounds_of(self.time, known)
        end = name == WINDOW_COLUMNS[1]
        return None if below is None else Bounds((below, WindowBound(self.window, end=end)))

    # ---- what is computed ----

    def _windows(self, call: exp.Anonymous) -> tuple[str, list[tuple[str, str]]]:
        call = call.copy()
        if call.expressions:
            call.set("expressions", [call.expressions[0].transform(self._of_left), *call.expressions[1:]])
        window = bind_window(call, self._type_of, self.planner.sources.limits, self.position)
        check_time_type(window, self.position)
        self.window, self.time = window, call.expressions[0].copy()
        relation, types = rows_of_windows(window, self.position)
        return f"({relation}) AS w", self._renamed(types)

    def _rows(self, body: exp.Expr) -> tuple[str, list[tuple[str, str]]]:
        if isinstance(body, exp.Unnest):
            relation, types = self._lists(body)
            return relation, types
        tree: exp.Expr = body.this if isinstance(body, exp.Subquery) else exp.Table(this=body.copy())
        if not isinstance(body, exp.Subquery):
            alias = exp.TableAlias(
                this=exp.to_identifier(self.alias, quoted=True),
                columns=[exp.to_identifier(n, quoted=True) for n in self.names],
            )
            tree.set("alias", alias)
            tree = exp.Select(expressions=[exp.Star()], from_=exp.From(this=tree))
        relation = f"({self._checked(tree.copy())}) AS {quoted(self.alias)}"
        if isinstance(body, exp.Subquery) and self.names:
            relation += f"({', '.join(quoted(n) for n in self.names)})"
        return relation, self._described(relation)

    def _lists(self, node: exp.Unnest) -> tuple[str, list[tuple[str, str]]]:
        """Write unnest out, with the number of each element."""
        self.numbered = True
        offset = node.args.get("offset")
        plain = not self.names and len(node.expressions) == 1
        names = [self.alias] if plain else [*self.names, *(f"unnest_{i + 1}" for i in range(len(node.expressions)))]
        tree = exp.Select(expressions=[
            exp.alias_(exp.Anonymous(this="unnest", expressions=[e.copy()]), names[i], quoted=True)
            for i, e in enumerate(node.expressions)
        ])  # fmt: skip
        lengths = [exp.Anonymous(this="len", expressions=[e.copy()]) for e in node.expressions]
        longest: exp.Expr = exp.Anonymous(this="greatest", expressions=[*lengths, exp.Literal.number(0)])
        last = exp.Add(this=longest, expression=exp.Literal.number(1))
        numbers = exp.Anonymous(this="range", expressions=[exp.Literal.number(1), last])
        numbered = exp.alias_(exp.Anonymous(this="unnest", expressions=[numbers]), _NUMBER, quoted=True)
        tree.append("expressions", numbered)
        relation = f"({self._checked(tree)}) AS {quoted(self.alias)}"
        if not offset:
            return relation, [t for t in self._described(relation) if t[0] != _NUMBER]
        given = self.names[len(node.expressions) :]
        name = offset.name if isinstance(offset, exp.Identifier) else given[0] if given else "ordinality"
        relation = f"(SELECT *, {_NUMBER} AS {quoted(name)} FROM {relation}) AS {quoted(self.alias)}"
        return relation, [t for t in self._described(relation) if t[0] != _NUMBER]

    def _renamed(self, types: list[tuple[str, str]]) -> list[tuple[str, str]]:
        if self.names:
            raise FeatureNotSupported(
                "the columns of window() in FROM are window_start and window_end",
                hint=f"leave the names behind {self.alias} out, and name them in the SELECT list",
                position=self.position,
            )
        return types

    def _described(self, relation: str) -> list[tuple[str, str]]:
        shape = self.left.origin.shape
        sql = f"SELECT r.* FROM {shape} AS l CROSS JOIN LATERAL (SELECT * FROM {relation}) AS r"
        return [(c.name, c.type) for c in self.planner.sources.describe(sql)]

    def _type_of(self, node: exp.Expr) -> str:
        return self.planner.sources.describe(f"SELECT {node.sql('duckdb')} FROM {self.left.origin.shape} AS l")[0].type

    def _checked(self, tree: exp.Expr) -> str:
        """Give DuckDB's SQL of a query whose columns may be of the rows before it."""
        for table in tree.find_all(exp.Table):
            if isinstance(table.this, exp.Identifier):
                raise FeatureNotSupported(
                    "a lateral subquery cannot read a stream, table or view in append mode",
                    detail=f"it reads {table.name}",
                    hint="join with it: on a time condition that both bounds, or FOR SYSTEM_TIME AS OF PROCTIME(), which "
                    "a plain LATERAL (SELECT ... FROM t FOR SYSTEM_TIME AS OF PROCTIME() WHERE ...) may say; or EMIT UPDATE",
                    position=position_of(table.this, self.query),
                )
        as_subqueries(tree, self.query)
        self._resolve(tree)
        left = self.left.origin

        def columns_of(table: exp.Table) -> Columns | None:
            return [(c.name, wire_column(c.type).type) for c in left.columns] if table.name == "l" else None

        refuse_volatile(tree, self.query)
        refuse_functions(tree, self.query)
        around = exp.Select(expressions=[exp.Star()], from_=exp.From(this=exp.to_table("l")))
        around.append("joins", exp.Join(this=exp.Lateral(this=exp.Subquery(this=tree), alias=exp.to_identifier("r"))))
        note(around, self.query, ResultTypes(self.query, columns_of), self.planner.sources.limits)
        apply(around, self.query)
        as_postgres_reads(around, self.query)
        sql: str = around.args["joins"][0].this.this.this.sql("duckdb")
        return sql

    def _sql(self, condition: exp.Expr, names: set[str], relation: str) -> str:
        """Give a condition of ON, over the rows before and those computed from them."""
        tree = condition.copy()
        for column in list(tree.find_all(exp.Column)):
            own = column.name in names and column.table in ("", self.alias)
            made = exp.column(column.name, quoted=True) if own else self._left(column)
            if column is tree:
                tree = made
            else:
                column.replace(made)
        sql: str = tree.sql("duckdb")
        self._described(f"{relation} WHERE {sql}")
        return sql

    # ---- names ----

    def _resolve(self, tree: exp.Expr) -> None:
        """Let the columns that are of the rows before say so; the subquery's own come first."""
        aliases = {t.alias_or_name for t in tree.find_all(exp.Table, exp.Subquery, exp.Unnest, exp.Lateral)}
        own = {c.name for a in tree.find_all(exp.TableAlias) for c in a.columns}
        own |= {s.alias for query in tree.find_all(exp.Subquery) for s in query.this.expressions if s.alias}
        for column in list(tree.find_all(exp.Column)):
            if isinstance(column.this, exp.Star) or (column.table and column.table in aliases - self.left.aliases):
                continue
            source = next((p for p in _above(column) if isinstance(p, (exp.Unnest, exp.Table))), None)
            given = source.args.get("alias") if source is not None else None
            hidden = own - ({c.name for c in given.columns} if given is not None else set())
            if not column.table and column.name in hidden:
                continue
            if self.left.find(column) is not None or column.table in self.left.aliases:
                column.replace(self._left(column))

    def _of_left(self, node: exp.Expr) -> exp.Expr:
        return self._left(node) if isinstance(node, exp.Column) and node.table != "l" else node

    def _left(self, column: exp.Column) -> exp.Expr:
        found = self.left.find(column)
        if found is None:
            named = f"{column.table}.{column.name}" if column.table else f'"{column.name}"'
            raise UndefinedColumn(f"column {named} does not exist", position=position_of(column, self.query))
        made = exp.column(found.column, table="l", quoted=True)
        made.this.meta.update(column.this.meta)
        return made


def _above(node: exp.Expr) -> list[exp.Expr]:
    found = []
    while node.parent is not None:
        node = node.parent
        found.append(node)
    return found
