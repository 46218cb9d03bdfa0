"""PostgreSQL's functions in FROM that DuckDB does not have there, as the subqueries that they are.

    FROM t, jsonb_array_elements(t.data) AS e     FROM t, (SELECT jsonb_array_elements(t.data) AS value) AS e
    FROM jsonb_each(x) AS j(k, v)                 FROM (SELECT e.key, e.value FROM (SELECT unnest(...) AS e)) AS j(k, v)
    FROM unnest(a, b) AS u(x, y)                  FROM (SELECT unnest(a), unnest(b)) AS u(x, y)

What they compute of each value is in `function_table`.
"""

from __future__ import annotations

import sqlglot
from sqlglot import exp

from streamsql.base.errors import SQLSyntaxError
from streamsql.plan.functions import function_name
from streamsql.sql.statements import Statement
from streamsql.sql.trees import position_of

# functions that give a set of single values -> the name of the column
SETS: dict[str, str] = {
    "json_array_elements": "value",
    "json_array_elements_text": "value",
    "json_object_keys": "json_object_keys",
    "jsonb_array_elements": "value",
    "jsonb_array_elements_text": "value",
    "jsonb_object_keys": "jsonb_object_keys",
    "regexp_matches": "regexp_matches",
    "string_to_table": "string_to_table",
}
_ENTRIES = "FROM (SELECT unnest(map_entries(CAST(CAST($1 AS JSON) AS MAP(VARCHAR, JSON)))) AS e) AS entries"
# functions of two columns
_PAIRS: dict[str, str] = {
    "json_each": f"SELECT e.key AS key, e.value AS value {_ENTRIES}",
    "json_each_text": f"SELECT e.key AS key, e.value ->> '$' AS value {_ENTRIES}",
    "jsonb_each": f"SELECT e.key AS key, CAST(e.value AS JSONB) AS value {_ENTRIES}",
    "jsonb_each_text": f"SELECT e.key AS key, e.value ->> '$' AS value {_ENTRIES}",
}
# of options as the catalog keeps them: ``{'a=1', 'b=2'}``
_PAIRS["pg_options_to_table"] = (
    "SELECT split_part(o, '=', 1) AS option_name, "
    "CASE WHEN contains(o, '=') THEN substr(o, strpos(o, '=') + 1) END AS option_value "
    "FROM (SELECT unnest(CAST($1 AS VARCHAR[])) AS o) AS options"
)
_RECORDS = {
    **dict.fromkeys(("json_to_record", "jsonb_to_record"), "CAST($1 AS JSON)"),
    **dict.fromkeys(("json_to_recordset", "jsonb_to_recordset"), "unnest(CAST(CAST($1 AS JSON) AS JSON[]))"),
}
_JSON_TYPES = (exp.DType.JSON, exp.DType.JSONB)


def as_subqueries(tree: exp.Expr, statement: Statement) -> None:
    """Write these functions in FROM as subqueries; the tree is changed. Raises SQLSyntaxError."""
    for node in list(tree.find_all(exp.Table, exp.Lateral, exp.Unnest)):
        if isinstance(node, exp.Unnest):
            _unnest(node)
            continue
        called = node.this
        name = function_name(called, statement) if isinstance(called, exp.Func) else None
        if name is None:
            continue
        query = _query(name, called, node, statement)
        if query is not None:
            _put(node, query, name)


def _query(name: str, called: exp.Expr, node: exp.Expr, statement: Statement) -> exp.Select | None:
    arguments = list(called.iter_expressions())
    if name in SETS:
        return exp.select(exp.alias_(called.copy(), SETS[name], quoted=True))
    if name in _PAIRS:
        return _filled(_PAIRS[name], arguments)
    if name in _RECORDS:
        alias = node.args.get("alias")
        definitions = [c for c in (alias.columns if alias is not None else []) if isinstance(c, exp.ColumnDef)]
        if alias is None or not definitions:
            raise SQLSyntaxError(
                'a column definition list is required for functions returning "record"',
                position=position_of(called, statement),
            )
        query = _filled(f"SELECT * FROM (SELECT {_RECORDS[name]} AS r) AS records", arguments)
        query.set("expressions", [_field(definition) for definition in definitions])
        alias.set("columns", [])
        return query
    return None


def _field(definition: exp.ColumnDef) -> exp.Expr:
    path = exp.Literal.string(f'$."{definition.name}"')
    kind = definition.args["kind"]
    extract = "json_extract" if kind.this in _JSON_TYPES else "json_extract_string"
    value = exp.Anonymous(this=extract, expressions=[exp.column("r", table="records"), path])
    return exp.alias_(exp.cast(value, kind.copy()), definition.name, quoted=True)


def _filled(template: str, arguments: list[exp.Expr]) -> exp.Select:
    made = sqlglot.parse_one(template, read="duckdb")
    assert isinstance(made, exp.Select)
    for parameter in list(made.find_all(exp.Parameter, exp.Placeholder)):
        parameter.replace(arguments[0].copy() if arguments else exp.null())
    return made


def _put(node: exp.Expr, query: exp.Select, name: str) -> None:
    """Put a subquery in the place of the function; it keeps its alias."""
    if node.args.get("ordinality"):
        number = sqlglot.parse_one("row_number() OVER ()", read="duckdb")
        query = query.select(exp.alias_(number, "ordinality", quoted=True))
        node.set("ordinality", None)
    alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier(name, quoted=True))
    if len(query.expressions) == 1 and not alias.columns:
        _read_as_value(node, alias.name, query.expressions[0].alias)
    if isinstance(node, exp.Lateral):
        node.set("this", exp.Subquery(this=query))
        node.set("alias", alias)
    else:
        node.replace(exp.Subquery(this=query, alias=alias.copy(), joins=node.args.get("joins")))


def _read_as_value(node: exp.Expr, alias: str, column: str) -> None:
    """Let the alias of a function of single values mean the value: ``e ->> 'a'``."""
    select = node.find_ancestor(exp.Select)
    for found in list(select.find_all(exp.Column)) if select is not None else []:
        if found.name == alias and not found.table:
            made: exp.Expr = exp.column(column, table=alias, quoted=True)
            if found.arg_key == "expressions" and found.parent is select:
                made = exp.alias_(made, alias, quoted=True)
            found.replace(made)


def _unnest(node: exp.Unnest) -> None:
    """Write ``unnest(a, b)`` as a subquery of two columns, of which the shorter is filled with NULL."""
    if len(node.expressions) < 2 or not isinstance(node.parent, (exp.From, exp.Join, exp.Lateral)):
        return
    lists = [exp.Anonymous(this="unnest", expressions=[e.copy()]) for e in node.expressions]
    query = exp.select(*(exp.alias_(e, f"unnest_{i + 1}", quoted=True) for i, e in enumerate(lists)))
    if node.args.get("offset"):
        query = query.select(exp.alias_(sqlglot.parse_one("row_number() OVER ()", read="duckdb"), "ordinality"))
    alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier("unnest"))
    if isinstance(node.args.get("offset"), exp.Identifier) and alias.columns:
        alias.append("columns", node.args["offset"].copy())
    if isinstance(node.parent, exp.Lateral):
        node.replace(exp.Subquery(this=query))
    else:
        node.replace(exp.Subquery(this=query, alias=alias.copy()))
