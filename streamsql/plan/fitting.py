"""What UPDATE and ON CONFLICT assign to columns of declared types, as SQL: `engine.fitting` for what DuckDB computes."""

from __future__ import annotations

import sqlglot
from sqlglot import exp

from streamsql.base import types as t
from streamsql.catalog.objects import literal, quoted
from streamsql.plan.functions import OWN
from streamsql.sql.statements import ColumnDefinition


def fitted_sql(value: str, column: ColumnDefinition) -> str:
    """Give the SQL of a value as it is stored in a column; `value` is SQL of the column's DuckDB type."""
    declared = column.declared
    if declared is not None and declared.scalar.labels is not None:
        oid = declared.scalar.oid
        return (
            f"list_transform({value}, lambda v: __enum_{oid}(v))" if declared.type.element else f"__enum_{oid}({value})"
        )
    if declared is not None and any(f.type.labels is not None for f in declared.type.fields):
        items = (f"{quoted(f.name)} := {_field(value, f)}" for f in declared.type.fields)
        return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({', '.join(items)}) END"
    if declared is None or (declared.size is None and declared.scalar is not t.BPCHAR):
        return value
    if declared.type.element is not None:
        return f"list_transform({value}, lambda v: {_scalar('v', column)})"
    return _scalar(value, column)


def _field(value: str, field: t.Field) -> str:
    inner = f"struct_extract({value}, {literal(field.name)})"
    return inner if field.type.labels is None else f"__enum_{field.type.oid}({inner})"


def _scalar(value: str, column: ColumnDefinition) -> str:
    declared = column.declared
    assert declared is not None
    size, kind = declared.size, declared.scalar
    if kind in (t.VARCHAR, t.BPCHAR):
        trimmed = f"rtrim({value}, ' ')"
        if size is None:
            return trimmed
        shown = t.shown_type(kind, declared.modifier)
        refused = f"CAST(error('{{22001}} value too long for type {shown}') AS VARCHAR)"
        kept = trimmed if kind is t.BPCHAR else f"left({value}, {size})"
        return f"CASE WHEN length({trimmed}) > {size} THEN {refused} ELSE {kept} END"
    assert size is not None
    unit = 10 ** (6 - size)
    if unit == 1:
        return value
    half = f"to_microseconds({unit // 2})"
    if kind is t.TIME:
        return f"CAST(time_bucket(to_microseconds({unit}), DATE '2000-01-03' + {value} + {half}) AS TIME)"
    # a time before 1970 that lies in the middle goes up here, as it does in PostgreSQL's own
    return f"CASE WHEN isfinite({value}) THEN time_bucket(to_microseconds({unit}), {value} + {half}) ELSE {value} END"


def fitted_tree(value: exp.Expr, column: ColumnDefinition) -> exp.Expr:
    """Give the tree of an assigned value as it is stored."""
    if column.declared is None or fitted_sql("v", column) == "v":
        return value
    made = sqlglot.parse_one(fitted_sql("__value", column), read="duckdb")
    cast = exp.cast(value, exp.DataType.build(column.type, dialect="duckdb"))
    for place in list(made.find_all(exp.Column)):
        if place.name == "__value":
            place.replace(cast.copy())
    for node in made.walk():
        node.meta.pop("start", None)
        if isinstance(node, exp.Anonymous) and str(node.this).lower().startswith("__enum"):
            node.meta[OWN] = True
    return made
