"""Types and typed literals as PostgreSQL reads them: ``'{1,2}'::int[]``, ``'\\xff'::bytea``, ``'P1D'::interval``, ``numeric``.

DuckDB reads most texts as PostgreSQL does; where it does not, the literal is read here and written anew. ``numeric`` without
a precision, of which DuckDB keeps three places, is what it is for a column: DECIMAL(38,10). A function of DuckDB's that the
stock parser misreads is put right as well.
"""

from __future__ import annotations

import json

import sqlglot
from sqlglot import exp

from streamsql.base import types as t
from streamsql.base.errors import InvalidTextRepresentation, StreamSQLError
from streamsql.base.types import INTERVAL, NUMERIC, WireType, wire_column
from streamsql.plan.functions import function_name
from streamsql.plan.parameters import READ, read_numeric, typed_literal
from streamsql.sql.column_types import DUCKDB_TYPES
from streamsql.sql.statements import Statement
from streamsql.sql.trees import position_of

# PostgreSQL's short names of units that DuckDB does not know behind INTERVAL
_UNITS = {"MIN": "MINUTE", "MINS": "MINUTE", "SEC": "SECOND", "SECS": "SECOND", "HR": "HOUR", "HRS": "HOUR"}
_NUMERIC_PRECISION, _NUMERIC_SCALE = 38, 10


def as_postgres_reads(tree: exp.Expr, statement: Statement) -> None:
    """Settle the types and typed literals of a tree, which is changed. Raises DataError with a position."""
    casts = list(tree.find_all(exp.Cast))  # what is put in has casts of its own
    for data_type in tree.find_all(exp.DataType):
        if data_type.this is exp.DType.DECIMAL and not data_type.expressions:
            digits = (exp.Literal.number(n) for n in (_NUMERIC_PRECISION, _NUMERIC_SCALE))
            data_type.set("expressions", [exp.DataTypeParam(this=n) for n in digits])
            data_type.meta[_UNCONSTRAINED] = True
    for interval in tree.find_all(exp.Interval):
        unit = interval.args.get("unit")
        if isinstance(unit, exp.Var) and unit.name.upper() in _UNITS:
            unit.set("this", _UNITS[unit.name.upper()])
    for node in tree.find_all(exp.Encode, exp.Anonymous):
        _read_bytes(node)
    for cast in casts:
        text, wire_type = cast.this.unnest(), _read_here(cast.to)
        if not isinstance(text, exp.Literal) or READ in cast.meta or (wire_type is None and text.is_string):
            continue
        try:
            _read(cast, text, wire_type)
        except StreamSQLError as error:
            error.position = position_of(text, statement) or position_of(cast, statement)
            raise
    for call in tree.find_all(exp.RegexpExtract):
        if function_name(call, statement) == "regexp_substr":
            continue
        # regexp_extract(text, pattern, group, options) is DuckDB's; sqlglot takes it for another's, with a position
        call.set("group", call.args.get("group") or call.args.get("position"))
        call.set("parameters", call.args.get("parameters") or call.args.get("occurrence"))
        call.set("position", None)
        call.set("occurrence", None)


def read_exponents(tree: exp.Expr) -> None:
    """Write numbers with an exponent out, which are numeric in PostgreSQL: ``1e3`` is 1000. The tree is changed.

    In continuous queries they are DuckDB's doubles. What has too many digits stays as it is, and is refused where it is shown.
    """
    for number in list(tree.find_all(exp.Literal)):
        if not number.is_string and "e" in number.name.lower() and not number.name.lower().startswith("0x"):
            made = typed_literal(NUMERIC, number.name)
            if made.args["to"].this is exp.DType.DECIMAL:
                number.replace(made)


_OF_RECORDS = frozenset({"row_to_json", "to_json", "to_jsonb"})


def name_fields(tree: exp.Expr) -> None:
    """Name the fields of a record that becomes JSON, as PostgreSQL does: ``row_to_json(ROW(1, 'a'))``; the tree is changed."""
    for call in list(tree.find_all(exp.Anonymous)):
        if call.name.lower() in _OF_RECORDS and call.expressions and _is_record(call.expressions[0]):
            call.expressions[0].replace(_named(call.expressions[0]))


def _is_record(node: exp.Expr) -> bool:
    return isinstance(node, exp.Tuple) or (isinstance(node, exp.Anonymous) and node.name.lower() == "row")


def _named(node: exp.Expr) -> exp.Expr:
    if not _is_record(node):
        return node.copy()
    return exp.Struct(
        expressions=[
            exp.PropertyEQ(this=exp.to_identifier(f"f{number}"), expression=_named(value))
            for number, value in enumerate(node.expressions, 1)
        ]
    )


def _read_bytes(node: exp.Expr) -> None:
    """Read a string that stands for bytes: ``encode('abc', 'hex')``."""
    if isinstance(node, exp.Anonymous) and str(node.this).lower() not in _OF_BYTES:
        return
    first = node.this if isinstance(node, exp.Encode) else next(iter(node.expressions), None)
    if isinstance(first, exp.Literal) and first.is_string:
        first.replace(typed_literal(t.BYTEA, first.name))


_OF_BYTES = frozenset({"convert_from", "get_byte", "sha224", "sha256", "sha384", "sha512"})


def _read(cast: exp.Cast, text: exp.Literal, wire_type: WireType | None) -> None:
    """Put in the value that PostgreSQL reads from a literal, in DuckDB's writing."""
    unconstrained = bool(cast.to.meta.get(_UNCONSTRAINED))
    if not text.is_string:
        if unconstrained:  # 10.50::numeric has the scale that is written
            cast.replace(typed_literal(NUMERIC, text.name))
        return
    assert wire_type is not None
    if wire_type in (t.JSON, t.JSONB):
        _check_json(text.name)
    word = _WORDS.get(text.name.strip().lower()) if wire_type in _DAYS else None
    if word is not None:
        text.replace(sqlglot.parse_one(word, read="duckdb"))
    elif wire_type is NUMERIC and unconstrained:
        cast.replace(typed_literal(NUMERIC, text.name))
    elif wire_type is NUMERIC:
        precision, scale = _digits(cast.to)
        made = typed_literal(NUMERIC, read_numeric(text.name, precision, scale))
        text.replace(made.this)
    else:
        made = typed_literal(wire_type, text.name)
        nested = wire_type.element is not None and made.args["to"].expressions[0].this is exp.DType.ARRAY
        (cast if nested else text).replace(made)  # int[] is any depth to PostgreSQL


def _check_json(text: str) -> None:
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidTextRepresentation("invalid input syntax for type json", detail=_json_fault(error)) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f'Token "{name}" is invalid.')


def _json_fault(error: Exception) -> str:
    return f"{error.msg}." if isinstance(error, json.JSONDecodeError) else str(error)


def _digits(data_type: exp.Expr) -> tuple[int, int]:
    digits = [int(p.name) for p in data_type.expressions]
    return digits[0], digits[1] if len(digits) > 1 else 0


_UNCONSTRAINED = "unconstrained"  # in the meta of numeric without precision
_SCALARS: dict[object, WireType] = {
    exp.DType.BIGINT: t.INT8, exp.DType.BOOLEAN: t.BOOL, exp.DType.DATE: t.DATE, exp.DType.DECIMAL: NUMERIC,
    exp.DType.DOUBLE: t.FLOAT8, exp.DType.FLOAT: t.FLOAT4, exp.DType.INT: t.INT4, exp.DType.JSON: t.JSON,
    exp.DType.JSONB: t.JSONB, exp.DType.SMALLINT: t.INT2, exp.DType.TIME: t.TIME, exp.DType.TIMESTAMP: t.TIMESTAMP,
    exp.DType.TIMESTAMPTZ: t.TIMESTAMPTZ, exp.DType.TIMETZ: t.TIMETZ, exp.DType.UUID: t.UUID, exp.DType.VARBINARY: t.BYTEA,
}  # fmt: skip
_DAYS = (t.DATE, t.TIMESTAMP, t.TIMESTAMPTZ)
# words that PostgreSQL reads as times
_WORDS = {
    "now": "now()", "today": "current_date", "tomorrow": "(current_date + 1)", "yesterday": "(current_date - 1)",
}  # fmt: skip


def _read_here(data_type: exp.Expr) -> WireType | None:
    kind = data_type.this if isinstance(data_type, exp.DataType) else data_type
    if isinstance(kind, exp.Interval) or kind is exp.DType.INTERVAL:
        return INTERVAL
    if kind in _SCALARS:
        return _SCALARS[kind]
    element = data_type.expressions[0] if kind is exp.DType.ARRAY and len(data_type.expressions) == 1 else None
    if not isinstance(element, exp.DataType):
        return None
    if element.this is exp.DType.DECIMAL:
        return NUMERIC.array
    name = DUCKDB_TYPES.get(element.this)
    return wire_column(name).type.array if name is not None else None
