"""PostgreSQL's functions: their results' types, and the SQL that computes them where DuckDB has none of that name and meaning.

In a template ``$1`` is the first argument, NULL where that is left out. A type is one of `base.types`, or a rule that finds it
from the arguments' types (None: DuckDB tells). Functions over the catalog are in `catalog_functions`, aggregates elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamsql.base import types as t
from streamsql.base.types import WireType

Types = Sequence["WireType | None"]
Rule = Callable[[Types], "WireType | None"]
# the template for arguments of these types; None: as DuckDB has it
Choice = Callable[[Types], "str | None"]


@dataclass(frozen=True, slots=True)
class Function:
    """A row of the table."""

    type: WireType | Rule | None = None
    sql: str | Choice | None = None


def first(types: Types) -> WireType | None:
    """The type of the first argument."""
    return types[0] if types else None


def _second(types: Types) -> WireType | None:
    return types[1] if len(types) > 1 else None


def _decimal_or_double(types: Types) -> WireType | None:
    """``trunc``, ``round``: a numeric of numerics, else a double precision."""
    if not types or types[0] is None:
        return None
    return t.NUMERIC if types[0] is t.NUMERIC else t.FLOAT8


def _numeric_or_double(types: Types) -> WireType | None:
    """``power``, ``sqrt``: a numeric where one argument is, and none is a floating-point number."""
    return t.NUMERIC if t.NUMERIC in types and not {t.FLOAT4, t.FLOAT8} & set(types) else t.FLOAT8


def _array_of_first(types: Types) -> WireType | None:
    found = first(types)
    return found.array if found is not None and found.name in t.ARRAYS else None


def _integers(types: Types) -> WireType | None:
    return t.INT8 if t.INT8 in types else t.INT4 if all(w in (t.INT2, t.INT4) for w in types) else None


def _isfinite(types: Types) -> str | None:
    return "CASE WHEN $1 IS NOT NULL THEN TRUE END" if first(types) is t.INTERVAL else None


_ARRAY_FILL = (
    "CASE WHEN len($2) = 1 THEN list_transform(range($2[1]), lambda i: $1) "
    "WHEN len($2) > 1 THEN error('{0A000} array_fill of several dimensions is not supported') END"
)
_UNITS = {"": 0, "b": 0, "bytes": 0, "kb": 1, "mb": 2, "gb": 3, "tb": 4, "pb": 5}
_UNIT = " ".join(f"WHEN '{unit}' THEN {1024**power}" for unit, power in _UNITS.items())
_SIZE_BYTES = (
    r"CAST(round(CAST(regexp_extract(trim($1), '^[-+]?[0-9.]+([eE][-+]?[0-9]+)?') AS DOUBLE) * "
    rf"CASE lower(regexp_extract(trim($1), '[a-zA-Z]*$')) {_UNIT} "
    """ELSE CAST(error('{22023} invalid size: "' || $1 || '"') AS BIGINT) END) AS BIGINT)"""
)
_HALF = "CASE WHEN $1 < 0 THEN -1 WHEN $1 > 0 THEN 1 WHEN $1 = 0 THEN 0 END"
_MICROSECONDS = "CAST(epoch_us($1) AS HUGEINT)"
_DAY = 86_400_000_000
_HOURS = (
    f"to_months(CAST(datepart('year', $1) * 12 + datepart('month', $1) AS INTEGER)) "
    f"+ to_days(CAST(datepart('day', $1) + __us($1) // {_DAY} AS INTEGER)) + to_microseconds(__us($1) % {_DAY})"
)
# the time of an interval, without its days
_TIME_US = "(datepart('hour', $1) * 3600000000 + datepart('minute', $1) * 60000000 + datepart('microsecond', $1))"
_JUSTIFIED_HOURS = _HOURS.replace("__us($1)", _TIME_US)

# a JSON object as a map, an array as a list
_MAP = "CAST(CAST({0} AS JSON) AS MAP(VARCHAR, JSON))"
_JSON_TYPE = (
    "CASE json_type($1) WHEN 'OBJECT' THEN 'object' WHEN 'ARRAY' THEN 'array' WHEN 'VARCHAR' THEN 'string' "
    "WHEN 'BOOLEAN' THEN 'boolean' WHEN 'NULL' THEN 'null' WHEN NULL THEN NULL ELSE 'number' END"
)
_JSON_LENGTH = (
    "CASE WHEN json_type($1) = 'ARRAY' THEN CAST(json_array_length($1) AS INTEGER) "
    "WHEN $1 IS NOT NULL THEN error('{22023} cannot get array length of a non-array') END"
)
_STRIPPED = (
    f"to_json(map_from_entries(list_filter(map_entries({_MAP.format('$1')}), lambda e: json_type(e.value) <> 'NULL')))"
)
_ARRAY_POSITIONS = (
    "list_filter(list_transform($1, lambda e, i: CASE WHEN e IS NOT DISTINCT FROM $2 THEN i END), "
    "lambda i: i IS NOT NULL)"
)
_NDIMS = "CASE WHEN len($1) > 0 THEN length(typeof($1)) - length(replace(typeof($1), '[', '')) END"
_ELEMENTS = "unnest(CAST(CAST($1 AS JSON) AS JSON[]))"
_TEXT_ELEMENTS = "unnest(list_transform(CAST(CAST($1 AS JSON) AS JSON[]), lambda e: e ->> '$'))"
# arrays have this many dimensions in PostgreSQL
DEPTH_MAX = 6


def length_at(depth: int) -> str:
    """Give the SQL of the length of the arrays at a depth from 2 on; 0 where there are none."""
    return f"json_array_length(to_json($1), '${'[0]' * (depth - 1)}')"


_INNER_DIMENSIONS = " || ".join(
    f"CASE WHEN {length_at(depth)} > 0 THEN '[1:' || {length_at(depth)} || ']' ELSE '' END"
    for depth in range(2, DEPTH_MAX + 1)
)
_DIMENSIONS = (
    f"CASE WHEN len($1) > 0 AND typeof($1) LIKE '%[][]' THEN '[1:' || len($1) || ']' || {_INNER_DIMENSIONS} "
    "WHEN len($1) > 0 THEN '[1:' || len($1) || ']' END"
)
_SPLIT = (
    "CASE WHEN $1 = '' THEN CAST([] AS VARCHAR[]) WHEN $1 IS NOT NULL AND $2 IS NULL THEN string_split($1, '') "
    "ELSE string_split($1, $2) END"
)
_SPLIT_NULLS = f"list_transform({_SPLIT}, lambda e: nullif(e, $3))"
_BUCKET = (
    "CASE WHEN $4 <= 0 THEN error('{2201G} count must be greater than zero') "
    "WHEN $2 = $3 THEN error('{2201G} lower bound cannot equal upper bound') "
    "WHEN $2 < $3 THEN CASE WHEN $1 < $2 THEN 0 WHEN $1 >= $3 THEN $4 + 1 "
    "ELSE CAST(floor(($1 - $2) * $4 / ($3 - $2)) AS INTEGER) + 1 END "
    "ELSE CASE WHEN $1 > $2 THEN 0 WHEN $1 <= $3 THEN $4 + 1 "
    "ELSE CAST(floor(($2 - $1) * $4 / ($2 - $3)) AS INTEGER) + 1 END END"
)
_BUCKETS = "CAST(len(list_filter($2, lambda e: e <= $1)) AS INTEGER)"
_BYTE = "CAST(('0x' || hex($1)[2 * $2 + 1 : 2 * $2 + 2]) AS INTEGER)"
_BYTES = "unhex(hex($1)[2 * $2 - 1 : {end}])"
_FORMAT_HEX = "printf('%x', CASE WHEN $1 < 0 THEN CAST($1 AS HUGEINT) + {wrap} ELSE CAST($1 AS HUGEINT) END)"
_OVERLAPS = (
    "CASE WHEN least($1, {1}) < greatest($3, {3}) AND least($3, {3}) < greatest($1, {1}) "
    "THEN TRUE WHEN $1 = {1} AND $1 = $3 THEN TRUE ELSE FALSE END"
)


_LOGARITHM = (
    "CASE WHEN $1 > 0 THEN {0}($1) WHEN $1 = 0 THEN error('{{2201E}} cannot take logarithm of zero') "
    "WHEN $1 < 0 THEN error('{{2201E}} cannot take logarithm of a negative number') END"
)
_ROOT = "CASE WHEN $1 < 0 THEN error('{2201F} cannot take square root of a negative number') ELSE sqrt($1) END"
_DATE = (
    "CASE WHEN $1 IS NOT NULL AND $2 IS NOT NULL AND $3 IS NOT NULL AND TRY(make_date($1, $2, $3)) IS NULL "
    "THEN CAST(error('{22008} date field value out of range: ' || printf('%04d-%02d-%02d', $1, $2, $3)) AS DATE) "
    "ELSE TRY(make_date($1, $2, $3)) END"
)
_POWER = (
    "CASE WHEN $1 = 0 AND $2 < 0 THEN error('{2201F} zero raised to a negative power is undefined') "
    "WHEN $1 < 0 AND $2 <> floor($2) "
    "THEN error('{2201F} a negative number raised to a non-integer power yields a complex result') ELSE power($1, $2) END"
)


def _hex(types: Types) -> str:
    return _FORMAT_HEX.format(wrap="18446744073709551616" if first(types) is t.INT8 else "4294967296")


def _end(types: Types, start: int, end: int) -> str:
    return f"(${start + 1} + ${end + 1})" if types[end] is t.INTERVAL else f"${end + 1}"


def _overlapping(types: Types) -> str | None:
    return _OVERLAPS.replace("{1}", _end(types, 0, 1)).replace("{3}", _end(types, 2, 3)) if len(types) == 4 else None


def _for_bytes(template: str) -> Choice:
    return lambda types: template if first(types) is t.BYTEA else None


def _bytes_part(types: Types) -> str | None:
    if first(types) is not t.BYTEA:
        return None
    return _BYTES.format(end="2 * ($2 + $3 - 1)" if len(types) > 2 else "-1")


def _width_bucket(types: Types) -> str | None:
    return _BUCKETS if len(types) == 2 else _BUCKET


def _split_by(types: Types) -> str:
    return _SPLIT_NULLS if len(types) == 3 else _SPLIT


def _counted(word: str) -> Choice:
    def choice(types: Types) -> str:
        parts = [f"CASE WHEN ${i + 1} IS {word} THEN 1 ELSE 0 END" for i in range(len(types))]
        return " + ".join(parts) or "0"

    return choice


def _values(types: Types) -> str:
    return f"json_array({', '.join(f'${i + 1}' for i in range(len(types)))})"


def _path(name: str) -> Choice:
    def choice(types: Types) -> str:
        steps = " || ".join(
            f"CASE WHEN regexp_full_match(${i}, '-?\\d+') THEN '[' || ${i} || ']' ELSE '.\"' || ${i} || '\"' END"
            for i in range(2, len(types) + 1)
        )
        return f"{name}($1, '$' || {steps})" if len(types) > 1 else "$1"

    return choice


FUNCTIONS: dict[str, Function] = {
    # numbers
    "abs": Function(first),
    "exp": Function(_numeric_or_double),
    "ln": Function(_numeric_or_double, _LOGARITHM.format("ln")),
    "log": Function(_numeric_or_double, lambda types: _LOGARITHM.format("log") if len(types) == 1 else None),
    "log10": Function(_numeric_or_double, _LOGARITHM.format("log10").replace("$1", "$2")),  # here the base is first
    "power": Function(_numeric_or_double, _POWER),
    "pow": Function(_numeric_or_double, _POWER),
    "sqrt": Function(_numeric_or_double, _ROOT),
    "cbrt": Function(t.FLOAT8),
    "ceil": Function(_decimal_or_double),
    "ceiling": Function(_decimal_or_double),
    "cosd": Function(t.FLOAT8, "round(cos(radians($1)), 15)"),
    "acosd": Function(t.FLOAT8, "round(degrees(acos($1)), 13)"),
    "asind": Function(t.FLOAT8, "round(degrees(asin($1)), 13)"),
    "atan2d": Function(t.FLOAT8, "round(degrees(atan2($1, $2)), 13)"),
    "atand": Function(t.FLOAT8, "round(degrees(atan($1)), 13)"),
    "cotd": Function(t.FLOAT8, "round(cot(radians($1)), 15)"),
    "degrees": Function(t.FLOAT8),
    "div": Function(t.NUMERIC),
    "factorial": Function(t.NUMERIC),
    "floor": Function(_decimal_or_double),
    "gcd": Function(_integers),
    "lcm": Function(_integers),
    "min_scale": Function(t.INT4, r"length(regexp_extract(CAST($1 AS VARCHAR), '\.(\d*?)0*$', 1))"),
    "num_nonnulls": Function(t.INT4, _counted("NOT NULL")),
    "num_nulls": Function(t.INT4, _counted("NULL")),
    "pi": Function(t.FLOAT8),
    "radians": Function(t.FLOAT8),
    "random": Function(t.FLOAT8),
    "round": Function(_decimal_or_double),
    "scale": Function(t.INT4, r"length(regexp_extract(CAST($1 AS VARCHAR), '\.(\d*)$', 1))"),
    "sign": Function(_decimal_or_double, _HALF),
    "sind": Function(t.FLOAT8, "round(sin(radians($1)), 15)"),
    "tand": Function(t.FLOAT8, "round(tan(radians($1)), 15)"),
    "trim_scale": Function(t.NUMERIC, "CAST($1 AS DECIMAL(38,10))"),
    "trunc": Function(_decimal_or_double),
    "uuid_generate_v4": Function(t.UUID, "uuid()"),
    "uuid_nil": Function(t.UUID, "CAST('00000000-0000-0000-0000-000000000000' AS UUID)"),
    "width_bucket": Function(t.INT4, _width_bucket),
    # text and bytes
    "chr": Function(t.TEXT, "CASE WHEN $1 = 0 THEN error('{54000} null character not permitted') ELSE chr($1) END"),
    "convert_from": Function(t.TEXT, "decode($1)"),
    "convert_to": Function(t.BYTEA, "encode($1)"),
    "get_byte": Function(t.INT4, _BYTE),
    "length": Function(t.INT4, _for_bytes("octet_length($1)")),
    "normalize": Function(t.TEXT),
    "octet_length": Function(t.INT4, _for_bytes("octet_length($1)")),
    "regexp_count": Function(t.INT4),
    "regexp_instr": Function(t.INT4),
    "regexp_substr": Function(t.TEXT),
    "sha256": Function(t.BYTEA, "unhex(sha256($1))"),
    "starts_with": Function(t.BOOL),
    "string_to_array": Function(t.TEXT.array, _split_by),
    "string_to_table": Function(t.TEXT, lambda types: f"unnest({_split_by(types)})"),
    "substr": Function(lambda types: t.BYTEA if first(types) is t.BYTEA else t.TEXT, _bytes_part),
    "to_hex": Function(t.TEXT, _hex),
    # arrays
    "array_append": Function(first),
    "array_cat": Function(first, "list_concat($1, $2)"),
    "array_dims": Function(t.TEXT, _DIMENSIONS),
    "array_fill": Function(_array_of_first, _ARRAY_FILL),
    "array_ndims": Function(t.INT4, _NDIMS),
    "array_positions": Function(t.INT4.array, _ARRAY_POSITIONS),
    "array_prepend": Function(first, "list_prepend($2, $1)"),  # the stock parser has the array first
    "array_remove": Function(first, "list_filter($1, lambda e: e IS DISTINCT FROM $2)"),
    "array_replace": Function(first, "list_transform($1, lambda e: CASE WHEN e IS NOT DISTINCT FROM $2 THEN $3 ELSE e END)"),
    "generate_subscripts": Function(t.INT4),
    "trim_array": Function(first, "$1[1 : len($1) - $2]"),
    # json
    "json_array_length": Function(t.INT4, _JSON_LENGTH),
    "json_build_array": Function(t.JSON, _values),
    "json_build_object": Function(t.JSON),
    "json_extract_path": Function(t.JSON, _path("json_extract")),
    "json_extract_path_text": Function(t.TEXT, _path("json_extract_string")),
    "json_object_keys": Function(t.TEXT, "unnest(json_keys($1))"),
    "json_strip_nulls": Function(t.JSON, _STRIPPED),
    "json_typeof": Function(t.TEXT, _JSON_TYPE),
    "jsonb_array_length": Function(t.INT4, _JSON_LENGTH),
    "jsonb_build_array": Function(t.JSONB, _values),
    "jsonb_build_object": Function(t.JSONB),
    "jsonb_insert": Function(t.JSONB),
    "jsonb_set": Function(t.JSONB),
    "jsonb_exists": Function(t.BOOL, "json_exists($1, $2)"),
    "jsonb_extract_path": Function(t.JSONB, _path("json_extract")),
    "jsonb_extract_path_text": Function(t.TEXT, _path("json_extract_string")),
    "jsonb_object_keys": Function(t.TEXT, "unnest(json_keys($1))"),
    "jsonb_pretty": Function(t.TEXT, "json_pretty($1)"),
    "jsonb_strip_nulls": Function(t.JSONB, _STRIPPED),
    "jsonb_typeof": Function(t.TEXT, _JSON_TYPE),
    "json_array_elements": Function(t.JSON, _ELEMENTS),
    "json_array_elements_text": Function(t.TEXT, _TEXT_ELEMENTS),
    "jsonb_array_elements": Function(t.JSONB, _ELEMENTS),
    "jsonb_array_elements_text": Function(t.TEXT, _TEXT_ELEMENTS),
    "to_json": Function(t.JSON),
    "to_jsonb": Function(t.JSONB, "to_json($1)"),
    "row_to_json": Function(t.JSON),
    "jsonb_agg": Function(t.JSONB),
    "jsonb_object_agg": Function(t.JSONB),
    # times
    "age": Function(t.INTERVAL),
    "date_bin": Function(_second, "time_bucket(CAST($1 AS INTERVAL), $2, $3)"),
    "isfinite": Function(t.BOOL, _isfinite),
    "pg_client_encoding": Function(t.NAME, "'UTF8'"),
    "pg_jit_available": Function(t.BOOL, "FALSE"),
    "pg_size_bytes": Function(t.INT8, _SIZE_BYTES),
    "hashtext": Function(t.INT4),
    "hashtextextended": Function(t.INT8),
    "justify_hours": Function(t.INTERVAL, _JUSTIFIED_HOURS),
    "make_date": Function(t.DATE, lambda types: _DATE if len(types) == 3 else None),
    "make_time": Function(t.TIME),
    "make_timestamp": Function(t.TIMESTAMP),
    "to_date": Function(t.DATE),
    "to_number": Function(t.NUMERIC),
    "to_timestamp": Function(t.TIMESTAMPTZ),
    "overlaps": Function(t.BOOL, _overlapping),
}  # fmt: skip


def result_type(name: str, types: Types) -> WireType | None:
    """Give the type of a call's result, None where DuckDB is to tell."""
    found = FUNCTIONS.get(name)
    if found is None:
        return None
    return found.type if isinstance(found.type, WireType) or found.type is None else found.type(types)


def template_of(name: str, types: Types) -> str | None:
    """Give the SQL of a call with arguments of these types, None where DuckDB's function of that name will do."""
    found = FUNCTIONS.get(name)
    if found is None:
        return None
    return found.sql if isinstance(found.sql, str) or found.sql is None else found.sql(types)
