"""Whether a value may be written to a column: PostgreSQL's assignment casts.

    UPDATE t SET id = symbol      42804  column "id" is of type integer but expression is of type text

Any type becomes text, numbers become each other, and so do the kinds of times of which one holds the other. A plain string
has no type yet, and is read as the column's.
"""

from __future__ import annotations

from sqlglot import exp

from streamsql.base import types as t
from streamsql.base.errors import DatatypeMismatch
from streamsql.base.types import WireType, type_name
from streamsql.plan.parameters import READ
from streamsql.plan.result_types import is_named
from streamsql.sql.statements import ColumnDefinition, Statement
from streamsql.sql.trees import position_of

_KINDS: dict[WireType, str] = {
    t.INT2: "number", t.INT4: "number", t.INT8: "number", t.NUMERIC: "number", t.FLOAT4: "number", t.FLOAT8: "number",
    t.TEXT: "text", t.VARCHAR: "text", t.BPCHAR: "text", t.NAME: "text", t.BOOL: "bool", t.DATE: "date",
    t.TIMESTAMP: "timestamp", t.TIMESTAMPTZ: "timestamp", t.TIME: "time", t.INTERVAL: "interval", t.UUID: "uuid",
    t.BYTEA: "bytea", t.JSON: "json", t.JSONB: "json",
}  # fmt: skip
# (what is given, what the column is)
_CAST = frozenset({
    ("date", "timestamp"), ("timestamp", "date"), ("timestamp", "time"), ("time", "interval"), ("interval", "time"),
})  # fmt: skip


def mismatch(
    column: ColumnDefinition, given: WireType | None, value: exp.Expr, statement: Statement
) -> DatatypeMismatch | None:
    """Give the error of writing a value of this type to a column; None where that is allowed, or a type is not known."""
    wanted = column.wire.type
    kinds = (_KINDS.get(given) if given is not None else None, _KINDS.get(wanted))
    if is_named(wanted):
        # a parameter is read as the column's
        allowed = given in (None, t.UNKNOWN, wanted) or READ in value.unnest().meta or given == t.RECORD
    elif given is not None and is_named(given):
        allowed = kinds[1] == "text" and given.scalar.labels is not None
    else:
        allowed = given is None or None in kinds or kinds[0] == kinds[1] or kinds[1] == "text" or kinds in _CAST
    if given is None or allowed:
        return None
    return DatatypeMismatch(
        f'column "{column.name}" is of type {type_name(wanted)} but expression is of type {type_name(given)}',
        hint="You will need to rewrite or cast the expression.",
        position=position_of(value, statement),
    )
