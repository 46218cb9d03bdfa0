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
from streamsql.base.limits import Limits
from streamsql.base.types import INT2VECTOR, OIDVECTOR, WireType
from streamsql.base.types import NAME as CATALOG_NAME
from streamsql.catalog.objects import literal
from streamsql.catalog.pg_catalog.names import NAMES
from streamsql.catalog.pg_catalog.pg_get_keywords import must_be_quoted
from streamsql.catalog.pg_catalog.pg_settings import PG_SETTINGS
from streamsql.catalog.pg_catalog.rights_table import ALL_RIGHTS, OWN_RIGHTS
from streamsql.catalog.pg_catalog.sizes import SIZES
from streamsql.catalog.relation import CatalogRelation
from streamsql.plan.catalog_templates import CODECS, QUOTED, SETTING, TEMPLATES, all_shown_sql, oid_sql, shown_sql
from streamsql.plan.functions import VALUES_IN_FROM, function_name
from streamsql.plan.postgres_functions import check_size, has_template
from streamsql.plan.privilege_functions import PRIVILEGE_FUNCTIONS, asked_kinds, privilege_template
from streamsql.plan.result_types import ResultTypes, named_type
from streamsql.plan.rewritten_calls import json_aggregate, print_format, read_array, schemas_in_path
from streamsql.sql.names import quote_name
from streamsql.sql.statements import Statement
from streamsql.sql.trees import position_of

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
    limits: Limits
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
    letters = {id(b) for b in nodes if isinstance(b, exp.Bracket) and types.type_of(b.this) is CATALOG_NAME}
    templates = {id(node): template for node in nodes if (template := _by_type(node, types)) is not None}
    for node in nodes:
        if has_template(node):
            continue
        template = templates.get(id(node))
        if template is not None:
            node.replace(_filled(template, [node.this], names))
        elif id(node) in letters and len(node.expressions) == 1:  # the first one's number is 0
            number = node.expressions[0]  # a constant is one less here than it was written
            shift = 2 if isinstance(number, (exp.Literal, exp.Neg)) else 1
            place = exp.Add(this=number.copy(), expression=exp.Literal.number(shift))
            node.replace(exp.Substring(this=node.this.copy(), start=place, length=exp.Literal.number(1)))
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


def rewrite_without_catalog(tree: exp.Expr, statement: Statement, limits: Limits) -> None:
    """Do the same for a continuous query, which cannot read the catalog: for the functions that need not."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a function that needs the catalog")

    for node in reversed(list(tree.walk())):
        coded = isinstance(node, (exp.Encode, exp.Decode))
        if coded or (isinstance(node, exp.Func) and function_name(node, statement) in _WITHOUT_CATALOG):
            _rewrite_function(node, statement, Names(refuse, refuse, limits))


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
    return shown_sql(kind[0]) if source.element is None else all_shown_sql(kind[0])


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
        codec = CODECS.get(charset.name if isinstance(charset, exp.Expr) else "")
        template = None if codec is None else codec[isinstance(node, exp.Decode)]
    if isinstance(node, exp.JSONArrayAgg) or name == "jsonb_agg":
        json_aggregate(node)
        return
    if name in ("json_build_object", "jsonb_build_object"):
        made = [e.copy() for e in node.iter_expressions()]
        made[::2] = [e if isinstance(e, exp.Literal) and e.is_string else exp.cast(e, "TEXT") for e in made[::2]]
        node.replace(exp.Anonymous(this="json_object", expressions=made))
        return
    if (template is SETTING or name in PRIVILEGE_FUNCTIONS) and not any(True for _ in node.iter_expressions()):
        raise UndefinedFunction(f"function {name}() does not exist", position=position_of(node, statement))
    if template is SETTING and isinstance(node.expressions[0], exp.Literal):
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
        template = privilege_template(name, arguments, oid_sql, superuser=names.superuser)
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
    return QUOTED.replace("{words}", ", ".join(map(literal, must_be_quoted())))


def _rewrite_cast(cast: exp.Cast, statement: Statement, names: Names) -> None:
    wire_type = named_type(cast.to)
    if wire_type is None:
        return
    if wire_type.name in KINDS:
        cast.replace(_registered(cast, wire_type.name, statement, names))
    elif wire_type.element is not None and wire_type.element.name in KINDS:
        read_array(cast)
        _retype(cast, "INTEGER[]")
    elif wire_type.name in _STORED:
        _retype(cast, _STORED[wire_type.name])
    elif wire_type.element is not None and wire_type.element.name in _STORED:
        read_array(cast)
        _retype(cast, f"{_STORED[wire_type.element.name]}[]")
    elif cast.to.this is exp.DType.USERDEFINED:
        _retype(cast, wire_type.name)  # pg_catalog.text
    elif wire_type.element is not None and cast.to.find(exp.Dot):
        _retype(cast, f"{wire_type.element.name}[]")


_IS_OID = "is_oid"  # in the meta of what a cast to regclass and its kin has been written as

_STORED = {
    "aclitem": "VARCHAR", "anyarray": "VARCHAR", "char": "VARCHAR", "inet": "VARCHAR", "name": "VARCHAR", "oid": "BIGINT",
    "pg_lsn": "VARCHAR", "pg_node_tree": "VARCHAR", "regprocedure": "VARCHAR", "xid": "BIGINT", "int2vector": "SMALLINT[]",
    "oidvector": "INTEGER[]",
}  # fmt: skip


def _retype(cast: exp.Cast, duckdb_type: str) -> None:
    cast.set("to", exp.DataType.build(duckdb_type, dialect="duckdb"))


def _registered(cast: exp.Cast, type_name: str, statement: Statement, names: Names) -> exp.Expr:
    kind, missing = KINDS[type_name]
    operand: exp.Expr = cast.this
    if isinstance(operand, exp.Literal) and operand.is_string and not operand.name.isdecimal():
        written = ".".join(map(_folded, operand.name.split(".")))
        oid = names.oid_of(kind, written)
        if oid is None:
            error = missing(operand.name)
            error.position = position_of(operand, statement)
            raise error
        return exp.cast(exp.Literal.number(oid), "INTEGER")
    if operand.unnest().meta.get(_IS_OID):  # 'x'::regclass::regclass, which would be looked up once more
        return operand.copy()
    made = _filled(oid_sql(kind), [operand.copy()], names)
    made.unnest().meta[_IS_OID] = True
    return made


def _folded(part: str) -> str:
    """Write a part of a name as `names` does: in quotes only where it needs them."""
    part = part.strip()
    return quote_name(part[1:-1].replace('""', '"')) if part.startswith('"') else part.lower()


def shown_as(wire_type: WireType) -> str | None:
    """Give the SQL that shows an OID as a name, or an array of them, ``{}`` standing for it; None for other types."""
    kind = KINDS.get((wire_type.element or wire_type).name)
    if kind is None:
        return None
    return (shown_sql(kind[0]) if wire_type.element is None else all_shown_sql(kind[0])).replace("$1", "{}")


@cache
def _parsed(template: str) -> exp.Expr:
    made = sqlglot.parse_one(template, read="duckdb")
    for node in made.walk():
        node.meta.clear()  # places in this text, which would be taken for places in the client's
    return made


def _filled(template: str, arguments: list[exp.Expr], names: Names) -> exp.Expr:
    if NAMES in template:
        names.provide(None)
    if template is SETTING:
        names.provide(PG_SETTINGS)
    for rights in (OWN_RIGHTS, ALL_RIGHTS, SIZES):
        if rights.read_as in template:
            names.provide(rights)
    made = _parsed(template).copy()
    for table in made.find_all(exp.Table):
        table.meta[PROVIDED] = True
    check_size(made, arguments, names.limits)
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
