"""Parameters (``$1``) of a query: what types they have, and how their values are put in.

A type comes from where the parameter stands, as in PostgreSQL: a cast, the other side of a comparison or of arithmetic,
LIMIT; what says nothing makes it text. Values are put into the tree as typed literals, so that a continuous query with
parameters is a plan like any other.
"""

from __future__ import annotations

from sqlglot import exp

from streamsql.base.errors import StreamSQLError, UndefinedParameter
from streamsql.base.types import DUCKDB_NAME, NUMERIC, TEXT, WireType, wire_column
from streamsql.plan.bind import Describe
from streamsql.sql.render import duckdb_sql

_SIDES = (exp.Binary, exp.Between, exp.In, exp.Coalesce, exp.Case, exp.If)


def number_of(parameter: exp.Parameter) -> int:
    """Give n of ``$n``."""
    return int(parameter.name)


def infer_types(
    tree: exp.Expression, count: int, declared: tuple[WireType | None, ...], describe: Describe
) -> list[WireType]:
    """Give the type of each parameter 1..count; what the client declared in Parse counts before all."""
    types: list[WireType | None] = [declared[i] if i < len(declared) else None for i in range(count)]
    for parameter in tree.find_all(exp.Parameter):
        index = number_of(parameter) - 1
        if types[index] is None:
            types[index] = _type_of(parameter, describe)
    return [t or TEXT for t in types]


def _type_of(parameter: exp.Parameter, describe: Describe) -> WireType | None:
    parent = parameter.parent
    while isinstance(parent, exp.Paren):
        parent = parent.parent
    if isinstance(parent, exp.Cast):
        return _of_duckdb(parent.to.sql("duckdb"), describe)
    if isinstance(parent, (exp.Limit, exp.Offset)):
        return wire_column("BIGINT").type
    if isinstance(parent, (exp.Like, exp.ILike, exp.RegexpLike)):
        return TEXT
    if isinstance(parent, _SIDES):
        for other in parent.iter_expressions():
            if other is not parameter and not other.find(exp.Parameter) and not isinstance(other, exp.Query):
                found = _of_expression(other, describe)
                if found is not None:
                    return found
    return None


def _of_duckdb(type_name: str, describe: Describe) -> WireType | None:
    try:
        return wire_column(describe(f"SELECT CAST(NULL AS {type_name})")[0].type).type
    except StreamSQLError:
        return None


def _of_expression(node: exp.Expression, describe: Describe) -> WireType | None:
    """Ask DuckDB for the type of an expression, in the FROM clause of the SELECT around it."""
    select = node.find_ancestor(exp.Select)
    probe = exp.select(node.copy())
    if select is not None and select.args.get("from_"):
        probe = probe.from_(select.args["from_"].this.copy())
        for join in select.args.get("joins") or []:
            if join.find(exp.Parameter):
                return None
            probe.append("joins", join.copy())
    try:
        return wire_column(describe(duckdb_sql(probe))[0].type).type
    except StreamSQLError:
        return None


def substituted(tree: exp.Expression, types: list[WireType], values: tuple[str | None, ...] | None) -> exp.Expression:
    """Put values (Postgres text form, None for NULL) in for the parameters; without values, typed NULLs."""
    made = tree.copy()
    for parameter in list(made.find_all(exp.Parameter)):
        index = number_of(parameter) - 1
        if index >= len(types):
            raise UndefinedParameter(f"there is no parameter ${index + 1}")
        literal = typed_literal(types[index], None if values is None else values[index])
        if parameter is made:
            return literal
        parameter.replace(literal)
    return made


def typed_literal(wire_type: WireType, text: str | None) -> exp.Expression:
    """Make the SQL literal of a value: its text, cast to its type."""
    value: exp.Expression = exp.null() if text is None else exp.Literal.string(text)
    if wire_type.element is not None:
        value = exp.null() if text is None else exp.Literal.string(_duckdb_list(text))
        name = f"{DUCKDB_NAME.get(wire_type.element.name, 'VARCHAR')}[]"
    elif wire_type is NUMERIC:
        name = _decimal_name(text)
    else:
        name = DUCKDB_NAME.get(wire_type.name, "VARCHAR")
    return exp.cast(value, exp.DataType.build(name, dialect="duckdb"))


def _decimal_name(text: str | None) -> str:
    """Name the narrowest decimal that holds a number, so that it keeps every digit."""
    digits = (text or "").lstrip("+-").lower()
    if not digits.replace(".", "", 1).isdigit():
        return "DOUBLE"
    whole, _, fraction = digits.partition(".")
    scale = len(fraction)
    precision = max(len(whole.lstrip("0")), 1) + scale
    return f"DECIMAL({max(precision, 18)},{scale})" if precision <= 38 else "DOUBLE"


def _duckdb_list(text: str) -> str:
    return "[" + text.strip()[1:-1] + "]" if text.strip().startswith("{") else text
