"""The types of a query's columns where PostgreSQL's differ from DuckDB's: ``name``, ``oid``, ``"char"``, ``regclass``, and the
results of functions such as ``length``, which is an integer there and a bigint here.

DuckDB knows none of the types of ``pg_catalog``: a ``name`` is a VARCHAR to it. So they are found here, by going up from the
columns of the relations through the expressions that keep a type. What is not found is what DuckDB says.

    SELECT c.oid, relname, upper(relname), relkind = 'r' FROM pg_class c      ->      oid, name, ?, ?
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from sqlglot import exp

from streamsql.base import types as t
from streamsql.base.types import WireType, wire_column
from streamsql.catalog.objects import OutputColumn, Relation, View
from streamsql.plan.function_table import result_type
from streamsql.plan.functions import function_name, is_date_part
from streamsql.plan.type_names import made_type
from streamsql.sql.column_types import DUCKDB_TYPES
from streamsql.sql.statements import Statement

# A numeric of 16 places, which an average is. PostgreSQL knows no such type: only `ResultTypes` tells it from any other
# numeric, since products of two of them would have 32 places, and no room before the point.
ENUM_FUNCTIONS = frozenset({"enum_first", "enum_last", "enum_range"})
QUOTIENT = WireType("quotient", t.NUMERIC.oid, t.NUMERIC.array_oid, -1)
QUOTIENT_DIGITS = "(38,16)"
_QUOTIENT_TYPE = f"DECIMAL{QUOTIENT_DIGITS}"

# A relation's columns; None where they are not known, as for a function.
Columns = list[tuple[str, WireType | None]]
RelationColumns = Callable[[exp.Table], Columns | None]

FUNCTION_TYPES: dict[str, WireType] = {
    "array_length": t.INT4, "array_lower": t.INT4, "array_position": t.INT4, "array_upper": t.INT4, "ascii": t.INT4,
    "bit_length": t.INT4, "cardinality": t.INT4, "char_length": t.INT4, "character_length": t.INT4,
    "current_catalog": t.NAME, "current_database": t.NAME, "current_role": t.NAME, "current_schema": t.NAME,
    "current_schemas": t.NAME.array, "current_user": t.NAME, "grouping": t.INT4, "json_array_length": t.INT4,
    "length": t.INT4, "octet_length": t.INT4,
    "pg_encoding_to_char": t.NAME, "pg_get_userbyid": t.NAME, "pg_my_temp_schema": t.OID,
    "pg_partition_ancestors": t.REGCLASS, "position": t.INT4, "session_user": t.NAME, "strpos": t.INT4,
    "to_regclass": t.REGCLASS, "to_regnamespace": t.REGNAMESPACE, "to_regproc": t.REGPROC, "to_regrole": t.REGROLE,
    "to_regtype": t.REGTYPE, "user": t.NAME,
}  # fmt: skip
_NODE_TYPES: dict[type[exp.Expr], WireType] = {
    exp.ArraySize: t.INT4,
    exp.CurrentDate: t.DATE,
    exp.CurrentTimestamp: t.TIMESTAMPTZ,
    exp.JSONBExtractScalar: t.TEXT,
    exp.JSONExtractScalar: t.TEXT,
    exp.Localtimestamp: t.TIMESTAMP,
    exp.Lower: t.TEXT,
    exp.Upper: t.TEXT,
    exp.JSONArrayAgg: t.JSON,
    exp.JSONObjectAgg: t.JSON,
    exp.JSONBObjectAgg: t.JSONB,
    exp.Count: t.INT8,
    exp.DenseRank: t.INT8,
    exp.Ntile: t.INT4,
    exp.Rank: t.INT8,
    exp.RowNumber: t.INT8,
    exp.CurrentCatalog: t.NAME,
    exp.CurrentSchema: t.NAME,
    exp.CurrentSchemas: t.NAME.array,
    exp.CurrentUser: t.NAME,
    exp.Interval: t.INTERVAL,
    exp.Length: t.INT4,
    exp.SessionUser: t.NAME,
    exp.StrPosition: t.INT4,
}
# what has the type of its first operand
_KEEPING = (
    exp.Abs, exp.Alias, exp.AnyValue, exp.Collate, exp.Filter, exp.First, exp.FirstValue, exp.IgnoreNulls, exp.Lag, exp.Last,
    exp.LastValue, exp.Lead, exp.Max, exp.Min, exp.Neg, exp.NthValue, exp.Nullif, exp.Paren, exp.RespectNulls, exp.Window,
)  # fmt: skip
_EXTREMES = (exp.Max, exp.Min, exp.Greatest, exp.Least)
# types of which PostgreSQL has no largest or smallest value: they become text first
_WITHOUT_ORDER = (t.NAME, t.CHAR)
_READING = (exp.Select, exp.Update, exp.Delete)  # what has relations whose columns can be named
_BARE = frozenset({"current_role", "session_user", "user"})  # functions that look like columns
WIRE_TYPE = "wire_type"  # in the meta of what stands for a parameter
INTEGERS = (t.INT2, t.INT4, t.INT8)
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod)
_VECTORS = {t.INT2VECTOR: t.INT2, t.OIDVECTOR: t.OID}
# the only types that are not left to DuckDB to tell
_TOLD = frozenset({
    *t.CATALOG_SCALARS, t.OID, t.VARCHAR, t.BPCHAR, t.INT2, t.INT4, t.INT8, t.NUMERIC, t.FLOAT4, t.FLOAT8, t.JSON, t.JSONB,
})  # fmt: skip
_NAMED = {name: t.BY_NAME[name] for name in ("char", "oid", *(c.name for c in t.CATALOG_SCALARS))}
_WORDS = {**_NAMED, **{name: t.BY_NAME[name] for name in ("bool", "int2", "int4", "int8", "text", "varchar")}}


# types that DuckDB does not tell from others
_OWN_TYPES: dict[object, WireType] = {
    exp.DType.NAME: t.NAME, exp.DType.INET: t.INET, exp.DType.DECIMAL: t.NUMERIC,
    exp.DType.JSONB: t.JSONB, exp.DType.CHAR: t.BPCHAR,
    exp.DType.BPCHAR: t.BPCHAR, exp.DType.NCHAR: t.BPCHAR, exp.DType.VARCHAR: t.VARCHAR, exp.DType.TIMETZ: t.TIMETZ,
}  # fmt: skip


class HasColumns(Protocol):
    """What stands for a relation in a plan."""

    @property
    def columns(self) -> tuple[OutputColumn, ...]: ...


def is_named(wire_type: WireType) -> bool:
    """Tell whether a type is one that a user has made, or an array of it."""
    return wire_type.scalar.is_made and wire_type.scalar.oid != t.RECORD.oid


def relation_columns(made: Relation | View | HasColumns) -> Columns:
    """Give the columns of a stream, table or view, with their types as clients see them."""
    return [(c.name, c.made if c.made is not None else column_type(c.type)) for c in made.columns]


def column_type(duckdb_type: str) -> WireType:
    """Give the type of a relation's column of this DuckDB type."""
    return QUOTIENT if duckdb_type == _QUOTIENT_TYPE else wire_column(duckdb_type).type


def _shown(wire_type: WireType | None) -> WireType | None:
    return t.NUMERIC if wire_type is QUOTIENT else wire_type


def named_type(data_type: exp.Expr | None) -> WireType | None:
    """Give the type that a cast names; None for one that only DuckDB has."""
    made = made_type(data_type)
    if made is not None:
        return made
    if isinstance(data_type, exp.ObjectIdentifier):
        return _NAMED.get(str(data_type.this).lower())
    if isinstance(data_type, exp.Interval):
        return t.INTERVAL
    if not isinstance(data_type, exp.DataType):
        return None
    kind = data_type.this
    if isinstance(kind, exp.Interval):
        return t.INTERVAL
    if kind is exp.DType.ARRAY and len(data_type.expressions) == 1:
        element = named_type(data_type.expressions[0])
        return None if element is None or (element.name not in t.ARRAYS and not element.is_made) else element.array
    if kind is exp.DType.USERDEFINED:
        named = data_type.args.get("kind")
        word = named.expression if isinstance(named, exp.Dot) else named
        return _WORDS.get(word.name if isinstance(word, exp.Expr) else str(word))
    if kind in _OWN_TYPES:
        return _OWN_TYPES[kind]
    name = DUCKDB_TYPES.get(kind) if isinstance(kind, exp.DType) else None
    return wire_column(name).type if name is not None else None


class ResultTypes:
    """Finds types in one tree, which must not change meanwhile."""

    def __init__(self, statement: Statement, relation: RelationColumns) -> None:
        self._statement = statement
        self._relation = relation
        self._found: dict[int, WireType | None] = {}

    def told(self, query: exp.Expr) -> list[WireType | None] | None:
        """Give the type of each column of a query, None for what DuckDB is to tell; None where nothing is known."""
        found = self.outputs(query)
        if found is None:
            return None
        return [w if w is not None and (w.scalar in _TOLD or is_named(w)) else None for _, w in found]

    def outputs(self, query: exp.Expr | None) -> Columns | None:
        """Give the names and types of a query's columns."""
        found = self._outputs(query)
        return None if found is None else [(name, _shown(wire_type)) for name, wire_type in found]

    def _outputs(self, query: exp.Expr | None) -> Columns | None:
        while isinstance(query, (exp.CTE, exp.Paren, exp.Subquery)):
            query = query.this
        if isinstance(query, exp.SetOperation):
            first, second = self._outputs(query.this), self._outputs(query.expression)
            if first is None or second is None or len(first) != len(second):
                return first
            return [(name, _common([one, other])) for (name, one), (_, other) in zip(first, second, strict=True)]
        if isinstance(query, exp.Values):
            rows = [row.expressions if isinstance(row, exp.Tuple) else [row] for row in query.expressions]
            return [(f"column{i + 1}", self._raw(value)) for i, value in enumerate(rows[0])]
        if not isinstance(query, exp.Select):
            return None
        found: Columns = []
        for item in query.expressions:
            columns = self._item(item, query)
            if columns is None:
                return None
            found += columns
        return found

    def _item(self, item: exp.Expr, select: exp.Select) -> Columns | None:
        if isinstance(item, exp.Star):
            return self._star(select, None) if not any(item.args.values()) else None
        if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
            return self._star(select, item.table) if not any(item.this.args.values()) else None
        return [(item.alias_or_name, self._raw(item))]

    def _star(self, select: exp.Select, alias: str | None) -> Columns | None:
        found: Columns = []
        for name, columns in self._sources(select):
            if alias is None or name == alias:
                if columns is None:
                    return None
                found += columns
        return found

    def _sources(self, select: exp.Expr) -> Iterable[tuple[str, Columns | None]]:
        around = select.args.get("from_")
        nodes = [around.this] if around is not None else []
        if isinstance(select, (exp.Update, exp.Delete)):
            nodes = [select.this, *nodes, *(select.args.get("using") or [])]
        nodes += [join.this for join in select.args.get("joins") or []]
        nodes += select.args.get("laterals") or []
        for node in nodes:
            yield from self._source(node)

    def _source(self, node: exp.Expr) -> Iterable[tuple[str, Columns | None]]:
        columns: Columns | None = None
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            columns = self._relation(node)
            cte = self._common_table(node)
            if cte is not None:
                columns = _renamed(self._outputs(_not_recursive(cte, node)), cte.args.get("alias"))
        elif isinstance(node, exp.Lateral):
            columns = self._outputs(node.this)
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table):
            yield from self._source(node.this)
        elif isinstance(node, (exp.Subquery, exp.Values)):
            columns = self._outputs(node)
        elif isinstance(node, exp.Unnest) and len(node.expressions) == 1:
            element = _element(self._raw(node.expressions[0]))
            columns = [("unnest", element)] if not node.args.get("offset") else None
        elif isinstance(node, exp.Table) and isinstance(node.this, exp.ExplodingGenerateSeries):
            columns = [("generate_series", self._raw(node.this))]
            if node.args.get("ordinality"):
                columns.append(("ordinality", t.INT8))
        yield node.alias_or_name, _renamed(columns, node.args.get("alias"))
        for join in node.args.get("joins") or []:
            yield from self._source(join.this)

    def _common_table(self, table: exp.Table) -> exp.CTE | None:
        """Give the common table expression that a name in FROM means."""
        if table.db:
            return None
        node: exp.Expr | None = table
        while node is not None:
            around = node.args.get("with_")
            recursive = around is not None and around.args.get("recursive")
            for cte in around.expressions if around is not None else ():
                # without RECURSIVE its name means, inside of it, what there is outside
                if isinstance(cte, exp.CTE) and cte.alias == table.name and (recursive or not _is_inside(table, cte)):
                    return cte
            node = node.parent
        return None

    def type_of(self, node: exp.Expr | None) -> WireType | None:
        """Give the type of an expression; UNKNOWN for NULL and plain strings, None where it is not found."""
        return _shown(self._raw(node))

    def is_quotient(self, node: exp.Expr) -> bool:
        """Tell whether an expression is a numeric of 16 places."""
        return self._raw(node) is QUOTIENT

    def _raw(self, node: exp.Expr | None) -> WireType | None:
        if id(node) not in self._found:
            self._found[id(node)] = None  # what a column asks for while it is looked for
            known = node.meta.get(WIRE_TYPE) if isinstance(node, exp.Expr) else None
            self._found[id(node)] = known if isinstance(known, WireType) else self._type_of(node)
        return self._found[id(node)]

    def _type_of(self, node: exp.Expr | None) -> WireType | None:
        if isinstance(node, exp.Column):
            return self._column(node)
        if isinstance(node, exp.Null) or (isinstance(node, exp.Literal) and node.is_string):
            return t.UNKNOWN
        if isinstance(node, exp.Literal):
            if not node.name.isdecimal():
                return t.NUMERIC
            return t.INT4 if int(node.name) < 1 << 31 else t.INT8 if int(node.name) < 1 << 63 else t.NUMERIC
        if isinstance(node, (exp.Boolean, exp.Predicate, exp.Connector, exp.Not)):
            return t.BOOL
        if isinstance(node, exp.Cast):
            return named_type(node.to)
        if isinstance(node, (exp.Subquery, exp.Select)):
            columns = self._outputs(node)
            return columns[0][1] if columns else None
        if isinstance(node, (*_KEEPING, exp.Case, exp.Coalesce, exp.Greatest, exp.Least)):
            found = _common([self._raw(part) for part in _parts(node)])
            if isinstance(node, (exp.Max, exp.Min)) and node.expressions:  # max(x, n) is a list
                return None if found is None else _array(t.TEXT if found is t.UNKNOWN else found)
            return t.TEXT if isinstance(node, _EXTREMES) and found in _WITHOUT_ORDER else found
        if isinstance(node, _ARITHMETIC):
            return self._chain(node)
        if isinstance(node, (exp.Ceil, exp.Floor, exp.Round, exp.Trunc)):
            of = self.type_of(node.this)
            return t.FLOAT8 if of in (*INTEGERS, t.FLOAT4) else of if of in (t.NUMERIC, t.FLOAT8) else None
        if isinstance(node, (exp.JSONExtract, exp.JSONBExtract)):
            of = self.type_of(node.this)
            return of if of is t.JSONB else t.JSON
        if isinstance(node, exp.JSONBDeleteAtPath):
            return t.JSONB
        if isinstance(node, exp.Pow):
            return result_type("power", [self.type_of(node.this), self.type_of(node.expression)])
        if isinstance(node, exp.DPipe):
            return _concatenated(self.type_of(node.this), self.type_of(node.expression))
        if isinstance(node, exp.ExplodingGenerateSeries):
            found = _common([self.type_of(node.args["start"]), self.type_of(node.args["end"])])
            return t.TIMESTAMPTZ if found is t.DATE else found
        if isinstance(node, (exp.TimestampTrunc, exp.DateTrunc)):
            of = self.type_of(node.this)
            return t.TIMESTAMPTZ if of is t.DATE else of
        if isinstance(node, exp.Extract):
            return t.FLOAT8 if is_date_part(node, self._statement) else t.NUMERIC
        if isinstance(node, (exp.Avg, exp.Sum, *_DEVIATIONS)):
            return _aggregate(node, self._raw(_argument(node)))
        if isinstance(node, exp.ArrayAgg):
            return _array(self.type_of(node.this.this if isinstance(node.this, exp.Order) else node.this))
        if isinstance(node, exp.Array):
            element = _common([self.type_of(part) for part in node.expressions])
            return _array(t.TEXT if element is t.UNKNOWN and node.expressions else element)
        if isinstance(node, exp.Bracket) and any(isinstance(i, exp.Slice) for i in node.expressions):
            return self.type_of(node.this)
        if isinstance(node, (exp.Bracket, exp.Explode, exp.Unnest)):
            return _element(self.type_of(node.this or node.expressions[0]))
        if isinstance(node, exp.Dot):
            if isinstance(node.expression, exp.Identifier):
                return _field(self.type_of(node.this), node.expression.name)
            return self.type_of(node.expression)
        return self._function(node)

    def _chain(self, node: exp.Expr) -> WireType | None:
        """Give the type of a sum or product, whose operands may be many: they are nested to the left."""
        links: list[exp.Expr] = []
        while isinstance(node, _ARITHMETIC):
            links.append(node)
            node = node.this
        found = self._raw(node)
        for link in reversed(links):
            found = self._found[id(link)] = _arithmetic(link, found, self._raw(link.expression))
        return found

    def _function(self, node: exp.Expr | None) -> WireType | None:
        if isinstance(node, exp.Sqrt) and node.meta.get("start") is None:
            return t.FLOAT8  # the operator |/
        if isinstance(node, exp.Anonymous) and node.expressions and str(node.this).lower() in ENUM_FUNCTIONS:
            of = _common([self.type_of(part) for part in node.expressions])
            return _array(of) if str(node.this).lower() == "enum_range" else of
        known = _NODE_TYPES.get(type(node)) if node is not None else None
        if known is not None or not isinstance(node, exp.Func):
            return known
        name = function_name(node, self._statement) or ""
        found = FUNCTION_TYPES.get(name)
        return found or result_type(name, [self.type_of(part) for part in node.iter_expressions()])

    def _column(self, column: exp.Column) -> WireType | None:
        select = column.find_ancestor(*_READING)
        while select is not None:
            for name, columns in self._sources(select):
                if column.table and name != column.table:
                    continue
                for each, wire_type in columns or ():
                    if each == column.name:
                        return wire_type
                if column.table:
                    return None
            select = select.find_ancestor(*_READING)
        return FUNCTION_TYPES.get(column.name) if not column.table and column.name in _BARE else None


def _arithmetic(node: exp.Expr, one: WireType | None, other: WireType | None) -> WireType | None:
    if one is t.DATE and other is t.DATE and isinstance(node, exp.Sub):
        return t.INT4
    operands = [w for w in (one, other) if w is not t.UNKNOWN]
    if one in (t.JSON, t.JSONB) and isinstance(node, exp.Sub):
        return t.JSONB
    if not operands or not all(w in _WIDTHS for w in operands):
        return _of_times(node, one, other)
    if t.FLOAT4 in operands and len(set(operands)) > 1:
        return t.FLOAT8
    widest = max((w for w in operands if w is not None), key=lambda w: _WIDTHS[w])
    kept = isinstance(node, (exp.Add, exp.Sub)) or (isinstance(node, exp.Mul) and any(w in INTEGERS for w in operands))
    return t.NUMERIC if widest is QUOTIENT and not kept else widest


def _of_times(node: exp.Expr, one: WireType | None, other: WireType | None) -> WireType | None:
    """Give the type of a time plus or less something."""
    if isinstance(node, exp.Sub) and one is other and one in (t.TIMESTAMP, t.TIMESTAMPTZ, t.TIME):
        return t.INTERVAL
    for of, by in ((one, other), (other, one)):
        if of is t.DATE and by in INTEGERS:
            return t.DATE
        if of is t.DATE and by in (t.INTERVAL, t.TIME):
            return t.TIMESTAMP
        if of in (t.TIMESTAMP, t.TIMESTAMPTZ, t.TIME, t.INTERVAL) and by in (t.INTERVAL, *_WIDTHS):
            return of
    return None


def _concatenated(one: WireType | None, other: WireType | None) -> WireType | None:
    if t.JSONB in (one, other):
        return t.JSONB
    for of in (one, other):
        if of is not None and of.element is not None:
            return of
    return t.TEXT if t.TEXT in (one, other) or one is t.UNKNOWN or other is t.UNKNOWN else None


def _argument(aggregate: exp.Expr) -> exp.Expr | None:
    """Give what is added up, without its DISTINCT."""
    argument: exp.Expr | None = aggregate.this
    return next(iter(argument.expressions), None) if isinstance(argument, exp.Distinct) else argument


def _aggregate(node: exp.Expr, of: WireType | None) -> WireType | None:
    if isinstance(node, exp.Sum):
        return (
            {t.INT2: t.INT8, t.INT4: t.INT8, t.INT8: t.NUMERIC, t.FLOAT4: t.FLOAT4, QUOTIENT: QUOTIENT}.get(of)
            if of is not None
            else None
        )
    if isinstance(node, exp.Avg) and of in (*INTEGERS, t.NUMERIC, QUOTIENT):
        around = node.parent.parent if isinstance(node.parent, exp.Filter) else node.parent
        return t.NUMERIC if isinstance(around, exp.Window) else QUOTIENT
    return t.NUMERIC if of in (*INTEGERS, t.NUMERIC, QUOTIENT) else t.FLOAT8 if of in (t.FLOAT4, t.FLOAT8) else None


_WIDTHS = {t.INT2: 0, t.INT4: 1, t.INT8: 2, t.NUMERIC: 3, QUOTIENT: 4, t.FLOAT4: 5, t.FLOAT8: 6}
_DEVIATIONS = (exp.Stddev, exp.StddevPop, exp.StddevSamp, exp.Variance, exp.VariancePop)


def _is_inside(node: exp.Expr, around: exp.Expr) -> bool:
    above: exp.Expr | None = node
    while above is not None and above is not around:
        above = above.parent
    return above is around


def _not_recursive(cte: exp.CTE, table: exp.Table) -> exp.Expr:
    """Give the query of a CTE; where it reads itself, the part that does not."""
    inside = table.find_ancestor(exp.CTE) is cte
    return cte.this.this if inside and isinstance(cte.this, exp.SetOperation) else cte


def _parts(node: exp.Expr) -> list[exp.Expr | None]:
    if isinstance(node, exp.Case):
        return [branch.args.get("true") for branch in node.args["ifs"]] + [node.args.get("default") or exp.null()]
    if isinstance(node, (exp.Coalesce, exp.Greatest, exp.Least)):
        return [node.this, *node.expressions]
    return [node.this]


def _common(found: list[WireType | None]) -> WireType | None:
    known = {w for w in found if w is not t.UNKNOWN}
    if len(known) == 1:
        return known.pop()
    if t.OID in known and known <= {t.OID, *INTEGERS}:
        return t.OID
    if known and known <= _WIDTHS.keys():
        return max((w for w in known if w is not None), key=lambda w: _WIDTHS[w])
    return None if known else t.UNKNOWN


def _field(of: WireType | None, name: str) -> WireType | None:
    return next((f.type for f in of.fields if f.name == name), None) if of is not None else None


def _array(element: WireType | None) -> WireType | None:
    if element is not None and element.is_made:
        return element.array
    return t.ARRAYS.get(element.name) if element is not None else None


def _element(of: WireType | None) -> WireType | None:
    return None if of is None else of.element or _VECTORS.get(of)


def _renamed(columns: Columns | None, alias: object) -> Columns | None:
    """Give columns the names of an alias: ``AS t (a, b)``; a function's single one is called as its alias."""
    names = [c.name for c in alias.columns] if isinstance(alias, exp.TableAlias) else []
    if columns is None or not names:
        return columns
    return [(name, wire_type) for name, (_, wire_type) in zip(names, columns, strict=False)] + columns[len(names) :]
