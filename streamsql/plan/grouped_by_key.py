"""GROUP BY of a table's primary key: its other columns may be selected, since they depend on it.

    SELECT a.name, count(b.id) FROM a JOIN b ON b.a = a.id GROUP BY a.id     ->     ... GROUP BY a.id, a.name

As in PostgreSQL, which finds the dependency in the catalog; DuckDB is told by naming the columns.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from streamsql.catalog.objects import CatalogObject, Table

Find = Callable[[exp.Table], CatalogObject | None]


def complete(tree: exp.Expr, find: Find) -> None:
    """Add the columns that depend on a key to the GROUP BY of each SELECT; the tree is changed."""
    for select in list(tree.find_all(exp.Select)):
        group = select.args.get("group")
        if group is None or any(group.args.get(k) for k in ("grouping_sets", "cube", "rollup", "all")):
            continue
        keys = [e for e in group.expressions if isinstance(e, exp.Column)]
        for alias, table in _tables(select, find).items():
            if not table.primary_key or not all(_is_among(keys, alias, c, select) for c in table.primary_key):
                continue
            for column in _used(select, alias, table):
                if not any(k.name == column.name and k.table in ("", alias) for k in keys):
                    keys.append(column)
                    group.append("expressions", column)


def _tables(select: exp.Select, find: Find) -> dict[str, Table]:
    from_ = select.args.get("from_")
    items = [from_.this] if from_ is not None else []
    items += [join.this for join in select.args.get("joins") or []]
    found = {}
    for item in items:
        made = find(item) if isinstance(item, exp.Table) and isinstance(item.this, exp.Identifier) else None
        if isinstance(made, Table):
            found[item.alias_or_name] = made
    return found


def _is_among(keys: list[exp.Column], alias: str, name: str, select: exp.Select) -> bool:
    alone = not select.args.get("joins")
    return any(k.name == name and (k.table == alias or (alone and not k.table)) for k in keys)


def _used(select: exp.Select, alias: str, table: Table) -> list[exp.Column]:
    """Give the columns of a table that a SELECT names outside of aggregates and of what it reads."""
    alone = not select.args.get("joins")
    names = {c.name for c in table.columns}
    places = [*select.expressions, select.args.get("having"), select.args.get("order")]
    found: dict[str, exp.Column] = {}
    for place in places:
        for node in place.walk(prune=lambda n: isinstance(n, exp.AggFunc)) if isinstance(place, exp.Expr) else ():
            if isinstance(node, exp.Column) and isinstance(node.this, exp.Star):
                mine = names if node.table == alias else ()
                found |= {n: exp.column(n, table=alias, quoted=True) for n in sorted(mine)}
            elif isinstance(node, exp.Column) and node.name in names and node.table in (alias, "" if alone else alias):
                found.setdefault(node.name, exp.column(node.name, table=node.table or None, quoted=True))
    return list(found.values())
