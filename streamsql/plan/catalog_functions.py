"""Functions and casts that speak of the catalog, as SQL that DuckDB runs: ``format_type(oid, mod)``, ``'games'::regclass``.

A function is a template in which ``$1`` stands for its first argument, NULL where that is left out. What has to look a name
or a definition up does so in one relation (`names.NAMES`), whose columns no client's SQL can name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NoReturn

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError

from streamsql.base.errors import InvalidSchemaName, StreamSQLError, UndefinedFunction, UndefinedObject, UndefinedTable
from streamsql.base.types import INT2VECTOR, OIDVECTOR, WireType
from streamsql.catalog.objects import literal
from streamsql.catalog.pg_catalog.names import ALSO_NAMED, HIDDEN, KIND, NAME, NAMES, OID
from streamsql.catalog.pg_catalog.pg_get_keywords import must_be_quoted
from streamsql.catalog.pg_catalog.pg_settings import PG_SETTINGS
from streamsql.catalog.pg_catalog.rights_table import ALL_RIGHTS, OWN_RIGHTS
from streamsql.catalog.relation import CatalogRelation
from streamsql.plan.functions import VALUES_IN_FROM, function_name
from streamsql.plan.postgres_functions import has_template
from streamsql.plan.privilege_functions import PRIVILEGE_FUNCTIONS, asked_kinds, privilege_template
from streamsql.plan.result_types import ResultTypes, named_type
from streamsql.plan.rewritten_calls import json_aggregate, print_format, read_array, schemas_in_path
from streamsql.sql.names import quote_name
from streamsql.sql.statements import Statement
from streamsql.sql.trees import position_of


def _found(kind: str, oid: str = "$1") -> str:
    return f"(SELECT {NAME} FROM {NAMES} WHERE {KIND} = {kind} AND {OID} = CAST({oid} AS BIGINT) LIMIT 1)"


def _oid(kind: str, argument: str = "$1") -> str:
    """Read an OID, or a name, as one."""
    kinds = f"({', '.join(map(literal, (kind, *ALSO_NAMED.get(kind, ()))))})"
    # without the schema that is looked in anyway; as it stands, without quotes that it does not need, or folded
    text = rf"""regexp_replace(trim(CAST({argument} AS VARCHAR)), '^"?pg_catalog"?\s*\.\s*', '', 'i')"""
    text = rf"""regexp_replace({text}, '\s*\.\s*', '.')"""
    bare = rf"""regexp_replace({text}, '"([a-z_][a-z0-9_$]*)"', '\1', 'g')"""
    folded = f"""CASE WHEN contains({text}, '"') THEN {text} ELSE lower({text}) END"""
    return (
        f"coalesce(TRY_CAST(CAST({argument} AS VARCHAR) AS INTEGER), (SELECT CAST({OID} AS INTEGER) FROM {NAMES} "
        f"WHERE {KIND} IN {kinds} AND {NAME} IN ({text}, {bare}, {folded}) LIMIT 1))"
    )


def _shown(kind: str) -> str:
    """Write an OID as what it is the OID of."""
    return f"CASE WHEN $1 = 0 THEN '-' ELSE coalesce({_found(literal(kind))}, CAST($1 AS VARCHAR)) END"


def _all_shown(kind: str) -> str:
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
    f"ELSE coalesce({_found(literal('type'))}, CASE WHEN $1 = 0 THEN '-' WHEN $1 IS NOT NULL THEN '???' END) END"
)
_KILOBYTES = (
    "CASE WHEN abs($1) < 10240 THEN $1 || ' bytes' WHEN abs($1) < 10485760 THEN CAST(round($1 / 1024.0) AS BIGINT) || ' kB' "
    "WHEN abs($1) < 10737418240 THEN CAST(round($1 / 1048576.0) AS BIGINT) || ' MB' "
    "ELSE CAST(round($1 / 1073741824.0) AS BIGINT) || ' GB' END"
)
_NO_TEXT, _TRUE, _NO_BYTES = "CAST(NULL AS VARCHAR)", "TRUE", "CAST(0 AS BIGINT)"
_DOUBLED = "replace(CAST($1 AS VARCHAR), chr(39), chr(39) || chr(39))"


def _visible(kind: str) -> str:
    return f"CASE WHEN {_found(literal(kind))} IS NOT NULL THEN {_found(literal(HIDDEN))} IS NULL END"


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
_SETTING = (
    "(SELECT __setting FROM (SELECT name AS __name, setting AS __setting FROM "
    f'"{PG_SETTINGS.read_as}") WHERE __name = lower($1))'
)

_TYPE_NAME = (
    "CASE WHEN starts_with(typeof($1), 'DECIMAL') THEN 'numeric' ELSE coalesce(map_extract_value(MAP {'VARCHAR': 'text', "
    "'DOUBLE': 'double precision', 'FLOAT': 'real', 'BLOB': 'bytea', 'TIMESTAMP': 'timestamp without time zone', "
    "'TIME': 'time without time zone', 'HUGEINT': 'numeric'}, typeof($1)), lower(typeof($1))) END"
)
# what encode() and decode() can do
_CODECS = {
    "hex": ("lower(hex($1))", "unhex($1)"), "base64": ("to_base64($1)", "from_base64($1)"),
}  # fmt: skip

# name -> template
TEMPLATES: dict[str, str] = {
    **{f"has_{what}_privilege": _TRUE for what in _PRIVILEGES},
    **{f"pg_{what}_is_visible": _TRUE for what in _VISIBLE},
    "array_length": "CASE WHEN $2 = 1 THEN nullif(len($1), 0) WHEN $2 BETWEEN 2 AND 6 AND typeof($1) LIKE '%[][]' "
    "THEN nullif(CAST(json_array_length(to_json($1), '$' || repeat('[0]', CAST($2 - 1 AS BIGINT))) AS INTEGER), 0) END",
    "array_lower": "CASE WHEN $2 = 1 AND len($1) > 0 THEN 1 END",
    "array_upper": "CASE WHEN $2 = 1 THEN nullif(len($1), 0) END",
    "col_description": _found("'comment:' || $2"),
    "current_setting": _SETTING,  # of what is no literal: others are answered before
    "clock_timestamp": "now()",
    "every": "bool_and($1)",
    "format_type": _MODIFIED,
    "getdatabaseencoding": "'UTF8'",
    # what sqlglot makes of it loses how concat() takes NULL
    "initcap": "array_to_string(list_transform(regexp_extract_all($1, '[\\p{L}\\p{N}]+|[^\\p{L}\\p{N}]+'), "
    "lambda s: upper(s[1]) || lower(s[2:])), '')",
    "octet_length": "strlen(CAST($1 AS VARCHAR))",
    "obj_description": f"CASE WHEN $1 = 2200 THEN 'standard public schema' ELSE {_found(literal('comment'))} END",
    "justify_days": "to_months(CAST(datepart('day', $1) // 30 AS INTEGER)) + "
    "($1 - to_days(CAST(datepart('day', $1) // 30 * 30 AS INTEGER)))",
    "parse_ident": f"list_transform({_PARTS}, lambda x: {_UNQUOTED})",
    "pg_char_to_encoding": "CASE WHEN upper($1) IN ('UTF8', 'UTF-8', 'UNICODE') THEN 6 ELSE -1 END",
    "pg_database_size": _NO_BYTES,
    "pg_encoding_to_char": "CASE WHEN $1 = 6 THEN 'UTF8' WHEN $1 = 0 THEN 'SQL_ASCII' ELSE '' END",
    "pg_get_constraintdef": _found(literal("constraint")),
    "pg_get_expr": "CAST($1 AS VARCHAR)",
    "pg_get_function_arg_default": _NO_TEXT,
    "pg_get_function_arguments": _found(literal("arguments")),
    "pg_get_function_identity_arguments": _found(literal("arguments")),
    "pg_get_function_result": _found(literal("result")),
    "pg_get_function_sqlbody": _NO_TEXT,
    "pg_get_functiondef": _NO_TEXT,
    "pg_get_indexdef": _found("CASE WHEN coalesce($2, 0) = 0 THEN 'index' ELSE 'index:' || $2 END"),
    "pg_get_partition_constraintdef": _NO_TEXT,
    "pg_get_partkeydef": _NO_TEXT,
    "pg_get_ruledef": _NO_TEXT,
    "pg_get_serial_sequence": f"(SELECT max({NAME}) FROM {NAMES} WHERE {KIND} = 'serial:' || $2 AND {OID} IN (SELECT {OID} "
    f"FROM {NAMES} WHERE {KIND} IN ('class', 'classpath') AND {NAME} = $1))",
    "pg_get_statisticsobjdef_columns": _NO_TEXT,
    "pg_get_triggerdef": _NO_TEXT,
    "pg_get_userbyid": f"coalesce({_found(literal('role'))}, 'unknown (OID=' || $1 || ')')",
    "pg_get_viewdef": _found(literal("view"), f"({_oid('class')})"),
    "pg_has_role": _TRUE,
    "pg_indexes_size": _NO_BYTES,
    "pg_is_other_temp_schema": "FALSE",
    "pg_my_temp_schema": "0",
    "pg_partition_ancestors": "unnest(CAST([] AS INTEGER[]))",
    "pg_relation_is_publishable": "FALSE",
    "pg_relation_size": _NO_BYTES,
    "pg_size_pretty": _KILOBYTES,
    "pg_stat_get_numscans": _NO_BYTES,
    "pg_typeof": _TYPE_NAME,
    "pg_table_is_visible": _visible("class"),
    "pg_table_size": _NO_BYTES,
    "pg_tablespace_location": "''",
    "pg_tablespace_size": _NO_BYTES,
    "pg_total_relation_size": _NO_BYTES,
    "quote_literal": f"chr(39) || {_DOUBLED} || chr(39)",
    "quote_nullable": f"coalesce(chr(39) || {_DOUBLED} || chr(39), 'NULL')",
    "row_security_active": "FALSE",
    "statement_timestamp": "now()",
    "shobj_description": _NO_TEXT,
    "to_regclass": _oid("class"),
    "to_regnamespace": _oid("namespace"),
    "to_regproc": _oid("proc"),
    "to_regrole": _oid("role"),
    "to_regtype": _oid("type"),
    "to_hex": "lower(to_hex($1))",
    "txid_current_if_assigned": "CAST(NULL AS BIGINT)",
    # pgjdbc numbers the columns of a key with it
    "_pg_expandarray": "unnest(list_transform($1, lambda x, n: {'x': x, 'n': CAST(n AS INTEGER)}))",
}  # fmt: skip
_QUOTED = (
    "CASE WHEN regexp_full_match($1, '[a-z_][a-z0-9_$]*') AND $1 NOT IN ({words}) THEN CAST($1 AS VARCHAR) "
    """ELSE '"' || replace(CAST($1 AS VARCHAR), '"', '""') || '"' END"""
)
PROVIDED = "provided"  # in the meta of a relation that no client named
_SCHEMAS = ("pg_catalog", "information_schema")
# the kind of names behind each type that shows an OID as a name, and what is said where there is no such thing
KINDS: dict[str, tuple[str, Callable[[str], StreamSQLError]]] = {
    "regclass": ("class", lambda name: UndefinedTable(f'relation "{name}" does not exist')),
    "regnamespace": ("namespace", lambda name: InvalidSchemaName(f'schema "{name}" does not exist')),
    "regproc": ("proc", lambda name: UndefinedFunction(f'function "{name}" does not exist')),
    "regrole": ("role", lambda name: UndefinedObject(f'role "{name}" does not exist')),
    "regtype": ("type", lambda name: UndefinedObject(f'type "{name}" does not exist')),
}

_REGISTERED = {kind: name for name, (kind, _) in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Names:
    """Where names are looked up: `oid_of(kind, name)` at once; `provide` says what SQL will read (None: the names)."""

    oid_of: Callable[[str, str], int | None]
    provide: Callable[[CatalogRelation | None], None]
    superuser: bool = True  # who asks may do everything
    path: tuple[str, ...] = ("public",)  # the schemas in which he looks names up


def unqualified_functions(tree: exp.Expr) -> exp.Expr:
    """Take ``pg_catalog`` off the names of functions, collations and columns' tables; gives the tree, which is changed."""
    for column in tree.find_all(exp.Column):
        if column.db in _SCHEMAS and column.table:
            column.set("db", None)
    for node in reversed(list(tree.find_all(exp.Dot))):  # arguments before what they are given to
        called = node.expression
        if isinstance(node.this, exp.Identifier) and node.this.name in _SCHEMAS and isinstance(called, exp.Func):
            if isinstance(called, exp.Anonymous) and str(called.this).lower() not in TEMPLATES:
                called = _known(called)
            if node is tree:
                tree = called
            node.replace(called)
    for table in tree.find_all(exp.Table):
        if isinstance(table.this, exp.Func) and table.db == "pg_catalog":
            table.set("db", None)
    for collate in list(tree.find_all(exp.Collate)):
        collation = collate.expression
        if isinstance(collation, exp.Column | exp.Identifier) and collation.name in ("default", "C", "POSIX"):
            collate.replace(collate.this)
    for operator in list(tree.find_all(exp.Operator)):
        operator.replace(_operator(operator))
    return tree


def values_in_from(tree: exp.Expr, statement: Statement) -> None:
    """Turn a function of one value in FROM into the relation of one row that it is; the tree is changed."""
    for table in list(tree.find_all(exp.Table)):
        called = table.this
        name = function_name(called, statement) if isinstance(called, exp.Func) else None
        if name in VALUES_IN_FROM:
            alias = table.alias or name
            column = table.args["alias"].columns[0].name if table.alias and table.args["alias"].columns else alias
            select = exp.select(exp.alias_(called.copy(), column, quoted=True))
            table.replace(exp.Subquery(this=select, alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True))))


def _known(called: exp.Anonymous) -> exp.Expr:
    try:
        made = exp.func(str(called.this), *called.expressions, dialect="postgres")
    except ValueError:  # not so many arguments; DuckDB says what it takes
        return called
    made.meta.update(called.meta)
    return made


_SYMBOL = re.compile(r"[-+*/<>=~!@#%^&|`?]+")


def _operator(node: exp.Expr) -> exp.Expr:
    """Write ``a OPERATOR(pg_catalog.~) b`` as ``a ~ b``. Raises UndefinedFunction."""
    symbol = str(node.args["operator"]).rpartition(".")[2].strip()
    try:
        if not _SYMBOL.fullmatch(symbol) or "--" in symbol or "/*" in symbol:
            raise ParseError(symbol)
        made = sqlglot.parse_one(f"a {symbol} b", read="postgres")
    except ParseError as error:
        raise UndefinedFunction(f"operator does not exist: {symbol}") from error
    operands = {"a": node.this, "b": node.expression}
    for column in list(made.find_all(exp.Column)):
        column.replace(operands[column.name])
    return made


def rewrite(tree: exp.Expr, statement: Statement, names: Names, types: ResultTypes) -> None:
    """Put in what DuckDB runs for each function and cast of the catalog's; the tree is changed. Raises StreamSQLError."""
    nodes = list(reversed(list(tree.walk())))  # arguments before what they are given to
    # all that is asked of the types is asked before anything changes
    from_zero = {
        id(b) for b in nodes if isinstance(b, exp.Bracket) and types.type_of(b.this) in (INT2VECTOR, OIDVECTOR)
    }
    templates = {id(node): template for node in nodes if (template := _by_type(node, types)) is not None}
    for node in nodes:
        if has_template(node):
            continue
        template = templates.get(id(node))
        if template is not None:
            node.replace(_filled(template, [node.this], names))
        elif id(node) in from_zero:
            one = exp.Literal.number(1)
            node.set("expressions", [exp.Add(this=i.copy(), expression=one.copy()) for i in node.expressions])
        elif isinstance(node, exp.Cast):
            _rewrite_cast(node, statement, names)
        elif isinstance(node, exp.Any) or (isinstance(node, exp.Func) and not isinstance(node, (exp.Binary, exp.Case))):
            _rewrite_function(node, statement, names)


# Those that look nothing up, and so mean the same in a continuous query.
_WITHOUT_CATALOG = frozenset({
    "array_length", "array_lower", "array_upper", "format", "initcap", "justify_days", "octet_length", "parse_ident",
    "quote_literal", "quote_nullable", "to_hex",
})  # fmt: skip


def rewrite_without_catalog(tree: exp.Expr, statement: Statement) -> None:
    """Do the same for a continuous query, which cannot read the catalog: for the functions that need not."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a function that needs the catalog")

    for node in reversed(list(tree.walk())):
        coded = isinstance(node, (exp.Encode, exp.Decode))
        if coded or (isinstance(node, exp.Func) and function_name(node, statement) in _WITHOUT_CATALOG):
            _rewrite_function(node, statement, Names(refuse, refuse))


def _by_type(node: exp.Expr, types: ResultTypes) -> str | None:
    """Give the template of a cast that shows OIDs as names: ``typinput::text``, ``x::regtype[]::text[]``."""
    target = named_type(node.to) if isinstance(node, exp.Cast) else None
    if target is None or (target.element or target).name not in _SHOWING:
        return None
    source = types.type_of(node.this)
    if source is None:
        return None
    kind = KINDS.get((source.element or source).name)
    if kind is None or (source.element is None) != (target.element is None):
        return None
    return _shown(kind[0]) if source.element is None else _all_shown(kind[0])


_SHOWING = frozenset({"name", "text", "varchar"})


def _rewrite_function(node: exp.Expr, statement: Statement, names: Names) -> None:
    if isinstance(node, (exp.Any, exp.All)) or function_name(node, statement) == "all":
        read_array(node)
        return
    name = function_name(node, statement)
    if name == "format" and "%s" in node.sql():
        print_format(node)
        return
    template = TEMPLATES.get(name or "")
    if isinstance(node, (exp.Encode, exp.Decode)):
        charset = node.args.get("charset")
        codec = _CODECS.get(charset.name if isinstance(charset, exp.Expr) else "")
        template = None if codec is None else codec[isinstance(node, exp.Decode)]
    if isinstance(node, exp.JSONArrayAgg) or name == "jsonb_agg":
        json_aggregate(node)
        return
    if name in ("json_build_object", "jsonb_build_object"):
        node.replace(exp.Anonymous(this="json_object", expressions=[e.copy() for e in node.iter_expressions()]))
        return
    if (template is _SETTING or name in PRIVILEGE_FUNCTIONS) and not any(True for _ in node.iter_expressions()):
        raise UndefinedFunction(f"function {name}() does not exist", position=position_of(node, statement))
    if template is _SETTING and isinstance(node.expressions[0], exp.Literal):
        return
    if name == "quote_ident":
        template = _quoting()
    arguments = list(node.expressions) if isinstance(node, exp.Anonymous) else list(node.iter_expressions())
    if name == "current_schemas" and len(arguments) == 1:
        node.replace(schemas_in_path(arguments[0], names.path))
        return
    if name in PRIVILEGE_FUNCTIONS:
        if isinstance(arguments[0], exp.CurrentUser):
            del arguments[0]  # that is what is meant without it
        kinds = asked_kinds(name, len(arguments))
        arguments = [_looked_up(a, k, statement, names) for a, k in zip(arguments, kinds, strict=False)]
        template = privilege_template(name, arguments, _oid, superuser=names.superuser)
    if template is not None:
        node.replace(_filled(template, arguments, names))


def _looked_up(argument: exp.Expr, kind: str | None, statement: Statement, names: Names) -> exp.Expr:
    """Give the OID of what a literal names; anything else as it is."""
    if kind is None or not isinstance(argument, exp.Literal) or not argument.is_string or argument.name.isdecimal():
        return argument
    oid = names.oid_of(kind, argument.name if kind == "role" else ".".join(map(_folded, argument.name.split("."))))
    if oid is None:
        error = KINDS[_REGISTERED[kind]][1](argument.name)
        error.position = position_of(argument, statement)
        raise error
    return exp.Literal.number(oid)


@cache
def _quoting() -> str:
    return _QUOTED.replace("{words}", ", ".join(map(literal, must_be_quoted())))


def _rewrite_cast(cast: exp.Cast, statement: Statement, names: Names) -> None:
    wire_type = named_type(cast.to)
    if wire_type is None:
        return
    if wire_type.name in KINDS:
        cast.replace(_registered(cast, wire_type.name, statement, names))
    elif wire_type.element is not None and wire_type.element.name in KINDS:
        _retype(cast, "INTEGER[]")
    elif wire_type.name in _STORED:
        _retype(cast, _STORED[wire_type.name])
    elif wire_type.element is not None and wire_type.element.name in _STORED:
        _retype(cast, f"{_STORED[wire_type.element.name]}[]")
    elif cast.to.this is exp.DType.USERDEFINED:
        _retype(cast, wire_type.name)  # pg_catalog.text
    elif wire_type.element is not None and cast.to.find(exp.Dot):
        _retype(cast, f"{wire_type.element.name}[]")


_STORED = {
    "aclitem": "VARCHAR", "anyarray": "VARCHAR", "char": "VARCHAR", "inet": "VARCHAR", "name": "VARCHAR", "oid": "BIGINT",
    "pg_lsn": "VARCHAR", "pg_node_tree": "VARCHAR", "regprocedure": "VARCHAR", "xid": "BIGINT", "int2vector": "SMALLINT[]",
    "oidvector": "INTEGER[]",
}  # fmt: skip


def _retype(cast: exp.Cast, duckdb_type: str) -> None:
    cast.set("to", exp.DataType.build(duckdb_type, dialect="duckdb"))


def _registered(cast: exp.Cast, type_name: str, statement: Statement, names: Names) -> exp.Expr:
    kind, missing = KINDS[type_name]
    operand = cast.this
    if isinstance(operand, exp.Literal) and operand.is_string and not operand.name.isdecimal():
        written = ".".join(map(_folded, operand.name.split(".")))
        oid = names.oid_of(kind, written)
        if oid is None:
            error = missing(operand.name)
            error.position = position_of(operand, statement)
            raise error
        return exp.cast(exp.Literal.number(oid), "INTEGER")
    return _filled(_oid(kind), [operand.copy()], names)


def _folded(part: str) -> str:
    """Write a part of a name as `names` does: in quotes only where it needs them."""
    part = part.strip()
    return quote_name(part[1:-1].replace('""', '"')) if part.startswith('"') else part.lower()


def shown_as(wire_type: WireType) -> str | None:
    """Give the SQL that shows an OID as a name, or an array of them, ``{}`` standing for it; None for other types."""
    kind = KINDS.get((wire_type.element or wire_type).name)
    if kind is None:
        return None
    return (_shown(kind[0]) if wire_type.element is None else _all_shown(kind[0])).replace("$1", "{}")


@cache
def _parsed(template: str) -> exp.Expr:
    made = sqlglot.parse_one(template, read="duckdb")
    for node in made.walk():
        node.meta.clear()  # places in this text, which would be taken for places in the client's
    return made


def _filled(template: str, arguments: list[exp.Expr], names: Names) -> exp.Expr:
    if NAMES in template:
        names.provide(None)
    if template is _SETTING:
        names.provide(PG_SETTINGS)
    for rights in (OWN_RIGHTS, ALL_RIGHTS):
        if rights.read_as in template:
            names.provide(rights)
    made = _parsed(template).copy()
    for table in made.find_all(exp.Table):
        table.meta[PROVIDED] = True
    for parameter in list(made.find_all(exp.Parameter, exp.Placeholder)):
        number = int(parameter.name) - 1
        argument = arguments[number].copy() if number < len(arguments) else exp.null()
        if not isinstance(argument, (exp.Column, exp.Distinct, exp.Literal, exp.Null, exp.Order)):
            argument = exp.paren(argument, copy=False)
        if parameter is made:
            return argument
        parameter.replace(argument)
    # an aggregate may have FILTER or OVER behind it, which no parenthesis can
    return made if isinstance(made, exp.Func) and not isinstance(made, exp.Case) else exp.paren(made, copy=False)
