"""The type modifiers of a query's columns: those of the columns of tables that it shows as they are, and of casts.

SELECT name, upper(name), 'x'::char(3) FROM t      ->      that of t.name, none, 7
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from sqlglot import exp

from streamsql.sql.declared_types import declared

# A relation's modifiers by column, in the order of its columns; None where it is not known.
RelationModifiers = Callable[[exp.Table], "Mapping[str, int] | None"]


def modifiers(query: exp.Expr | None, relation: RelationModifiers) -> list[int] | None:
    """Give the modifier of each column of a query, -1 for none; None where it is not known how many columns there are."""
    while isinstance(query, (exp.Paren, exp.Subquery)):
        query = query.this
    if not isinstance(query, exp.Select):
        return None
    found: list[int] = []
    for item in query.expressions:
        if isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star)):
            wanted = item.table if isinstance(item, exp.Column) else ""
            for name, columns in _sources(query, relation):
                if wanted in ("", name):
                    if columns is None:
                        return None
                    found += columns.values()
        else:
            found.append(_modifier(item, query, relation))
    return found


def _modifier(item: exp.Expr, select: exp.Select, relation: RelationModifiers) -> int:
    while isinstance(item, (exp.Alias, exp.Paren)):
        item = item.this
    if isinstance(item, exp.Cast) and isinstance(item.to, exp.DataType):
        made = declared(item.to, 0)
        return -1 if made is None else made.modifier
    if isinstance(item, exp.Column):
        for name, columns in _sources(select, relation):
            if item.table in ("", name) and columns is not None and item.name in columns:
                return columns[item.name]
    return -1


def _sources(select: exp.Select, relation: RelationModifiers) -> Iterator[tuple[str, Mapping[str, int] | None]]:
    around = select.args.get("from_")
    nodes = [around.this] if around is not None else []
    for node in [*nodes, *(join.this for join in select.args.get("joins") or [])]:
        columns: Mapping[str, int] | None = None
        named = node.args.get("alias")
        if isinstance(named, exp.TableAlias) and named.columns:
            columns = None
        elif isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            columns = relation(node)
        elif isinstance(node, exp.Subquery):
            inner = node.unnest()
            found = modifiers(inner, relation)
            names = [] if not isinstance(inner, exp.Select) else [e.alias_or_name for e in inner.expressions]
            if found is not None and len(found) == len(names):
                columns = dict(zip(names, found, strict=True))
        yield node.alias_or_name, columns
