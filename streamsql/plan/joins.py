"""Joins in append mode: which rows can match is bounded in event time, so that what can match no more is dropped.

The bounds are found in the join's condition: comparisons of one side's event time with the other's, each plus or less a
constant. ``a.ts BETWEEN b.ts - INTERVAL '5 minutes' AND b.ts`` says ``0 <= b.ts - a.ts <= 5 minutes``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from streamsql.base.errors import (
    AmbiguousColumn,
    DuplicateAlias,
    FeatureNotSupported,
    StreamSQLError,
    UndefinedColumn,
    UndefinedTable,
)
from streamsql.catalog.objects import OutputColumn, Table
from streamsql.plan.bounds import Bounds, Shifted
from streamsql.plan.functions import refuse_functions
from streamsql.plan.join_parts import (
    FLIPPED,
    Entry,
    Joined,
    Span,
    above,
    comparisons,
    settled,
    unbounded,
    within,
)
from streamsql.plan.laterals import expanded, is_lateral
from streamsql.plan.origins import UNBOUNDED, IntervalJoin
from streamsql.plan.postgres_operators import apply, note
from streamsql.plan.postgres_types import as_postgres_reads
from streamsql.plan.properties import refuse_volatile
from streamsql.plan.result_types import Columns, ResultTypes, relation_columns
from streamsql.plan.semijoins import SIDE, conjuncts
from streamsql.plan.versions import asof, versioned
from streamsql.plan.windows import is_window, times_wanted
from streamsql.plan.windows.tables import WINDOW_COLUMNS
from streamsql.sql.durations import duration_of
from streamsql.sql.parse import position_of
from streamsql.sql.statements import Query

if TYPE_CHECKING:
    from streamsql.plan.sources import Derived, Sources


def joined(sources: Sources, tree: exp.Select, named: dict[str, exp.CTE]) -> Derived:
    """Take the joins out of a tree, in place. Raises StreamSQLError where they cannot be kept in append mode."""
    from streamsql.plan.sources import Derived

    planner = Planner(sources, tree, named)
    made = planner.join_all()
    planner.rewrite(made)
    return Derived(", ".join(made.origin.names), made.origin)


class Planner:
    """Joins the relations of one query's FROM, one after the other."""

    def __init__(self, sources: Sources, tree: exp.Select, named: dict[str, exp.CTE]) -> None:
        self.sources = sources
        self.query: Query = sources.query
        self.tree = tree
        self.named = named
        self.stars = [s for s in tree.expressions if s.is_star]

    def join_all(self) -> Joined:
        left = self.item(self.tree.args["from_"].this)
        for join in self.tree.args["joins"]:
            left = self._join(left, join)
        return left

    def item(self, item: exp.Expr) -> Joined:
        if isinstance(item, exp.Table) and item.args.get("version") is not None:
            raise FeatureNotSupported(
                "FOR SYSTEM_TIME AS OF is of what is joined, not of the first relation",
                position=position_of(item, self.query),
            )
        if isinstance(item, exp.Table) and isinstance(item.this, exp.Identifier) and item.name not in self.named:
            self.sources.catalog.find(item.name, position_of(item.this, self.query))
        origin = self.sources.origin_of(item, self.named, set())
        if origin is None:
            raise FeatureNotSupported(
                "a function cannot be the first relation of FROM in append mode",
                hint="put the stream first: FROM s, unnest(s.list) AS t(item)",
                position=position_of(item, self.query),
            )
        alias = item.alias_or_name
        return Joined(origin, [Entry(alias, c.name, c.name, c.type) for c in origin.columns])

    # ---- one join ----

    def _join(self, left: Joined, join: exp.Join) -> Joined:
        position = position_of(join.this, self.query)
        if isinstance(join.this, exp.Table) and join.this.args.get("version") is not None:
            return versioned(self, left, join)
        if is_lateral(join.this):
            return expanded(self, left, join)
        if join.method == "ASOF":
            return asof(self, left, join)
        kind = self._kind(join)
        right = self.item(join.this)
        self.check_aliases(left, right, position)
        condition, merged = self.condition(join, left, right, kind)
        conditions = conjuncts(condition)
        where = self.tree.args.get("where")
        if kind == "INNER" and where is not None:
            conditions += conjuncts(where.this)
        left_time, right_time, span = self._times(left, right, conditions, kind, position)
        ttl = self.query.state_ttl
        if ttl is not None and left_time is not None and right_time is not None and not span.complete:
            condition = exp.and_(condition, within(left.named(left_time), right.named(right_time), ttl.ttl_us))
            span = span.and_(-ttl.ttl_us, ttl.ttl_us)
            made = self.made(left, right, kind, condition, (left_time, right_time, span), merged)
            assert isinstance(made.origin, IntervalJoin)
            text = self.on(condition.this, left, right)[1]  # without the bound: `ttl_us` tells of it
            return replace(made, origin=replace(made.origin, ttl_us=ttl.ttl_us, text=text))
        return self.made(left, right, kind, condition, (left_time, right_time, span), merged)

    def check_aliases(self, left: Joined, right: Joined, position: int | None) -> None:
        for name in sorted(left.aliases & right.aliases):
            raise DuplicateAlias(
                f'table name "{name}" specified more than once',
                hint="give one of them another name with AS",
                position=position,
            )

    def _kind(self, join: exp.Join) -> str:
        method, side, kind = join.method, join.side, join.kind
        if method:
            raise FeatureNotSupported(
                f"{method} JOIN cannot be used in append mode yet",
                hint="join on a time condition that both bounds: a.ts BETWEEN b.ts - INTERVAL '5 minutes' AND b.ts",
                position=position_of(join.this, self.query),
            )
        if kind in ("SEMI", "ANTI"):
            return kind
        return side or "INNER"

    def condition(self, join: exp.Join, left: Joined, right: Joined, kind: str) -> tuple[exp.Expr, dict[str, exp.Expr]]:
        using = join.args.get("using")
        if not using:
            return join.args.get("on") or exp.true(), dict(left.merged)
        merged, equal = dict(left.merged), []
        for identifier in using:
            one, other = (s.find(exp.column(identifier.name)) for s in (left, right))
            if one is None or other is None:
                raise UndefinedColumn(
                    f'column "{identifier.name}" specified in USING clause does not exist in both tables',
                    position=position_of(identifier, self.query),
                )
            columns = [exp.column(e.name, table=e.alias) for e in (one, other)]
            equal.append(exp.EQ(this=columns[0], expression=columns[1]))
            both = exp.Coalesce(this=columns[0].copy(), expressions=[columns[1].copy()])
            merged[identifier.name] = {"RIGHT": columns[1], "FULL": both}.get(kind, columns[0]).copy()
        return exp.and_(*equal, copy=False), merged

    def made(
        self, left: Joined, right: Joined, kind: str, condition: exp.Expr, times: tuple[str | None, str | None, Span],
        merged: dict[str, exp.Expr],
    ) -> Joined:  # fmt: skip
        left_time, right_time, span = times
        on, text = self.on(condition, left, right)
        shown = left.entries if kind in ("SEMI", "ANTI") else [*left.entries, *right.entries]
        entries, chosen = self.shown(left, right, shown)
        bounds: dict[tuple[str, str | None], Bounds] = {}
        if span.high is not None:
            bounds["left", left_time] = Bounds((Shifted(-max(span.high, 0)),))
        if span.low is not None:
            bounds["right", right_time] = Bounds((Shifted(min(span.low, 0)),))
        found = tuple((e.column, bounds[c]) for e, c in zip(entries, chosen, strict=True) if c in bounds)
        origin = IntervalJoin(
            tuple(OutputColumn(e.column, e.type) for e in entries),
            found,
            settled(left.origin, left_time),
            settled(right.origin, right_time),
            kind,
            on,
            left_time,
            right_time,
            -UNBOUNDED if span.low is None else span.low,
            UNBOUNDED if span.high is None else span.high,
            chosen,
            text,
        )
        return Joined(origin, entries, merged)

    def on(self, condition: exp.Expr, left: Joined, right: Joined) -> tuple[str, str]:
        """Give a condition in DuckDB's SQL over ``l`` and ``r``, and as it is shown."""
        for node in condition.walk():
            if isinstance(node, (exp.Query, exp.Window, exp.AggFunc)):
                raise FeatureNotSupported(
                    "subqueries, aggregates and window functions cannot stand in a join's condition in append mode",
                    position=position_of(node, self.query),
                )
        sided = condition.copy().transform(lambda node: self._sided(node, left, right))
        return self._checked(sided, left, right), condition.sql("postgres")

    def shown(
        self, left: Joined, right: Joined, entries: list[Entry]
    ) -> tuple[list[Entry], tuple[tuple[str, str], ...]]:
        """Give the columns that a join shows, and which of which side they are."""
        needed = [e for e in entries if self.needed(e)]
        chosen = tuple(("right" if e in right.entries and e not in left.entries else "left", e.column) for e in needed)
        return [replace(e, column=f"{e.alias}.{e.name}") for e in needed], chosen

    def needed(self, entry: Entry) -> bool:
        """Tell whether something above the join may name a column."""
        if self.stars:
            return True
        parts = [v for k, v in self.tree.args.items() if k != "from_" and v is not None]
        nodes = [n for part in parts for n in (part if isinstance(part, list) else [part]) if isinstance(n, exp.Expr)]
        used = any(c.name == entry.name and c.table in ("", entry.alias) for n in nodes for c in n.find_all(exp.Column))
        joins = [n for n in nodes if isinstance(n, exp.Join)]
        return used or any(i.name == entry.name for j in joins for i in j.args.get("using") or [])

    def _checked(self, on: exp.Expr, left: Joined, right: Joined) -> str:
        """Give a condition over ``l`` and ``r`` in DuckDB's SQL. Raises StreamSQLError where it has no value."""
        sides = {"l": left.origin, "r": right.origin}

        def columns_of(table: exp.Table) -> Columns:
            return relation_columns(sides[table.name])

        tables = [exp.Table(this=exp.to_identifier(name)) for name in sides]
        tree = exp.Select(expressions=[on], from_=exp.From(this=tables[0]), joins=[exp.Join(this=tables[1])])
        refuse_volatile(on, self.query)
        refuse_functions(tree, self.query)
        note(tree, self.query, ResultTypes(self.query, columns_of), self.sources.limits)
        apply(tree, self.query)
        as_postgres_reads(tree, self.query)
        sql: str = tree.expressions[0].sql("duckdb")
        self.sources.describe(f"SELECT 1 FROM {left.origin.shape} AS l JOIN {right.origin.shape} AS r ON {sql}")
        return sql

    def _sided(self, node: exp.Expr, left: Joined, right: Joined) -> exp.Expr:
        if not isinstance(node, exp.Column):
            return node
        found = self.side(node, left, right)
        if found is None:
            raise self._unknown(node, left.aliases | right.aliases)
        side, entry = found
        return exp.column(entry.column, table=side[0], quoted=True)

    def side(self, column: exp.Column, left: Joined, right: Joined) -> tuple[str, Entry] | None:
        one, other = left.find(column), right.find(column)
        first = column.meta.get(SIDE)
        if first == "left" and one is not None:
            other = None
        elif first == "right" and other is not None:
            one = None
        if one is not None and other is not None:
            raise AmbiguousColumn(
                f'column reference "{column.name}" is ambiguous', position=position_of(column, self.query)
            )
        if one is not None:
            return "left", one
        return None if other is None else ("right", other)

    # ---- bounds in time ----

    def _times(
        self, left: Joined, right: Joined, conditions: list[exp.Expr], kind: str, position: int | None
    ) -> tuple[str | None, str | None, Span]:
        """Find the two event times whose distance the condition bounds, if it can on both sides.

        Raises where rows of an outer join would never be known to match nothing, or would have to be kept for ever although
        a `state_ttl` says how long.
        """
        spans: dict[tuple[str, str], Span] = {}
        for condition in conditions:
            for comparison in comparisons(condition):
                self._note(spans, comparison, left, right)
        found = sorted(spans.items(), key=lambda item: (item[1].low is None) + (item[1].high is None))
        timed = bool(left.origin.times and right.origin.times)
        if not found and timed and self.query.state_ttl is not None:
            found = [((left.origin.times[0][0], right.origin.times[0][0]), Span())]
        if found and (self.query.state_ttl is not None or found[0][1].bounds(kind)):
            return (*found[0][0], found[0][1])
        tables = any(isinstance(self.sources.catalog.get(n), Table) for s in (left, right) for n in s.origin.names)
        if tables or self.query.state_ttl is not None or not Span().bounds(kind):
            raise unbounded(left, right, spans, position, tables=tables)
        return None, None, Span()

    def _note(self, spans: dict[tuple[str, str], Span], comparison: exp.Expr, left: Joined, right: Joined) -> None:
        """Take in what one comparison says, if it is of one side's event time with the other's."""
        sides = [self.moment(e, left, right) for e in (comparison.this, comparison.expression)]
        kind: type[exp.Expr] = type(comparison)
        if sides[0] is None or sides[1] is None or kind not in FLIPPED or sides[0][0] == sides[1][0]:
            return
        if sides[0][0] == "right":
            sides, kind = [sides[1], sides[0]], FLIPPED[kind]
        assert sides[0] is not None
        assert sides[1] is not None
        # left + x <kind> right + y:  right - left is at most, or at least, x - y
        distance = sides[0][2] - sides[1][2]
        low = distance if kind in (exp.LT, exp.LTE, exp.EQ) else None
        high = distance if kind in (exp.GT, exp.GTE, exp.EQ) else None
        key = (sides[0][1], sides[1][1])
        spans[key] = spans.get(key, Span()).and_(low, high)

    def moment(self, expression: exp.Expr, left: Joined, right: Joined) -> tuple[str, str, int] | None:
        """Read an event time plus or less a constant: its side, its column, and the constant."""
        expression = expression.unnest()
        if isinstance(expression, (exp.Add, exp.Sub)) and isinstance(expression.expression, exp.Interval):
            found = self.moment(expression.this, left, right)
            if found is None:
                return None
            length = duration_of(expression.expression, zero_allowed=True, negative_allowed=True)
            return (*found[:2], found[2] + (length if isinstance(expression, exp.Add) else -length))
        if not isinstance(expression, exp.Column):
            return None
        resolved = self.side(expression, left, right)
        if resolved is None:
            return None
        side, entry = resolved
        times = dict((left if side == "left" else right).origin.times)
        return (side, entry.column, 0) if entry.column in times else None

    # ---- the query above ----

    def rewrite(self, made: Joined) -> None:
        """Let the tree read the join's columns."""
        tree = self.tree
        tree.set("joins", None)
        name = ", ".join(made.origin.names)
        tree.set("from_", exp.From(this=exp.Table(this=exp.to_identifier(name, quoted=True))))
        tree.set("expressions", [i for item in tree.expressions for i in self._item_of_list(item, made)])
        for clause in ("where", "group", "having"):
            found = tree.args.get(clause)
            if found is not None:
                tree.set(clause, self._plain_of(found, made, rows=clause == "where"))

    def _unknown(self, column: exp.Column, aliases: set[str]) -> StreamSQLError:
        position = position_of(column, self.query)
        if column.table and column.table not in aliases:
            return UndefinedTable(f'missing FROM-clause entry for table "{column.table}"', position=position)
        named = f"{column.table}.{column.name}" if column.table else f'"{column.name}"'
        return UndefinedColumn(f"column {named} does not exist", position=position)

    def _item_of_list(self, item: exp.Expr, made: Joined) -> list[exp.Expr]:
        star = isinstance(item, exp.Star)
        if star or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star)):
            table = item.table if isinstance(item, exp.Column) else ""
            entries = [e for e in made.entries if table in ("", e.alias)]
            merged = made.merged if star else {}
            first = [exp.alias_(self._plain_of(m, made), n, quoted=True) for n, m in merged.items()]
            rest = [e for e in entries if e.name not in merged]
            return [*first, *(exp.alias_(exp.column(e.column, quoted=True), e.name, quoted=True) for e in rest)]
        plain = self._plain_of(item, made)
        return [exp.alias_(plain, item.name, quoted=True) if isinstance(item, exp.Column) else plain]

    def _plain_of(self, expression: exp.Expr, made: Joined, *, rows: bool = False) -> exp.Expr:
        """Let an expression read the join's columns; but for one over `rows`, window_start is the query's own window's."""
        expression = expression.copy()
        own = set()
        if times_wanted(self.tree) and not rows:
            for column in expression.find_all(exp.Column):
                inside = any(is_window(p) for p in above(column))
                if not column.table and column.name in WINDOW_COLUMNS and not inside:
                    own.add(id(column))
        return expression.transform(lambda n: n if id(n) in own else self._plain(n, made), copy=False)

    def _plain(self, node: exp.Expr, made: Joined) -> exp.Expr:
        if not isinstance(node, exp.Column) or isinstance(node.this, exp.Star):
            return node
        if not node.table and node.name in made.merged:
            return self._plain_of(made.merged[node.name], made)
        try:
            entry = made.find(node)
        except AmbiguousColumn as error:
            error.position = position_of(node, self.query)
            raise
        if entry is None:
            if node.table:
                raise self._unknown(node, made.aliases)
            return node  # an output's name, or there is none: whoever binds it tells
        plain = exp.column(entry.column, quoted=True)
        plain.this.meta.update(node.this.meta)
        return plain
