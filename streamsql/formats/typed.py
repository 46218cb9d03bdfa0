"""Values that have types already, from Avro or Protocol Buffers, to those that a stream's columns have.

A value of another type than its column is read as JSON's are: what is no whole number is not rounded to one, text is read,
numbers are times by their size or unit, anything becomes text or JSON. What cannot be read rejects its record. Columns that
need none of this stay with Arrow: DuckDB takes milliseconds to set up a query, however little it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.formats import casts
from streamsql.formats.casts import FLOATS, INTEGERS, Read, is_nested, quote, text_literal
from streamsql.formats.format import Field

# casts that lose nothing and that Arrow does as DuckDB does
_WIDER = {
    ("INTEGER", "BIGINT"), ("UINTEGER", "BIGINT"), ("UINTEGER", "UBIGINT"), ("FLOAT", "DOUBLE"), ("INTEGER", "DOUBLE"),
    ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP"),
}  # fmt: skip
_NUMBERS = INTEGERS | FLOATS


@dataclass(frozen=True, slots=True)
class TypedReading:
    """How the columns of one kind of record become fields."""

    fields: tuple[Field, ...]
    sources: tuple[int | None, ...]  # the column that a field plainly is, where all are
    reads: tuple[Read, ...]
    columns: int
    schema: pa.Schema

    @classmethod
    def of(
        cls, fields: Sequence[Field], given: pa.Schema, times: str,
        is_union: Callable[[tuple[str, ...]], bool] = lambda _: False,
    ) -> TypedReading:  # fmt: skip
        """Plan for records that have the columns `given`; `is_union` tells of a path whether one of its members counts."""
        reads: list[Read] = []
        sources: list[int | None] = []
        plain = True
        for field in fields:
            place, source = _found(given, field.keys)
            if source is None:
                reads.append(Read(*[f"CAST(NULL AS {casts.carried_type(field.type)})"] * 3))
                sources.append(None)
                continue
            kind = _type_of(source, given)
            reads.append(_read(source, kind, field, times, given, union=is_union(field.keys)))
            sources.append(place)
            same = kind == field.type and casts.carried_type(kind) == kind and not is_nested(kind)
            plain = plain and len(field.keys) == 1 and (same or (kind, field.type) in _WIDER)
        schema = casts.empty_rows(tuple(fields)).schema
        return cls(tuple(fields), tuple(sources) if plain else (), tuple(reads), len(given), schema)

    def run(self, given: pa.Table) -> tuple[pa.Table, pa.Array | None]:
        """Give the fields, and for each record what is wrong with it, or null; None where nothing is."""
        names = [f.name for f in self.fields]
        if self.sources and (rows := self._plainly(given)) is not None:
            return rows, None
        named = given.rename_columns([f"c{i}" for i in range(self.columns)])
        if not self.columns:
            named = pa.table({"c": pa.nulls(given.num_rows, pa.int8())})
        rows, reasons = casts.Reading(self.fields, self.reads, refuse_nul=True).run("__records", named)
        return rows.rename_columns(names).cast(self.schema), reasons

    def _plainly(self, given: pa.Table) -> pa.Table | None:
        """Take columns as they are; None where a value is in doubt."""
        columns = []
        for source, field, wanted in zip(self.sources, self.fields, self.schema, strict=True):
            column = (
                pa.chunked_array([pa.nulls(given.num_rows, wanted.type)]) if source is None else given.column(source)
            )
            if field.not_null and column.null_count:
                return None
            is_text = field.type == "VARCHAR" and source is not None
            if is_text and pc.any(pc.match_substring(column, "\0")).as_py():
                return None
            columns.append(column if column.type == wanted.type else column.cast(wanted.type))
        return pa.table(columns, schema=self.schema)


def _found(given: pa.Schema, keys: tuple[str, ...]) -> tuple[int, str | None]:
    """Give the column in which a path begins, and the SQL of its value; None where there is no such value."""
    place = given.get_field_index(keys[0])
    if place < 0:
        return place, None
    kind, source = given.field(place).type, f"c{place}"
    for key in keys[1:]:
        if pa.types.is_struct(kind) and kind.get_field_index(key) >= 0:
            kind, source = kind.field(key).type, f"{source}.{quote(key)}"
        elif pa.types.is_map(kind):
            kind, source = kind.item_type, f"{source}[{text_literal(key)}]"
        else:
            return place, None
    return place, source


def _empty(given: pa.Schema) -> pa.Table:
    return given.empty_table().rename_columns([f"c{i}" for i in range(len(given))])


def _type_of(source: str, given: pa.Schema) -> str:
    sql = f"SELECT typeof({source}) FROM __given RIGHT JOIN (SELECT 1) ON TRUE"
    found: str = casts.query(sql, {"__given": _empty(given)}).column(0)[0].as_py()
    return found


def column_types(given: pa.Schema) -> list[str]:
    """Give the DuckDB types of columns."""
    return [_type_of(f"c{i}", given) for i in range(len(given))]


def _read(source: str, kind: str, field: Field, times: str, given: pa.Schema, *, union: bool) -> Read:
    if not union or field.type == "JSON" or is_nested(field.type):
        quick, full = (_converted(source, kind, field.type, times, given, quick=quick) for quick in (True, False))
        return Read(source, quick, full)
    members = casts.query(f"SELECT struct_keys({source}) AS k FROM __given RIGHT JOIN (SELECT 1) ON TRUE", {
        "__given": _empty(given),
    }).column(0)[0].as_py()  # fmt: skip
    parts = []
    for name in members or _struct_names(given, field.keys):
        member = f"{source}.{quote(name)}"
        parts.append(_converted(member, _type_of(member, given), field.type, times, given, quick=False))
    value = f"coalesce({', '.join(parts)})"
    return Read(source, value, value)


def _struct_names(given: pa.Schema, keys: tuple[str, ...]) -> list[str]:
    kind = given.field(keys[0]).type
    for key in keys[1:]:
        kind = kind.item_type if pa.types.is_map(kind) else kind.field(key).type
    return [kind.field(i).name for i in range(kind.num_fields)]


def _converted(source: str, kind: str, wanted: str, times: str, given: pa.Schema, *, quick: bool) -> str:
    """Give the SQL of a value of another type; NULL where there is none."""
    if kind == wanted and casts.carried_type(kind) == kind:
        return source
    if kind == "VARCHAR":
        if wanted == "JSON":
            return f"CAST(TRY_CAST({source} AS JSON) AS VARCHAR)"
        return casts.from_text(source, wanted, times, quick=quick)
    if wanted == "JSON":
        return f"CAST(to_json({casts.to_text(source, kind) if kind == 'BLOB' else source}) AS VARCHAR)"
    if wanted == "VARCHAR":
        return f"TRY(decode({source}))" if kind == "BLOB" else casts.to_text(source, kind)
    if kind == "BLOB" and wanted == "UUID":
        return f"CASE WHEN octet_length({source}) = 16 THEN TRY_CAST(hex({source}) AS UUID) END"
    numeric = kind in _NUMBERS or kind.startswith("DECIMAL")
    if numeric and (wanted in casts.TIMES or (wanted in INTEGERS and kind not in INTEGERS)):
        return casts.from_text(f"CAST({source} AS VARCHAR)", wanted, times, quick=quick)
    carried = casts.carried_type(wanted)
    for made in (f"TRY_CAST({source} AS {wanted})", f"TRY(CAST(to_json({source}) AS {wanted}))"):
        shown = made if carried == wanted else f"CAST({made} AS {carried})"
        try:
            casts.query(f"SELECT {shown} FROM __given", {"__given": _empty(given)})
        except duckdb.Error:
            continue
        return shown
    return f"CAST(NULL AS {carried})"


def wrong_of(reasons: pa.Array | None, count: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell which records are wrong."""
    return np.zeros(count, np.bool_) if reasons is None else np.asarray(reasons.is_valid())
