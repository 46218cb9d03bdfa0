"""Text to values of the wanted types, by DuckDB: one SELECT over all records of a block, which says of each what is wrong.

A value is read more strictly than CAST does it: what is no whole number is not rounded to one, what is too large for a float is
not infinity. Times may also be numbers, counted from the Unix epoch in the unit that `times` names; ``auto`` tells the unit by
the size (up to 1e11 seconds, 1e14 milliseconds, 1e17 microseconds, else nanoseconds). A time with a zone becomes UTC, one
without is UTC.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.types import wire_column
from streamsql.formats import queries
from streamsql.formats.format import Field

query = queries.query
INTEGERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"}
)
FLOATS = frozenset({"FLOAT", "DOUBLE"})
TIMES = frozenset({"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE"})
TIME_UNITS = ("auto", "s", "ms", "us", "ns")
# types that do not come back from Arrow as they went: they go on as text, once it is known to be right
_AS_TEXT = frozenset({"BIT", "TIME WITH TIME ZONE", "UHUGEINT", "JSON"})
_SHOWN_CHARACTERS_MAX = 100


def text_literal(text: str) -> str:
    """Quote a string for SQL."""
    return "'" + text.replace("'", "''") + "'"


def quote(name: str) -> str:
    """Quote an identifier for SQL."""
    return '"' + name.replace('"', '""') + '"'


def is_nested(duckdb_type: str) -> bool:
    """Tell whether a type holds others: a list, a struct, a map."""
    return duckdb_type.endswith("]") or duckdb_type.startswith(("STRUCT", "MAP", "UNION"))


def carried_type(duckdb_type: str) -> str:
    """Name the DuckDB type of a column in decoded rows: its own, or VARCHAR where Arrow would lose it."""
    return "VARCHAR" if duckdb_type in _AS_TEXT else duckdb_type


def from_text(value: str, duckdb_type: str, times: str = "auto", *, quick: bool = False) -> str:
    """Give the SQL that reads text (an expression) as a type; NULL where it cannot be read.

    `quick` leaves out what is rare: it gives the same value, or NULL.
    """
    if duckdb_type == "VARCHAR":
        return value
    if duckdb_type in INTEGERS:
        whole = f"regexp_extract({value}, '^([+-]?[0-9]+)\\.0*$', 1)"
        rare = "" if quick else f" ELSE TRY_CAST({whole} AS {duckdb_type})"
        read = f"CASE WHEN regexp_full_match({value}, '[+-]?[0-9]+') THEN TRY_CAST({value} AS {duckdb_type}){rare} END"
    elif duckdb_type in FLOATS:
        finite = f"TRY_CAST({value} AS {duckdb_type})"
        rare = "" if quick else f"AND NOT contains(lower({value}), 'inf') "
        read = f"CASE WHEN isinf({finite}) {rare}THEN NULL ELSE {finite} END"
    elif duckdb_type in TIMES:
        read = _time(value, duckdb_type, times, quick=quick)
    elif duckdb_type == "BLOB":
        read = (
            f"CASE WHEN starts_with({value}, '\\x') THEN TRY(unhex(substr({value}, 3))) "
            f"ELSE TRY(from_base64({value})) END"
        )
    elif is_nested(duckdb_type):
        read = f"TRY(CAST(TRY_CAST({value} AS JSON) AS {duckdb_type}))"
    else:
        read = f"TRY_CAST({value} AS {duckdb_type})"
    carried = carried_type(duckdb_type)
    return read if carried == duckdb_type else f"CAST({read} AS {carried})"


def _time(value: str, duckdb_type: str, times: str, *, quick: bool) -> str:
    read = f"TRY_CAST({value} AS TIMESTAMPTZ)"
    if not quick:
        whole, fraction = "[+-]?[0-9]{1,19}", "[+-]?[0-9]{1,18}\\.[0-9]+"
        read = (
            f"CASE WHEN regexp_full_match({value}, '{whole}') THEN {_since_epoch(value, times, 'BIGINT')} "
            f"WHEN regexp_full_match({value}, '{fraction}') THEN {_since_epoch(value, times, 'DECIMAL(38,9)')} "
            f"ELSE {read} END"
        )
    if duckdb_type == "TIMESTAMP WITH TIME ZONE":
        return read
    read = f"TRY_CAST({read} AS TIMESTAMP)"
    if duckdb_type == "TIMESTAMP_NS":  # microseconds are not enough
        fine = f"TRY_CAST(regexp_replace({value}, 'Z$', '') AS TIMESTAMP_NS)"
        zoned = f"regexp_matches({value}, '[0-9:][+-][0-9:]+$') AND contains({value}, ':')"
        coarse = f"TRY_CAST({read} AS TIMESTAMP_NS)"
        return f"CASE WHEN {zoned} THEN {coarse} ELSE coalesce({fine}, {coarse}) END"
    return read if duckdb_type == "TIMESTAMP" else f"TRY_CAST({read} AS {duckdb_type})"


def _since_epoch(value: str, times: str, number_type: str) -> str:
    number = f"TRY_CAST({value} AS {number_type})"
    if number_type == "BIGINT":
        divided = f"{number} // 1000"
    else:
        divided = f"{number} / 1000"
    scaled = {"s": f"{number} * 1000000", "ms": f"{number} * 1000", "us": number, "ns": divided}
    if times == "auto":
        sizes = {"s": 10**11, "ms": 10**14, "us": 10**17}
        cases = " ".join(
            f"WHEN {number} > -{size} AND {number} < {size} THEN CAST(floor({scaled[unit]}) AS BIGINT)"
            for unit, size in sizes.items()
        )
        return f"TRY(make_timestamptz(CASE {cases} ELSE CAST(floor({scaled['ns']}) AS BIGINT) END))"
    return f"TRY(make_timestamptz(TRY_CAST(floor({scaled[times]}) AS BIGINT)))"


@dataclass(frozen=True, slots=True)
class Read:
    """How one field is read: the SQL of its source (NULL where there is none), and of its value, quick and in full."""

    source: str
    quick: str
    full: str


def text_read(source: str, field: Field, times: str) -> Read:
    """Say how a field is read from text."""
    return Read(source, from_text(source, field.type, times, quick=True), from_text(source, field.type, times))


@dataclass(slots=True)
class Reading:
    """The reading of one sequence of records: in the quick way first, as long as most are read by it."""

    fields: Sequence[Field]
    reads: Sequence[Read]
    refuse_nul: bool
    before: Sequence[tuple[str, str]] = ()  # conditions that reject a record, and the SQL of the reason

    quick: bool = True

    def run(self, origin: str, records: pa.Table) -> tuple[pa.Table, pa.Array]:
        """Read records (`__records` in `origin`); give their fields and, for each, what is wrong with it, or null."""
        if not self.quick:
            return self._patiently(origin, records)
        items = [f"{r.quick} AS {quote(f'f{i}')}" for i, r in enumerate(self.reads)]
        doubts = [condition for condition, _ in self.before]
        for field, read in zip(self.fields, self.reads, strict=True):
            if read.quick != read.source:
                doubts.append(f"({read.source} IS NOT NULL AND {read.quick} IS NULL)")
            elif self._nul_matters(field):
                doubts.append(f"coalesce(contains({read.source}, chr(0)), FALSE)")
            if field.not_null:
                doubts.append(f"{read.source} IS NULL")
        doubt = " OR ".join(doubts) or "FALSE"
        made = query(f"SELECT {', '.join([*items, f'{doubt} AS __doubt'])} FROM {origin}", {"__records": records})
        doubtful = np.asarray(made.column("__doubt").combine_chunks())
        rows = made.drop_columns(["__doubt"])
        reasons = pa.nulls(len(doubtful), pa.string())
        if doubtful.any():
            self.quick = int(doubtful.sum()) * 2 < len(doubtful)
            mask = pa.array(doubtful)
            again, said = self._patiently(origin, records.filter(mask))
            places = np.arange(len(doubtful))
            places[doubtful] = len(doubtful) + np.arange(len(said))
            rows = pa.concat_tables([rows, again]).take(pa.array(places))
            reasons = pc.replace_with_mask(reasons, mask, said)
        return rows, reasons

    def _patiently(self, origin: str, records: pa.Table) -> tuple[pa.Table, pa.Array]:
        items = [f"{r.full} AS {quote(f'f{i}')}" for i, r in enumerate(self.reads)]
        cases = [f"WHEN {condition} THEN {reason}" for condition, reason in self.before]
        for field, read in zip(self.fields, self.reads, strict=True):
            cases += self._cases(field, read)
        reason = f"CASE {' '.join(cases)} END" if cases else "CAST(NULL AS VARCHAR)"
        made = query(f"SELECT {', '.join([*items, f'{reason} AS __reason'])} FROM {origin}", {"__records": records})
        return made.drop_columns(["__reason"]), made.column("__reason").combine_chunks()

    def _cases(self, field: Field, read: Read) -> list[str]:
        found = []
        about = f'column "{field.name}": '
        if read.full != read.source:
            shown = f"left(CAST({read.source} AS VARCHAR), {_SHOWN_CHARACTERS_MAX})"
            said = text_literal(f'{about}invalid input for type {shown_type(field.type)}: "')
            found.append(f"WHEN {read.source} IS NOT NULL AND {read.full} IS NULL THEN {said} || {shown} || '\"'")
        elif self._nul_matters(field):
            said = text_literal(about + "\\u0000 cannot be converted to text")
            found.append(f"WHEN contains({read.source}, chr(0)) THEN {said}")
        if field.not_null:
            said = text_literal(f'null value in column "{field.name}" violates not-null constraint')
            found.append(f"WHEN {read.source} IS NULL THEN {said}")
        return found

    def _nul_matters(self, field: Field) -> bool:
        return self.refuse_nul and field.type == "VARCHAR"


def shown_type(duckdb_type: str) -> str:
    """Name a type as PostgreSQL does."""
    kind = wire_column(duckdb_type).type
    return kind.name if kind.element is None else f"{kind.element.name}[]"


def to_text(value: str, duckdb_type: str) -> str:
    """Give the SQL of a value as text that `from_text` reads as the same value. NULL stays NULL."""
    shown = f"CAST({value} AS VARCHAR)"
    if duckdb_type == "TIMESTAMP WITH TIME ZONE":
        shown = f"CAST(CAST({value} AS TIMESTAMP) AS VARCHAR)"
        return f"CASE WHEN isfinite({value}) THEN replace({shown}, ' ', 'T') || 'Z' ELSE {shown} END"
    if duckdb_type in TIMES:
        return f"replace({shown}, ' ', 'T')"
    if duckdb_type == "BLOB":
        return f"'\\x' || lower(hex({value}))"
    if is_nested(duckdb_type):
        return f"CAST(to_json({value}) AS VARCHAR)"
    return shown


def empty_rows(fields: Sequence[Field]) -> pa.Table:
    """Give a table of the fields without rows, in the Arrow types that decoded rows have."""
    return _empty_rows(tuple((f.name, f.type) for f in fields))


@functools.lru_cache(256)
def _empty_rows(columns: tuple[tuple[str, str], ...]) -> pa.Table:
    items = ", ".join(f"CAST(NULL AS {carried_type(kind)}) AS {quote(f'f{i}')}" for i, (_, kind) in enumerate(columns))
    return query(f"SELECT {items} LIMIT 0", {}).rename_columns([name for name, _ in columns])
