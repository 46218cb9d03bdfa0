"""Takes the window functions out of a SELECT: what is left is over columns that have their values.

::

    SELECT ts, x - lag(x) OVER (PARTITION BY k ORDER BY ts) AS step FROM s
    SELECT __c0 AS ts, __c1 - __w0 AS step        __w0 is lag(__c1) OVER (PARTITION BY __c2 ORDER BY __c0), __c2 is k
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, UndefinedObject
from streamsql.catalog.objects import quoted
from streamsql.plan.aggregates import is_aggregate
from streamsql.plan.output_names import output_name
from streamsql.sql.parse import position_of
from streamsql.sql.statements import Query


@dataclass(frozen=True, slots=True)
class Term:
    """A term of ORDER BY: a column of the input."""

    column: str
    descending: bool
    nulls_first: bool

    @property
    def sql(self) -> str:
        return f"{quoted(self.column)} {'DESC' if self.descending else 'ASC'} NULLS {'FIRST' if self.nulls_first else 'LAST'}"


@dataclass(frozen=True, slots=True)
class Window:
    """A call whose keys, order and arguments are columns of the input. `arrival`: it is ordered by that."""

    number: int
    node: exp.Window
    function: exp.Expr
    keys: tuple[str, ...]
    terms: tuple[Term, ...]
    arrival: bool
    spec: exp.Expr | None

    @property
    def order(self) -> str:
        return "__seq" if self.arrival else ", ".join(t.sql for t in self.terms)


class Taking:
    """A SELECT that is being taken apart: `hidden` are the columns that it reads, `windows` the calls over them."""

    def __init__(self, query: Query, tree: exp.Select) -> None:
        self.query = query
        self.tree = tree
        self.hidden: dict[str, exp.Expr] = {}
        self.texts: dict[str, str] = {}
        self.windows: list[Window] = []

    # ---- the query's tree ----

    def item(self, item: exp.Expr) -> exp.Expr:
        return exp.alias_(self.above(item.unalias()), output_name(item, self.query), quoted=True)

    def above(self, node: exp.Expr) -> exp.Expr:
        """Write an expression over the origin's columns: what has no window function in it becomes one of them."""

        def written(part: exp.Expr) -> exp.Expr:
            if isinstance(part, exp.Window):
                return self._window(part)
            if part.find(exp.Window) is None and _reads(part):
                return self.hide(part)
            return part

        return node.copy().transform(written, copy=False)

    def hide(self, node: exp.Expr) -> exp.Expr:
        text = node.sql("duckdb")
        if text not in self.texts:
            self.texts[text] = f"__c{len(self.texts)}"
            self.hidden[self.texts[text]] = node.copy()
        return exp.column(self.texts[text], quoted=True)

    def named(self, condition: exp.Expr) -> exp.Expr:
        """Put what an output's name stands for into QUALIFY."""
        made = {i.alias: i.unalias() for i in self.tree.expressions if isinstance(i, exp.Alias)}

        def looked_up(node: exp.Expr) -> exp.Expr:
            known = isinstance(node, exp.Column) and not node.table and node.name in made
            return made[node.name].copy() if known else node

        return condition.copy().transform(looked_up, copy=False)

    # ---- the calls ----

    def _window(self, node: exp.Window) -> exp.Expr:
        keys, order, spec = self._definition(node)
        terms: list[Term] = []
        for ordered in order:
            if _is_arrival(ordered.this):
                continue
            terms.append(
                Term(self.column(ordered.this), bool(ordered.args.get("desc")), bool(ordered.args.get("nulls_first")))
            )
        arrival = any(_is_arrival(o.this) for o in order)
        if arrival and (terms or len(order) > 1 or order[0].args.get("desc")):
            raise FeatureNotSupported(
                "PROCTIME() can only be the whole order of a window function",
                hint="ORDER BY PROCTIME()",
                position=position_of(node, self.query),
            )
        arrival = arrival or (not order and isinstance(node.this, exp.RowNumber))
        number = len(self.windows)
        function = self._over_columns(node.this.copy())
        self.windows.append(
            Window(number, node, function, tuple(self.column(k) for k in keys), tuple(terms), arrival, spec)
        )
        return exp.column(f"__w{number}", quoted=True)

    def _definition(self, node: exp.Window) -> tuple[list[exp.Expr], list[exp.Expr], exp.Expr | None]:
        """Give a call's PARTITION BY, ORDER BY and frame, also where a WINDOW clause says them."""
        order = node.args.get("order")
        keys, terms = list(node.args.get("partition_by") or []), list(order.expressions) if order is not None else []
        spec, name = node.args.get("spec"), node.args.get("alias")
        if name is not None:
            named = next((d for d in self.tree.args.get("windows") or [] if d.name == name.name), None)
            if named is None:
                raise UndefinedObject(f'window "{name.name}" does not exist', position=position_of(name, self.query))
            its_keys, its_terms, its_spec = self._definition(named) if named is not node else ([], [], None)
            keys, terms, spec = keys or its_keys, terms or its_terms, spec if spec is not None else its_spec
        return keys, terms, spec

    def column(self, node: exp.Expr) -> str:
        return self.hide(node.unnest()).name

    def _over_columns(self, node: exp.Expr) -> exp.Expr:
        """Write a function over columns of the input: its arguments, the terms of its ORDER BY, the condition of its FILTER."""
        wraps = (
            exp.Filter,
            exp.IgnoreNulls,
            exp.RespectNulls,
            exp.WithinGroup,
            exp.Where,
            exp.Order,
            exp.Ordered,
            exp.Distinct,
        )
        for child in list(node.iter_expressions()):
            if isinstance(child, wraps) or (isinstance(node, wraps) and is_aggregate(child)) or wraps_call(node):
                self._over_columns(child)
            elif _reads(child):
                child.replace(self.hide(child))
        return node


def _is_arrival(node: exp.Expr) -> bool:
    return isinstance(node, exp.Anonymous) and str(node.this).lower() == "proctime"


def _reads(node: exp.Expr) -> bool:
    """Tell whether an expression's value depends on the row."""
    return any((isinstance(n, exp.Column) and not isinstance(n.this, exp.Star)) or is_aggregate(n) for n in node.walk())


def wraps_call(node: exp.Expr) -> bool:
    return isinstance(node, (exp.Filter, exp.IgnoreNulls, exp.RespectNulls, exp.WithinGroup))


def core(window: Window) -> exp.Expr:
    """Give a call's function without what stands around it."""
    node = window.function
    while wraps_call(node):
        node = node.this
    return node
