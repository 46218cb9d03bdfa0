"""Functions, operators and casts that PostgreSQL has and DuckDB has not, or computes otherwise, written as DuckDB's SQL.

What a call is depends on its arguments' types. They are found before the tree changes (`note`), which puts a template into
the node's `meta`; `apply` then writes it out. The tables are `function_table` and, for text, `text_output`.

    ARRAY[1] || 2      list_append([1], 2)           data @> '{"a": 1}'     json_contains(data, '{"a": 1}')
    1.0::float8::text  CASE ... END                  TIME '05:00' - TIME '03:00'     to_microseconds(...)
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from itertools import islice

import sqlglot
from sqlglot import exp

from streamsql.base import types as t
from streamsql.base.errors import InvalidParameterValue, UndefinedFunction
from streamsql.base.limits import Limits, exceeded
from streamsql.base.types import WireType, type_name
from streamsql.plan import constant_calls, formatting, json_paths
from streamsql.plan.function_table import DEPTH_MAX, Types, length_at, template_of
from streamsql.plan.functions import function_name, is_date_part
from streamsql.plan.parameters import typed_literal
from streamsql.plan.result_types import INTEGERS, ResultTypes, named_type
from streamsql.plan.text_output import is_plain, text_sql
from streamsql.sql.statements import Statement
from streamsql.sql.trees import is_assignment, position_of

_TEMPLATE, _ARGUMENTS, _LIMITS = "template", "arguments", "limits"
_TEXTS = (t.TEXT, t.VARCHAR, t.BPCHAR, t.NAME, t.UNKNOWN)
_JSONS = (t.JSON, t.JSONB)
_TIMES = (t.DATE, t.TIMESTAMP, t.TIMESTAMPTZ)
_NUMBERS = (*INTEGERS, t.NUMERIC, t.FLOAT4, t.FLOAT8)
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod)

# operator -> function of JSON
_MAP_1, _MAP_2 = "CAST(CAST($1 AS JSON) AS MAP(VARCHAR, JSON))", "CAST(CAST($2 AS JSON) AS MAP(VARCHAR, JSON))"
_AS_LIST = "CASE WHEN json_type({0}) = 'ARRAY' THEN CAST(CAST({0} AS JSON) AS JSON[]) ELSE [CAST({0} AS JSON)] END"
_JSON_CONCAT = (
    f"CASE WHEN json_type($1) = 'OBJECT' AND json_type($2) = 'OBJECT' THEN to_json(map_concat({_MAP_1}, {_MAP_2})) "
    f"ELSE to_json(list_concat({_AS_LIST.format('$1')}, {_AS_LIST.format('$2')})) END"
)
_JSON_WITHOUT_KEY = (
    f"CASE WHEN json_type($1) = 'OBJECT' THEN to_json(map_from_entries(list_filter(map_entries({_MAP_1}), "
    "lambda e: e.key <> $2))) ELSE to_json(list_filter(CAST(CAST($1 AS JSON) AS JSON[]), "
    "lambda e: (e ->> '$') IS DISTINCT FROM CAST($2 AS VARCHAR))) END"
)
_JSON_WITHOUT_ELEMENT = (
    "to_json(list_filter(CAST(CAST($1 AS JSON) AS JSON[]), "
    "lambda e, i: i - 1 <> CASE WHEN $2 < 0 THEN json_array_length($1) + $2 ELSE $2 END))"
)
_KEYS = (
    "CASE WHEN json_type($1) = 'OBJECT' THEN json_keys($1) WHEN json_type($1) = 'ARRAY' "
    "THEN list_transform(list_filter(CAST(CAST($1 AS JSON) AS JSON[]), lambda e: json_type(e) = 'VARCHAR'), "
    "lambda e: e ->> '$') "
    "ELSE [] END"
)
_JSON_OPERATORS: dict[type[exp.Expr], str] = {
    exp.ArrayContainsAll: "json_contains($1, $2)",
    exp.ArrayContainedBy: "json_contains($2, $1)",
    exp.EQ: "json($1) = json($2)",
    exp.NEQ: "json($1) <> json($2)",
}
_KEY_OPERATORS: dict[type[exp.Expr], str] = {
    exp.JSONBContainsTopKey: f"list_contains({_KEYS}, $2)",
    exp.JSONBContainsAnyTopKeys: f"list_has_any({_KEYS}, $2)",
    exp.JSONBContainsAllTopKeys: f"list_has_all({_KEYS}, $2)",
}
_BESIDE_ARRAYS = (
    exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.ArrayContainsAll,
    exp.ArrayContainedBy, exp.ArrayOverlaps, exp.DPipe,
)  # fmt: skip
_KEY_LISTS = (exp.JSONBContainsAnyTopKeys, exp.JSONBContainsAllTopKeys)
_CENTURIES = {"CENTURY": 100, "MILLENNIUM": 1000}


def note(tree: exp.Expr, statement: Statement, types: ResultTypes, limits: Limits) -> None:
    """Write down in the nodes what they become. Raises FeatureNotSupported."""
    for node in tree.walk():
        if is_assignment(node):
            continue
        formatted = formatting.template_of(node, types.type_of(node.this), statement, limits)
        found = (formatted, _VALUE) if formatted is not None else _template(node, statement, types)
        if found is not None:
            node.meta[_TEMPLATE], node.meta[_ARGUMENTS] = found
            node.meta[_LIMITS] = limits


def apply(node: exp.Expr) -> bool:
    """Write one node as its template says, its operands having been written; tells whether it has one."""
    template = node.meta.get(_TEMPLATE)
    if template is None:
        return False
    arguments = [a.this if isinstance(a, (exp.Any, exp.All)) else a for a in _of(node, node.meta[_ARGUMENTS])]
    node.replace(filled(template, arguments, node.meta[_LIMITS]))
    return True


def has_template(node: exp.Expr) -> bool:
    """Tell whether `apply` will write this node."""
    return _TEMPLATE in node.meta


def filled(template: str, arguments: list[exp.Expr], limits: Limits) -> exp.Expr:
    """Put arguments in for ``$1``, ``$2`` .. of a template; NULL for those that are missing."""
    made = _parsed(template).copy()
    check_size(made, arguments, limits)
    for parameter in list(made.find_all(exp.Parameter, exp.Placeholder)):
        number = int(parameter.name) - 1
        argument = arguments[number].copy() if number < len(arguments) else exp.null()
        if not isinstance(argument, (exp.Column, exp.Literal, exp.Null, exp.Paren)):
            argument = exp.paren(argument, copy=False)
        if parameter is made:
            return argument
        parameter.replace(argument)
    return made if isinstance(made, exp.Func) and not isinstance(made, exp.Case) else exp.paren(made, copy=False)


def check_size(template: exp.Expr, arguments: list[exp.Expr], limits: Limits) -> None:
    """Raise ProgramLimitExceeded where arguments that a template names several times would grow beyond all measure."""
    named = Counter(int(p.name) - 1 for p in template.find_all(exp.Parameter, exp.Placeholder))
    for number, times in named.items():
        if times > 1 and number < len(arguments):
            nodes = sum(1 for _ in islice(arguments[number].walk(), limits.expression_nodes_max))
            if nodes * times > limits.expression_nodes_max:
                raise exceeded(limits, "expression_nodes_max", "what nested calls are written as")


@cache
def _parsed(template: str) -> exp.Expr:
    made = sqlglot.parse_one(template, read="duckdb")
    for node in made.walk():  # places in the template are none in the client's text
        node.meta.clear()
    return made


_VALUE: list[tuple[str, int | None]] = [("this", None)]
Place = tuple[str, "int | None"]  # the name of a node's argument, and the index in it where it is a list


def _places(node: exp.Expr) -> list[Place]:
    """List where a call's arguments are, as the client wrote them."""
    if isinstance(node, exp.Anonymous):
        return [("expressions", i) for i in range(len(node.expressions))]
    found: list[Place] = []
    for key, value in node.args.items():
        if isinstance(value, exp.Expr):
            found.append((key, None))
        elif isinstance(value, list):
            found += [(key, i) for i, part in enumerate(value) if isinstance(part, exp.Expr)]
    return found


def _of(node: exp.Expr, places: list[Place]) -> list[exp.Expr]:
    return [node.args[key] if index is None else node.args[key][index] for key, index in places]


def _template(node: exp.Expr, statement: Statement, types: ResultTypes) -> tuple[str, list[Place]] | None:
    """Give what a node is written as, and where its operands are; None where DuckDB reads it as PostgreSQL does."""
    if isinstance(node, exp.Cast):
        found = _cast(node, types)
        return None if found is None else (found, [("this", None)])
    if isinstance(node, exp.Binary) and not isinstance(node, (exp.Pow, exp.Dot)):
        found = _operator(node, *_with_arrays_read(node, types.type_of(node.this), types.type_of(node.expression)))
        return None if found is None else (found, [("this", None), ("expression", None)])
    if isinstance(node, (exp.Extract, exp.TimestampTrunc, exp.DateTrunc)):
        return _time_part(node, statement, types)
    if not isinstance(node, exp.Func) or isinstance(node, (exp.AggFunc, exp.Case)):
        return None
    places = _places(node)
    operands = _of(node, places)
    name = function_name(node, statement)
    if name is None:
        return None
    of = [types.type_of(operand) for operand in operands]
    special = _SPECIAL.get(name)
    found = template_of(name, of) if special is None else special(operands, of)
    return None if found is None else (found, places)


# ---- casts ----


def _cast(node: exp.Cast, types: ResultTypes) -> str | None:
    """Write a cast to text as PostgreSQL writes the value, and cut what is longer than varchar(n)."""
    target = named_type(node.to)
    if target is t.TIME and types.type_of(node.this) is t.TIMESTAMPTZ:
        return "CAST(CAST($1 AS TIMESTAMP) AS TIME)"
    if target not in (t.TEXT, t.VARCHAR, t.BPCHAR, t.NAME):
        return None
    source = types.type_of(node.this)
    length = next((p.name for p in node.to.expressions if isinstance(p, exp.DataTypeParam)), None)
    if length is None and (is_plain(source) or source in _TEXTS):
        return None
    text = text_sql("$1", source)
    if length is None or not length.isdecimal():
        return text
    return f"rtrim(left({text}, {length}))" if target is t.BPCHAR else f"left({text}, {length})"


# ---- operators ----


def _with_arrays_read(
    node: exp.Expr, one: WireType | None, other: WireType | None
) -> tuple[WireType | None, WireType | None]:
    """Read a string beside an array, which PostgreSQL takes for one of its type; give the operands' types then."""
    if isinstance(node, _BESIDE_ARRAYS):
        for key, own, beside in (("this", one, other), ("expression", other, one)):
            operand = node.args[key].unnest()
            if own is t.UNKNOWN and beside is not None and beside.element is not None and operand.is_string:
                node.set(key, typed_literal(beside, operand.name))
                return beside, beside
    return one, other


def _operator(node: exp.Expr, one: WireType | None, other: WireType | None) -> str | None:
    if isinstance(node, exp.JSONBDeleteAtPath):
        return json_paths.remove_template(node.expression)
    if isinstance(node, exp.DPipe):
        return _concatenation(one, other)
    if isinstance(node, exp.IntDiv):  # div() of numbers that are no integers
        if not (isinstance(node.args.get("this"), exp.Expr) and isinstance(node.args.get("expression"), exp.Expr)):
            raise UndefinedFunction("function div takes two arguments")
        return None if one in INTEGERS and other in INTEGERS else "trunc(CAST($1 AS DOUBLE) / $2)"
    if isinstance(node, (exp.Like, exp.ILike)) and isinstance(node.expression, (exp.Any, exp.All)):
        return _like_any(node)
    if isinstance(node, _ARITHMETIC):
        return _arithmetic(node, one, other)
    keys = node.expression if isinstance(node, _KEY_LISTS) else None
    if isinstance(keys, exp.Literal) and keys.is_string:  # '{a,b}'
        node.set("expression", typed_literal(t.TEXT.array, keys.name))
    if one in _JSONS or (other in _JSONS and one is t.UNKNOWN):
        return _JSON_OPERATORS.get(type(node)) or _KEY_OPERATORS.get(type(node))
    if isinstance(node, (exp.ArrayContainsAll, exp.ArrayContainedBy, exp.ArrayOverlaps)):
        return None
    return _KEY_OPERATORS.get(type(node)) if one is None or one is t.TEXT else None


def _like_any(node: exp.Like | exp.ILike) -> str:
    """``x LIKE ANY (array)``: an array of patterns."""
    operator = "ILIKE" if isinstance(node, exp.ILike) else "LIKE"
    whole = "bool_and" if isinstance(node.expression, exp.All) else "bool_or"
    matches = f"list_transform(x, lambda e: $1 {operator} e ESCAPE '\\')"
    return f"list_aggregate({matches.replace('(x,', '($2,')}, '{whole}')"


def _concatenation(one: WireType | None, other: WireType | None) -> str | None:
    if one is None or other is None:
        return None
    if (one in _JSONS or other in _JSONS) and {one, other} <= {*_JSONS, t.UNKNOWN}:
        return _JSON_CONCAT
    if one.element is not None and other.element is not None:
        return "list_concat($1, $2)"
    if one.element is not None and other is not t.UNKNOWN:
        return "list_append($1, $2)"
    if other.element is not None and one is not t.UNKNOWN:
        return "list_prepend($1, $2)"
    if t.BYTEA in (one, other) or one.element is not None or other.element is not None:
        return None
    if is_plain(one) and is_plain(other):
        return None
    return f"{text_sql('$1', one)} || {text_sql('$2', other)}"


def _arithmetic(node: exp.Expr, one: WireType | None, other: WireType | None) -> str | None:
    if isinstance(node, exp.Sub) and one in _JSONS:
        return _JSON_WITHOUT_ELEMENT if other in INTEGERS else _JSON_WITHOUT_KEY
    if isinstance(node, exp.Sub) and one is t.TIME and other is t.TIME:
        return "to_microseconds(epoch_us($1) - epoch_us($2))"
    symbols: dict[type[exp.Expr], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}
    symbol = symbols.get(type(node))
    if symbol is None:
        return None
    for literal, of in ((1, other), (2, one)):  # a string beside a number is read as that number's type
        if (one, other)[literal - 1] is t.UNKNOWN and of in _NUMBERS:
            name = _LITERAL_TYPES[of]
            operands = [f"CAST(${n} AS {name})" if n == literal else f"${n}" for n in (1, 2)]
            return f"{operands[0]} {symbol} {operands[1]}"
    return None


_LITERAL_TYPES = {
    t.INT2: "SMALLINT", t.INT4: "INTEGER", t.INT8: "BIGINT", t.NUMERIC: "DECIMAL(38,10)", t.FLOAT4: "FLOAT", t.FLOAT8: "DOUBLE",
}  # fmt: skip

# ---- parts of times ----

_TRUNCATED = frozenset(
    (
        "microsecond microseconds us usec usecs millisecond milliseconds ms msec msecs second seconds s sec secs minute "
        "minutes m min mins hour hours h hr hrs day days d week weeks w month months mon mons quarter quarters year years y "
        "yr yrs decade decades century centuries millennium millennia"
    ).split()
)
_EXTRACTED = _TRUNCATED | frozenset(
    "dow isodow doy epoch isoyear julian timezone timezone_hour timezone_minute weekday dayofweek dayofyear".split()
)
_SECONDS = "CAST(({0}) AS DECIMAL(28,0)) * CAST(0.000001 AS DECIMAL(7,6))"
_IN_MINUTE = "datepart('microseconds', $1)"


def _time_part(node: exp.Expr, statement: Statement, types: ResultTypes) -> tuple[str, list[Place]] | None:
    if isinstance(node, exp.Extract):
        unit = node.this.name.upper()
        of = types.type_of(node.expression)
        if of is not None and unit.lower() not in _EXTRACTED:
            raise InvalidParameterValue(
                f'unit "{unit.lower()}" not recognized for type {type_name(of)}', position=position_of(node, statement)
            )
        template = _extracted(unit, types.type_of(node.expression))
        if template is None:
            return None
        if is_date_part(node, statement):
            template = f"CAST({template} AS DOUBLE)"
        return template, [("expression", None)]
    unit = str(node.args["unit"].name).upper() if isinstance(node.args.get("unit"), exp.Expr) else ""
    of = types.type_of(node.this)
    if of is not None and unit and unit.lower() not in _TRUNCATED:
        raise InvalidParameterValue(
            f'unit "{unit.lower()}" not recognized for type {type_name(of)}', position=position_of(node, statement)
        )
    if unit in _CENTURIES and of in _TIMES:
        years = _CENTURIES[unit]
        return f"date_trunc('year', $1) - to_years(CAST((year($1) - 1) % {years} AS INTEGER))", [("this", None)]
    if of is t.DATE and node.args.get("zone") is None:
        return f"date_trunc('{unit.lower()}', CAST($1 AS TIMESTAMPTZ))", [("this", None)]
    return None


def _extracted(unit: str, of: WireType | None) -> str | None:
    if unit == "EPOCH" and of in (t.DATE, t.TIME, t.TIMESTAMP, t.TIMESTAMPTZ, t.INTERVAL):
        return _SECONDS.format("epoch_us($1)")
    if unit in ("SECOND", "SECONDS") and of in (t.TIME, t.TIMESTAMP, t.TIMESTAMPTZ, t.INTERVAL):
        return _SECONDS.format(_IN_MINUTE)
    if unit in ("MILLISECOND", "MILLISECONDS") and of in (t.TIME, t.TIMESTAMP, t.TIMESTAMPTZ, t.INTERVAL):
        return f"CAST({_IN_MINUTE} AS DECIMAL(18,0)) * CAST(0.001 AS DECIMAL(4,3))"
    return None


# ---- functions whose template depends on what is written ----


def _concat(_operands: list[exp.Expr], types: Types) -> str | None:
    if all(is_plain(w) and w is not t.BOOL for w in types):
        return None
    return f"concat({', '.join(text_sql(f'${i + 1}', w, bare=True) for i, w in enumerate(types))})"


def _concat_ws(_operands: list[exp.Expr], types: Types) -> str | None:
    if all(is_plain(w) and w is not t.BOOL for w in types):
        return None
    return f"concat_ws({', '.join(text_sql(f'${i + 1}', w, bare=True) for i, w in enumerate(types))})"


def _join_array(_operands: list[exp.Expr], types: Types) -> str | None:
    """``array_to_string``: elements as PostgreSQL writes them, NULL left out or shown as the third argument says."""
    element = types[0].element if types and types[0] is not None else None
    text = text_sql("e", element, bare=True) if element is not None else "CAST(e AS VARCHAR)"
    if len(types) == 3:
        text = f"coalesce({text}, $3)"
    elif element is None or is_plain(element):
        return None
    return f"array_to_string(list_transform($1, lambda e: {text}), $2)"


def _json_text(_operands: list[exp.Expr], _types: Types) -> str | None:
    return "to_json($1)"


_SPECIFIER = re.compile(r"%(?:(\d+)\$)?(-)?(\d+)?([sIL%])")
_IDENTIFIER = (
    "CASE WHEN regexp_full_match({x}, '[a-z_][a-z0-9_$]*') THEN {x} "
    """ELSE '"' || replace({x}, '"', '""') || '"' END"""
)
_LITERAL = "coalesce(chr(39) || replace({x}, chr(39), chr(39) || chr(39)) || chr(39), 'NULL')"


def _format(operands: list[exp.Expr], types: Types) -> str | None:
    """``format('%s %I %L', ...)`` with a pattern that is written out."""
    pattern = operands[0]
    if not isinstance(pattern, exp.Literal) or not pattern.is_string:
        return None
    parts: list[str] = []
    done, following = 0, 2
    for found in _SPECIFIER.finditer(pattern.name):
        parts.append(_quoted(pattern.name[done : found.start()]))
        done = found.end()
        number, left, width, kind = found.groups()
        if kind == "%":
            parts.append("'%'")
            continue
        place = int(number) + 1 if number else following
        following = place + 1
        if place > len(operands):
            return "error('{22023} too few arguments for format()')"
        text = text_sql(f"${place}", types[place - 1], bare=True)
        shown = {"s": f"coalesce({text}, '')", "I": _IDENTIFIER.format(x=text), "L": _LITERAL.format(x=text)}[kind]
        if width:
            shown = f"printf('%{left or ''}{width}s', {shown})"
        parts.append(shown)
    parts.append(_quoted(pattern.name[done:]))
    return " || ".join(p for p in parts if p != "''") or "''"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _normalize(operands: list[exp.Expr], _types: Types) -> str:
    form = operands[1].name.upper() if len(operands) > 1 else "NFC"
    return "nfc_normalize($1)" if form == "NFC" else "error('{0A000} the only normalization form is NFC')"


def _substring(operands: list[exp.Expr], types: Types) -> str | None:
    """``substring(text FROM pattern)``, and that of bytes."""
    if len(operands) > 1 and isinstance(operands[1], exp.Literal) and operands[1].is_string:
        group = 1 if constant_calls.groups_of(operands[1].name) else 0
        return f"CASE WHEN regexp_matches($1, $2) THEN regexp_extract($1, $2, {group}) END"
    length = operands[2].unnest() if len(operands) > 2 else None
    if isinstance(length, exp.Neg):
        return "error('{22011} negative substring length not allowed')"
    return template_of("substr", types)


def _pg_typeof(_operands: list[exp.Expr], types: Types) -> str | None:
    return None if len(types) != 1 or types[0] is None else _quoted(type_name(types[0]))


def _nested(_operands: list[exp.Expr], _types: Types) -> str:
    """Count the elements of an array of arrays, too, all of which have the same length."""
    inner = " * ".join(f"greatest({length_at(depth)}, 1)" for depth in range(2, DEPTH_MAX + 1))
    return (
        f"CASE WHEN typeof($1) LIKE '%[][]' THEN CAST(len($1) * {inner} AS INTEGER) ELSE CAST(len($1) AS INTEGER) END"
    )


_SPECIAL = {
    "hashtext": constant_calls.hashed,
    "hashtextextended": constant_calls.hashed,
    "cardinality": _nested,
    "normalize": _normalize,
    "pg_typeof": _pg_typeof,
    "array_to_string": _join_array,
    "concat": _concat,
    "concat_ws": _concat_ws,
    "format": _format,
    "jsonb_insert": json_paths.insert_template,
    "jsonb_set": json_paths.set_template,
    "regexp_match": constant_calls.regexp_match,
    "regexp_matches": constant_calls.regexp_matches,
    "regexp_replace": constant_calls.regexp_replace,
    "regexp_substr": constant_calls.regexp_substr,
    "substring": _substring,
}
