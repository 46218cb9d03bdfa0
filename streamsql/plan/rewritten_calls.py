"""Calls that become other calls, where a template would not do (see `catalog_functions`)."""

from __future__ import annotations

from sqlglot import exp


def schemas_in_path(with_system: exp.Expr, path: tuple[str, ...]) -> exp.Expr:
    """Give the schemas in which names are looked up, with ``pg_catalog`` or without it."""
    whole = path if "pg_catalog" in path else ("pg_catalog", *path)
    lists = [
        exp.cast(exp.Array(expressions=[exp.Literal.string(n) for n in names]), "VARCHAR[]") for names in (whole, path)
    ]
    return exp.paren(exp.Case().when(with_system.copy(), lists[0]).else_(lists[1]), copy=False)


def json_aggregate(node: exp.Expr) -> None:
    """Write ``json_agg(x ORDER BY y) FILTER (...)`` as the JSON of a list; what stands behind the call stays there."""
    items = list(node.expressions) if isinstance(node, exp.Anonymous) else [node.this]
    whole = node.parent if isinstance(node.parent, exp.Filter) else node
    made = exp.Anonymous(this="list", expressions=[item.copy() for item in items])
    if whole is not node:
        node.replace(made)
    whole.replace(exp.Anonymous(this="to_json", expressions=[whole.copy() if whole is not node else made]))


def print_format(node: exp.Expr) -> None:
    """Write PostgreSQL's ``format('%s', x)``, which DuckDB calls printf."""
    pattern, *values = node.iter_expressions()
    texts = [exp.cast(value.copy(), "TEXT") for value in values]
    node.replace(exp.Anonymous(this="printf", expressions=[pattern.copy(), *texts]))


def read_array(node: exp.Expr) -> None:
    """Read the array of ``= ANY ('{a,b}')``, which is a string to sqlglot."""
    operand = node.expressions[0] if isinstance(node, exp.Anonymous) else node.this
    text = operand.unnest()
    if isinstance(text, exp.Literal) and text.is_string and text.name.startswith("{"):
        items = [item.strip().strip('"') for item in text.name.strip("{}").split(",") if item.strip()]
        text.replace(exp.Array(expressions=[exp.Literal.string(item) for item in items]))
