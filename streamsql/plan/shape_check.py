"""Mistakes in what stands where: subscripts of what has none, windows without a definition, subqueries of too many columns,
texts that are no value of the type that they stand beside. Told as `type_check` tells its own, which asks here last.

    id[1]                       42804  cannot subscript type integer because it does not support subscripting
    coalesce(id, 'x')           22P02  invalid input syntax for type integer: "x"
    id IN (SELECT a, b ..)      42601  subquery has too many columns
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlglot import exp
from sqlglot.tokens import Token

from streamsql.base import types as t
from streamsql.base.errors import (
    DatatypeMismatch,
    InvalidOffset,
    InvalidTextRepresentation,
    SQLSyntaxError,
    StreamSQLError,
    UndefinedFunction,
    UndefinedObject,
    WindowingError,
    WrongObjectType,
)
from streamsql.base.limits import Limits
from streamsql.base.types import WireType, type_name
from streamsql.plan.parameters import typed_literal
from streamsql.plan.result_types import ResultTypes
from streamsql.sql.statements import Statement
from streamsql.sql.tokens import tokenize
from streamsql.sql.trees import position_of, start_of

# values of these have no parts
_PLAIN = frozenset({
    t.BOOL, t.BYTEA, t.DATE, t.FLOAT4, t.FLOAT8, t.INT2, t.INT4, t.INT8, t.INTERVAL, t.NUMERIC, t.TIME, t.TIMESTAMP,
    t.TIMESTAMPTZ, t.UUID,
})  # fmt: skip
_TEXTS = frozenset({t.TEXT, t.VARCHAR, t.BPCHAR, t.NAME, t.UNKNOWN})
_ALIKE = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Coalesce, exp.Between, exp.NullSafeEQ, exp.NullSafeNEQ)
# collations that there are: DuckDB compares by bytes
COLLATIONS = frozenset({"C", "POSIX", "default", "en_US", "ucs_basic"})


def mistake(node: exp.Expr, statement: Statement, types: ResultTypes, limits: Limits) -> StreamSQLError | None:
    """Give the error of what is wrong with this node itself."""
    find = next((check for kinds, check in _CHECKS if isinstance(node, kinds)), None)
    found = None if find is None else find(node, statement, types, limits)
    return found if found is not None or not isinstance(node, _ALIKE) else _unreadable(node, statement, types)


def before(node: exp.Expr, statement: Statement, limits: Limits) -> Iterator[Token]:
    """Give the tokens before a node, the last one first; none where its place is not known."""
    start = start_of(node)
    if start is not None and start >= statement.position:
        tokens = tokenize(statement.text, limits)
        yield from reversed([token for token in tokens if token.start < start - statement.position])


def place_before(node: exp.Expr, text: str, statement: Statement, limits: Limits) -> int | None:
    """Give the position of the last token of this text before a node."""
    token = next((token for token in before(node, statement, limits) if token.text == text), None)
    return position_of(node, statement) if token is None else statement.position + token.start + 1


def place_after(node: exp.Expr, text: str, statement: Statement, limits: Limits) -> int | None:
    """Give the position of the first token of this text behind the start of a node."""
    start = start_of(node)
    if start is None or start < statement.position:
        return None
    tokens = (token for token in tokenize(statement.text, limits) if token.start >= start - statement.position)
    return next((statement.position + token.start + 1 for token in tokens if token.text == text), None)


def _unreadable(node: exp.Expr, statement: Statement, types: ResultTypes) -> StreamSQLError | None:
    """Find a string beside values of another type that is no value of that type."""
    operands = list(node.iter_expressions())
    if any(isinstance(operand, (exp.All, exp.Any)) for operand in operands):
        return None  # beside the elements of an array
    known = [w for w in map(types.type_of, operands) if w is not t.UNKNOWN]
    if not known or known[0] not in _PLAIN or any(w is not known[0] for w in known):
        return None
    for operand in operands:
        literal = operand.unnest()
        if isinstance(literal, exp.Literal) and literal.is_string:
            error = _no_value(literal, known[0], statement)
            if error is not None:
                return error
    return None


def _no_value(literal: exp.Literal, wire_type: WireType, statement: Statement) -> StreamSQLError | None:
    if literal.name.strip().lower() in _WORDS:
        return None
    try:
        typed_literal(wire_type, literal.name)
    except StreamSQLError as error:
        error.position = position_of(literal, statement)
        return error
    return None


_WORDS = frozenset({"epoch", "infinity", "-infinity", "now", "today", "tomorrow", "yesterday", "allballs"})


def _subscript(node: exp.Expr, statement: Statement, types: ResultTypes, _: Limits) -> StreamSQLError | None:
    found = types.type_of(node.this)
    if found is None or found not in (*_PLAIN, t.TEXT, t.VARCHAR, t.BPCHAR):
        return None
    return DatatypeMismatch(
        f"cannot subscript type {type_name(found)} because it does not support subscripting",
        position=position_of(node, statement),
    )


def _field(node: exp.Expr, statement: Statement, types: ResultTypes, _: Limits) -> StreamSQLError | None:
    found = types.type_of(node.this)
    if not isinstance(node.expression, exp.Identifier) or found is None or found not in (*_PLAIN, t.TEXT, t.VARCHAR):
        return None
    return WrongObjectType(
        f"column notation .{node.expression.name} applied to type {type_name(found)}, which is not a composite type",
        position=position_of(node.this, statement),
    )


def _window(node: exp.Expr, statement: Statement, _types: ResultTypes, limits: Limits) -> StreamSQLError | None:
    """Find a window that is not defined; definitions of one name are looked at with the SELECT."""
    name = node.args.get("alias")
    select = node.find_ancestor(exp.Select)
    if not isinstance(name, exp.Identifier) or select is None:
        return None
    if any(w.this.name == name.name for w in select.args.get("windows") or []):
        return None
    place = position_of(name, statement) or place_after(node, name.name, statement, limits)
    return UndefinedObject(f'window "{name.name}" does not exist', position=place)


def _select(node: exp.Expr, statement: Statement, _: ResultTypes, limits: Limits) -> StreamSQLError | None:
    names: set[str] = set()
    for window in node.args.get("windows") or []:
        if window.this.name in names:
            return WindowingError(
                f'window "{window.this.name}" is already defined', position=_last(window.this, statement, limits)
            )
        names.add(window.this.name)
    return None


def _last(name: exp.Expr, statement: Statement, limits: Limits) -> int | None:
    """Find the last definition of a window: the parenthesis behind its name and AS."""
    tokens = tokenize(statement.text, limits)
    threes = zip(tokens, tokens[1:], tokens[2:], strict=False)
    found = [c for a, b, c in threes if (a.text, b.text, c.text) == (name.name, "as", "(")]
    return statement.position + found[-1].start + 1 if found else position_of(name, statement)


def _offset(node: exp.Expr, _statement: Statement, _types: ResultTypes, _limits: Limits) -> StreamSQLError | None:
    negative = isinstance(node.expression, exp.Neg) and isinstance(node.expression.this, exp.Literal)
    return InvalidOffset("OFFSET must not be negative") if negative else None


def _in_subquery(node: exp.Expr, statement: Statement, types: ResultTypes, limits: Limits) -> StreamSQLError | None:
    query = node.args.get("query")
    found = types.outputs(query) if isinstance(query, exp.Expr) else None
    if found is None or query is None:
        return None
    if len(found) != 1:
        if isinstance(node.this.unnest(), exp.Tuple):
            return None
        return SQLSyntaxError("subquery has too many columns", position=place_before(query, "in", statement, limits))
    one, other = types.type_of(node.this), found[0][1]
    numbers = {t.INT2, t.INT4, t.INT8, t.NUMERIC, t.FLOAT4, t.FLOAT8}
    if (
        one is None
        or other is None
        or not ((one in numbers and other in _TEXTS) or (one in _TEXTS and other in numbers))
    ):
        return None
    if t.UNKNOWN in (one, other):
        return None
    return UndefinedFunction(
        f"operator does not exist: {type_name(one)} = {type_name(other)}",
        hint="No operator matches the given name and argument types. You might need to add explicit type casts.",
        position=place_before(query, "in", statement, limits),
    )


def _scalar(node: exp.Expr, statement: Statement, types: ResultTypes, limits: Limits) -> StreamSQLError | None:
    if node.arg_key not in ("expressions", "this", "expression") or not isinstance(node.parent, _SCALAR_AROUND):
        return None
    found = types.outputs(node)
    if found is None or len(found) == 1:
        return None
    return SQLSyntaxError("subquery must return only one column", position=place_before(node, "(", statement, limits))


_SCALAR_AROUND = (
    exp.Select,
    exp.Alias,
    exp.EQ,
    exp.NEQ,
    exp.LT,
    exp.LTE,
    exp.GT,
    exp.GTE,
    exp.Add,
    exp.Sub,
    exp.Mul,
    exp.Div,
)


def _collation(node: exp.Expr, statement: Statement, types: ResultTypes, limits: Limits) -> StreamSQLError | None:
    found = types.type_of(node.this)
    place = place_after(node, "collate", statement, limits)
    if found is not None and found in _PLAIN:
        return DatatypeMismatch(f"collations are not supported by type {type_name(found)}", position=place)
    name = node.expression.name
    if not isinstance(node.expression, exp.Identifier) or name in COLLATIONS:
        return None
    return UndefinedObject(f'collation "{name}" for encoding "UTF8" does not exist', position=place)


def _concatenated(node: exp.Expr, statement: Statement, types: ResultTypes, _: Limits) -> StreamSQLError | None:
    for text, array in ((node.this, node.expression), (node.expression, node.this)):
        literal, of = text.unnest(), types.type_of(array)
        plain = isinstance(literal, exp.Literal) and literal.is_string
        if plain and of is not None and of.element is not None and not literal.name.strip().startswith("{"):
            return InvalidTextRepresentation(
                f'malformed array literal: "{literal.name}"',
                detail='Array value must start with "{" or dimension information.',
                position=position_of(literal, statement),
            )
    return None


Check = Callable[[exp.Expr, Statement, ResultTypes, Limits], "StreamSQLError | None"]
_CHECKS: tuple[tuple[type[exp.Expr], Check], ...] = (
    (exp.Bracket, _subscript),
    (exp.Collate, _collation),
    (exp.DPipe, _concatenated),
    (exp.Dot, _field),
    (exp.In, _in_subquery),
    (exp.Offset, _offset),
    (exp.Select, _select),
    (exp.Subquery, _scalar),
    (exp.Window, _window),
)
