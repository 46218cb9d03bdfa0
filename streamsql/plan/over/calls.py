"""What one call of a window function is made of: window expressions over the rows that there are, and parts of those gone.

::

    sum(x) OVER (PARTITION BY k ORDER BY ts)    the sum of what is gone (a part) + sum(x) OVER (...)
    lag(x) OVER (PARTITION BY k ORDER BY ts)    lag(x) OVER (...)
    last_value(x) OVER (...)                    the aggregate last(x), in the order of the window

Rows that the order leaves equal come in the order of arrival. `Calls` gathers those of one key, which share a state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import sqlglot
from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue, UndefinedFunction
from streamsql.base.limits import Limits, exceeded
from streamsql.catalog.objects import quoted
from streamsql.plan.aggregate_calls import SEQUENCE_COLUMN, TypeOf
from streamsql.plan.aggregates import is_aggregate, plan_aggregate
from streamsql.plan.macros import expanded
from streamsql.plan.origins import Reach
from streamsql.plan.over.frames import BEFORE, Frame
from streamsql.plan.parts import Added, Part
from streamsql.sql.parse import position_of
from streamsql.sql.statements import Query

# their value depends on all rows of the key
WHOLE_ONLY = (exp.Ntile, exp.PercentRank, exp.CumeDist)
_NUMBERING = (exp.RowNumber, exp.Rank, exp.DenseRank)
_VALUES: dict[type[exp.Expr], str] = {exp.FirstValue: "first", exp.LastValue: "last"}

# aggregate -> its value for the rows that are gone and those of a frame together
_ADDED = {
    "count": "(coalesce({0}, 0) + coalesce({1}, 0))",
    "sum": "coalesce({0} + {1}, {0}, {1})",
    "max": "greatest({0}, {1})",
    "min": "least({0}, {1})",
}
# what has a value over no rows: nought
_COUNTING = frozenset({"approx_count_distinct", "count_if", "countif", "regr_count"})
_SIMPLE_TYPES = re.compile(r"(BIGINT|BOOLEAN|DATE|DECIMAL.*|DOUBLE|FLOAT|.*INT.*|TIME.*|VARCHAR)\Z")


@dataclass(frozen=True, slots=True)
class Call:
    """A call: its `function` with FILTER and IGNORE NULLS around it, over columns alone, the terms of its ORDER BY as SQL,
    its frame, and the node in the user's text.
    """

    function: exp.Expr
    order: str
    frame: Frame
    node: exp.Expr


@dataclass(slots=True)
class Calls:
    """The calls over one key. `whole`: its rows are all there, so nothing is ever gone."""

    keys: tuple[str, ...]
    query: Query
    limits: Limits
    type_of: TypeOf
    whole: bool
    orders: list[str] = field(default_factory=list)
    windows: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    in_rows: list[int] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    peers: list[int] = field(default_factory=list)
    counted: bool = False
    back: Reach = field(default_factory=Reach)
    ahead: Reach = field(default_factory=Reach)

    def value(self, call: Call) -> str:
        """Add a call; give the SQL of its value. Raises StreamSQLError."""
        function, ignore = call.function, False
        while isinstance(function, (exp.IgnoreNulls, exp.RespectNulls)):
            ignore = ignore or isinstance(function, exp.IgnoreNulls)
            function = function.this
        order = self._order(call.order)
        try:
            if isinstance(function, (*_NUMBERING, *WHOLE_ONLY)):
                return self._number(function, order)
            if isinstance(function, (exp.Lag, exp.Lead)):
                return self._neighbour(function, order, ignore=ignore)
            if isinstance(function, (*_VALUES, exp.NthValue)):
                return self._one_of(function, call, order, ignore=ignore)
            if not is_aggregate(function.this if isinstance(function, exp.Filter) else function):
                raise UndefinedFunction(f"{function.sql('postgres').partition('(')[0].lower()} is no window function")
            if ignore:
                raise FeatureNotSupported(
                    "IGNORE NULLS of an aggregate cannot be kept in append mode",
                    hint="write FILTER (WHERE x IS NOT NULL), or last_value(x) IGNORE NULLS",
                )
            return self._aggregates(function, call.frame, order)
        except (FeatureNotSupported, InvalidParameterValue, UndefinedFunction) as error:
            error.position = error.position or position_of(call.node, self.query)
            raise

    # ---- the kinds of functions ----

    def _number(self, function: exp.Expr, order: int) -> str:
        self.counted = not self.whole
        if isinstance(function, exp.RowNumber):
            return f"__n{order}"
        name = function.sql("duckdb")
        found = self._window(f"{name} OVER ({self._by_terms(order)})")
        if self.whole:
            return found
        if isinstance(function, exp.Rank):
            return f"(__base + {found})"
        if order not in self.peers:
            self.peers.append(order)
        return f"(__peers{order} + {found})"

    def _neighbour(self, function: exp.Expr, order: int, *, ignore: bool) -> str:
        """Plan lag and lead."""
        count = self._whole_number(function.args.get("offset"), 1, function)
        back = isinstance(function, exp.Lag) == (count >= 0)
        count = abs(count)
        value, default = function.this.sql("duckdb"), function.args.get("default")
        otherwise = "" if default is None else f", {default.sql('duckdb')}"
        if not ignore or self.whole:
            reach = Reach(rows=count)
            self._reach(*((reach, Reach()) if back else (Reach(), reach)))
            nulls = " IGNORE NULLS" if ignore else ""
            name = "lag" if back else "lead"
            return self._window(f"{name}({value}, {count}{otherwise}{nulls}) OVER ({self._by_number(order)})")
        if not back or not count:
            raise FeatureNotSupported(
                "lead() with IGNORE NULLS cannot be kept in append mode",
                detail="how many rows it would have to wait for is not known",
                hint="leave IGNORE NULLS out, or use lag()",
            )
        if default is not None:
            raise FeatureNotSupported(
                "a default of lag() with IGNORE NULLS cannot be kept in append mode", hint="use coalesce around it"
            )
        call_of = f"arg_max_nulls_last({value}, {SEQUENCE_COLUMN}, {count}) FILTER (WHERE {value} IS NOT NULL)"
        return f"({self._planned(sqlglot.parse_one(call_of, read='duckdb'), BEFORE, order)})[{count}]"

    def _one_of(self, function: exp.Expr, call: Call, order: int, *, ignore: bool) -> str:
        """Plan first_value, last_value and nth_value: aggregates by the order of the window."""
        value = function.this.sql("duckdb")
        condition = f" FILTER (WHERE {value} IS NOT NULL)" if ignore else ""
        if type(function) in _VALUES:
            made = f"{_VALUES[type(function)]}({value}){condition}"
            return self._planned(sqlglot.parse_one(made, read="duckdb"), call.frame, order)
        count = self._whole_number(function.args.get("offset"), 0, function)
        if count < 1:
            raise InvalidParameterValue("argument of nth_value must be greater than zero")
        if count > self.limits.rank_rows_max:
            raise exceeded(self.limits, "rank_rows_max", "the argument of nth_value()")
        made = f"arg_min_nulls_last({value}, {SEQUENCE_COLUMN}, {count}){condition}"
        return f"({self._planned(sqlglot.parse_one(made, read='duckdb'), call.frame, order)})[{count}]"

    def _aggregates(self, node: exp.Expr, frame: Frame, order: int) -> str:
        """Plan an aggregate, or the expression over others that it stands for."""
        made = expanded(node)
        if made is None:
            return self._planned(node, frame, order)

        def planned(inner: exp.Expr) -> exp.Expr:
            if isinstance(inner, (exp.Filter, exp.WithinGroup)) or is_aggregate(inner):
                return sqlglot.parse_one(f"({self._aggregates(inner, frame, order)})", read="duckdb")
            return inner

        return made.transform(planned).sql("duckdb")

    def _planned(self, node: exp.Expr, frame: Frame, order: int) -> str:
        """Plan an aggregate over a frame: SQL of its value over the windows."""
        made = plan_aggregate(node, self.type_of)
        parts = made.parts
        if made.split is not None:
            if made.split not in self.splits:
                self.splits.append(made.split)
            number = self.splits.index(made.split)
            parts = tuple(Part(p.sql.format(x=number), p.merge) for p in parts)
        parts = tuple(Part(re.sub(rf"\b{SEQUENCE_COLUMN}\b", f"__n{order}", p.sql), p.merge) for p in parts)
        self._reach(frame.back, frame.ahead)
        return f"({made.final.format(*(self._part(p, frame, order) for p in parts))})"

    def _reach(self, back: Reach, ahead: Reach) -> None:
        if not self.whole:
            self.back |= back
            self.ahead |= ahead

    # ---- parts and windows ----

    def _part(self, part: Part, frame: Frame, order: int) -> str:
        """SQL of a part's value over a frame."""
        over = f"OVER ({self._window_of(frame, order)})"
        if self.whole or not frame.from_start:
            return self._window(f"{part.sql} {over}")
        self.counted = True
        made = self._added(part)
        if made not in self.parts:
            self.parts.append(made)
        number = self.parts.index(made)
        if isinstance(made, Added):
            return made.merged(f"__s{number}", self._window(f"{part.sql} {over}"))
        if number not in self.in_rows:
            self.in_rows.append(number)
        if part.merge is None:
            here = self._window(f"combine_aggr(__r{number}) {over}")
            value = part.value(f"combine(__s{number}, {here})")
            return f"coalesce({value}, 0)" if _name(part) in _COUNTING else value
        here = self._window(f"list(__r{number}) FILTER (__r{number} IS NOT NULL) {over}")
        return part.merged(f"__s{number}", part.merge.format(f"flatten({here})"))

    def _added(self, part: Part) -> Part:
        """Give the part as one whose values are added, where that is enough: DuckDB is fast at these."""
        tree = sqlglot.parse_one(part.sql, read="duckdb")
        call, name = tree.this if isinstance(tree, exp.Filter) else tree, _name(part)
        if part.merge is not None or name not in _ADDED or len(list(call.iter_expressions())) > 1:
            return part
        if name in {"min", "max"} and not _SIMPLE_TYPES.match(self.type_of(call.this)):
            return part
        return Added(part.sql, add=_ADDED[name])

    def _order(self, terms: str) -> int:
        if terms not in self.orders:
            self.orders.append(terms)
        return self.orders.index(terms)

    def _window(self, sql: str) -> str:
        """Give the column that a window expression is."""
        if sql not in self.windows:
            self.windows.append(sql)
        return f"__v{self.windows.index(sql)}"

    @property
    def _partition(self) -> str:
        return f"PARTITION BY {', '.join(quoted(k) for k in self.keys)} " if self.keys else ""

    def _by_number(self, order: int) -> str:
        return f"{self._partition}ORDER BY __n{order}"

    def _by_terms(self, order: int) -> str:
        terms = self.orders[order]
        return f"{self._partition}ORDER BY {terms}" if terms else self._partition

    def _window_of(self, frame: Frame, order: int) -> str:
        by = self._by_number(order) if frame.kind == "ROWS" else self._by_terms(order)
        return f"{by} {frame.written()}"

    def _whole_number(self, node: exp.Expr | None, otherwise: int, function: exp.Expr) -> int:
        if node is None:
            return otherwise
        sign, digits = (-1, node.this) if isinstance(node, exp.Neg) else (1, node)
        if isinstance(digits, exp.Literal) and digits.is_int:
            return sign * int(digits.this)
        raise FeatureNotSupported(
            f"{function.sql('postgres').partition('(')[0].lower()}() of a number that the query does not say cannot be kept "
            "in append mode",
            hint="write the number",
        )


def _name(part: Part) -> str:
    return part.sql.partition("(")[0].lower()
