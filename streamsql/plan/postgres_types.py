"""Types and typed literals as PostgreSQL reads them: ``'{1,2}'::int[]``, ``'\\xff'::bytea``, ``'P1D'::interval``, ``numeric``.

DuckDB reads most texts as PostgreSQL does; where it does not, the literal is read here and written anew. ``numeric`` without
a precision, of which DuckDB keeps three places, is what it is for a column: DECIMAL(38,10). A function of DuckDB's that the
stock parser misreads is put right as well.
"""

from __future__ import annotations

from sqlglot import exp

from streamsql.base.errors import StreamSQLError
from streamsql.base.types import BYTEA, INTERVAL, NUMERIC, WireType, wire_column
from streamsql.plan.parameters import READ, typed_literal
from streamsql.sql.column_types import DUCKDB_TYPES
from streamsql.sql.statements import Statement
from streamsql.sql.trees import position_of

# PostgreSQL's short names of units that DuckDB does not know behind INTERVAL
_UNITS = {"MIN": "MINUTE", "MINS": "MINUTE", "SEC": "SECOND", "SECS": "SECOND", "HR": "HOUR", "HRS": "HOUR"}
_NUMERIC_PRECISION, _NUMERIC_SCALE = 38, 10


def as_postgres_reads(tree: exp.Expr, statement: Statement) -> None:
    """Settle the types and typed literals of a tree, which is changed. Raises DataError with a position."""
    for data_type in tree.find_all(exp.DataType):
        if data_type.this is exp.DType.DECIMAL and not data_type.expressions:
            digits = (exp.Literal.number(n) for n in (_NUMERIC_PRECISION, _NUMERIC_SCALE))
            data_type.set("expressions", [exp.DataTypeParam(this=n) for n in digits])
    for interval in tree.find_all(exp.Interval):
        unit = interval.args.get("unit")
        if isinstance(unit, exp.Var) and unit.name.upper() in _UNITS:
            unit.set("this", _UNITS[unit.name.upper()])
    for cast in list(tree.find_all(exp.Cast)):  # what is put in has casts of its own
        text, wire_type = cast.this, _read_here(cast.to)
        if wire_type is None or not isinstance(text, exp.Literal) or not text.is_string or READ in cast.meta:
            continue
        try:
            text.replace(typed_literal(wire_type, text.name))
        except StreamSQLError as error:
            error.position = position_of(text, statement)
            raise
    for call in tree.find_all(exp.RegexpExtract):
        # regexp_extract(text, pattern, group, options) is DuckDB's; sqlglot takes it for another's, with a position
        call.set("group", call.args.get("group") or call.args.get("position"))
        call.set("parameters", call.args.get("parameters") or call.args.get("occurrence"))
        call.set("position", None)
        call.set("occurrence", None)


def _read_here(data_type: exp.Expr) -> WireType | None:
    kind = data_type.this if isinstance(data_type, exp.DataType) else data_type
    if isinstance(kind, exp.Interval) or kind is exp.DType.INTERVAL:
        return INTERVAL
    if kind is exp.DType.VARBINARY:
        return BYTEA
    element = data_type.expressions[0] if kind is exp.DType.ARRAY and len(data_type.expressions) == 1 else None
    if not isinstance(element, exp.DataType):
        return None
    if element.this is exp.DType.DECIMAL:
        return NUMERIC.array
    name = DUCKDB_TYPES.get(element.this)
    return wire_column(name).type.array if name is not None else None
