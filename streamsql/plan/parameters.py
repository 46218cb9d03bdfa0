"""Parameters (``$1``) of a query: what types they have, and how their values are put in.

A type comes from where the parameter stands, as in PostgreSQL: a cast, the column that it is written to, the other side of
a comparison or of arithmetic, LIMIT; what says nothing makes it text. Values are put into the tree as typed literals, so
that a continuous query with parameters is a plan like any other.

    WHERE price > $1 AND k = ANY($2) LIMIT $3      ->      double precision, text[], bigint
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import pyarrow as pa
from sqlglot import exp

from streamsql.base.errors import IndeterminateDatatype, InvalidTextRepresentation, NumericOutOfRange, StreamSQLError
from streamsql.base.types import (
    ARRAYS,
    BOOL,
    BYTEA,
    CATALOG_SCALARS,
    DATE,
    DUCKDB_NAME,
    INT4,
    INT8,
    INTERVAL,
    NAME,
    NUMERIC,
    OID,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    WireType,
    duckdb_name,
    wire_column,
)
from streamsql.catalog.objects import literal
from streamsql.pgwire.values import BadValue, codec_of, parse_text, record
from streamsql.pgwire.values.calendar import has_zone
from streamsql.pgwire.values.column import strings_of
from streamsql.plan.nodes import Describe
from streamsql.plan.result_types import WIRE_TYPE, ResultTypes, is_named, named_type
from streamsql.sql.render_trees import duckdb_sql

# Where the place alone says the type: (node, argument) -> type.
_PLACES: dict[tuple[type[exp.Expr], str], WireType] = {
    (exp.ExplodingGenerateSeries, "end"): INT8,
    (exp.ExplodingGenerateSeries, "start"): INT8,
    (exp.ExplodingGenerateSeries, "step"): INT8,
    (exp.Having, "this"): BOOL,
    (exp.If, "this"): BOOL,
    (exp.JSONBContainsAllTopKeys, "expression"): TEXT.array,
    (exp.JSONBContainsAnyTopKeys, "expression"): TEXT.array,
    (exp.JSONBContainsTopKey, "expression"): TEXT,
    (exp.Left, "expression"): INT4,
    (exp.Limit, "expression"): INT8,
    (exp.Not, "this"): BOOL,
    (exp.Offset, "expression"): INT8,
    (exp.Repeat, "times"): INT4,
    (exp.Right, "expression"): INT4,
    (exp.Round, "decimals"): INT4,
    (exp.Substring, "length"): INT4,
    (exp.Substring, "start"): INT4,
    (exp.Where, "this"): BOOL,
}
# Nodes whose operands are of one type.
_ALIKE = (exp.Binary, exp.Between, exp.In, exp.Coalesce, exp.Nullif, exp.Greatest, exp.Least)
_TEXTUAL = (exp.Like, exp.ILike, exp.RegexpLike, exp.SimilarTo, exp.DPipe, exp.JSONExtract, exp.JSONExtractScalar)
_TIMES = frozenset({"date", "time", "timestamp", "timestamptz"})
# fewer digits than these always fit
_PLAIN_NUMBERS = {"int2": 5, "int4": 10, "int8": 19}
READ = "read"  # in the meta of a cast: its literal is in DuckDB's writing already
_TEXTS = frozenset({"bpchar", "json", "jsonb", "text", "unknown", "varchar"})
_DECIMAL_DIGITS_MAX = 38
_EXPONENT_MAX = 400  # DOUBLE takes over from DECIMAL long before
_ONLY_CATALOG = frozenset({OID, OID.array, *CATALOG_SCALARS, *(ARRAYS[t.name] for t in CATALOG_SCALARS if t.array_oid)})
# what a numeric parameter is before its value is known
_DECIMAL_NAME = "DECIMAL(38,10)"


def number_of(parameter: exp.Expr) -> int:
    """Give n of ``$n``."""
    return int(parameter.name)


def infer_types(
    tree: exp.Expr,
    count: int,
    declared: Sequence[WireType | None],
    describe: Describe,
    targets: Sequence[WireType] = (),
    known: ResultTypes | None = None,
    beside: exp.Expr | None = None,
) -> list[WireType]:
    """Give the type of each parameter 1..count.

    `declared` is what the client said in Parse (None: nothing) and counts before all. `targets` are the types of the columns
    that the tree's own columns are written to, where it is the source of an INSERT. `known` tells of the tree's columns of
    types that users have made. Parameters in the tree `beside` it count as well. Text is the last resort; raises
    IndeterminateDatatype for a parameter that stands nowhere.
    """
    types: list[WireType | None] = [declared[i] if i < len(declared) else None for i in range(count)]
    types = [None if t is UNKNOWN else t for t in types]
    if all(types):
        return [t or TEXT for t in types]
    written = _written(tree, targets)
    asked = _Inference(describe, known)
    parameters = [p for each in (tree, beside) if each is not None for p in each.find_all(exp.Parameter)]
    for parameter in parameters:
        index = number_of(parameter) - 1
        if types[index] is None:
            types[index] = written.get(id(parameter)) or asked.type_of(parameter)
    numbers = set(map(number_of, parameters))
    unused = next((number for number, found in enumerate(types, 1) if found is None and number not in numbers), None)
    if unused is not None:
        raise IndeterminateDatatype(f"could not determine data type of parameter ${unused}")
    return [t or TEXT for t in types]


def _written(tree: exp.Expr, targets: Sequence[WireType]) -> dict[int, WireType]:
    """Find the parameters that stand for a whole value of a target column, by the identity of their nodes."""
    rows: list[list[exp.Expr]] = []
    if isinstance(tree, exp.Values):
        rows = [list(row.expressions) if isinstance(row, exp.Tuple) else [row] for row in tree.expressions]
    elif isinstance(tree, exp.Select):
        rows = [[item.unalias() for item in tree.expressions]]
    found: dict[int, WireType] = {}
    for row in rows:
        for cell, target in zip(row, targets, strict=False):  # a row of a wrong width is an error that comes later
            bare = cell.unnest()
            if isinstance(bare, exp.Parameter):
                found[id(bare)] = target
    return found


@dataclass(slots=True)
class _Inference:
    """Asks DuckDB for the types of what stands beside parameters."""

    describe: Describe
    known: ResultTypes | None = None

    def type_of(self, parameter: exp.Parameter) -> WireType | None:
        node: exp.Expr = parameter
        parent = node.parent
        in_array = False
        while isinstance(parent, (exp.Paren, exp.Any, exp.All)):
            in_array = in_array or not isinstance(parent, exp.Paren)
            node, parent = parent, parent.parent
        if parent is None:
            return None
        placed = _PLACES.get((type(parent), node.arg_key or ""))
        if placed is not None:
            return placed
        if isinstance(parent, exp.Cast):
            if node.arg_key != "this":
                return None
            named = named_type(parent.to)
            return (
                named
                if named in _ONLY_CATALOG or (named is not None and named.scalar.is_made)
                else self._of_name(parent.to.sql("duckdb"))
            )
        if isinstance(parent, _TEXTUAL):
            return TEXT
        if isinstance(parent, (exp.If, exp.Case)):
            return self._of_branches(parent if isinstance(parent, exp.Case) else parent.parent)
        if isinstance(parent, _ALIKE):
            found = self._of_others(parent, node)
            return found.array if found is not None and in_array else _operand(parent, found)
        return None

    def _of_others(self, parent: exp.Expr, node: exp.Expr) -> WireType | None:
        others = (o for o in parent.iter_expressions() if o is not node and not isinstance(o, exp.Query))
        return self._first(others)

    def _of_branches(self, case: exp.Expr | None) -> WireType | None:
        if not isinstance(case, exp.Case):
            return None
        results = [branch.args.get("true") for branch in case.args.get("ifs") or []] + [case.args.get("default")]
        return self._first(r for r in results if isinstance(r, exp.Expr))

    def _first(self, nodes: object) -> WireType | None:
        for node in nodes:  # type: ignore[attr-defined]  # an iterable of nodes
            if isinstance(node, exp.Cast):
                return self._of_name(node.to.sql("duckdb"))
            if not node.find(exp.Parameter):
                made = self.known.type_of(node) if self.known is not None else None
                if made is not None and is_named(made):
                    return made
                found = self._of_expression(node)
                if found is None and made is NAME:  # of a relation of the catalog that DuckDB does not have
                    found = TEXT
                if found is not None:
                    return found
        return None

    def _of_name(self, type_name: str) -> WireType | None:
        try:
            return wire_column(self.describe(f"SELECT CAST(NULL AS {type_name})")[0].type).type
        except StreamSQLError:
            return None

    def _of_expression(self, node: exp.Expr) -> WireType | None:
        """Ask for the type of an expression, in the FROM clause of the statement around it."""
        around = node.find_ancestor(exp.Select, exp.Update, exp.Delete)
        probe = exp.select(node.copy())
        if isinstance(around, exp.Select) and around.args.get("from_"):
            probe = probe.from_(around.args["from_"].this.copy())
            for join in around.args.get("joins") or []:
                if join.find(exp.Parameter):
                    return None
                probe.append("joins", join.copy())
            named = around.root().args.get("with_")
            if named is not None and not named.find(exp.Parameter):
                probe.set("with_", named.copy())
        elif isinstance(around, (exp.Update, exp.Delete)):
            probe = probe.from_(around.this.copy())
        try:
            found = wire_column(self.describe(duckdb_sql(probe))[0].type).type
        except StreamSQLError:
            return None
        return None if isinstance(node, exp.Null) else found


def _operand(parent: exp.Expr, other: WireType | None) -> WireType | None:
    """Tell an operand's type from the other one's: alike, but for what is added to a time."""
    if other is None or other.name not in _TIMES or not isinstance(parent, exp.Add):
        return other
    return INT4 if other.name == "date" else INTERVAL


# ---- values ----


def substituted(tree: exp.Expr, types: Sequence[WireType], values: Sequence[str | None] | None) -> exp.Expr:
    """Put values (Postgres text form, None for NULL) in for the parameters; without values, typed NULLs.

    Raises StreamSQLError for a text that is no value of its type.
    """
    made = tree.copy()
    for parameter in list(made.find_all(exp.Parameter)):
        index = number_of(parameter) - 1
        literal = typed_literal(types[index], None if values is None else values[index])
        if parameter is made:
            return literal
        parameter.replace(literal)
    return made


def typed_literal(wire_type: WireType, text: str | None) -> exp.Expr:
    """Make the SQL literal of a value: its text, in DuckDB's writing, cast to its type. Raises StreamSQLError."""
    if wire_type is TIMESTAMPTZ and text is not None and not has_zone(text):
        # DuckDB reads it in the session's time zone, in which the query runs
        naive = typed_literal(TIMESTAMP, text)
        moment = exp.cast(naive, exp.DataType.build(_name_of(wire_type), dialect="duckdb"), dialect="duckdb")
        moment.meta[READ] = True
        return moment
    value, name = _literal(wire_type, text)
    made = exp.cast(value, exp.DataType.build(name, dialect="duckdb"), dialect="duckdb")
    made.meta[READ] = True
    if is_named(wire_type):
        made.meta[WIRE_TYPE] = wire_type
    return made


def literal_sql(wire_type: WireType, text: str | None) -> str:
    """Write the same as DuckDB's SQL. A tree would take longer than a point lookup's other work."""
    if wire_type.element is not None or wire_type.fields or (wire_type is NUMERIC and text is not None):
        return duckdb_sql(typed_literal(wire_type, text))
    value = "NULL" if text is None else literal(_scalar_text(wire_type, text))
    return f"CAST({value} AS {_name_of(wire_type)})"


def _literal(wire_type: WireType, text: str | None) -> tuple[exp.Expr, str]:
    """Give the literal and the name of the DuckDB type that it is cast to."""
    if wire_type.element is not None:
        element = wire_type.element
        name = f"{_name_of(element)}[]"
        if text is None:
            return exp.null(), name
        values = _read(wire_type, text)[0].values
        depth = _depth(values.type)
        return _array_literal(values, element), name + "[]" * depth
    if text is None:
        return exp.null(), _name_of(wire_type)
    if wire_type.fields:
        texts = record.texts_of(text, wire_type)
        items = [typed_literal(f.type, each) for f, each in zip(wire_type.fields, texts, strict=True)]
        return exp.Anonymous(this="row", expressions=items), duckdb_name(wire_type)
    if wire_type is NUMERIC:
        digits = _digits(text)
        return exp.Literal.string(digits), _decimal_name(digits)
    return exp.Literal.string(_scalar_text(wire_type, text)), _name_of(wire_type)


def _depth(arrow_type: pa.DataType) -> int:
    return 1 + _depth(arrow_type.value_type) if pa.types.is_list(arrow_type) else 0


def _array_literal(values: pa.Array, element: WireType) -> exp.Expr:
    """Write the elements of an array, each as a typed literal; arrays in it likewise."""
    if pa.types.is_list(values.type):
        return exp.Array(expressions=[_array_literal(row.values, element) for row in values])
    texts = strings_of(codec_of(element).to_text(values), values).to_pylist()
    return exp.Array(expressions=[typed_literal(element, each) for each in texts])


def _name_of(wire_type: WireType) -> str:
    if wire_type.is_made:
        return duckdb_name(wire_type)
    return _DECIMAL_NAME if wire_type is NUMERIC else DUCKDB_NAME.get(wire_type.name, "VARCHAR")


def _scalar_text(wire_type: WireType, text: str) -> str:
    """Give the text from which DuckDB reads what Postgres reads from `text`."""
    if wire_type.name in _TEXTS and wire_type.labels is None:
        return text
    if len(text) < _PLAIN_NUMBERS.get(wire_type.name, 0) and text.isdecimal() and text.isascii():
        return text
    writer = _WRITERS.get(wire_type.name)
    return writer(_read(wire_type, text)) if writer else _canonical(wire_type, text)


def _read(wire_type: WireType, text: str) -> pa.Array:
    try:
        return parse_text(pa.array([text], pa.string()), wire_type)
    except BadValue as bad:
        raise bad.error from None


def _canonical(wire_type: WireType, text: str) -> str:
    """Read a value and write it in the form in which Postgres shows it."""
    values = _read(wire_type, text)
    return str(strings_of(codec_of(wire_type).to_text(values), values)[0].as_py())


def _interval(values: pa.Array) -> str:
    months, days, nanoseconds = values[0].as_py()
    return f"{months} months {days} days {nanoseconds // 1_000} microseconds"


def _with_era(wire_type: WireType) -> Callable[[pa.Array], str]:
    """Write a date or timestamp; DuckDB puts BC in parentheses."""

    def write(values: pa.Array) -> str:
        text = str(strings_of(codec_of(wire_type).to_text(values), values)[0].as_py())
        if not text.endswith(" BC"):
            return text
        date, space, rest = text.removesuffix(" BC").partition(" ")
        return f"{date} (BC){space}{rest}"

    return write


_WRITERS: dict[str, Callable[[pa.Array], str]] = {
    **{wire_type.name: _with_era(wire_type) for wire_type in (DATE, TIMESTAMP, TIMESTAMPTZ)},
    INTERVAL.name: _interval,
    BYTEA.name: lambda values: "".join(f"\\x{byte:02x}" for byte in values[0].as_py()),
}


def read_numeric(text: str, precision: int, scale: int) -> str:
    """Read a text as PostgreSQL does for numeric(precision, scale); give its digits. Raises StreamSQLError."""
    try:
        values = parse_text(pa.array([text], pa.string()), NUMERIC, ((precision << 16) | scale) + 4)
    except BadValue as bad:
        raise bad.error from None
    return str(values[0].as_py())


def _digits(text: str) -> str:
    """Write a number without an exponent; NaN and the infinities as DuckDB's DOUBLE reads them."""
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        raise InvalidTextRepresentation(f'invalid input syntax for type numeric: "{text}"') from None
    if not number.is_finite():
        return str(number)
    if abs(number.adjusted()) > _EXPONENT_MAX and number:
        raise NumericOutOfRange("value overflows numeric format")
    return format(number, "f")


def _decimal_name(digits: str) -> str:
    """Name the narrowest decimal that holds a number, so that it keeps every digit."""
    plain = digits.lstrip("-")
    if not plain.replace(".", "", 1).isdigit():
        return "DOUBLE"
    whole, _, fraction = plain.partition(".")
    precision = max(len(whole.lstrip("0")), 1) + len(fraction)
    return f"DECIMAL({max(precision, 18)},{len(fraction)})" if precision <= _DECIMAL_DIGITS_MAX else "DOUBLE"
