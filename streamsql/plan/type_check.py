"""Mistakes that PostgreSQL finds in a query's types and shape before it runs, told in its words and with their place.

DuckDB would convert silently (``WHERE id``, ``text = integer``) or tell them without a place. What the types of two operands
are not known of is left to it.

    WHERE symbol = 1      42883  operator does not exist: text = integer
    WHERE id              42804  argument of WHERE must be type boolean, not type integer
    WHERE count(*) > 1    42803  aggregate functions are not allowed in WHERE
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlglot import exp

from streamsql.base import types as t
from streamsql.base.errors import (
    DatatypeMismatch,
    DuplicateAlias,
    FeatureNotSupported,
    GroupingError,
    InvalidColumnReference,
    SQLSyntaxError,
    StreamSQLError,
    UndefinedFunction,
    WindowingError,
    WrongObjectType,
)
from streamsql.base.limits import Limits
from streamsql.base.types import WireType, type_name
from streamsql.plan import shape_check
from streamsql.plan.functions import function_name
from streamsql.plan.result_types import ResultTypes
from streamsql.sql.statements import Statement
from streamsql.sql.tokens import tokenize
from streamsql.sql.trees import is_assignment, position_of, start_of

_CATEGORIES: dict[WireType, str] = {
    t.INT2: "number", t.INT4: "number", t.INT8: "number", t.NUMERIC: "number", t.FLOAT4: "number", t.FLOAT8: "number",
    t.TEXT: "text", t.VARCHAR: "text", t.BPCHAR: "text", t.NAME: "text", t.BOOL: "bool", t.DATE: "date",
    t.TIMESTAMP: "timestamp", t.TIMESTAMPTZ: "timestamp", t.TIME: "time", t.INTERVAL: "interval", t.UUID: "uuid",
    t.BYTEA: "bytea",
}  # fmt: skip
_SYMBOLS: dict[type[exp.Expr], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.Add: "+", exp.Sub: "-",
    exp.Mul: "*", exp.Div: "/", exp.Mod: "%", exp.Like: "~~", exp.ILike: "~~*",
}  # fmt: skip
_COMPARED = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
_TIMES = frozenset({("date", "timestamp"), ("timestamp", "date")})
_ALLOWED: dict[type[exp.Expr], frozenset[tuple[str, str]]] = {
    exp.Add: frozenset({
        ("number", "number"), ("date", "number"), ("number", "date"), ("date", "interval"), ("interval", "date"),
        ("date", "time"), ("time", "date"), ("timestamp", "interval"), ("interval", "timestamp"), ("time", "interval"),
        ("interval", "time"), ("interval", "interval"),
    }),
    exp.Sub: frozenset({
        ("number", "number"), ("date", "number"), ("date", "date"), ("date", "interval"), ("date", "timestamp"),
        ("timestamp", "date"), ("timestamp", "timestamp"), ("timestamp", "interval"), ("time", "time"),
        ("time", "interval"),
        ("interval", "interval"),
    }),
    exp.Mul: frozenset({("number", "number"), ("interval", "number"), ("number", "interval")}),
    exp.Div: frozenset({("number", "number"), ("interval", "number")}),
    exp.Mod: frozenset({("number", "number")}),
}  # fmt: skip
_HINT = "No operator matches the given name and argument types. You might need to add explicit type casts."
_CALL_HINT = "No function matches the given name and argument types. You might need to add explicit type casts."
_UNKNOWN_FUNCTION = re.compile(r"function (\w+) does not exist\Z")
_OF_ARRAYS = frozenset({"array_dims", "array_length", "array_lower", "array_ndims", "array_upper", "cardinality"})
_ONLY_WINDOWED = (exp.RowNumber, exp.Rank, exp.DenseRank, exp.PercentRank, exp.CumeDist, exp.Ntile, exp.Lag, exp.Lead)


def check(tree: exp.Expr, statement: Statement, types: ResultTypes, limits: Limits) -> None:
    """Raise the error of the first mistake; the tree is as the client wrote it."""
    for node in tree.walk():
        if is_assignment(node):
            continue
        error = _mistake(node, statement, types, limits) or shape_check.mistake(node, statement, types, limits)
        if error is not None:
            raise error


def _mistake(node: exp.Expr, statement: Statement, types: ResultTypes, limits: Limits) -> StreamSQLError | None:
    if isinstance(node, exp.Select):
        return _of_select(node, statement, limits)
    if isinstance(node, exp.With):
        return _of_names(node, statement)
    if isinstance(node, exp.SetOperation):
        return _of_sets(node, statement, types)
    if isinstance(node, (exp.Where, exp.Having)):
        return _of_condition(node, statement, types)
    if isinstance(node, exp.Not):
        return _boolean(node.this, "NOT", statement, types)
    if isinstance(node, exp.Connector):
        word = "AND" if isinstance(node, exp.And) else "OR"
        return _boolean(node.this, word, statement, types) or _boolean(node.expression, word, statement, types)
    if isinstance(node, exp.Case):
        return _of_case(node, statement, types)
    if isinstance(node, exp.Coalesce):
        return _alike("COALESCE", [node.this, *node.expressions], statement, types)
    if isinstance(node, tuple(_SYMBOLS)):
        return _of_operator(node, statement, types, limits)
    if isinstance(node, exp.Neg) and types.type_of(node.this) in (t.TEXT, t.BOOL):
        shown = type_name(types.type_of(node.this) or t.TEXT)
        return UndefinedFunction(
            f"operator does not exist: - {shown}",
            hint=_HINT,
            position=shape_check.place_before(node.this, "-", statement, limits),
        )
    return _of_call(node, statement, types)


def with_argument_types(
    error: StreamSQLError, tree: exp.Expr, statement: Statement, types: ResultTypes, limits: Limits
) -> StreamSQLError:
    """Name the types of the arguments in the error of a function that does not exist, where they are known."""
    match = _UNKNOWN_FUNCTION.match(error.message) if isinstance(error, UndefinedFunction) else None
    call = None
    if match is not None:
        call = next((n for n in tree.walk() if function_name(n, statement) == match[1]), None)
    if match is None or call is None:
        return error
    if call.meta.get("start") is None:  # its place is that of its name
        error.position = shape_check.place_before(call, match[1], statement, limits) or error.position
    arguments = call.expressions if isinstance(call, exp.Anonymous) else list(call.iter_expressions())
    found = [types.type_of(argument) for argument in arguments]
    if all(w is not None for w in found):
        shown = ", ".join(type_name(w) for w in found if w is not None)
        error.message = f"function {match[1]}({shown}) does not exist"
        error.args = (error.message,)
        error.hint = error.hint or _CALL_HINT
    error.position = error.position or position_of(call, statement)
    return error


# ---- clauses ----


def _own(node: exp.Expr, kind: type[exp.Expr]) -> Iterator[exp.Expr]:
    """Give the nodes of a kind that are not in a subquery."""
    for found in node.find_all(kind):
        around = found.find_ancestor(exp.Query)
        if around is node.find_ancestor(exp.Query) or (isinstance(node, exp.Query) and around is node):
            yield found


def _of_condition(node: exp.Where | exp.Having, statement: Statement, types: ResultTypes) -> StreamSQLError | None:
    clause = "WHERE" if isinstance(node, exp.Where) else "HAVING"
    for window in _own(node, exp.Window):
        return WindowingError(f"window functions are not allowed in {clause}", position=position_of(window, statement))
    for aggregate in _own(node, exp.AggFunc) if clause == "WHERE" else ():
        if not isinstance(aggregate.parent, exp.Window):
            return GroupingError(
                "aggregate functions are not allowed in WHERE", position=position_of(aggregate, statement)
            )
    return _boolean(node.this, clause, statement, types)


def _boolean(node: exp.Expr, clause: str, statement: Statement, types: ResultTypes) -> StreamSQLError | None:
    found = types.type_of(node)
    if found is None or found in (t.BOOL, t.UNKNOWN) or found not in _CATEGORIES:
        return None
    return DatatypeMismatch(
        f"argument of {clause} must be type boolean, not type {type_name(found)}", position=position_of(node, statement)
    )


def _of_select(select: exp.Select, statement: Statement, limits: Limits) -> StreamSQLError | None:
    counted = not any(isinstance(i, exp.Star) or isinstance(i.this, exp.Star) for i in select.expressions)
    for clause, key in (("GROUP BY", "group"), ("ORDER BY", "order")):
        around = select.args.get(key)
        for item in around.expressions if around is not None else ():
            place = item.this if isinstance(item, exp.Ordered) else item
            number = int(place.name) if isinstance(place, exp.Literal) and place.is_int else None
            if counted and number is not None and not 0 < number <= len(select.expressions):
                return InvalidColumnReference(
                    f"{clause} position {place.name} is not in select list", position=position_of(place, statement)
                )
            if key == "group":
                for aggregate in _own(place, exp.AggFunc) if not isinstance(place, exp.Literal) else ():
                    return GroupingError(
                        "aggregate functions are not allowed in GROUP BY", position=position_of(aggregate, statement)
                    )
    if not select.args.get("from_") and any(isinstance(i, exp.Star) for i in select.expressions):
        star = next((token for token in tokenize(statement.text, limits) if token.text == "*"), None)
        place = None if star is None else statement.position + star.start + 1
        return SQLSyntaxError("SELECT * with no tables specified is not valid", position=place)
    return None


def _of_names(around: exp.With, statement: Statement) -> StreamSQLError | None:
    names: set[str] = set()
    for cte in around.expressions:
        place = position_of(cte.args["alias"], statement)
        if cte.alias in names:
            return DuplicateAlias(f'WITH query name "{cte.alias}" specified more than once', position=place)
        names.add(cte.alias)
        columns, query = cte.args["alias"].columns, cte.this
        if columns and isinstance(query, exp.Select) and not query.is_star and len(columns) > len(query.expressions):
            return InvalidColumnReference(
                f'WITH query "{cte.alias}" has {len(query.expressions)} columns available but {len(columns)} columns specified',
                position=place,
            )
    return None


def _of_sets(node: exp.SetOperation, statement: Statement, types: ResultTypes) -> StreamSQLError | None:
    word = type(node).__name__.upper()
    one, other = types.outputs(node.this), types.outputs(node.expression)
    if one is None or other is None:
        return None
    right = node.expression
    items = right.expressions if isinstance(right, exp.Select) and not right.is_star else []
    if len(one) != len(other):
        return SQLSyntaxError(
            f"each {word} query must have the same number of columns",
            position=position_of(items[0], statement) if items else None,
        )
    for index, ((_, left), (_, found)) in enumerate(zip(one, other, strict=True)):
        if _differ(left, found):
            assert left is not None
            assert found is not None
            return DatatypeMismatch(
                f"{word} types {type_name(left)} and {type_name(found)} cannot be matched",
                position=position_of(items[index], statement) if index < len(items) else None,
            )
    return None


# ---- expressions ----


def _differ(one: WireType | None, other: WireType | None) -> bool:
    kinds = _CATEGORIES.get(one) if one is not None else None, _CATEGORIES.get(other) if other is not None else None
    return None not in kinds and kinds[0] != kinds[1] and kinds not in _TIMES


def _type(node: exp.Expr, types: ResultTypes) -> WireType | None:
    """Give an operand's type; UNKNOWN for a parameter that is text: it may only be so because nothing says what it is."""
    found = types.type_of(node)
    return t.UNKNOWN if found is t.TEXT and isinstance(node.unnest(), exp.Placeholder) else found


def _alike(what: str, nodes: list[exp.Expr], statement: Statement, types: ResultTypes) -> StreamSQLError | None:
    first: WireType | None = None
    for node in nodes:
        found = _type(node, types)
        if found is None or found is t.UNKNOWN:
            continue
        if first is not None and _differ(first, found):
            return DatatypeMismatch(
                f"{what} types {type_name(first)} and {type_name(found)} cannot be matched",
                position=position_of(node, statement),
            )
        first = first or found
    return None


def _of_case(node: exp.Case, statement: Statement, types: ResultTypes) -> StreamSQLError | None:
    branches = node.args.get("ifs") or []
    if node.this is None:
        for branch in branches:
            error = _boolean(branch.this, "CASE/WHEN", statement, types)
            if error is not None:
                return error
    results = [node.args.get("default"), *(branch.args.get("true") for branch in branches)]
    return _alike("CASE", [r for r in results if isinstance(r, exp.Expr)], statement, types)


def _of_operator(node: exp.Expr, statement: Statement, types: ResultTypes, limits: Limits) -> StreamSQLError | None:
    if isinstance(node.expression, (exp.Any, exp.All, exp.Query)):
        return None
    one, other = _type(node.this, types), _type(node.expression, types)
    if one is None or other is None:
        return None
    kinds = _CATEGORIES.get(one), _CATEGORIES.get(other)
    if isinstance(node, (exp.Like, exp.ILike)):
        wrong = kinds[0] is not None and kinds[0] not in ("text", "bytea")
    elif isinstance(node, _COMPARED):
        wrong = _differ(one, other)
    else:
        wrong = None not in kinds and kinds not in _ALLOWED[type(node)]
    if not wrong:
        return None
    return UndefinedFunction(
        f"operator does not exist: {type_name(one)} {_SYMBOLS[type(node)]} {type_name(other)}",
        hint=_HINT,
        position=_operator_position(node, statement, limits),
    )


def _operator_position(node: exp.Expr, statement: Statement, limits: Limits) -> int | None:
    """Find the token before the right operand."""
    start = start_of(node.expression)
    if start is None or start < statement.position:
        return position_of(node, statement)
    before = [token for token in tokenize(statement.text, limits) if token.start < start - statement.position]
    while before and before[-1].text == "(":
        before.pop()
    return statement.position + before[-1].start + 1 if before else None


def _of_call(node: exp.Expr, statement: Statement, types: ResultTypes) -> StreamSQLError | None:
    parent = node.parent
    if isinstance(node, _ONLY_WINDOWED) and not isinstance(
        parent, (exp.Window, exp.IgnoreNulls, exp.RespectNulls, exp.WithinGroup, exp.Filter)
    ):
        return WrongObjectType(
            f"window function {function_name(node, statement)} requires an OVER clause",
            position=position_of(node, statement),
        )
    if isinstance(node, exp.Window) and isinstance(node.this, exp.AggFunc) and isinstance(node.this.this, exp.Distinct):
        return FeatureNotSupported(
            "DISTINCT is not implemented for window functions", position=position_of(node, statement)
        )
    name = function_name(node, statement)
    if name in _OF_ARRAYS:
        given = [types.type_of(argument) for argument in node.iter_expressions()]
        if given and None not in given and given[0] in _CATEGORIES:
            shown = f"{name}({', '.join(type_name(w) for w in given if w is not None)})"
            return UndefinedFunction(
                f"function {shown} does not exist", hint=_CALL_HINT, position=position_of(node, statement)
            )
    if isinstance(node, (exp.Sum, exp.Avg)) and types.type_of(node.this) in (t.BOOL, t.TEXT, t.VARCHAR, t.BPCHAR):
        shown = f"{function_name(node, statement)}({type_name(types.type_of(node.this) or t.TEXT)})"
        return UndefinedFunction(
            f"function {shown} does not exist", hint=_CALL_HINT, position=position_of(node, statement)
        )
    if isinstance(node, exp.AggFunc) and not isinstance(parent, exp.Window):
        for inner in node.find_all(exp.AggFunc, exp.Window):
            if inner is node or inner.find_ancestor(exp.Query) is not node.find_ancestor(exp.Query):
                continue
            what = "window function calls" if isinstance(inner, exp.Window) else None
            message = f"aggregate function calls cannot {f'contain {what}' if what else 'be nested'}"
            return GroupingError(message, position=position_of(inner, statement))
    return None
