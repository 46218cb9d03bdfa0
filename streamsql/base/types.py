"""The types that a client sees, and how DuckDB's and Arrow's map onto them.

`WireType` is a row of Postgres' ``pg_type``. `wire_column` says, for a DuckDB type, which one a client is told and which
SQL cast (if any) brings the column into the one Arrow form that `pgwire.values` encodes ("canonical Arrow" below).

    wire type                         canonical Arrow
    bool                              bool
    int2, int4, int8, oid, xid        int16, int32, int64, int32, int32
    float4, float8                    float32, float64
    numeric                           decimal128(p, s); string for integers of more than 128 bits
    text, varchar, json, jsonb, uuid  string
    timetz                            string, as PostgreSQL writes it
    int2vector, oidvector             list<int16>, list<int32>
    all others of pg_catalog's        string
    bytea                             binary
    date                              date32
    time                              time64[us]
    timestamp, timestamptz            timestamp[us] (UTC for timestamptz)
    interval                          month_day_nano_interval
    array of T                        list<canonical T>
    enum                              string
    record, composite                 struct of the canonical Arrow of its fields

What has no Postgres counterpart is shown as: HUGEINT, UHUGEINT, UBIGINT as numeric; smaller unsigned integers as the
next wider signed one; STRUCT as record, MAP as jsonb, UNION as json; ENUM, BIT, and anything unknown as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa


@dataclass(slots=True, eq=False)
class Labels:
    """The labels of an enum in their order, each with its rank.

    One object, which all that have the type hold: labels are only ever added, and so everyone learns of one at once.
    """

    ranks: Mapping[str, float]

    def __deepcopy__(self, _: object) -> Labels:
        return self


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record."""

    name: str
    type: WireType
    modifier: int = -1


@dataclass(frozen=True, slots=True)
class WireType:
    """One Postgres type: its name and OID, the OID of the array of it (0: none), its size in bytes (-1: variable).

    An enum has `labels`, a record or composite type `fields`.
    """

    name: str
    oid: int
    array_oid: int
    size: int
    element: WireType | None = None
    labels: Labels | None = None
    fields: tuple[Field, ...] = ()

    @property
    def array(self) -> WireType:
        """The type of arrays of this one (an array of arrays is the same Postgres type)."""
        if self.element is not None:
            return self
        if self.is_made:
            return WireType("_" + self.name, self.array_oid, 0, -1, element=self)
        return ARRAYS[self.name]

    @property
    def is_made(self) -> bool:
        """Tell whether the type is none of `SCALARS`: an enum, a record, or a composite type."""
        return self.labels is not None or bool(self.fields)

    @property
    def scalar(self) -> WireType:
        """The type itself, or that of the elements."""
        return self.element or self


BOOL = WireType("bool", 16, 1000, 1)
BYTEA = WireType("bytea", 17, 1001, -1)
INT8 = WireType("int8", 20, 1016, 8)
INT2 = WireType("int2", 21, 1005, 2)
INT4 = WireType("int4", 23, 1007, 4)
OID = WireType("oid", 26, 1028, 4)
CHAR = WireType("char", 18, 1002, 1)
NAME = WireType("name", 19, 1003, 64)
INT2VECTOR = WireType("int2vector", 22, 0, -1)
OIDVECTOR = WireType("oidvector", 30, 0, -1)
REGPROC = WireType("regproc", 24, 1008, 4)
REGCLASS = WireType("regclass", 2205, 2210, 4)
REGTYPE = WireType("regtype", 2206, 2211, 4)
REGROLE = WireType("regrole", 4096, 4097, 4)
REGNAMESPACE = WireType("regnamespace", 4089, 4090, 4)
ACLITEM = WireType("aclitem", 1033, 1034, 12)
XID = WireType("xid", 28, 1011, 4)
INET = WireType("inet", 869, 1041, -1)
PG_LSN = WireType("pg_lsn", 3220, 3221, 8)
PG_NODE_TREE = WireType("pg_node_tree", 194, 0, -1)
PG_NDISTINCT = WireType("pg_ndistinct", 3361, 0, -1)
PG_DEPENDENCIES = WireType("pg_dependencies", 3402, 0, -1)
PG_MCV_LIST = WireType("pg_mcv_list", 5017, 0, -1)
ANYARRAY = WireType("anyarray", 2277, 0, -1)
VOID = WireType("void", 2278, 0, 4)
TEXT = WireType("text", 25, 1009, -1)
JSON = WireType("json", 114, 199, -1)
FLOAT4 = WireType("float4", 700, 1021, 4)
FLOAT8 = WireType("float8", 701, 1022, 8)
UNKNOWN = WireType("unknown", 705, 0, -2)
BPCHAR = WireType("bpchar", 1042, 1014, -1)
VARCHAR = WireType("varchar", 1043, 1015, -1)
DATE = WireType("date", 1082, 1182, 4)
TIME = WireType("time", 1083, 1183, 8)
TIMETZ = WireType("timetz", 1266, 1270, 12)
TIMESTAMP = WireType("timestamp", 1114, 1115, 8)
TIMESTAMPTZ = WireType("timestamptz", 1184, 1185, 8)
INTERVAL = WireType("interval", 1186, 1187, 16)
NUMERIC = WireType("numeric", 1700, 1231, -1)
UUID = WireType("uuid", 2950, 2951, 16)
JSONB = WireType("jsonb", 3802, 3807, -1)
RECORD = WireType("record", 2249, 2287, -1)

USER_SCALARS = (
    BOOL, BYTEA, INT8, INT2, INT4, TEXT, JSON, FLOAT4, FLOAT8, UNKNOWN, BPCHAR, VARCHAR, DATE, TIME, TIMESTAMP,
    TIMESTAMPTZ, TIMETZ, INTERVAL, NUMERIC, UUID, JSONB, OID,
)  # fmt: skip
# what only the system's own relations (``pg_catalog``) have
CATALOG_SCALARS = (
    CHAR, NAME, INT2VECTOR, OIDVECTOR, REGPROC, REGCLASS, REGTYPE, REGROLE, REGNAMESPACE, ACLITEM, XID, INET, PG_LSN,
    PG_NODE_TREE, PG_NDISTINCT, PG_DEPENDENCIES, PG_MCV_LIST, ANYARRAY, VOID,
)  # fmt: skip
SCALARS = (*USER_SCALARS, *CATALOG_SCALARS)
ARRAYS = {t.name: WireType("_" + t.name, t.array_oid, 0, -1, element=t) for t in SCALARS if t.array_oid}
BY_OID: dict[int, WireType] = {t.oid: t for t in (*SCALARS, *ARRAYS.values())}
BY_NAME: dict[str, WireType] = {t.name: t for t in (*SCALARS, *ARRAYS.values())}

_SQL_NAMES = {
    "bool": "boolean", "bpchar": "character", "char": '"char"', "float4": "real", "float8": "double precision",
    "int2": "smallint", "int4": "integer", "int8": "bigint", "time": "time without time zone", "timetz": "time with time zone",
    "timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone", "varchar": "character varying",
}  # fmt: skip


def type_name(wire_type: WireType) -> str:
    """Give a type's name as SQL has it: ``integer[]``."""
    if wire_type.element is not None:
        return f"{type_name(wire_type.element)}[]"
    return _SQL_NAMES.get(wire_type.name, wire_type.name)


# wire type name -> the DuckDB type that a parameter of it is cast to
DUCKDB_NAME = {
    "bool": "BOOLEAN", "bytea": "BLOB", "int8": "BIGINT", "int2": "SMALLINT", "int4": "INTEGER", "text": "VARCHAR",
    "json": "JSON", "float4": "FLOAT", "float8": "DOUBLE", "bpchar": "VARCHAR", "varchar": "VARCHAR", "date": "DATE",
    "time": "TIME", "timetz": "TIMETZ", "timestamp": "TIMESTAMP", "timestamptz": "TIMESTAMPTZ", "interval": "INTERVAL",
    "uuid": "UUID", "jsonb": "JSON", "oid": "INTEGER", "xid": "INTEGER",
}  # fmt: skip


def duckdb_name(wire_type: WireType, modifier: int = -1) -> str:
    """Name the DuckDB type that values of a wire type are cast to; a numeric without modifier has 10 places."""
    if wire_type.element is not None:
        return f"{duckdb_name(wire_type.element, modifier)}[]"
    if wire_type.fields:
        items = (f"{_quoted(f.name)} {duckdb_name(f.type, f.modifier)}" for f in wire_type.fields)
        return f"STRUCT({', '.join(items)})"
    if wire_type is NUMERIC:
        return f"DECIMAL({(modifier - 4) >> 16},{(modifier - 4) & 0xFFFF})" if modifier >= 0 else "DECIMAL(38,10)"
    return "VARCHAR" if wire_type.labels is not None else DUCKDB_NAME.get(wire_type.name, "VARCHAR")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# DuckDB type id -> (wire type, cast that gives the canonical Arrow form, or None where DuckDB's Arrow already is it)
_FROM_DUCKDB: dict[str, tuple[WireType, str | None]] = {
    "BOOLEAN": (BOOL, None),
    "TINYINT": (INT2, "SMALLINT"),
    "UTINYINT": (INT2, "SMALLINT"),
    "SMALLINT": (INT2, None),
    "USMALLINT": (INT4, "INTEGER"),
    "INTEGER": (INT4, None),
    "UINTEGER": (INT8, "BIGINT"),
    "BIGINT": (INT8, None),
    "UBIGINT": (NUMERIC, "DECIMAL(20,0)"),
    "HUGEINT": (NUMERIC, None),  # its Arrow form has 39 digits where a decimal of DuckDB has 38
    "UHUGEINT": (NUMERIC, "VARCHAR"),
    "FLOAT": (FLOAT4, None),
    "DOUBLE": (FLOAT8, None),
    "DECIMAL": (NUMERIC, None),
    "VARCHAR": (TEXT, None),
    "JSON": (JSON, "VARCHAR"),
    "UUID": (UUID, "VARCHAR"),
    "BLOB": (BYTEA, None),
    "DATE": (DATE, None),
    "TIME": (TIME, None),
    "TIME WITH TIME ZONE": (TIMETZ, "VARCHAR"),
    "TIMESTAMP": (TIMESTAMP, None),
    "TIMESTAMP_S": (TIMESTAMP, "TIMESTAMP"),
    "TIMESTAMP_MS": (TIMESTAMP, "TIMESTAMP"),
    "TIMESTAMP_NS": (TIMESTAMP, "TIMESTAMP"),
    "TIMESTAMP WITH TIME ZONE": (TIMESTAMPTZ, None),
    "INTERVAL": (INTERVAL, None),
    '"NULL"': (TEXT, "VARCHAR"),
    "NULL": (TEXT, "VARCHAR"),
}


# a numeric without precision and scale is kept with 10 places, and the result of a division or an average with 16
_UNCONSTRAINED = frozenset({(38, 10), (38, 16)})


def is_unconstrained(arrow_type: pa.DataType) -> bool:
    """Tell whether a decimal type stands for a numeric that declares no scale, and shows no zeros at its end.

    PostgreSQL shows the 16 places of a quotient or an average.
    """
    return bool((arrow_type.precision, arrow_type.scale) == (38, 10))


@dataclass(frozen=True, slots=True)
class WireColumn:
    """How a DuckDB column is shown: its wire type, its type modifier, and a cast into canonical Arrow if one is needed."""

    type: WireType
    cast: str | None
    modifier: int = -1


def wire_column(duckdb_type: str) -> WireColumn:
    """Say how a column of this DuckDB type (as ``typeof`` prints it) is shown to a client. Never fails."""
    if duckdb_type.endswith("]"):
        inner = wire_column(duckdb_type[: duckdb_type.rindex("[")])
        base = inner.type
        cast = f"{inner.cast}[]" if inner.cast else (None if duckdb_type.endswith("[]") else f"{_plain(duckdb_type)}[]")
        return WireColumn(base.array, cast)
    if duckdb_type.startswith("DECIMAL("):
        precision, scale = (int(x) for x in duckdb_type[8:-1].split(","))
        return WireColumn(
            NUMERIC, None, -1 if (precision, scale) in _UNCONSTRAINED else ((precision << 16) | scale) + 4
        )
    if duckdb_type.startswith(("STRUCT(", "TUPLE(")):
        return _record(duckdb_type)
    if duckdb_type.startswith("MAP("):
        return WireColumn(JSONB, "JSON")
    if duckdb_type.startswith("UNION("):
        return WireColumn(JSON, "JSON")
    found = _FROM_DUCKDB.get(duckdb_type)
    if found is None:
        return WireColumn(TEXT, "VARCHAR")
    return WireColumn(*found)


def column_elsewhere(duckdb_type: str) -> WireColumn:
    """Say how a column of this DuckDB type is given to, and taken from, a PostgreSQL: structs and maps as json."""
    if any(word in duckdb_type for word in ("STRUCT(", "TUPLE(", "MAP(")):
        return WireColumn(JSON, "JSON")
    return wire_column(duckdb_type)


def struct_fields(duckdb_type: str) -> list[tuple[str, str]]:
    """Take the name of a STRUCT or TUPLE type apart: the names and types of its fields; a tuple's are ``f1``, ``f2``.. ."""
    kind, _, inside = duckdb_type[:-1].partition("(")
    parts = _parts_of_list(inside)
    if kind == "TUPLE":
        return [(f"f{number}", part) for number, part in enumerate(parts, 1)]
    found = []
    for part in parts:
        if part.startswith('"'):
            end = 1
            while part[end] != '"' or part[end : end + 2] == '""':
                end += 2 if part[end] == '"' else 1
            found.append((part[1:end].replace('""', '"'), part[end + 1 :].strip()))
        else:
            name, _, rest = part.partition(" ")
            found.append((name, rest))
    return found


def _parts_of_list(text: str) -> list[str]:
    """Divide a list at its commas, but for those within parentheses and quotes."""
    parts, depth, start, quote = [], 0, 0, ""
    for place, mark in enumerate(text):
        if quote:
            quote = "" if mark == quote else quote
        elif mark in "\"'":
            quote = mark
        elif mark == "," and not depth:
            parts.append(text[start:place].strip())
            start = place + 1
        else:
            depth += (mark == "(") - (mark == ")")
    return [*parts, text[start:].strip()]


def _record(duckdb_type: str) -> WireColumn:
    fields = [(name, of, wire_column(of)) for name, of in struct_fields(duckdb_type)]
    made = tuple(Field(name, shown.type, shown.modifier) for name, _, shown in fields)
    cast = None
    if any(shown.cast for _, _, shown in fields):
        items = (f"{_quoted(name)} {shown.cast or of}" for name, of, shown in fields)
        cast = f"STRUCT({', '.join(items)})"
    return WireColumn(replace(RECORD, fields=made), cast)


@dataclass(frozen=True, slots=True)
class Declared:
    """A column's type where DuckDB's name of it does not tell all: PostgreSQL's, and its modifier (-1: none).

    The modifier is that of ``pg_attribute.atttypmod``: of varchar(n) and char(n) it is n + 4, of timestamp(p) it is p.
    `named` is how the text names a type that a user has made, at `position`; once it is looked up, its key.
    """

    type: WireType
    modifier: int = -1
    named: str = ""
    position: int = field(default=0, compare=False)

    @property
    def scalar(self) -> WireType:
        """The type itself, or that of the elements."""
        return self.type.element or self.type

    @property
    def size(self) -> int | None:
        """How many characters may be stored, or digits of a second; None without a modifier."""
        if self.modifier < 0:
            return None
        return self.modifier - 4 if self.scalar in (BPCHAR, VARCHAR) else self.modifier

    @property
    def shown(self) -> str:
        """Name the type as ``format_type`` does."""
        return shown_type(self.type, self.modifier)


_TIME_WORDS = {"time": " without time zone", "timetz": " with time zone", "timestamp": " without time zone",
               "timestamptz": " with time zone"}  # fmt: skip


def shown_type(wire_type: WireType, modifier: int = -1) -> str:
    """Name a type as ``format_type`` does: ``character varying(10)``."""
    if wire_type.element is not None:
        return f"{shown_type(wire_type.element, modifier)}[]"
    if modifier >= 0 and wire_type is NUMERIC:
        return f"numeric({(modifier - 4) >> 16},{(modifier - 4) & 0xFFFF})"
    if modifier >= 4 and wire_type in (BPCHAR, VARCHAR):
        return f"{type_name(wire_type)}({modifier - 4})"
    if modifier >= 0 and wire_type.name in _TIME_WORDS:
        return f"{wire_type.name.removesuffix('tz')}({modifier}){_TIME_WORDS[wire_type.name]}"
    return type_name(wire_type)


def _plain(duckdb_type: str) -> str:
    return duckdb_type[: duckdb_type.rindex("[")]


def canonical_arrow(wire_type: WireType, modifier: int = -1) -> pa.DataType:
    """Give the canonical Arrow type of a wire type; `modifier` carries a numeric's precision and scale."""
    if wire_type.element is not None:
        return pa.list_(canonical_arrow(wire_type.element, modifier))
    if wire_type.fields:
        return pa.struct([(f.name, canonical_arrow(f.type, f.modifier)) for f in wire_type.fields])
    if wire_type.labels is not None:
        return pa.string()
    if wire_type is NUMERIC:
        if modifier < 0:
            return pa.decimal128(38, 10)
        return pa.decimal128((modifier - 4) >> 16, (modifier - 4) & 0xFFFF)
    return _CANONICAL.get(wire_type.name, pa.string())


_CANONICAL: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "oid": pa.int32(),
    "xid": pa.int32(),
    "int2vector": pa.list_(pa.int16()),
    "oidvector": pa.list_(pa.int32()),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "interval": pa.month_day_nano_interval(),
}
