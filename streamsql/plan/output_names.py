"""What a query's columns are called where the text does not say: as PostgreSQL calls them.

A function gives its name, a cast its operand's or else its type's, CASE and COALESCE their own; what has no name is
``?column?``. The rules are those of `FigureColname` in PostgreSQL's parse_target.c.

    SELECT count(*), price::int, '1'::int, a + b, (SELECT max(x) FROM t)      ->      count, price, int4, ?column?, max
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from streamsql.catalog.objects import OutputColumn
from streamsql.plan.functions import function_name, is_date_part
from streamsql.sql.statements import Statement

NAMELESS = "?column?"

_TYPE_NAMES: dict[exp.DType, str] = {
    exp.DType.BIGINT: "int8",
    exp.DType.BOOLEAN: "bool",
    exp.DType.BPCHAR: "bpchar",
    exp.DType.CHAR: "bpchar",
    exp.DType.DECIMAL: "numeric",
    exp.DType.DOUBLE: "float8",
    exp.DType.FLOAT: "float4",
    exp.DType.INT: "int4",
    exp.DType.SMALLINT: "int2",
    exp.DType.VARBINARY: "bytea",
}
# nodes that sqlglot makes of a function or keyword without keeping its spelling -> PostgreSQL's name for it
_NODE_NAMES: dict[type[exp.Expr], str] = {
    exp.Array: "array",
    exp.AtTimeZone: "timezone",
    exp.Coalesce: "coalesce",
    exp.CurrentDate: "current_date",
    exp.CurrentTime: "current_time",
    exp.CurrentTimestamp: "current_timestamp",
    exp.Exists: "exists",
    exp.Extract: "extract",
    exp.Greatest: "greatest",
    exp.GroupConcat: "string_agg",
    exp.Interval: "interval",
    exp.JSONArrayAgg: "json_agg",
    exp.JSONBObjectAgg: "jsonb_object_agg",
    exp.JSONObjectAgg: "json_object_agg",
    exp.Decode: "decode",
    exp.Least: "least",
    exp.Localtime: "localtime",
    exp.Localtimestamp: "localtimestamp",
    exp.Nullif: "nullif",
    exp.Overlay: "overlay",
    exp.StrPosition: "position",
    exp.Substring: "substring",
    exp.Trim: "btrim",
    exp.Tuple: "row",
}
# functions that give a set of single values
_SETS = frozenset({"generate_series", "generate_subscripts", "range", "regexp_split_to_table", "repeat", "unnest"})
# what a name is looked for behind
_WRAPPERS = (
    exp.Bracket,
    exp.Collate,
    exp.Filter,
    exp.IgnoreNulls,
    exp.Paren,
    exp.RespectNulls,
    exp.Window,
    exp.WithinGroup,
)


def name_outputs(tree: exp.Expr, statement: Statement) -> None:
    """Give every column of the query, of its CTEs and of its subqueries in FROM the alias that PostgreSQL would.

    The tree is changed. Columns that are plain columns, stars or named already stay as they are.
    """
    for query in [tree, *tree.find_all(exp.CTE), *tree.find_all(exp.Subquery)]:
        if isinstance(query, exp.Subquery) and not isinstance(query.parent, (exp.From, exp.Join, exp.Lateral)):
            continue
        select = _leftmost(query)
        if select is not None:
            select.set("expressions", [_named(item, statement) for item in select.expressions])
    for values in list(tree.find_all(exp.Values)):
        _name_values(values)
    for table in list(tree.find_all(exp.Table, exp.Unnest)):
        _name_set(table, statement)


def values_names(tree: exp.Expr) -> list[str] | None:
    """Give the columns' names of a query whose first part is a VALUES list, None for any other query."""
    while isinstance(tree, (exp.Paren, exp.Subquery, exp.SetOperation)):
        tree = tree.this
    return _column_names(tree) if isinstance(tree, exp.Values) else None


def with_values_names(tree: exp.Expr, found: Sequence[OutputColumn]) -> list[OutputColumn]:
    """Give a query's columns as DuckDB `found` them, but for their names where they are those of a VALUES list."""
    names = values_names(tree)
    if names is None:
        return list(found)
    return [OutputColumn(name, c.type, c.made) for name, c in zip(names, found, strict=True)]


def _leftmost(query: exp.Expr | None) -> exp.Select | None:
    while isinstance(query, (exp.CTE, exp.Paren, exp.SetOperation, exp.Subquery)):
        query = query.this
    return query if isinstance(query, exp.Select) else None


def _named(item: exp.Expr, statement: Statement) -> exp.Expr:
    if isinstance(item, (exp.Alias, exp.Aliases, exp.Star)):
        return item
    if isinstance(item, exp.Column) or (isinstance(item, exp.Dot) and isinstance(item.expression, exp.Star)):
        return item
    if isinstance(item, exp.Anonymous) and str(item.this).lower() == "columns":
        return item  # DuckDB's COLUMNS(...) stands for several
    return exp.alias_(item, output_name(item, statement), quoted=True, copy=False)


def output_name(item: exp.Expr, statement: Statement) -> str:
    """Name one output column."""
    if isinstance(item, exp.Alias):
        return str(item.alias)
    return _name(item, statement)[0] or NAMELESS


def _name(node: exp.Expr, statement: Statement) -> tuple[str | None, bool]:
    """Give a name, and whether it is a strong one: a cast or CASE around it has a name of its own only if it is not."""
    while isinstance(node, (*_WRAPPERS, exp.Alias)):
        node = node.this
    if isinstance(node, (exp.Column, exp.Identifier)):
        return node.name, True
    if isinstance(node, exp.Dot):
        return str(node.expression.name), True
    if isinstance(node, exp.Cast):
        inner, strong = _name(node.this, statement)
        return (inner, True) if strong else (_type_name(node.to), False)
    if isinstance(node, exp.Subquery):
        select = _leftmost(node)
        listed = [] if select is None else select.expressions
        return (output_name(listed[0], statement), True) if listed else (None, False)
    if isinstance(node, exp.Case):
        default = node.args.get("default")
        inner, strong = _name(default, statement) if default is not None else (None, False)
        return (inner, True) if strong else ("case", False)
    if isinstance(node, exp.Extract) and is_date_part(node, statement):
        return "date_part", True
    known = _NODE_NAMES.get(type(node))
    if known is not None and not (isinstance(node, exp.Func) and node.meta.get("start") is not None):
        return known, not isinstance(node, exp.Interval)
    name = function_name(node, statement)
    return name, name is not None


def _type_name(data_type: exp.Expr) -> str:
    if not isinstance(data_type, exp.DataType):
        return "interval" if isinstance(data_type, exp.Interval) else data_type.sql("postgres").lower()
    while data_type.args.get("nested") and data_type.expressions and isinstance(data_type.expressions[0], exp.DataType):
        data_type = data_type.expressions[0]
    kind = data_type.this
    if isinstance(kind, exp.Interval):
        return "interval"
    if kind is exp.DType.USERDEFINED:
        named = data_type.args.get("kind")
        return str(named.expression.name if isinstance(named, exp.Dot) else getattr(named, "name", named))
    return _TYPE_NAMES.get(kind) or str(getattr(kind, "value", kind)).lower()


def _column_names(values: exp.Values) -> list[str]:
    first = values.expressions[0]
    width = len(first.expressions) if isinstance(first, exp.Tuple) else 1
    return [f"column{i + 1}" for i in range(width)]


def _name_values(values: exp.Values) -> None:
    """Call the columns of a VALUES list in FROM column1, column2 and so on, where the text does not name them."""
    alias = values.args.get("alias")
    if alias is None:
        if isinstance(values.parent, (exp.From, exp.Join)):
            alias = exp.TableAlias(this=exp.to_identifier("values", quoted=True))
            values.set("alias", alias)
        else:
            return
    if not alias.args.get("columns"):
        alias.set("columns", [exp.to_identifier(name) for name in _column_names(values)])


def _name_set(table: exp.Expr, statement: Statement) -> None:
    """Call the one column of a function in FROM after its alias, or else after the function."""
    if not isinstance(table.parent, (exp.From, exp.Join)):
        return
    called = table if isinstance(table, exp.Unnest) else table.this
    name = "unnest" if isinstance(called, exp.Unnest) else function_name(called, statement)
    alias = table.args.get("alias")
    if name not in _SETS or table.args.get("ordinality") or table.args.get("offset") or (alias and alias.columns):
        return
    if isinstance(called, exp.Unnest) and len(called.expressions) != 1:
        return
    shown = alias.this if alias is not None and alias.this else exp.to_identifier(name)
    table.set("alias", exp.TableAlias(this=shown.copy(), columns=[shown.copy()]))
