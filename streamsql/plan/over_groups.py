"""Expressions of a query with GROUP BY, turned from ones over rows into ones over groups: keys ``k0``.., parts ``p0``.. .

::

    SELECT k, sum(x) / count(*) FROM s GROUP BY k           k0, p0 / p1
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import sqlglot
from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, GroupingError, SQLSyntaxError, StreamSQLError, UndefinedColumn
from streamsql.catalog.objects import quoted
from streamsql.plan import stages
from streamsql.plan.aggregate_calls import Aggregate, without_negative_zero, written
from streamsql.plan.aggregates import is_aggregate, plan_aggregate
from streamsql.plan.grouping_sets import Groups, grouping_sql
from streamsql.plan.macros import expanded
from streamsql.plan.nodes import Describe, Distinct, Window
from streamsql.plan.parts import Part
from streamsql.plan.windows import is_window
from streamsql.plan.windows.tables import WINDOW_COLUMNS
from streamsql.sql.parse import position_of

if TYPE_CHECKING:
    from streamsql.plan.bind import Binder


@dataclass(slots=True)
class Types:
    """Types of expressions over the source, asked of DuckDB once each."""

    describe: Describe
    relation: str
    alias: str
    known: dict[str, str] = field(default_factory=dict)

    def of(self, node: exp.Expr) -> str:
        sql = node.sql("duckdb")
        if sql not in self.known:
            self.known[sql] = self.describe(f"SELECT {sql} FROM {self.relation} AS {self.alias}")[0].type
        return self.known[sql]


@dataclass(slots=True)
class Rewrite:
    """Turns expressions over rows into expressions over groups."""

    binder: Binder
    groups: Groups
    window: Window | None
    typed: Types
    keeps_distincts: bool = False

    def tells_groups_apart(self, items: list[exp.Expr]) -> bool:
        """Tell whether each group has a row of its own: all that is grouped by stands in the SELECT list."""
        bare = [item.unalias() for item in items]
        keys = {self._key_index(item) for item in bare}
        bounds = [i for i in bare if isinstance(i, exp.Column) and not i.table and i.name in WINDOW_COLUMNS]
        return not self.groups.sets and keys >= set(range(len(self.groups.keys))) and bool(bounds or not self.window)

    def over_groups(self, item: exp.Expr) -> str:
        return self._visit(item.unalias().copy()).sql("duckdb")

    def _visit(self, node: exp.Expr) -> exp.Expr:
        replaced = self._replacement(node)
        if replaced is not None:
            return replaced
        if isinstance(node, exp.Column):
            named = node.sql() if self.binder.derived is None else node.name
            raise GroupingError(
                f'column "{named}" must appear in the GROUP BY clause or be used in an aggregate function',
                position=position_of(node, self.binder.query),
            )
        for child in list(node.iter_expressions()):
            made = self._visit(child)
            if made is not child:
                child.replace(made)
        return node

    def _plain(self, node: exp.Expr) -> exp.Expr:
        """Write the source's columns one way: ``t.x``, ``x`` and ``"x"`` are the same."""

        def plain(part: exp.Expr) -> exp.Expr:
            if not isinstance(part, exp.Column) or isinstance(part.this, exp.Star):
                return part
            ours = not part.table or quoted(part.table) == self.typed.alias
            return exp.column(part.name, quoted=True) if ours else part

        return node.transform(plain)

    def _replacement(self, node: exp.Expr) -> exp.Expr | None:
        index = self._key_index(node)
        if index is not None:
            value = without_negative_zero(f"k{index}", self.typed.of(self.groups.keys[index]))
            return sqlglot.parse_one(value, read="duckdb")
        if isinstance(node, (exp.Grouping, exp.GroupingId)):
            return self._grouping(node)
        if isinstance(node, exp.Column) and not node.table and node.name in WINDOW_COLUMNS:
            return self._bound(node)
        if is_window(node):
            raise SQLSyntaxError(
                f"{str(node.this).lower()}() stands in GROUP BY only",
                hint="select window_start and window_end",
                position=position_of(node, self.binder.query),
            )
        call = node.this if isinstance(node, exp.Filter) else node
        if isinstance(call, exp.WithinGroup) or is_aggregate(call):
            return self._aggregate(node)
        return None

    def is_same(self, one: exp.Expr, other: exp.Expr) -> bool:
        """Tell whether two expressions over the source are the same."""
        return self._plain(one) == self._plain(other)

    def _key_index(self, node: exp.Expr) -> int | None:
        if all(type(key) is not type(node) for key in self.groups.keys):
            return None  # which is most of them, and costs no copy
        plain = self._plain(node)
        return next((i for i, key in enumerate(self.groups.keys) if plain == self._plain(key)), None)

    def _grouping(self, node: exp.Expr) -> exp.Expr:
        indexes = []
        for argument in node.expressions or [node]:
            index = self._key_index(argument)
            if index is None:
                raise GroupingError(
                    "arguments to GROUPING must be grouping expressions of the associated query level",
                    position=position_of(argument, self.binder.query),
                )
            indexes.append(index)
        return sqlglot.parse_one(grouping_sql(indexes, len(self.groups.keys), self.groups.sets), read="duckdb")

    def _bound(self, node: exp.Column) -> exp.Expr:
        if self.window is None:
            raise UndefinedColumn(
                f'column "{node.name}" does not exist',
                hint="it comes from window(time, size) in GROUP BY",
                position=position_of(node, self.binder.query),
            )
        start, end = stages.window_bounds(self.window, "w", "e" if self.window.session else None)
        return sqlglot.parse_one(start if node.name == "window_start" else end, read="duckdb")

    def _aggregate(self, node: exp.Expr) -> exp.Expr:
        for inner in node.find_all(exp.Column):
            if not inner.table and inner.name in WINDOW_COLUMNS and self.window is not None:
                raise FeatureNotSupported(
                    f"{inner.name} cannot be used inside an aggregate", position=position_of(inner, self.binder.query)
                )
        call = node.this if isinstance(node, exp.Filter) else node
        call = call.this if isinstance(call, exp.WithinGroup) else call
        nested = [a for a in node.walk() if is_aggregate(a) and a not in (node, node.this, call)]
        nested += [a for a in call.iter_expressions() if is_aggregate(a)]
        if nested:
            raise GroupingError(
                "aggregate function calls cannot be nested", position=position_of(nested[0], self.binder.query)
            )
        text = written(node).lower()
        try:
            made = expanded(node)
            if made is not None:
                return self._macro(made, text)
            # in agg(DISTINCT s.x ORDER BY x) the two are one
            compared = node.find(exp.Distinct) is not None and node.find(exp.Order) is not None
            first_of = self._first_of if self.keeps_distincts else None
            planned = plan_aggregate(self._plain(node) if compared else node, self.typed.of, first_of)
        except StreamSQLError as error:
            error.position = error.position or position_of(node, self.binder.query)
            raise
        self.binder.calls.append(text)
        if planned.grows is not None:
            self.binder.growing.append((text, planned.grows))
        names = [f"p{self._part(part)}" for part in self._with_split(planned)]
        return exp.paren(sqlglot.parse_one(planned.final.format(*names), read="duckdb"), copy=False)

    def _first_of(self, value: str, condition: str | None) -> str:
        distincts = self.binder.distincts
        found = next((d for d in distincts if (d.value, d.condition) == (value, condition)), None)
        if found is None:
            found = Distinct(f"__new{len(distincts)}", value, condition)
            distincts.append(found)
        return found.column

    def _with_split(self, planned: Aggregate) -> Iterable[Part]:
        if planned.split is None:
            return planned.parts
        splits = self.binder.splits
        if planned.split not in splits:
            splits.append(planned.split)
        number = splits.index(planned.split)
        return [replace(part, sql=part.sql.format(x=number)) for part in planned.parts]

    def _macro(self, expression: exp.Expr, text: str) -> exp.Expr:
        """Rewrite the expression that a macro stands for; EXPLAIN names the call that the user wrote."""
        binder = self.binder
        calls, growing = len(binder.calls), len(binder.growing)
        made = self._visit(expression)
        binder.calls[calls:] = [text]
        binder.growing[growing:] = [(text, by) for _, by in binder.growing[growing:]]
        return exp.paren(made, copy=False)

    def _part(self, part: Part) -> int:
        parts = self.binder.parts
        if part not in parts:
            parts.append(part)
        return parts.index(part)
