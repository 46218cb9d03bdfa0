"""What stands in FROM, for a query in append mode: one stream, or an origin (`plan.origins`) in its place.

Subqueries, common table expressions, unions and joins are taken out of the query's tree, which then reads one relation::

    SELECT a.k, count(*) FROM a JOIN b ON ... GROUP BY window(a.ts, '1h'), a.k
    SELECT "a.k" AS k, count(*) FROM "a, b" GROUP BY window("a.ts", '1h'), "a.k"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import sqlglot
from sqlglot import exp

from streamsql.base.errors import DuplicateColumn, FeatureNotSupported
from streamsql.base.limits import Limits
from streamsql.catalog.objects import Catalog, OutputColumn, PlainView, Stream, Table, View
from streamsql.plan.arrivals import by_arrival, refuse_in_joins
from streamsql.plan.bounds import Bounds, bounds_of
from streamsql.plan.lateral_lookups import lookups_as_joins
from streamsql.plan.laterals import laterals_as_joins
from streamsql.plan.nodes import ContinuousPlan, Describe, Window
from streamsql.plan.origins import Inner, Origin, Rank, StreamScan, Union, ViewScan
from streamsql.plan.outside import refuse_outside
from streamsql.plan.over import windowed
from streamsql.plan.ranking import is_ranked, ranked
from streamsql.plan.semijoins import join_conditions
from streamsql.plan.set_operations import as_select, branches_of, matched, with_names
from streamsql.plan.windows import times_wanted
from streamsql.plan.windows.session_rows import lists_of_sessions, sessions_in
from streamsql.sql.parse import position_of
from streamsql.sql.statements import EmitMode, Query


@dataclass(frozen=True, slots=True)
class Derived:
    """Stands for a stream where a query reads an origin."""

    name: str
    origin: Origin

    @property
    def columns(self) -> tuple[OutputColumn, ...]:
        return self.origin.columns

    @property
    def public_name(self) -> str:
        """SQL of a relation with these columns."""
        return self.origin.shape

    def column(self, name: str) -> OutputColumn | None:
        return next((c for c in self.columns if c.name == name), None)


@dataclass(slots=True)
class Sources:
    """Finds a query's origin. `bind_inner` plans a subquery."""

    query: Query
    catalog: Catalog
    describe: Describe
    bind_inner: Callable[[Query], ContinuousPlan]
    limits: Limits

    def derived(self, tree: exp.Select) -> Derived | None:
        """Take the origin out of a tree, in place; None where it reads one stream or table, or nothing that is known here."""
        from_ = tree.args.get("from_")
        if from_ is None:
            return None
        if self.query.emit is EmitMode.APPEND:
            laterals_as_joins(tree)
            lookups_as_joins(tree, self.catalog)
            self._list_sessions(tree)
            if windowed.windows_in(tree):
                return Derived(windowed.NAME, windowed.windowed(self, tree))
            join_conditions(tree)
        joins, named = tree.args.get("joins") or [], self._named(tree)
        item = from_.this
        if self.query.emit is not EmitMode.APPEND:
            # in update mode a subquery's rows come and go
            if joins or named or not isinstance(self._relation(item, {}), View):
                return None
        elif not joins and isinstance(found := self._relation(item, named), (Stream, Table)):
            tree.set("with_", None)
            scan = by_arrival(tree, found, self.query) if isinstance(found, Stream) else None
            return None if scan is None else Derived(found.name, scan)
        refuse_in_joins(tree, self.query)
        if not joins:
            return self._single(tree, item, named)
        from streamsql.plan.joins import joined

        tree.set("with_", None)
        return joined(self, tree, named)

    def _list_sessions(self, tree: exp.Select) -> None:
        """Put the rows of sessions in the place of an item of FROM, in place, where session_window() stands behind it."""
        sessions = sessions_in(tree, self.query)
        if sessions is None:
            return
        origin = self.origin_of(sessions.item.copy(), self._named(tree), set())
        if origin is not None:
            lists_of_sessions(sessions, [c.name for c in origin.columns])

    def _single(self, tree: exp.Select, item: exp.Expr, named: dict[str, exp.CTE]) -> Derived | None:
        tree.set("with_", None)
        origin = self.origin_of(item, named, times_wanted(tree), tree)
        if origin is None:
            return None
        name = item.alias_or_name or "subquery"
        table = exp.Table(this=exp.to_identifier(name, quoted=True))
        table.this.meta.update(item.this.meta if isinstance(item, exp.Table) else item.meta)
        if isinstance(item, exp.Table):
            name, table = item.name, item
        tree.set("from_", exp.From(this=table))
        return Derived(name, origin)

    def _named(self, tree: exp.Select) -> dict[str, exp.CTE]:
        with_ = tree.args.get("with_")
        if with_ is None:
            return {}
        if with_.args.get("recursive"):
            raise FeatureNotSupported(
                "WITH RECURSIVE cannot be used in append mode", position=position_of(with_, self.query)
            )
        return {cte.alias: cte for cte in with_.expressions}

    def _relation(self, item: exp.Expr, named: dict[str, exp.CTE]) -> Stream | Table | View | None:
        """Give what a plain name in FROM stands for in the catalog."""
        if not isinstance(item, exp.Table) or not isinstance(item.this, exp.Identifier) or item.name in named:
            return None
        found = self.catalog.get(item.name) if item.db in {"", "public"} else None
        assert not isinstance(found, PlainView)  # its query stands in its place
        refuse_outside(found, position_of(item.this, self.query))
        if isinstance(found, View) and not found.append_only and self.query.emit is not EmitMode.APPEND:
            return None
        return found

    def origin_of(
        self, item: exp.Expr, named: dict[str, exp.CTE], wanted: set[str], above: exp.Select | None = None
    ) -> Origin | None:
        """Give the origin that an item of FROM is; None for what is none (its name is not known, it is a function).

        Where it ranks rows, the bound of the rank is taken out of the query `above`.
        """
        found = self._relation(item, named)
        if isinstance(found, View):
            return self._view(found, item)
        if found is not None:
            return self.stream(found)
        body = self._body(item, named)
        if body is None:
            return None
        if isinstance(body, exp.SetOperation):
            return self._set_operation(body, wanted)
        return self._query(body, above, item)

    def _view(self, view: View, item: exp.Expr) -> ViewScan:
        if not view.append_only:
            raise FeatureNotSupported(
                f'"{view.name}" takes rows back, and append mode cannot',
                detail=f"it is a view in {view.mode.value.lower()} mode: its rows change and go",
                hint=f"use EMIT UPDATE, or SUBSCRIBE {view.name} to follow the view",
                position=position_of(item, self.query),
            )
        return ViewScan(view.columns, view.times, view.name)

    def stream(self, relation: Stream | Table) -> StreamScan:
        """Give a stream; its event time may be any column that the query's own watermark can be of."""
        columns = tuple(OutputColumn(c.name, c.type) for c in relation.columns)
        own = self.query.watermark
        declared = relation.watermark if isinstance(relation, Stream) else None
        if own is None:
            names = [declared.column] if declared is not None and declared.column is not None else []
            delay = declared.delay_us if declared is not None else 0
        else:
            names = (
                [own.column] if own.column is not None else [c.name for c in columns if c.type.startswith("TIMESTAMP")]
            )
            delay = own.delay_us
        times = tuple((n, Bounds()) for n in names if relation.column(n) is not None)
        column = times[0][0] if len(times) == 1 else None
        return StreamScan(columns, times, relation.name, column, delay)

    def _body(self, item: exp.Expr, named: dict[str, exp.CTE]) -> exp.Expr | None:
        """Give the query of a subquery or of a named one, with the named ones that it can see."""
        if isinstance(item, exp.Subquery):
            alias, body = item.args.get("alias"), item.this
            seen = list(named.values())
        elif isinstance(item, exp.Table) and item.name in named:
            alias, body = named[item.name].args.get("alias"), named[item.name].this
            seen = list(named.values())[: list(named).index(item.name)]
        else:
            return None
        if alias is not None and alias.args.get("columns"):
            raise FeatureNotSupported(
                "names for the columns of a subquery cannot be given in append mode",
                hint="name them in its SELECT list",
                position=position_of(item, self.query),
            )
        while isinstance(body, exp.Subquery):
            body = body.this
        assert isinstance(body, exp.Expr)
        body = body.copy()
        if isinstance(body, exp.SetOperation) and body.args.get("distinct"):
            body = with_names(as_select(body), body)
        own = body.args.get("with_")
        if seen:
            inner = own.expressions if own is not None else []
            body.set("with_", exp.With(expressions=[c.copy() for c in seen] + [c.copy() for c in inner]))
        return body

    def _query(self, body: exp.Expr, above: exp.Select | None = None, item: exp.Expr | None = None) -> Inner | Rank:
        if isinstance(body, exp.Select) and is_ranked(body):
            made = ranked(self, body, above, item.alias_or_name if item is not None else "")
            if made is not None:
                return made
        return self.inner(body)

    def inner(self, body: exp.Expr) -> Inner:
        """Give a subquery that ranks nothing."""
        plan = self.bind_inner(replace(self.query, tree=body, emit=EmitMode.APPEND, every_us=None, lateness=None))
        if plan.limit is not None:
            raise FeatureNotSupported(
                "LIMIT cannot be used in a subquery in append mode", position=position_of(body, self.query)
            )
        names = [o.name for o in plan.outputs]
        for name in names:
            if names.count(name) > 1:
                raise DuplicateColumn(
                    f'column name "{name}" appears more than once in a subquery',
                    hint="name the columns with AS",
                    position=position_of(body, self.query),
                )
        return Inner(tuple(OutputColumn(o.name, o.type) for o in plan.outputs), plan.times, plan)

    def _set_operation(self, body: exp.SetOperation, wanted: set[str]) -> Origin:
        branches = [self._query(b) for b in branches_of(body, self.query)]
        if not isinstance(body, exp.Union):
            return matched(self, body, branches, wanted)
        shapes = " UNION ALL ".join(f"SELECT * FROM {b.shape} AS o" for b in branches)
        types = self.describe(shapes)
        columns = tuple(OutputColumn(n.name, t.type) for n, t in zip(branches[0].columns, types, strict=True))
        timed = [
            i for i in range(len(columns)) if all(b.columns[i].name in dict(b.times) for b in branches)
        ]  # fmt: skip
        chosen = next((i for i in timed if columns[i].name in wanted), timed[0] if timed else None)
        times = () if chosen is None else ((columns[chosen].name, Bounds()),)
        return Union(columns, times, tuple(branches), chosen)


def check_watermark(plan: ContinuousPlan, query: Query) -> None:
    """Raise where a query's own watermark would be of no stream that it reads."""
    if query.watermark is None or plan.origin is None or isinstance(plan.origin, ViewScan):
        return
    if not any(_reads_stream(node) for node in plan.origin.walk()):
        raise FeatureNotSupported(
            "WITH WATERMARK is of a stream, and this query reads views alone",
            detail="each of them has a watermark of its own",
            hint="leave WITH WATERMARK out",
            position=query.watermark.position + 1,
        )


def _reads_stream(node: Origin) -> bool:
    return isinstance(node, StreamScan) or (isinstance(node, Inner) and node.plan.origin is None)


def time_handed_on(source: Stream | Table | Derived, query: Query) -> tuple[str, int] | None:
    """Find the event time that a query without a window hands on: the query's own watermark's, or the stream's."""
    own, declared = query.watermark, source.watermark if isinstance(source, Stream) else None
    chosen = own or declared
    if chosen is None:
        return None
    column = chosen.column or (declared.column if declared is not None else None)
    return (column, chosen.delay_us) if column is not None and source.column(column) is not None else None


def delay_of_origin(source: Derived, window: Window, query: Query) -> int | None:
    """Find the delay over an origin: none where the watermark is the origin's; a view's may be given some more."""
    own = query.watermark if isinstance(source.origin, ViewScan) else None
    if own is not None and own.column is not None and own.column != window.time_column:
        raise FeatureNotSupported(
            f'the watermark is on "{own.column}", but the window is over {window.time_sql}',
            hint="name the window's column in the watermark",
            position=own.position + 1,
        )
    time = sqlglot.parse_one(window.time_sql, read="duckdb")
    if bounds_of(time, dict(source.origin.times)) is not None:
        return own.delay_us if own is not None else 0
    return None if own is None else own.delay_us
