"""Enums in queries: values are texts, and what depends on their order is rewritten to go by their ranks.

    ORDER BY m           ORDER BY __enum_rank_16401(m)
    m > 'ok'             __enum_rank_16401(m) > __enum_rank_16401('ok')
    max(m)               __enum_label_16401(max(__enum_rank_16401(m)))
    'happy'::mood        'happy', which is looked at now; of what is no constant __enum_16401(x)

Equality, grouping and joins are those of texts. The macros are `engine.kept_types`'. A tree is rewritten where all else about
it is still to be found out; the nodes tell their types (`result_types.WIRE_TYPE`), so that it may be looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import sqlglot
from sqlglot import exp

from streamsql.base import types as t
from streamsql.base.errors import InvalidTextRepresentation, StreamSQLError, UndefinedFunction
from streamsql.base.types import WireType, duckdb_name, type_name
from streamsql.pgwire.values import BadValue
from streamsql.plan.functions import OWN
from streamsql.plan.output_names import output_name
from streamsql.plan.parameters import READ, typed_literal
from streamsql.plan.result_types import ENUM_FUNCTIONS, WIRE_TYPE, RelationColumns, ResultTypes, named_type
from streamsql.sql.statements import Statement
from streamsql.sql.trees import is_assignment, position_of

_OUTPUT = "output"  # in the meta of an entry of ORDER BY that is a number: the name of the column
_ORDERED = (exp.LT, exp.LTE, exp.GT, exp.GTE)
_EQUAL = (exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.NullSafeNEQ)
_EXTREMES = (exp.Max, exp.Min)
_OF_SEVERAL = (exp.Greatest, exp.Least)
_NO_OPERATOR = "No operator matches the given name and argument types. You might need to add explicit type casts."


def rewrite(tree: exp.Expr, statement: Statement, relation: RelationColumns) -> None:
    """Let a query go by the order of its enums; the tree is changed. Raises StreamSQLError for a text that is no label."""
    types = ResultTypes(statement, relation)
    noted = list(_noted(tree, statement, types))
    for node, kind, enum in noted:
        _REWRITERS[kind](node, enum, statement)


def _noted(tree: exp.Expr, statement: Statement, types: ResultTypes) -> Iterator[tuple[exp.Expr, str, WireType]]:
    """Give what is to be rewritten, inner nodes first: types are found before anything changes."""
    found = []
    for node in tree.walk():
        noted = _of_node(node, statement, types)
        if noted is not None:
            found.append((node, *noted))
    yield from reversed(found)


def _of_node(node: exp.Expr, statement: Statement, types: ResultTypes) -> tuple[str, WireType] | None:
    if isinstance(node, exp.Cast):
        made = named_type(node.to)
        if made is None or not made.scalar.is_made:
            return None
        return "cast" if made.scalar.labels is not None else "struct", made
    if isinstance(node, exp.Ordered):
        enum = _enum(_sorted_type(node, types))
        return None if enum is None else ("ordered", enum)
    if isinstance(node, (*_ORDERED, *_EQUAL)) and not is_assignment(node):
        enum = _compared(node, [node.this, node.expression], statement, types)
        return None if enum is None else ("compared" if isinstance(node, _ORDERED) else "equal", enum)
    if isinstance(node, exp.Between):
        enum = _compared(node, [node.this, node.args["low"], node.args["high"]], statement, types)
        return None if enum is None else ("between", enum)
    if isinstance(node, exp.In) and node.expressions:
        enum = _compared(node, [node.this, *node.expressions], statement, types)
        return None if enum is None else ("in", enum)
    if isinstance(node, _OF_SEVERAL):
        enum = _enum(types.type_of(node))
        return None if enum is None else ("several", enum)
    if isinstance(node, _EXTREMES) and not node.expressions:
        enum = _enum(types.type_of(node))
        return None if enum is None else ("extreme", enum)
    if isinstance(node, (exp.ArgMax, exp.ArgMin)):
        enum = _enum(types.type_of(node.expression))
        return None if enum is None else ("arg", enum)
    if isinstance(node, exp.Anonymous) and str(node.this).lower() in ENUM_FUNCTIONS:
        known = [types.type_of(part) for part in node.expressions]
        enum = next((e for e in map(_enum, known) if e is not None), None)
        if enum is None:
            shown = ", ".join(type_name(k or t.UNKNOWN) for k in known)
            raise UndefinedFunction(
                f"function {str(node.this).lower()}({shown}) does not exist",
                hint="it takes a value of an enum, for example NULL::mood", position=position_of(node, statement),
            )  # fmt: skip
        return "function", enum
    return None


def _enum(found: WireType | None) -> WireType | None:
    return found if found is not None and found.labels is not None else None


def _compared(node: exp.Expr, operands: list[exp.Expr], statement: Statement, types: ResultTypes) -> WireType | None:
    """Give the enum whose values are compared; raises where they are with anything else."""
    known = [types.type_of(operand) for operand in operands]
    enum = next((e for e in map(_enum, known) if e is not None), None)
    if enum is None:
        return None
    for operand, of in zip(operands, known, strict=True):
        if of is t.UNKNOWN or READ in operand.unnest().meta:
            _check_constant(operand, enum, statement)
        elif of is not None and of != enum:
            one = type_name(known[0] or t.UNKNOWN)
            other = type_name((known[-1] or t.UNKNOWN) if operand is node.this else of)
            symbol = _SYMBOLS.get(type(node), "=")
            raise UndefinedFunction(
                f"operator does not exist: {one} {symbol} {other}", hint=_NO_OPERATOR,
                position=position_of(node, statement),
            )  # fmt: skip
    return enum


_SYMBOLS: dict[type[exp.Expr], str] = {exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.NEQ: "<>"}


def _check_constant(node: exp.Expr, enum: WireType, statement: Statement) -> None:
    bare = node.unnest()
    if isinstance(bare, exp.Cast) and READ in bare.meta:  # a parameter
        bare = bare.this
    if not isinstance(bare, exp.Literal) or not bare.is_string:
        return
    assert enum.labels is not None
    if bare.name not in enum.labels.ranks:
        raise InvalidTextRepresentation(
            f'invalid input value for enum {enum.name}: "{bare.name}"', position=position_of(bare, statement)
        )


def _sorted_type(node: exp.Ordered, types: ResultTypes) -> WireType | None:
    """Give the type of what rows are sorted by: an expression, an output's name or its number."""
    value, order = node.this, node.parent
    query = order.parent if isinstance(order, exp.Order) else None
    if isinstance(query, (exp.Select, exp.SetOperation)) and query.args.get("order") is order:
        outputs = types.outputs(query) or []
        if isinstance(value, exp.Literal) and value.is_int:
            number = int(value.this)
            if not 1 <= number <= len(outputs):
                return None
            node.meta[_OUTPUT], of = outputs[number - 1]
            return of
        if isinstance(value, exp.Column) and not value.table:
            named = [of for name, of in outputs if name == value.name]
            if named:
                return named[0]
    return types.type_of(value)


def _call(name: str, enum: WireType, *arguments: exp.Expr, gives: WireType | None = None) -> exp.Expr:
    made = exp.Anonymous(this=f"__enum{name}_{enum.oid}", expressions=list(arguments))
    made.meta[OWN] = True
    if gives is not None:
        made.meta[WIRE_TYPE] = gives
    return made


def _rank(value: exp.Expr, enum: WireType) -> exp.Expr:
    return _call("_rank", enum, value.copy(), gives=t.FLOAT8)


def _put(node: exp.Expr, made: exp.Expr, statement: Statement) -> None:
    """Put an expression in the place of another, under the name that a column of a result has by that."""
    if isinstance(node.parent, exp.Select) and node.arg_key == "expressions":
        alias = exp.alias_(made, output_name(node, statement), quoted=True)
        alias.meta.update({k: v for k, v in made.meta.items() if k == WIRE_TYPE})
        made = alias
    node.replace(made)


def _cast(node: exp.Expr, enum: WireType, statement: Statement) -> None:
    value, scalar = node.this, enum.scalar
    if enum.element is not None:
        made: exp.Expr = exp.cast(value.copy(), "VARCHAR[]", dialect="duckdb")
        if isinstance(value.unnest(), exp.Literal) and value.unnest().is_string:
            made = _array(value.unnest(), enum, statement)
        else:
            check = sqlglot.parse_one("list_transform(v, lambda x: f(x))", read="duckdb")
            for column in list(check.find_all(exp.Column)):
                if column.name == "v":
                    column.replace(made)
            for call in list(check.find_all(exp.Anonymous)):
                if str(call.this).lower() == "f":
                    call.replace(_call("", scalar, *call.expressions))
            made = check
    elif isinstance(value.unnest(), exp.Literal) and value.unnest().is_string:
        _check_constant(value, scalar, statement)
        made = exp.paren(value.unnest().copy())
    elif isinstance(value, exp.Null):
        made = exp.cast(value.copy(), "VARCHAR", dialect="duckdb")
    else:
        made = _call("", scalar, value.copy())
    made.meta[WIRE_TYPE] = enum
    _put(node, made, statement)


def _struct(node: exp.Expr, made: WireType, statement: Statement) -> None:
    """Cast to a composite type, or to an array of one: to the struct that it is."""
    value = node.this.unnest()
    if isinstance(value, exp.Literal) and value.is_string:
        cast = _array(value, made, statement)
    else:
        cast = exp.cast(node.this.copy(), duckdb_name(made), dialect="duckdb")
    cast.meta[WIRE_TYPE] = made
    _put(node, cast, statement)


def _array(value: exp.Expr, enum: WireType, statement: Statement) -> exp.Expr:
    """Read the text of an array, or of a composite value."""
    try:
        return typed_literal(enum, value.name)
    except (BadValue, StreamSQLError) as error:
        if isinstance(error, StreamSQLError):
            error.position = error.position or position_of(value, statement)
        raise


def _ordered(node: exp.Expr, enum: WireType, _: Statement) -> None:
    value = node.this
    if isinstance(value, exp.Literal):
        value = exp.column(node.meta[_OUTPUT], quoted=True)
    node.set("this", _rank(value, enum))


def _compared_ranks(node: exp.Expr, enum: WireType, _: Statement) -> None:
    for key in ("this", "expression", "low", "high"):
        value = node.args.get(key)
        if isinstance(value, exp.Expr):
            node.set(key, _rank(value, enum))


def _as_it_is(*_: object) -> None:
    """Leave a comparison of texts."""


def _several(node: exp.Expr, enum: WireType, statement: Statement) -> None:
    made = node.copy()
    made.set("this", _rank(node.this, enum))
    made.set("expressions", [_rank(e, enum) for e in node.expressions])
    _put(node, _call("_label", enum, made, gives=enum), statement)


def _extreme(node: exp.Expr, enum: WireType, statement: Statement) -> None:
    """Take the label of the largest rank; FILTER and OVER stay around the aggregate."""
    outer = node
    while isinstance(outer.parent, (exp.Filter, exp.Window)) and outer.arg_key == "this":
        outer = outer.parent
    argument = node.this
    if isinstance(argument, exp.Distinct):  # which changes nothing
        argument = argument.expressions[0]
    name = output_name(outer, statement)
    node.set("this", _rank(argument, enum))
    made = _call("_label", enum, outer.copy(), gives=enum)
    if isinstance(outer.parent, exp.Select) and outer.arg_key == "expressions":
        made = exp.alias_(made, name, quoted=True)
        made.meta[WIRE_TYPE] = enum
    outer.replace(made)


def _arg(node: exp.Expr, enum: WireType, _: Statement) -> None:
    node.set("expression", _rank(node.expression, enum))


def _function(node: exp.Expr, enum: WireType, statement: Statement) -> None:
    name, arguments = str(node.this).lower(), node.expressions
    labels = _call("_labels", enum).sql("duckdb")
    if name != "enum_range":
        sql = f"list_extract({labels}, {1 if name == 'enum_first' else -1})"
    elif len(arguments) < 2:
        sql = labels
    else:
        low, high = (_rank(a, enum).sql("duckdb") for a in arguments)
        rank = _rank(exp.column("x"), enum).sql("duckdb")
        sql = (
            f"list_filter({labels}, lambda x: {rank} >= coalesce({low}, {rank}) AND {rank} <= coalesce({high}, {rank}))"
        )
    made = sqlglot.parse_one(sql, read="duckdb")
    for call in made.find_all(exp.Anonymous):
        if str(call.this).lower().startswith("__enum"):
            call.meta[OWN] = True
    made.meta[WIRE_TYPE] = enum.array if name == "enum_range" else enum
    _put(node, made, statement)


_REWRITERS: dict[str, Callable[[exp.Expr, WireType, Statement], None]] = {
    "arg": _arg, "between": _compared_ranks, "cast": _cast, "compared": _compared_ranks, "equal": _as_it_is,
    "extreme": _extreme, "function": _function, "in": _as_it_is, "ordered": _ordered, "several": _several,
    "struct": _struct,
}  # fmt: skip
