"""The catalog's functions as SQL that DuckDB runs: ``$1`` stands for the first argument, NULL where that is left out.

What has to look a name or a definition up does so in one relation (`names.NAMES`), whose columns no client's SQL can name.
"""

from __future__ import annotations

from streamsql.catalog.objects import literal
from streamsql.catalog.pg_catalog.names import ALSO_NAMED, HIDDEN, KIND, NAME, NAMES, OID
from streamsql.catalog.pg_catalog.pg_settings import PG_SETTINGS
from streamsql.catalog.pg_catalog.sizes import BYTES, SIZED, SIZES


def found(kind: str, oid: str = "$1") -> str:
    return f"(SELECT {NAME} FROM {NAMES} WHERE {KIND} = {kind} AND {OID} = CAST({oid} AS BIGINT) LIMIT 1)"


def oid_sql(kind: str, argument: str = "$1") -> str:
    """Read an OID, or a name, as one."""
    kinds = f"({', '.join(map(literal, (kind, *ALSO_NAMED.get(kind, ()))))})"
    # without the schema that is looked in anyway; as it stands, without quotes that it does not need, or folded
    text = r"""regexp_replace(trim(__x), '^"?pg_catalog"?\s*\.\s*', '', 'i')"""
    text = rf"""regexp_replace({text}, '\s*\.\s*', '.')"""
    bare = rf"""regexp_replace({text}, '"([a-z_][a-z0-9_$]*)"', '\1', 'g')"""
    folded = f"""CASE WHEN contains(__x, '"') THEN {text} ELSE lower({text}) END"""
    # the argument, which may be a long query, is written once
    return (
        f"(SELECT coalesce(TRY_CAST(__x AS INTEGER), (SELECT CAST({OID} AS INTEGER) FROM {NAMES} "
        f"WHERE {KIND} IN {kinds} AND {NAME} IN ({text}, {bare}, {folded}) LIMIT 1)) "
        f"FROM (SELECT CAST({argument} AS VARCHAR) AS __x))"
    )


def shown_sql(kind: str) -> str:
    """Write an OID as what it is the OID of."""
    return f"CASE WHEN $1 = 0 THEN '-' ELSE coalesce({found(literal(kind))}, CAST($1 AS VARCHAR)) END"


def all_shown_sql(kind: str) -> str:
    """Write an array of OIDs as an array of texts."""
    return (
        f"CASE WHEN $1 IS NOT NULL THEN coalesce((SELECT list(coalesce({NAME}, CAST(__item AS VARCHAR)) ORDER BY __place) "
        f"FROM (SELECT unnest($1) AS __item, generate_subscripts($1, 1) AS __place) "
        f"LEFT JOIN {NAMES} ON {KIND} = {literal(kind)} AND {OID} = __item), []) END"
    )


_MODIFIED = (
    "CASE WHEN $1 IN (1042, 1014) AND $2 = -1 THEN CASE WHEN $1 = 1042 THEN 'bpchar' ELSE 'bpchar[]' END "
    "WHEN $1 IN (1700, 1231) AND $2 >= 0 THEN 'numeric(' || (($2 - 4) >> 16) || ',' || (($2 - 4) & 65535) || ')' "
    "|| CASE WHEN $1 = 1231 THEN '[]' ELSE '' END "
    "WHEN $1 IN (1043, 1015, 1042, 1014) AND $2 >= 4 THEN CASE WHEN $1 IN (1043, 1015) THEN 'character varying(' "
    "ELSE 'character(' END || ($2 - 4) || ')' || CASE WHEN $1 IN (1015, 1014) THEN '[]' ELSE '' END "
    "WHEN $1 IN (1083, 1114, 1184, 1266, 1183, 1115, 1185, 1270) AND $2 >= 0 THEN "
    "CASE WHEN $1 IN (1083, 1183, 1266, 1270) THEN 'time(' ELSE 'timestamp(' END || $2 || ')' || "
    "CASE WHEN $1 IN (1083, 1114, 1183, 1115) THEN ' without time zone' ELSE ' with time zone' END || "
    "CASE WHEN $1 IN (1183, 1115, 1185, 1270) THEN '[]' ELSE '' END "
    f"ELSE coalesce({found(literal('type'))}, CASE WHEN $1 = 0 THEN '-' WHEN $1 IS NOT NULL THEN '???' END) END"
)
_KILOBYTES = (
    "CASE WHEN abs($1) < 10240 THEN $1 || ' bytes' WHEN abs($1) < 10485760 THEN CAST(round($1 / 1024.0) AS BIGINT) || ' kB' "
    "WHEN abs($1) < 10737418240 THEN CAST(round($1 / 1048576.0) AS BIGINT) || ' MB' "
    "ELSE CAST(round($1 / 1073741824.0) AS BIGINT) || ' GB' END"
)
_NO_TEXT, _TRUE, _NO_BYTES = "CAST(NULL AS VARCHAR)", "TRUE", "CAST(0 AS BIGINT)"
_DOUBLED = "replace(CAST($1 AS VARCHAR), chr(39), chr(39) || chr(39))"


def _visible(kind: str) -> str:
    return f"CASE WHEN {found(literal(kind))} IS NOT NULL THEN {found(literal(HIDDEN))} IS NULL END"


_PARTS = r"""regexp_extract_all($1, '"(?:[^"]|"")*"|[^".\s]+')"""
_UNQUOTED = """CASE WHEN x[1] = '"' THEN replace(x[2:-2], '""', '"') ELSE lower(x) END"""

_PRIVILEGES = (
    "any_column", "column", "database", "foreign_data_wrapper", "function", "language", "parameter", "schema", "sequence",
    "server", "table", "tablespace", "type",
)  # fmt: skip
_VISIBLE = (
    "collation", "conversion", "function", "opclass", "operator", "opfamily", "statistics_obj", "ts_config", "ts_dict",
    "ts_parser", "ts_template", "type",
)  # fmt: skip

# the columns are renamed so that no argument's name means one of them
SETTING = (
    "(SELECT __setting FROM (SELECT name AS __name, setting AS __setting FROM "
    f'"{PG_SETTINGS.read_as}") WHERE __name = lower($1))'
)

_TYPE_NAME = (
    "CASE WHEN starts_with(typeof($1), 'DECIMAL') THEN 'numeric' ELSE coalesce(map_extract_value(MAP {'VARCHAR': 'text', "
    "'DOUBLE': 'double precision', 'FLOAT': 'real', 'BLOB': 'bytea', 'TIMESTAMP': 'timestamp without time zone', "
    "'TIME': 'time without time zone', 'HUGEINT': 'numeric'}, typeof($1)), lower(typeof($1))) END"
)
# what encode() and decode() can do
CODECS = {
    "hex": ("lower(hex($1))", "unhex($1)"), "base64": ("to_base64($1)", "from_base64($1)"),
}  # fmt: skip

# the privileges that an object has at first, by its kind: everybody's and its owner's, for whom % stands
_FIRST_PRIVILEGES = {
    "c": "", "d": "=Tc/% %=CTc/%", "f": "=X/% %=X/%", "l": "=U/% %=U/%", "n": "%=UC/%", "p": "%=sA/%", "r": "%=arwdDxt/%",
    "s": "%=rwU/%", "t": "%=C/%", "F": "%=U/%", "L": "%=rw/%", "S": "%=U/%", "T": "=U/% %=U/%",
}  # fmt: skip
_ACL_NAME = (
    f"(SELECT CASE WHEN regexp_full_match({NAME}, '\\w+') THEN {NAME} ELSE '\"' || replace({NAME}, '\"', '\"\"') || '\"' END "
    f"FROM {NAMES} WHERE {KIND} = 'role' AND {OID} = CAST($2 AS BIGINT))"
)
_ACL_DEFAULT = (
    f"string_split(replace(map_extract_value(MAP {_FIRST_PRIVILEGES!r}, CAST($1 AS VARCHAR)), '%', {_ACL_NAME}), ' ')"
)

_DATABASE_BYTES = f'(SELECT {BYTES} FROM "{SIZES.read_as}" WHERE {SIZED} = 0)'
# an index, which is kept as a name only, and what the system has take nothing
_RELATION_BYTES = (
    f'(SELECT coalesce((SELECT {BYTES} FROM "{SIZES.read_as}" WHERE {SIZED} = __asked), 0) '
    f"FROM (SELECT CAST({oid_sql('class')} AS BIGINT) AS __asked) WHERE __asked IS NOT NULL)"
)

# name -> template
TEMPLATES: dict[str, str] = {
    **{f"has_{what}_privilege": _TRUE for what in _PRIVILEGES},
    **{f"pg_{what}_is_visible": _TRUE for what in _VISIBLE},
    "acldefault": _ACL_DEFAULT,
    "array_length": "CASE WHEN $2 = 1 THEN nullif(len($1), 0) WHEN $2 BETWEEN 2 AND 6 AND typeof($1) LIKE '%[][]' "
    "THEN nullif(CAST(json_array_length(to_json($1), '$' || repeat('[0]', CAST($2 - 1 AS BIGINT))) AS INTEGER), 0) END",
    "array_lower": "CASE WHEN $2 = 1 AND len($1) > 0 THEN 1 END",
    "array_upper": "CASE WHEN $2 = 1 THEN nullif(len($1), 0) END",
    "col_description": found("'comment:' || $2"),
    "current_setting": SETTING,  # of what is no literal: others are answered before
    "clock_timestamp": "now()",
    "every": "bool_and($1)",
    "format_type": _MODIFIED,
    "getdatabaseencoding": "'UTF8'",
    # what sqlglot makes of it loses how concat() takes NULL
    "initcap": "array_to_string(list_transform(regexp_extract_all($1, '[\\p{L}\\p{N}]+|[^\\p{L}\\p{N}]+'), "
    "lambda s: upper(s[1]) || lower(s[2:])), '')",
    "octet_length": "strlen(CAST($1 AS VARCHAR))",
    "obj_description": found(literal("comment")),
    "justify_days": "to_months(CAST(datepart('day', $1) // 30 AS INTEGER)) + "
    "($1 - to_days(CAST(datepart('day', $1) // 30 * 30 AS INTEGER)))",
    "parse_ident": f"list_transform({_PARTS}, lambda x: {_UNQUOTED})",
    "pg_char_to_encoding": "CASE WHEN upper($1) IN ('UTF8', 'UTF-8', 'UNICODE') THEN 6 ELSE -1 END",
    "pg_database_size": _DATABASE_BYTES,
    "pg_encoding_to_char": "CASE WHEN $1 = 6 THEN 'UTF8' WHEN $1 = 0 THEN 'SQL_ASCII' ELSE '' END",
    "pg_get_constraintdef": found(literal("constraint")),
    "pg_get_expr": "CAST($1 AS VARCHAR)",
    "pg_get_function_arg_default": _NO_TEXT,
    "pg_get_function_arguments": found(literal("arguments")),
    "pg_get_function_identity_arguments": found(literal("arguments")),
    "pg_get_function_result": found(literal("result")),
    "pg_get_function_sqlbody": _NO_TEXT,
    "pg_get_functiondef": _NO_TEXT,
    "pg_get_indexdef": found("CASE WHEN coalesce($2, 0) = 0 THEN 'index' ELSE 'index:' || $2 END"),
    "pg_get_partition_constraintdef": _NO_TEXT,
    "pg_get_partkeydef": _NO_TEXT,
    "pg_get_ruledef": _NO_TEXT,
    "pg_get_serial_sequence": f"(SELECT max({NAME}) FROM {NAMES} WHERE {KIND} = 'serial:' || $2 AND {OID} IN (SELECT {OID} "
    f"FROM {NAMES} WHERE {KIND} IN ('class', 'classpath') AND {NAME} = $1))",
    "pg_get_statisticsobjdef_columns": _NO_TEXT,
    "pg_get_triggerdef": _NO_TEXT,
    "pg_get_userbyid": f"coalesce({found(literal('role'))}, 'unknown (OID=' || $1 || ')')",
    "pg_get_viewdef": found(literal("view"), f"({oid_sql('class')})"),
    "pg_has_role": _TRUE,
    "pg_indexes_size": _NO_BYTES,
    "pg_is_other_temp_schema": "FALSE",
    "pg_my_temp_schema": "0",
    "pg_partition_ancestors": "unnest(CAST([] AS INTEGER[]))",
    "pg_relation_is_publishable": "FALSE",
    "pg_relation_size": _RELATION_BYTES,
    "pg_size_pretty": _KILOBYTES,
    "pg_stat_get_numscans": _NO_BYTES,
    "pg_typeof": _TYPE_NAME,
    "pg_table_is_visible": _visible("class"),
    "pg_table_size": _RELATION_BYTES,
    "pg_tablespace_location": "''",
    "pg_tablespace_size": _DATABASE_BYTES,
    "pg_total_relation_size": _RELATION_BYTES,
    "quote_literal": f"chr(39) || {_DOUBLED} || chr(39)",
    "quote_nullable": f"coalesce(chr(39) || {_DOUBLED} || chr(39), 'NULL')",
    "row_security_active": "FALSE",
    "statement_timestamp": "now()",
    "shobj_description": _NO_TEXT,
    "to_regclass": oid_sql("class"),
    "to_regnamespace": oid_sql("namespace"),
    "to_regproc": oid_sql("proc"),
    "to_regrole": oid_sql("role"),
    "to_regtype": oid_sql("type"),
    "to_hex": "lower(to_hex($1))",
    "txid_current_if_assigned": "CAST(NULL AS BIGINT)",
    # pgjdbc numbers the columns of a key with it
    "_pg_expandarray": "unnest(list_transform($1, lambda x, n: {'x': x, 'n': CAST(n AS INTEGER)}))",
}  # fmt: skip
QUOTED = (
    "CASE WHEN regexp_full_match($1, '[a-z_][a-z0-9_$]*') AND $1 NOT IN ({words}) THEN CAST($1 AS VARCHAR) "
    """ELSE '"' || replace(CAST($1 AS VARCHAR), '"', '""') || '"' END"""
)
