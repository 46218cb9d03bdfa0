"""An aggregate call taken apart, and what it is planned as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported
from streamsql.plan.parts import Part
from streamsql.sql.render_trees import duckdb_sql

SEQUENCE_COLUMN = "__seq"

# sqlglot's nodes that it writes otherwise for DuckDB, or not at all
_NAMES: dict[type[exp.Expr], str] = {exp.ApproxTopK: "approx_top_k", exp.CountIf: "count_if"}

# Their ORDER BY, that of WITHIN GROUP as well, says from which end the fraction counts.
QUANTILES = frozenset({"percentile_cont", "percentile_disc", "quantile_cont", "quantile_disc"})

# the DuckDB type of an expression over the source
TypeOf = Callable[[exp.Expr], str]
# a value, and the condition under which it counts -> the column that tells the rows which bring a group one that is new to it
FirstOf = Callable[[str, str | None], str]

# By what the memory of a call grows, as EXPLAIN says it; what is not listed by a plan is of bounded size.
ROWS = "rows"
DISTINCT_VALUES = "distinct values"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate call: its parts, and its value as SQL over ``{0}``, ``{1}``, ... (the parts' values).

    `grows` says by what of a group the memory of the parts grows, None if it does not. Where `split` is given, the source must
    show that expression split (`aggregates.split_columns`), and ``{x}`` in the parts stands for the number that this has there.
    """

    parts: tuple[Part, ...]
    final: str
    grows: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A call taken apart: its lower-case names in DuckDB and in messages, arguments, FILTER condition, text for messages.

    The arguments stand without the DISTINCT and the ORDER BY around them; `order` holds the expressions of the ORDER BY, also
    that of WITHIN GROUP.
    """

    name: str
    shown: str
    arguments: tuple[exp.Expr, ...]
    distinct: bool
    order: tuple[exp.Ordered, ...]
    condition: str | None
    function: exp.Expr
    text: str


def duckdb_name(node: exp.Expr) -> str | None:
    """Give the lower-case name under which DuckDB knows this function call, or None for what is no call."""
    if isinstance(node, exp.WithinGroup):
        return duckdb_name(node.this)
    if not isinstance(node, exp.Func) or isinstance(node, (exp.Cast, exp.Case, exp.And, exp.Or)):
        return None
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower()
    if type(node) in _NAMES:
        return _NAMES[type(node)]
    head, parenthesis, _ = duckdb_sql(node).partition("(")
    return head.lower() if parenthesis and head.replace("_", "").isalnum() else None


def written(node: exp.Expr) -> str:
    """Write a call for a person: as Postgres' text, but for what that would turn into another function."""
    inner = node.this if isinstance(node, exp.Filter) else node
    if isinstance(inner, exp.Anonymous) and inner.this in _WRITTEN_AS:
        named = node.copy()
        called = named.this if isinstance(named, exp.Filter) else named
        called.set("this", _WRITTEN_AS[inner.this])
        return named.sql("postgres")
    return node.sql() if isinstance(inner, (exp.Max, exp.Median, exp.Min)) else node.sql("postgres")


# what stands for an aggregate over arguments of some type (`plan.postgres_operators`)
_WRITTEN_AS = {"avg_exact": "avg", "avg_interval": "avg", "sum_interval": "sum"}


def take_apart(node: exp.Expr) -> Call:
    """Take a call apart: `node` is the call with its FILTER and WITHIN GROUP around it."""
    condition = None
    function = node
    if isinstance(node, exp.Filter):
        function = node.this
        condition = node.expression.this.sql("duckdb")
    within = function if isinstance(function, exp.WithinGroup) else None
    inner = within.this if within is not None else function
    name = duckdb_name(inner) or type(inner).__name__.lower()
    order: list[exp.Ordered] = list(within.expression.expressions) if within is not None else []
    arguments: list[exp.Expr] = []
    distinct = False
    for given in inner.iter_expressions():
        argument = given
        if isinstance(argument, exp.Order):
            order = list(argument.expressions)
            argument = argument.this
        if isinstance(argument, exp.Distinct):
            distinct = True
            arguments += argument.expressions
        else:
            arguments.append(argument)
    shown = written(inner).partition("(")[0].lower()
    return Call(name, shown, tuple(arguments), distinct, tuple(order), condition, function, written(node))


def plain_sql(call: Call) -> str:
    """Write the call without DISTINCT and, unless it is of a quantile, without ORDER BY: for what they do not change."""
    if call.name in QUANTILES or not (call.distinct or call.order):
        return call.function.sql("duckdb")
    return f"{call.name}({', '.join(a.sql('duckdb') for a in call.arguments)})"


def filtered(call: Call, sql: str, *others: str) -> str:
    """Put the call's FILTER, and other conditions, behind an aggregate."""
    conditions = [c for c in (call.condition, *others) if c]
    return f"{sql} FILTER (WHERE {' AND '.join(f'({c})' for c in conditions)})" if conditions else sql


def sort_key(keys: list[tuple[str, bool, bool]]) -> str:
    """SQL of one value that sorts as these (expression, descending, NULLs first) do, one after the other."""
    said = (
        f"{sql}, '{'DESC' if descending else 'ASC'} NULLS {'FIRST' if nulls_first else 'LAST'}'"
        for sql, descending, nulls_first in keys
    )
    return f"create_sort_key({', '.join(said)})"


def ordering(call: Call) -> list[tuple[str, bool, bool]]:
    """Give the keys of the call's ORDER BY, as `sort_key` takes them."""
    return [(o.this.sql("duckdb"), bool(o.args.get("desc")), bool(o.args.get("nulls_first"))) for o in call.order]


def arrival(call: Call) -> list[tuple[str, bool, bool]]:
    """Give the keys of the call's ORDER BY, and then of the order of arrival, as `sort_key` takes them."""
    return [*ordering(call), (SEQUENCE_COLUMN, False, False)]


def order_by(call: Call) -> str:
    """SQL of the call's ORDER BY, ties by arrival, as it stands in an aggregate."""
    return ", ".join([*(o.sql("duckdb") for o in call.order), SEQUENCE_COLUMN])


def without_negative_zero(value: str, type_name: str) -> str:
    """Show -0.0 as 0.0: the two are equal, so which of them a group or an extreme shows would depend on batches."""
    return f"({value} + 0::{type_name})" if type_name in {"DOUBLE", "FLOAT"} else value


def canonical(value: str, type_name: str) -> str:
    """Write equal values one way, also intervals: ``30 days`` is ``1 month``."""
    return f"normalized_interval({value})" if type_name == "INTERVAL" else without_negative_zero(value, type_name)


def escaped(sql: str) -> str:
    """Write SQL for a template whose braces are not its own."""
    return sql.replace("{", "{{").replace("}", "}}")


def refusal(call: Call, what: str, hint: str) -> FeatureNotSupported:
    """Make the error about a call that cannot be kept."""
    return FeatureNotSupported(f"{what} cannot be kept incrementally", detail=f"the call is {call.text}", hint=hint)
